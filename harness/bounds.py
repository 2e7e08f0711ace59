"""Norms, ranges and projections: the one implementation that attacks, defenses and the judge share.

Pixels live in [0, 1]. A perturbation is ``(B, C, H, W)``; sizes are per example, ``(B,)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.core.threat import Norm

if TYPE_CHECKING:
    from harness.draws import Draws

LOW, HIGH = 0.0, 1.0


def tolerance(eps: float) -> float:
    """Return how far a size may exceed ``eps`` through float32 rounding: a few units in the last place."""
    return 1e-6 + 1e-5 * eps


def size(delta: Tensor, norm: Norm) -> Tensor:
    """Return the size of each perturbation, ``(B,)``."""
    flat = delta.flatten(1)
    return flat.abs().amax(1) if norm is Norm.LINF else torch.linalg.vector_norm(flat, dim=1)


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
    """
    delta = x_adv - x
    if norm is Norm.LINF:
        delta = delta.clamp(-eps, eps)
    else:
        factor = (eps / size(delta, norm).clamp_min(1e-12)).clamp_max(1.0)
        delta = delta * _images(factor)
    return clip(x + delta)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the direction of unit size that raises a linear function most: sign, or normalised gradient."""
    if norm is Norm.LINF:
        return gradient.sign()
    return gradient / _images(size(gradient, norm).clamp_min(1e-12))


def random_point(x: Tensor, eps: float, norm: Norm, draws: Draws) -> Tensor:
    """Return a point drawn uniformly from the ball around each image, clipped to [0, 1]."""
    shape = tuple(x.shape[1:])
    if norm is Norm.LINF:
        delta = eps * (2.0 * draws.uniform(*shape) - 1.0)
    else:
        radius = eps * draws.at("radius").uniform() ** (1.0 / x[0].numel())
        delta = steepest(draws.at("direction").normal(*shape), norm) * _images(radius)
    return clip(x + delta.to(x.dtype))


def _images(per_example: Tensor) -> Tensor:
    """View ``(B,)`` as ``(B, 1, 1, 1)``."""
    return per_example.reshape(-1, 1, 1, 1)
