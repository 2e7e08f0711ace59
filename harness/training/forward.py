"""Passes of a purifier while it is trained: whole images through a masked autoencoder, or through DIR's network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from harness.bounds import clip
from harness.nets.dir import DIR
from harness.nets.mae import MAE
from harness.nets.maskdit import MaskDiT, levels

if TYPE_CHECKING:
    from harness.draws import Draws


def mae(net: nn.Module) -> MAE:
    """Return a network as the masked autoencoder that it is.

    Raises:
        TypeError: if it is another one.
    """
    if not isinstance(net, MAE):
        raise TypeError(f"expected a masked autoencoder for this objective, got {type(net).__name__}")
    return net


def maskdit(net: nn.Module) -> MaskDiT:
    """Return a network as the masked diffusion transformer that it is.

    Raises:
        TypeError: if it is another one.
    """
    if not isinstance(net, MaskDiT):
        raise TypeError(f"expected a masked diffusion transformer for this objective, got {type(net).__name__}")
    return net


def still_order(net: MAE | MaskDiT, x: Tensor) -> Tensor:
    """Return ``(B, N)``, the patches in their own order, for passes that remove none."""
    return torch.arange(net.n_patches, device=x.device).expand(len(x), -1)


def one_pass(
    net: MAE | MaskDiT,
    x: Tensor,
    mask_ratio: float,
    draws: Draws,
    visible: Literal["kept", "decoded"] = "decoded",
    sigma: float = 0.0,
) -> Tensor:
    """Return what a purifier makes of images in one pass, ``(B, C, H, W)``, not clipped.

    Args:
        net: the autoencoder, or the diffusion transformer, which takes noise away that is added here.
        x: pixels ``(B, C, H, W)`` in [0, 1].
        mask_ratio: share of the patches that is removed; where it is 0, no mask is drawn.
        draws: those of the images; the mask and the noise come from them.
        visible: visible patches as they came in, or as the decoder has them.
        sigma: standard deviation of the noise, pixels in [0, 1]; an autoencoder has none.
    """
    order = draws.at("mask").permutation(net.n_patches) if mask_ratio else still_order(net, x)
    if isinstance(net, MAE):
        found = net(x, order, mask_ratio)
        image = net.pixels(found.patches, x)
    else:
        found = net(x + sigma * draws.at("noise").normal(*x.shape[1:]), levels(x, sigma), order, mask_ratio)
        image = net.pixels(found, x)
    if visible == "decoded":
        return image
    patches = torch.where(found.hidden[:, :, None], net.patchify(image), net.patchify(x))
    return net.unpatchify(patches)


def own_loss(net: MAE | MaskDiT, x: Tensor, clean: Tensor, mask_ratio: float, draws: Draws, sigma: float) -> Tensor:
    """Return what a purifier was trained on, per image ``(B,)``, with the clean image as target of images ``x``.

    Of a diffusion transformer, which sees ``x`` with noise of deviation ``sigma``, that is denoising plus 0.1 of
    reconstruction (Zheng et al. 2024).
    """
    order = draws.at("reconstruct").permutation(net.n_patches)
    if isinstance(net, MAE):
        return net.loss(net(x, order, mask_ratio), clean)
    level = levels(x, sigma)
    found = net(x + sigma * draws.at("reconstruct", "noise").normal(*x.shape[1:]), level, order, mask_ratio)
    denoising, reconstruction = net.losses(found, clean, clean, level)
    return denoising + 0.1 * reconstruction


def halves(net: nn.Module, x: Tensor, draws: Draws) -> Tensor:
    """Return images restored from complementary halves of their patches, not clipped (DIR, Zhou et al. 2023).

    DIR's own network averages features; of a plain masked autoencoder the two predictions are averaged.
    """
    if isinstance(net, DIR):
        image: Tensor = net(x, draws.at("mask").permutation(net.n_patches))
        return image
    if not isinstance(net, MAE):
        raise TypeError(f"expected DIR's network or a masked autoencoder, got {type(net).__name__}")
    order = draws.at("mask").permutation(net.n_patches)
    both = [net.pixels(net(x, half, 0.5).patches, x) for half in (order, order.flip(1))]
    return (both[0] + both[1]) / 2.0


def denoised(net: nn.Module, x: Tensor, sigma: Tensor, draws: Draws) -> Tensor:
    """Return images after noise of deviation ``sigma`` ``(B,)`` and one unmasked pass, clipped (NIM-MAE's inference).

    Predictions that are normalised by patch get back the mean and deviation of ``x``, as it was before the noise (You
    et al. 2023, the authors' code).
    """
    net = mae(net)
    noisy = x + sigma.reshape(-1, 1, 1, 1) * draws.at("noise").normal(*x.shape[1:])
    return clip(net.pixels(net(noisy, still_order(net, x), 0.0).patches, x))
