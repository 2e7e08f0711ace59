"""Labels of a drawing: where the name of each mark stands, so that it covers neither another name nor a mark."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: height of a label and the mean width of its letters, in the units of the drawing
LINE, LETTER = 15.0, 6.9

#: between a mark and its label, and between two heights that are tried
_GAP, _STEP = 10.0, 7.5

#: how bad it is to leave the frame, to cover a label, a mark or a curve, to stand left of the point, and a unit away
_OUTSIDE, _LABEL, _MARK, _CURVE, _LEFT, _AWAY = 1e6, 1e4, 40.0, 25.0, 4.0, 1.0

#: the ends of a straight line
Segment = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Box:
    """A rectangle; ``top`` is above ``bottom``, so it is the smaller number."""

    left: float
    right: float
    top: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether the two have more than an edge in common."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def crossed(self, line: Segment) -> bool:
        """Whether a line passes through it: what is left of the line between its four edges has a length."""
        (x, y), (x_end, y_end) = line
        first, last = 0.0, 1.0
        for at, way, low, high in ((x, x_end - x, self.left, self.right), (y, y_end - y, self.top, self.bottom)):
            if way == 0:
                if not low < at < high:
                    return False
                continue
            enters, leaves = sorted(((low - at) / way, (high - at) / way))
            first, last = max(first, enters), min(last, leaves)
        return first < last

    def within(self, other: Box) -> bool:
        """Whether it lies in the other."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True)
class Label:
    """Where a name stands: its anchor and base line; one that ends at its anchor is set to the left of it."""

    text: str
    x: float
    y: float
    end: bool

    @property
    def box(self) -> Box:
        """What it covers."""
        length = len(self.text) * LETTER
        left = self.x - length if self.end else self.x
        return Box(left, left + length, self.y - LINE, self.y)


@dataclass(frozen=True)
class Point:
    """A dot that wants a name beside it, and what labels had better not cover of it."""

    text: str
    x: float
    y: float
    keep_clear: tuple[Box, ...]


def place(points: Sequence[Point], frame: Box, curves: Sequence[Segment] = ()) -> list[Label]:
    """Return a label for each point, placed in their order beside those before, as near to its point as may be."""
    marks = [box for point in points for box in point.keep_clear]
    placed: list[Label] = []
    for point in points:
        best, least = None, math.inf
        for distance, label in _candidates(point, frame):
            if distance >= least:
                break  # those that follow are further away still
            box = label.box
            harm = (
                distance
                + _OUTSIDE * (not box.within(frame))
                + _LABEL * _met(box, (other.box for other in placed))
                + _MARK * _met(box, marks)
                + _CURVE * sum(box.crossed(line) for line in curves)
            )
            if harm < least:
                best, least = label, harm
        if best is None:
            raise ValueError(f"expected a frame that has a place for {point.text!r}, got {frame}")
        placed.append(best)
    return placed


def _met(box: Box, others: Iterable[Box]) -> int:
    return sum(box.meets(other) for other in others)


def _candidates(point: Point, frame: Box) -> list[tuple[float, Label]]:
    """Return all heights on either side of a point, by half lines from its own, those first that are nearest."""
    level = point.y + 4
    home = min(max(level, frame.top + LINE), frame.bottom)
    count = int((frame.bottom - frame.top) / _STEP)
    found = [
        (abs(y - level) * _AWAY + end * _LEFT, Label(point.text, point.x + (-_GAP if end else _GAP), y, end))
        for y in (round(home + _STEP * step, 1) for step in range(-count, count + 1))
        for end in (False, True)
    ]
    return sorted(found, key=lambda pair: pair[0])
