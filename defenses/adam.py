"""Adam written out: each step is a function of what came before, which a graph can go through."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from defenses.guidance import gradient

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from defenses.guidance import Path

#: added to the root of the second moment (Kingma and Ba 2015, algorithm 1)
EPS = 1e-8


@dataclass(frozen=True)
class Moments:
    """The running means of gradients and of their squares, and the steps that they are over."""

    first: Tensor
    second: Tensor
    steps: int

    @classmethod
    def none(cls, value: Tensor) -> Moments:
        """Return the moments before the first step."""
        return cls(value.new_zeros(value.shape), value.new_zeros(value.shape), 0)


def adam(
    value: Tensor, gradient: Tensor, moments: Moments, lr: float, betas: tuple[float, float] = (0.9, 0.999)
) -> tuple[Tensor, Moments]:
    """Return the value after a step down a gradient, and the moments that the next step needs; nothing is changed.

    Args:
        value: of any shape.
        gradient: likewise shaped.
        moments: what the step before returned, or ``Moments.none(value)``.
        lr: length of a step where gradients agree.
        betas: decay of the two moments.
    """
    import torch

    first = betas[0] * moments.first + (1.0 - betas[0]) * gradient
    second = betas[1] * moments.second + (1.0 - betas[1]) * gradient**2
    steps = moments.steps + 1
    mean = first / (1.0 - betas[0] ** steps)
    square = second / (1.0 - betas[1] ** steps)
    # at 0 the root has no derivative; where no gradient ever came nothing moves, and nothing asks for one
    root = torch.where(square > 0, square, torch.ones_like(square)).sqrt() * (square > 0)
    return value - lr * mean / (root + EPS), Moments(first, second, steps)


def minimised(value: Tensor, loss: Callable[[Tensor, int], Tensor], *, steps: int, lr: float, path: Path) -> Tensor:
    """Return images ``(B, C, H, W)`` after Adam's steps down a loss of each.

    Args:
        value: where to start.
        loss: from images and the number of the step, from 0, to ``(B,)``; each image's depends on that image alone.
        steps: how many.
        lr: length of a step where gradients agree.
        path: ``attached``: gradients go through all steps, where they are on; a backward pass runs each step again.
    """
    from harness.replay import replayed

    def lower(at: Tensor, first: Tensor, second: Tensor, step: int) -> tuple[Tensor, ...]:
        down = gradient(lambda here: loss(here, step), at, path)
        found, moments = adam(at, down, Moments(first, second, step), lr)
        return found, moments.first, moments.second

    none = Moments.none(value)
    first, second = none.first, none.second
    for step in range(steps):
        value, first, second = replayed(partial(lower, step=step), value, first, second)
    return value
