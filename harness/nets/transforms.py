"""AToP's random transforms, and the pass of a masked autoencoder that makes whole images again of what they leave.

Source: Lin et al., "Adversarial Training on Purification", ICLR 2024, figure 2, and the authors' code:

- ``RT1`` removes a share of the patches, at random.
- ``RT2`` adds Gaussian noise to all pixels, then removes patches.
- ``RT3`` adds noise once, then covers the image by masks that do not overlap, one at a time, so that every patch is
  removed by one of them; what is put in the place of removed patches makes up the image, of which no pixel came
  through as it was.

Of ``RT1`` and ``RT2`` all patches are the generator's own, visible ones included, as in the authors' code. On CIFAR-10
they remove a quarter of an 8 x 8 grid of patches (four masks make ``RT3``) with noise of deviation 0.25. Their noisy
pixels are clipped to [0, 1]; here they are not, as in the training of a denoising masked autoencoder (Wu et al. 2023).

Training and purification both call ``completed``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch

from harness.nets.mae import n_visible

if TYPE_CHECKING:
    from torch import Tensor

    from harness.draws import Draws
    from harness.nets.mae import MAE, Reconstruction

#: which of the three
Transform = Literal["RT1", "RT2", "RT3"]


def completed(
    net: MAE,
    x: Tensor,
    draws: Draws,
    *,
    transform: Transform,
    mask_ratio: float,
    sigma: float,
    patch: int | None = None,
) -> tuple[Reconstruction, Tensor]:
    """Return what a generator makes of transformed images: what it predicts of every patch, and the images, unclipped.

    Differentiable in ``x``. Of ``RT3``, each patch is predicted by the pass that it was hidden from, so all count as
    removed.

    Args:
        net: the masked autoencoder.
        x: pixels ``(B, C, H, W)`` in [0, 1].
        draws: those of the images; the masks and the noise come from them.
        transform: which of the three.
        mask_ratio: share of the patches that a mask removes; of ``RT3``, that it removes at most, so that there are as
            few masks as cover the image.
        sigma: standard deviation of the noise, pixels in [0, 1]; ``RT1`` has none.
        patch: side of the squares that masks are made of, in pixels; None: the net's own patches.

    Raises:
        ValueError: if there are no such squares, or a mask leaves nothing to be seen.
    """
    noisy = x if transform == "RT1" else x + sigma * draws.at("noise").normal(*x.shape[1:]).to(x.dtype)
    passes = [net(noisy, order, share) for order, share in masks(net, draws, transform, mask_ratio, patch)]
    found: Reconstruction = passes[0]
    if transform == "RT3":
        patches, hidden = found.patches, found.hidden
        for other in passes[1:]:
            patches, hidden = patches.where(hidden[:, :, None], other.patches), hidden | other.hidden
        found = found._replace(patches=patches, hidden=hidden)
    return found, net.pixels(found.patches, noisy)


def masks(
    net: MAE, draws: Draws, transform: Transform, mask_ratio: float, patch: int | None = None
) -> tuple[tuple[Tensor, float], ...]:
    """Return for each mask an order of the patches ``(B, N)``, removed ones last, and the share that is removed.

    ``RT1`` and ``RT2`` have one mask; the share that stays is rounded down, as the autoencoder does it. Those of
    ``RT3`` remove each patch once; where their number does not divide that of the squares, some remove one more.

    Raises:
        ValueError: if there are no squares of side ``patch``, or a mask leaves nothing to be seen.
    """
    side = 1 if patch is None else patch // net.patch  # of a square, in patches
    rows, columns = net.grid
    if side < 1 or (patch is not None and patch % net.patch) or rows % side or columns % side:
        raise ValueError(
            f"expected masks of squares that {rows} x {columns} patches of side {net.patch} make up, got a side of "
            f"{patch} pixels"
        )
    n_squares = rows // side * (columns // side)
    n_seen = n_visible(n_squares, mask_ratio)
    n_masks = math.ceil(1.0 / mask_ratio - 1e-9)
    if n_masks > n_squares if transform == "RT3" else n_seen < 1:
        raise ValueError(
            f"expected masks that remove some of an image's {n_squares} squares and leave some, got a mask_ratio of "
            f"{mask_ratio}"
        )

    squares = draws.at("mask").permutation(n_squares)
    if transform == "RT3":
        shares = squares.tensor_split(n_masks, 1)
        found = [(torch.cat([*shares[:i], *shares[i + 1 :], share], 1), share) for i, share in enumerate(shares)]
    else:
        found = [(squares, squares[:, n_seen:])]
    patches = torch.arange(rows * columns, device=squares.device).reshape(rows // side, side, columns // side, side)
    inside = patches.transpose(1, 2).reshape(n_squares, -1)  # (squares, patches of a square)
    return tuple((inside[order].flatten(1), removed.shape[1] / n_squares) for order, removed in found)
