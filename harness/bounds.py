"""Norms, ranges, projections and moves: the one implementation that attacks, defenses and the judge share.

Pixels live in [0, 1]. A perturbation is ``(B, C, H, W)``; sizes are per example, ``(B,)``. A flow ``(B, 2, H, W)`` says
for each pixel of an image from where it is taken: so many pixels further down, and so many further to the right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.core.threat import BALLS, Norm

if TYPE_CHECKING:
    from harness.draws import Draws

LOW, HIGH = 0.0, 1.0


def tolerance(eps: float) -> float:
    """Return how far a size may exceed ``eps`` through float32 rounding: a few units in the last place."""
    return 1e-6 + 1e-5 * eps


def size(delta: Tensor, norm: Norm) -> Tensor:
    """Return the size of each perturbation, or of each flow, ``(B,)``.

    Raises:
        ValueError: for what is neither a flow nor a ball of one of the norms in ``BALLS``.
    """
    flat = delta.flatten(1)
    match norm:
        case Norm.LINF | Norm.FLOW:
            return flat.abs().amax(1)
        case Norm.L2:
            length: Tensor = torch.linalg.vector_norm(flat, dim=1)
            return length
        case _:
            raise _unknown(norm)


def clip(x: Tensor) -> Tensor:
    """Return images with every pixel in [0, 1]; the gradient passes where a pixel was inside, the ends included.

    Torch's own clamp lets none pass at an end itself, where an image has many of its pixels: whoever differentiates
    through a defense would leave them alone.
    """
    if not x.requires_grad:
        return x.clamp(LOW, HIGH)
    return torch.where((x < LOW) | (x > HIGH), x.detach().clamp(LOW, HIGH), x)


def project(x_adv: Tensor, x: Tensor, eps: float, norm: Norm) -> Tensor:
    """Return the nearest point of the ball around ``x``, then clipped to [0, 1].

    Clipping moves each pixel towards ``x``, itself in [0, 1], so it never leaves the ball again.

    Raises:
        ValueError: for a budget that is no ball of one of the norms in ``BALLS``; so do the two functions below.
    """
    delta = x_adv - x
    match norm:
        case Norm.LINF:
            delta = delta.clamp(-eps, eps)
        case Norm.L2:
            factor = (eps / size(delta, norm).clamp_min(1e-12)).clamp_max(1.0)
            delta = delta * _images(factor)
        case _:
            raise _unknown(norm)
    return clip(x + delta)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the direction of unit size that raises a linear function most: sign, or normalised gradient."""
    match norm:
        case Norm.LINF:
            return gradient.sign()
        case Norm.L2:
            return gradient / _images(size(gradient, norm).clamp_min(1e-12))
        case _:
            raise _unknown(norm)


def random_point(x: Tensor, eps: float, norm: Norm, draws: Draws) -> Tensor:
    """Return a point drawn uniformly from the ball around each image, clipped to [0, 1]."""
    shape = tuple(x.shape[1:])
    match norm:
        case Norm.LINF:
            delta = eps * (2.0 * draws.uniform(*shape) - 1.0)
        case Norm.L2:
            radius = eps * draws.at("radius").uniform() ** (1.0 / x[0].numel())
            delta = steepest(draws.at("direction").normal(*shape), norm) * _images(radius)
        case _:
            raise _unknown(norm)
    return clip(x + delta.to(x.dtype))


def shorten(flow: Tensor, eps: float) -> Tensor:
    """Return the nearest flow whose moves are ``eps`` pixels long at most, along either axis."""
    return flow.clamp(-eps, eps)


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Return images whose pixel at row i, column j is that of ``x`` at row i + flow[0], column j + flow[1].

    Between pixels it is interpolated bilinearly (Xiao et al. 2018, equation 1); beyond an edge the image goes on as its
    mirror image, with the edge itself as the mirror. Where the flow is zero the pixel is exactly as it was. Every pixel
    is a weighted mean of pixels, so it stays in their range but for rounding. Differentiable in both; at a kink, such
    as a move of whole pixels, the derivative is one of the two sides'. Where the flow is not finite, the pixel is NaN.

    Args:
        x: ``(B, C, H, W)``.
        flow: ``(B, 2, H, W)``, in pixels.
    """
    height, width = x.shape[2:]
    rows = torch.arange(height, device=x.device, dtype=flow.dtype)[None, :, None] + flow[:, 0]
    columns = torch.arange(width, device=x.device, dtype=flow.dtype)[None, None, :] + flow[:, 1]
    above, down = _between(rows, height)
    left, right = _between(columns, width)
    pixels = x.flatten(2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        where = (row * width + column).flatten(1)[:, None].expand(-1, x.shape[1], -1)
        return pixels.gather(2, where).reshape(x.shape)

    below, beside = (above + 1).clamp_max(height - 1), (left + 1).clamp_max(width - 1)
    down, right = down[:, None], right[:, None]
    upper = (1 - right) * at(above, left) + right * at(above, beside)
    lower = (1 - right) * at(below, left) + right * at(below, beside)
    return (1 - down) * upper + down * lower


def _between(where: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the pixel before each place on an axis of ``n``, mirrored into it, and how far behind that it lies."""
    if n == 1:
        return torch.zeros_like(where, dtype=torch.int64), torch.zeros_like(where)
    around = 2.0 * (n - 1)
    where = torch.remainder(where, around)
    where = torch.where(where > n - 1, around - where, where)
    # the last pixel is reached from the one before it, or its derivative would be that of a constant
    before = where.detach().floor().clamp(0, n - 2).nan_to_num()
    return before.long(), where - before


def _images(per_example: Tensor) -> Tensor:
    """View ``(B,)`` as ``(B, 1, 1, 1)``."""
    return per_example.reshape(-1, 1, 1, 1)


def _unknown(norm: Norm) -> ValueError:
    known = ", ".join(norm.value for norm in BALLS)
    return ValueError(f"expected a budget in one of the norms {known}, got {norm}; let the attack refuse it")
