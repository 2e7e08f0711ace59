"""The one way in which a job asks a defense: the images it is given stay as they are, what it returns are images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.core.errors import UserError

if TYPE_CHECKING:
    from harness.core.contracts import Defense, Nets
    from harness.draws import Draws

#: in rounding errors of its kind of number, by how much a pixel may lie beyond its range
_ROUNDING = 16.0


def purify(defense: Defense, x: Tensor, nets: Nets, draws: Draws, **shown: Tensor) -> Tensor:
    """Return what a defense makes of images; it gets a copy of them, with the gradient of the images themselves.

    Args:
        defense: what purifies.
        x: pixels ``(B, C, H, W)`` in [0, 1].
        nets: its networks, by role.
        draws: its random numbers.
        shown: what else it is shown: the clean images, if it is an oracle.

    Raises:
        UserError: if it changed what it was given, or returned no images: another shape or kind of number, or, of
            images, pixels beyond [0, 1] though it does not say so. What is no number is a matter of the judge.
    """
    given = x.clone()
    found: object = defense.purify(given, nets, draws, **shown)
    name = f"defense {type(defense).__name__}"
    if not _same(given.detach(), x.detach()):
        raise UserError(
            f"{name}: expected the images that `purify` is given to stay as they are, but it changed them in place, "
            "which attacks and gradients do not see; work on a copy (x.clone())"
        )
    if not isinstance(found, Tensor) or found.shape != x.shape or found.dtype != x.dtype:
        raise UserError(
            f"{name}: expected purified images {tuple(x.shape)} of {x.dtype}, got {_described(found)}; repair purify"
        )
    low, high = _range(found.detach())
    beyond = _ROUNDING * torch.finfo(found.dtype).eps
    if (low < -beyond or high > 1.0 + beyond) and not defense.unclipped and _are_images(x):
        raise UserError(
            f"{name}: expected purified pixels in [0, 1], got {low:.4g} to {high:.4g}; clip them, or say "
            "`unclipped = True` in the class where it means to leave the range"
        )
    return found


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) or torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


def _are_images(x: Tensor) -> bool:
    """Whether pixels lie in [0, 1]; those that a certificate has added noise to do not."""
    low, high = _range(x.detach())
    return low >= 0.0 and high <= 1.0


def _range(pixels: Tensor) -> tuple[float, float]:
    """Return the smallest and the largest pixel that is a number; those of nothing are in range."""
    finite = torch.where(torch.isfinite(pixels), pixels, 0.5)
    return (float(finite.min()), float(finite.max())) if finite.numel() else (0.5, 0.5)


def _described(found: object) -> str:
    return f"{tuple(found.shape)} of {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
