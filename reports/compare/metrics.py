"""Measures: metrics and costs of cells side by side, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.store.read.summaries import SHARES
from reports.model.columns import facts
from reports.stats.paired import mean_interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

    from harness.core.table import Column
    from harness.store.read.frames import Results
    from reports.compare.sides import Contestant

    #: an interval's ends
    Ends = tuple[float, float]

#: what tells the cells of a frame apart
_KEY = ["suite", "dataset", "classifier", "defense", "attack", "threat_model"]


@dataclass(frozen=True)
class Measure:
    """A metric or a cost on both sides; what is not known is None.

    Attributes:
        fact: which one.
        first: the mean on the first side.
        second: on the second.
        ends: of a metric on the same examples, the 95 % interval of the second mean less the first.
        first_ends: of a cost per image, the interval of the first mean over measured slices.
        second_ends: likewise of the second.
    """

    fact: Column
    first: float | None
    second: float | None
    ends: Ends | None = None
    first_ends: Ends | None = None
    second_ends: Ends | None = None


def measures(
    pairs: Sequence[tuple[Contestant, Contestant]], first: Results, second: Results
) -> Iterator[tuple[Measure, ...]]:
    """Yield what was measured of each pair of cells, in the order of the tables; every outcome is read for it."""
    ours, theirs = _Frames(first), _Frames(second)
    metrics = tuple({column.name: column for column in (*first.columns, *second.columns)}.values())
    for one, other in pairs:
        yield tuple(_measure(fact, one, other, ours, theirs) for fact in facts(metrics) if _known(fact, one, other))


def _known(fact: Column, one: Contestant, other: Contestant) -> bool:
    return any(fact.of(side.entry) is not None for side in (one, other))


def _measure(fact: Column, one: Contestant, other: Contestant, ours: _Frames, theirs: _Frames) -> Measure:
    first, second = fact.of(one.entry), fact.of(other.entry)
    if any(fact.key in side.entry.measures for side in (one, other)):
        shared = all(one.spec.get(part) == other.spec.get(part) for part in ("dataset", "subset_seed"))
        left, right = ours.means(one, fact.key), theirs.means(other, fact.key)
        places = sorted(left.keys() & right.keys()) if shared else []
        return Measure(fact, first, second, mean_interval([right[place] - left[place] for place in places]))
    return Measure(fact, first, second, first_ends=ours.ends(one, fact.key), second_ends=theirs.ends(other, fact.key))


class _Frames:
    """The outcomes and costs of one side, cell by cell."""

    def __init__(self, frames: Results) -> None:
        self.examples: Mapping[object, pd.DataFrame] = dict(iter(frames.examples.groupby(_KEY, sort=False)))
        self.costs: Mapping[object, pd.DataFrame] = dict(iter(frames.costs.groupby(_KEY, sort=False)))

    def means(self, cell: Contestant, key: str) -> dict[int, float]:
        """Return a metric by place, the mean over the repeats that the suite wants; nothing of what has none."""
        entry = cell.entry
        if entry.key not in self.examples or key not in self.examples[entry.key]:
            return {}
        rows = self.examples[entry.key]
        rows = rows[(rows["place"] < entry.wanted) & (rows["repeat"] < entry.wanted_repeats)]
        found = rows.groupby("place")[key].mean().dropna()
        return dict(zip(found.index.tolist(), found.tolist(), strict=True))

    def ends(self, cell: Contestant, key: str) -> Ends | None:
        """Return the interval of a cost per image over the slices that it was measured on; None of other costs."""
        side, _, name = key.partition("_")
        if name not in SHARES or cell.entry.key not in self.costs:
            return None
        rows = self.costs[cell.entry.key]
        if side == "attack":  # recorded with every result on a slice, and paid once
            rows = rows.drop_duplicates(["start", "stop"])
        rows = rows[rows[f"{side}_images"] > 0]
        images = rows[f"{side}_images"].to_numpy(float)
        return mean_interval(rows[key].to_numpy(float) / images, images)
