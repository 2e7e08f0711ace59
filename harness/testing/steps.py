"""Whether a purifier moves by signs, whose derivative says nothing of what they do.

Two ways to see it, for there are many ways to write a sign:

- Of the whole purifier: in nearly every pixel its derivative is the identity's, or zero at the ends of the range, and
  yet what it does to one image is not what it does to another. Adding noise and clipping have such a derivative too,
  which explains all that they do.
- Within it: the result jumps where a sign or a comparison of its own flips. Not every sign does that: of
  ``sign(w) relu(|w| - t)`` nothing jumps. Not every jump has one: a guide's ReLUs bend, and its gradient jumps there.

Rounding is another matter: there the smooth function that stands for it is the identity, which BPDA has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.draws import Draws

    Purify = Callable[[Tensor], Tensor]

#: of the finite differences, and what of a derivative or of a move counts as nothing, in float64
WIDTH, WITHIN = 1e-6, 1e-3
#: share of the pixels whose derivative is plain, for a few may flip within the width; and of those where it is 1
MOST, LEAST = 0.95, 0.05
#: how often the way to a jump is halved, and the least that counts as one: a slope of 1e4 stays below
HALVINGS, JUMP = 34, 1e-6

SIGNS = frozenset({"sign", "sgn", "copysign"})
COMPARISONS = frozenset({"gt", "ge", "lt", "le", "greater", "greater_equal", "less", "less_equal", "heaviside"})


class Steps(NamedTuple):
    """How a purifier was seen to move by steps: whether those are signs for sure, and the words for it."""

    signs: bool
    how: str


def steps_of(purify: Purify, x: Tensor, draws: Draws) -> Steps | None:
    """Return how a purifier moves by steps; None where it was not seen to.

    Args:
        purify: the purifier with its networks and draws, in float64.
        x: images ``(B, C, H, W)`` in float64, no two alike.
        draws: for directions.
    """
    with torch.no_grad():
        return whole(purify, x, draws) or within(purify, x)


def _others(x: Tensor) -> tuple[Tensor, ...]:
    """Return images far from the given ones: their neighbours, and their negatives."""
    return x.roll(1, 0), 1.0 - x


def whole(purify: Purify, x: Tensor, draws: Draws) -> Steps | None:
    """Look at the derivative of the whole: the identity's in nearly every pixel, and no account of what is done."""
    along = draws.at("direction").normal(*x.shape[1:]).to(x.dtype)
    slope = (purify(x + WIDTH * along) - purify(x - WIDTH * along)) / (2.0 * WIDTH)
    still, same = slope.abs() <= WITHIN, (slope - along).abs() <= WITHIN
    if float((still | same).double().mean()) < MOST or float(same.double().mean()) < LEAST:
        return None
    here = purify(x)
    pairs = [(other - x, purify(other) - here) for other in _others(x)]
    apart = [change - change.clamp(moved.clamp(max=0.0), moved.clamp(min=0.0)) for moved, change in pairs]
    if not any(bool((one.abs() > WITHIN).any()) for one in apart):
        return None
    return Steps(True, "its derivative is the identity's, though what it does to an image depends on the image")


def within(purify: Purify, x: Tensor) -> Steps | None:
    """Go to where the result jumps, and see what flips there."""
    found = (_jump(purify, x, other) for other in _others(x) if _flips(purify, x, other))
    return next((steps for steps in found if steps is not None), None)


def _jump(purify: Purify, x: Tensor, other: Tensor) -> Steps | None:
    """Halve the way from images to others, always towards the larger change, until only a jump is left."""
    low, high = torch.zeros(len(x), 1, 1, 1).to(x), torch.ones(len(x), 1, 1, 1).to(x)

    def at(share: Tensor) -> Tensor:
        return x + share * (other - x)

    before, after = purify(at(low)), purify(at(high))
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        there = purify(at(middle))
        first = _largest(there - before) >= _largest(after - there)
        low, high = torch.where(first, low, middle), torch.where(first, middle, high)
        before, after = torch.where(first, before, there), torch.where(first, there, after)
    if not bool((_largest(after - before) > JUMP).any()):
        return None
    found = _flips(purify, at(low), at(high))
    for names, word in ((SIGNS, "sign"), (COMPARISONS, "comparison")):
        if found & names:
            how = f"its result jumps where a {word} flips ({', '.join(sorted(found & names))})"
            return Steps(names is SIGNS, how)
    return None


def _largest(change: Tensor) -> Tensor:
    return change.abs().amax((1, 2, 3), keepdim=True)


def _flips(purify: Purify, x: Tensor, other: Tensor) -> set[str]:
    """Return the names of the step functions whose values in purifying some images and others differ."""
    seen = []
    for images in (x, other):
        with _Watching() as watch:
            purify(images)
        seen.append(watch.seen)
    if [name for name, _ in seen[0]] != [name for name, _ in seen[1]]:
        return {name for name, _ in (*seen[0], *seen[1])}
    pairs = zip(*seen, strict=True)
    return {name for (name, one), (_, two) in pairs if one.shape != two.shape or not torch.equal(one, two)}


class _Watching(TorchFunctionMode):
    """Keeps what step functions return, under whatever name they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        if name in SIGNS | COMPARISONS and isinstance(found, Tensor):
            self.seen.append((name, found.detach().clone()))
        return found
