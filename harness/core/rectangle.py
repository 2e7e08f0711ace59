"""Rectangles of places and repeats: what of a cell is asked for, and what is measured."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Rectangle(NamedTuple):
    """Places ``start`` to ``stop - 1`` of a cell in repeats ``first_repeat`` to ``stop_repeat - 1``."""

    start: int
    stop: int
    first_repeat: int
    stop_repeat: int

    @property
    def places(self) -> int:
        """How many places."""
        return self.stop - self.start

    @property
    def size(self) -> int:
        """How many outcomes."""
        return self.places * (self.stop_repeat - self.first_repeat)

    def contains(self, other: Rectangle) -> bool:
        """Whether another rectangle lies within this one."""
        return (
            self.start <= other.start
            and other.stop <= self.stop
            and self.first_repeat <= other.first_repeat
            and other.stop_repeat <= self.stop_repeat
        )

    def holds(self, place: int, repeat: int) -> bool:
        """Whether an outcome belongs here."""
        return self.start <= place < self.stop and self.first_repeat <= repeat < self.stop_repeat


def unmeasured(wanted: Rectangle, there: Iterable[Rectangle]) -> Iterator[Rectangle]:
    """Yield what is left of a rectangle when others are taken out, as rectangles."""
    near = [one for one in there if one.start < wanted.stop and wanted.start < one.stop]
    if not near:
        yield wanted
        return
    edges = {wanted.start, wanted.stop} | {edge for one in near for edge in (one.start, one.stop)}
    cuts = sorted(edge for edge in edges if wanted.start <= edge <= wanted.stop)
    for start, stop in itertools.pairwise(cuts):
        left = set(range(wanted.first_repeat, wanted.stop_repeat))
        for one in near:
            if one.start <= start and stop <= one.stop:
                left -= set(range(one.first_repeat, one.stop_repeat))
        for first in sorted(left):
            if first - 1 not in left:
                end = next(repeat for repeat in range(first, wanted.stop_repeat + 1) if repeat not in left)
                yield Rectangle(start, stop, first, end)


@dataclass(frozen=True)
class Version:
    """What results of a cell have in common that count together.

    Attributes:
        digest: of the set of weights and code; see ``WeightsRow``.
        weights: content hash by recipe digest.
        code: hashes of the code by role; None where it is not known.
        current: whether these are the results that are read.
    """

    digest: str
    weights: tuple[tuple[str, str], ...]
    code: Mapping[str, str] | None = field(compare=False)
    current: bool


@dataclass(frozen=True)
class TakenMetric:
    """A metric that was taken of a result, with the networks and the code that it was taken with."""

    metric: str
    weights: tuple[tuple[str, str], ...]
    code: Mapping[str, str] = field(compare=False)


@dataclass(frozen=True)
class Covered:
    """Places ``start`` to ``stop - 1`` of a cell, measured in repeats ``first_repeat`` to ``stop_repeat - 1``.

    Attributes:
        version: what counts together with it.
        job: what the job measured of which this is the whole or a part.
        metrics: those that were taken of it, the latest of each.
    """

    start: int
    stop: int
    first_repeat: int
    stop_repeat: int
    version: Version
    job: Rectangle
    metrics: tuple[TakenMetric, ...] = ()
