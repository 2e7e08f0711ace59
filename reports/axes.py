"""Axes of a drawing: their marks, and names that do not cover each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Tick:
    """A place on an axis with its text."""

    at: float
    text: str


def spread(heights: Sequence[float], lowest: float, line: float) -> list[float]:
    """Return heights of names that do not cover each other, in the order given; larger is lower on the page.

    Args:
        heights: where each name would like to stand.
        lowest: where the lowest may stand.
        line: the height of a name.
    """
    placed = [0.0] * len(heights)
    above = lowest + line
    for place in sorted(range(len(heights)), key=lambda index: -heights[index]):
        above = placed[place] = round(min(heights[place], above - line), 1)
    return placed
