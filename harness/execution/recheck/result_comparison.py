"""Whether what was computed again is what was recorded, and whether it has to be so to the last bit."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.core.errors import UserError
from harness.core.result import Cost, Done, Outcome
from harness.store.read.results import COUNTS
from harness.store.write.aggregates import cut, numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.core.rectangle import Rectangle
    from harness.store.read.results import Attempted, Recorded, RecordedMeasure
    from harness.store.write.aggregates import Numbers

#: what an environment says of the code; whoever changes a number has to raise a version, so it excuses nothing
CODE = ("commit", "dirty")

#: what names an outcome, wherever it is measured
_NAMES = ("example", "place", "repeat", "label")


@dataclass(frozen=True)
class Tolerance:
    """How far results may be from recorded ones that were measured on other hardware or with other versions.

    There, sums come out in another order, and an attack of many steps makes much of little. So predictions may differ
    on a share of the outcomes, though on one in any case; and means of metrics by a part of themselves.
    """

    flips: float = 0.02
    means: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what is no share.

        Raises:
            UserError: if either is below 0 or above 1.
        """
        for name, value in (("--flips", self.flips), ("--tolerance", self.means)):
            if not 0 <= value <= 1:
                raise UserError(f"expected {name} between 0 and 1, got {value:g}")

    def __str__(self) -> str:
        """Say what is allowed."""
        return (
            f"predictions differ on at most {self.flips:.0%} of a result's outcomes, or on one, and the means of its "
            f"metrics by at most {self.means:.0%}"
        )


def changes(before: Attempted, again: Done, size: int | None) -> Iterator[str]:
    """Yield what is other than it was when a job was recorded, as far as numbers may depend on it."""
    if before.environment is None:
        yield "where some of it was done is not recorded"
        return
    for name in sorted({*before.environment, *again.environment} - {*CODE}):
        old, new = before.environment.get(name, "-"), again.environment.get(name, "-")
        if old != new:
            yield f"{name} {old} -> {new}"
    if before.batch_size != size:
        yield f"images at a time {before.batch_size} -> {size}"


def first_difference(told: Sequence[Any], mine: Sequence[Outcome]) -> str:
    """Say in what outcomes differ first: place, repeat and column; nothing where all are the same to the last bit."""
    if len(told) != len(mine):
        return f"{len(mine)} outcomes, recorded {len(told)}"
    for old, new in zip(told, mine, strict=True):
        for name in (one.name for one in fields(Outcome)):
            before, now = getattr(old, name), getattr(new, name)
            if before != now:
                return f"place {old.place}, repeat {old.repeat}: {name} {now}, recorded {before}"
    return ""


class MeasuredAgain(NamedTuple):
    """What a metric gave of a result, and what it gives now: ``(columns, places, repeats, *axes)``, by its code now."""

    recorded: RecordedMeasure
    now: Numbers
    code: Mapping[str, str]

    @property
    def named(self) -> str:
        """The metric, as people know it."""
        return f"metric {self.recorded.metric.use}"

    def first_difference(self) -> str:
        """Say in what the numbers differ first, or nothing."""
        before, now, taken = self.recorded.taken.numbers, self.now, self.recorded.taken
        unlike = np.argwhere(~((before == now) | (np.isnan(before) & np.isnan(now))))
        if not len(unlike):
            return ""
        at = tuple(unlike[0])
        place, repeat = at[1] + taken.rectangle.start, at[2] + taken.rectangle.first_repeat
        return f"place {place}, repeat {repeat}: {taken.names[at[0]]} {now[at]}, recorded {before[at]}"

    def beyond_tolerance(self, allowed: Tolerance) -> str:
        """Say which mean differs by more than is allowed elsewhere, or nothing."""
        for name, old, new in zip(self.recorded.taken.names, self.recorded.taken.numbers, self.now, strict=True):
            before, now = _mean(old), _mean(new)
            if before is None or now is None:
                if before is not now:
                    return f"{name} {'is missing' if now is None else 'was not recorded'}"
            elif abs(now - before) > allowed.means * abs(before) + 1e-9:
                return f"the mean of {name} is {now:.4g}, recorded {before:.4g}"
        return ""


def measured_again(result: Recorded, again: Done, whole: Rectangle) -> list[MeasuredAgain]:
    """Return what metrics gave of a result, each with what it gives now; ``whole`` is what the job measured."""
    now = {one.metric: one for one in again.measurements}
    pairs = []
    for one in result.measures:
        measured = now[one.metric.digest]
        numbers = numbers_of(measured.values, len(measured.names), measured.shape, whole)
        pairs.append(MeasuredAgain(one, cut(numbers, whole, result.rectangle), measured.code))
    return pairs


def passes(result: Recorded, again: Done) -> str:
    """Say which count of passes differs, or nothing; work that is the same is as much."""
    sides: Iterable[tuple[str, Cost | None]] = (("defense", again.defense_cost), ("attack", again.attack_cost))
    for side, cost in sides:
        for name in COUNTS:
            before, now = result.counts[f"{side}_{name}"], getattr(cost, name) if cost else None
            if before != now:
                return f"{side}_{name} {now}, recorded {before}"
    return ""


def beyond_tolerance(told: Sequence[Any], mine: Sequence[Outcome], allowed: Tolerance) -> str:
    """Say how outcomes differ by more than is allowed elsewhere, or nothing."""
    if [tuple(getattr(one, name) for name in _NAMES) for one in told] != [
        tuple(getattr(one, name) for name in _NAMES) for one in mine
    ]:
        return first_difference(told, mine)
    flips = sum((old.prediction, old.fault) != (new.prediction, new.fault) for old, new in zip(told, mine, strict=True))
    if flips > max(1.0, allowed.flips * len(mine)):
        return f"{flips} of {len(mine)} predictions differ, first {first_difference(told, mine)}"
    return ""


def _mean(numbers: Numbers) -> float | None:
    finite = numbers[np.isfinite(numbers)]
    return float(finite.mean()) if finite.size else None
