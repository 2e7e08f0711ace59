"""Trial: whether a defense is what its traits say, tried on a few images before it is judged.

Its own draws, a copy of its own and no meter: no number depends on it. Traits are tested by the contract as well, but a
row is shown to readers who have not run that.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.core.result import UNTRUE
from harness.draws import Draws
from harness.execution.worker.purify import purify

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.core.contracts import Defense, Nets

#: images that are tried
SOME = 3

#: share of what a defense does to an image by which it may be purified otherwise in other company: additions in another
#: order, which an optimiser by signs makes more of
_ROUNDING = 0.05

#: difference of pixels that no order of additions makes in float64
_EXACT = 1e-5


@torch.no_grad()
def trial(make: Callable[[], Defense], nets: Nets, x: Tensor, ids: Tensor) -> dict[str, tuple[float, int]]:
    """Purify a few images in several ways; return a note for each trait that turned out untrue.

    Args:
        make: builds the defense.
        nets: its networks, by role.
        x: clean images ``(B, C, H, W)`` in [0, 1]; the first ``SOME`` are taken.
        ids: their examples.
    """
    x, ids = x[:SOME], ids[:SOME]
    one, other = make(), make()
    traits, untrue = one.traits, []
    if traits.oracle or traits.stateful:  # they rank in no case
        return {}

    def purified(defense: Defense, rows: slice | Tensor = slice(None), seed: int = 0) -> Tensor:
        return purify(defense, x[rows], nets, Draws(("trial", seed), ids[rows]))

    first = purified(one)
    if _apart(first, purified(one)):
        untrue.append("stateful")
    elif not traits.random and any(_apart(first, purified(other, seed=seed)) for seed in (0, 1)):
        untrue.append("random")
    elif not traits.batchwise and _by_company(make, nets, x, ids):
        untrue.append("batchwise")
    return {f"{UNTRUE}{name}": (1.0, len(x)) for name in untrue}


def _apart(one: Tensor, two: Tensor) -> bool:
    """Whether two results differ: on a GPU by more than sums that come out otherwise each time."""
    if one.device.type == "cpu":
        return not torch.equal(torch.nan_to_num(one), torch.nan_to_num(two))
    return float(torch.nan_to_num(one - two).abs().mean()) > _EXACT


def _by_company(make: Callable[[], Defense], nets: Nets, x: Tensor, ids: Tensor) -> bool:
    """Whether images are purified otherwise alone, or in another order; where that is in doubt, in float64."""
    batch, apart = _company(make, nets, x, ids)
    if apart <= _ROUNDING * max(float((batch - x).abs().mean()), 1 / 255):
        return False
    exact = {role: copy.deepcopy(net).double() for role, net in nets.items()}
    return _company(make, exact, x.double(), ids)[1] > _EXACT


def _company(make: Callable[[], Defense], nets: Nets, x: Tensor, ids: Tensor) -> tuple[Tensor, float]:
    """Return the purified batch, and by how much its images differ from those that were purified in other company."""

    def purified(rows: Tensor) -> Tensor:
        return purify(make(), x[rows], nets, Draws(("trial", 0), ids[rows]))

    every = torch.arange(len(x), device=x.device)
    batch = purified(every)
    parts = (every[:1], every[-1:], every.flip(0))
    return batch, max(float((purified(rows) - batch[rows]).abs().mean()) for rows in parts)
