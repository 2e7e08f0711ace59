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
        case Norm.L1:
            return flat.abs().sum(1)
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
    """Return a point of ball and range: the nearest point of the ball around ``x``, then clipped to [0, 1].

    Clipping moves each pixel towards ``x``, itself in [0, 1], so it never leaves the ball again. In L1 it is the
    nearest point of ball and range together: to clip afterwards would leave a part of the budget unused (Croce and Hein
    2021, "Mind the box").

    Raises:
        ValueError: for a budget that is no ball of one of the norms in ``BALLS``; so do the functions below.
    """
    delta = x_adv - x
    match norm:
        case Norm.LINF:
            delta = delta.clamp(-eps, eps)
        case Norm.L2:
            length, unit = _length(delta)
            # a length over eps is shortened to eps, whatever its unit; 0 is left alone
            shortened = delta / _images(unit) * _images(eps / torch.where(length > 0, length, torch.ones_like(length)))
            delta = torch.where(_images(length * unit > eps), shortened, delta)
        case Norm.L1:
            delta = _onto_l1(delta, x, eps)
        case _:
            raise _unknown(norm)
    return clip(x + delta)


def magnitude(values: Tensor) -> Tensor:
    """Return for each image the power of 2 at or below its largest entry, ``(B,)``; 1 where all entries are 0.

    Divided by it, the largest entry is from 1 to 2, and nothing is rounded but entries a hundred binary orders below:
    so the squares of a gradient neither vanish nor overflow, in whatever unit the loss is counted.
    """
    largest = values.detach().flatten(1).abs().amax(1)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    mantissa, _ = torch.frexp(largest)
    return largest / (2.0 * mantissa)


def _length(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the L2 size of each perturbation or gradient, counted in its magnitude, and that magnitude; ``(B,)``."""
    unit = magnitude(values)
    return size(values / _images(unit), Norm.L2), unit


def _onto_l1(delta: Tensor, x: Tensor, eps: float) -> Tensor:
    """Return the nearest perturbation of L1 size ``eps`` at most that leaves all pixels of ``x + delta`` in [0, 1].

    Every entry is drawn towards 0 by the same threshold and then cut where its pixel reaches the end of the range (the
    conditions of Karush, Kuhn and Tucker). What is left falls piecewise linearly as the threshold grows, with a bend
    where an entry begins to shrink and another where it is gone, so the threshold is found by sorting the bends.
    """
    flat, pixels = delta.flatten(1).double(), x.flatten(1).double()
    room = torch.where(flat > 0, HIGH - pixels, pixels - LOW)
    length = flat.abs()
    kept = torch.minimum(length, room)
    excess = kept.sum(1, keepdim=True) - eps
    bends, order = torch.cat([length - kept, length], 1).sort(1)
    turns = torch.cat([torch.ones_like(kept), -torch.ones_like(kept)], 1)
    shrinking = turns.gather(1, order).cumsum(1)  # entries that shrink after each bend
    fallen = torch.zeros_like(bends)
    fallen[:, 1:] = (shrinking[:, :-1] * bends.diff(dim=1)).cumsum(1)
    last = (torch.searchsorted(fallen, excess, right=True) - 1).clamp_min(0)
    threshold = bends.gather(1, last) + (excess - fallen.gather(1, last)) / shrinking.gather(1, last).clamp_min(1.0)
    threshold = torch.where(excess > 0, threshold, torch.zeros_like(threshold))
    nearest = flat.sign() * torch.minimum((length - threshold).clamp_min(0.0), room)
    return nearest.to(delta.dtype).reshape(delta.shape)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the direction of unit size that raises a linear function most.

    The sign in Linf, the normalised gradient in L2, the largest component alone in L1. Where the gradient is zero there
    is none. However short or long the gradient is, its direction has unit size.
    """
    match norm:
        case Norm.LINF:
            return gradient.sign()
        case Norm.L2:
            length, unit = _length(gradient)
            return gradient / _images(unit) / _images(torch.where(length > 0, length, torch.ones_like(length)))
        case Norm.L1:
            flat = gradient.flatten(1)
            largest = flat.abs().argmax(1, keepdim=True)
            one = torch.zeros_like(flat).scatter_(1, largest, flat.gather(1, largest).sign())
            return one.reshape(gradient.shape)
        case _:
            raise _unknown(norm)


def step(x: Tensor, gradient: Tensor, length: float, norm: Norm) -> Tensor:
    """Return the images after the step of a given length that raises a linear function most, not yet projected.

    In L1 the step respects the range: a pixel cannot go further than to its end, so the step fills up the pixels of
    the largest gradients one after the other (Croce and Hein 2021, "Mind the box").
    """
    if norm is not Norm.L1:
        return x + length * steepest(gradient, norm)
    flat, pixels = gradient.flatten(1), x.flatten(1)
    order = flat.abs().argsort(dim=1, descending=True, stable=True)
    room = torch.where(flat > 0, HIGH - pixels, pixels - LOW).clamp_min(0.0) * (flat != 0)
    ordered = room.gather(1, order).double()
    left = length - (ordered.cumsum(1) - ordered)  # of the step, when it comes to a pixel
    moved = torch.minimum(left.clamp_min(0.0), ordered).to(x.dtype)
    return x + (torch.zeros_like(flat).scatter_(1, order, moved) * flat.sign()).reshape(x.shape)


def random_point(x: Tensor, eps: float, norm: Norm, draws: Draws) -> Tensor:
    """Return a point drawn uniformly from the ball around each image, clipped to [0, 1]."""
    shape = tuple(x.shape[1:])
    match norm:
        case Norm.LINF:
            delta = eps * (2.0 * draws.uniform(*shape) - 1.0)
        case Norm.L2:
            radius = eps * draws.at("radius").uniform() ** (1.0 / x[0].numel())
            delta = steepest(draws.at("direction").normal(*shape), norm) * _images(radius)
        case Norm.L1:
            # shares of exponential numbers are uniform on a simplex; the last is what stays below eps
            parts = -torch.log1p(-draws.at("parts").uniform(x[0].numel() + 1))
            shares = (parts / parts.sum(1, keepdim=True))[:, :-1].reshape(x.shape)
            delta = eps * shares * torch.where(draws.at("signs").uniform(*shape) < 0.5, -1.0, 1.0)
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
