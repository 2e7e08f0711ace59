"""The attention of a masked autoencoder's decoder, and how far it is from that on other images.

The attention-matrix variation (AMV) of MAE-Pure, submission 21073 of NeurIPS 2025, section 3: at decoder layer t it is
A^t(x) - A^t(clean) with A^t = softmax(Q K^T / sqrt(d)), through the same masks. Its size here is the Frobenius norm of
each head's difference, averaged over heads and layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.draws import Draws

#: decoder layers that count: the one that the figures show, or all, whose mean the theorem bounds
Layers = Literal["last", "all"]


def orders(n_patches: int, masks: int, draws: Draws) -> Tensor:
    """Return ``(B * masks, N)``: an order of the patches for each mask, the masks of an image side by side."""
    import torch

    return torch.stack([draws.at(mask).permutation(n_patches) for mask in range(masks)], 1).flatten(0, 1)


def variation(mae: nn.Module, x: Tensor, clean: Tensor, order: Tensor, mask_ratio: float, layers: Layers) -> Tensor:
    """Return the size of the AMV of images against the clean ones, ``(B * masks,)``; differentiable in ``x``.

    Args:
        mae: a masked autoencoder.
        x: pixels ``(B, C, H, W)`` in [0, 1].
        clean: likewise; no gradient reaches them.
        order: ``(B * masks, N)``, as ``orders`` has them.
        mask_ratio: share of the patches that is removed.
        layers: which count.
    """
    import torch

    masks = len(order) // len(x)
    with torch.no_grad():
        aims = mae(clean.detach().repeat_interleave(masks, 0), order, mask_ratio, attention=True).attention
    maps = mae(x.repeat_interleave(masks, 0), order, mask_ratio, attention=True).attention
    pairs = list(zip(maps, aims, strict=True))[-1 if layers == "last" else 0 :]
    norms = [torch.linalg.matrix_norm((a - b).to(x.dtype)).mean(1) for a, b in pairs]
    return torch.stack(norms).mean(0)
