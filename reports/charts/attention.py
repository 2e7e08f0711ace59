"""Scatter: the change of loss through purification against that of AMV, image by image, as a small figure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.core.roles import Role
from reports.axes import Tick
from reports.charts.cost import BOTTOM, LEFT, RIGHT, TOP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reports.attention.probe import Probed, Sight
    from reports.attention.study import Study

#: of a drawing, in units that the browser scales
WIDTH, HEIGHT = 720, 360

#: dots of a drawing at most, those of the first places
DOTS = 400

#: what became of an image -> how the legend calls it
FATES = {"right": "put right", "wrong": "still wrong", "was": "right without a defense"}


@dataclass(frozen=True)
class Dot:
    """An image: its place on the drawing, and what became of it."""

    x: float
    y: float
    fate: str


@dataclass(frozen=True)
class Scatter:
    """Where everything stands.

    Attributes:
        x_zero: where the loss did not change; right of it, it rose.
        y_zero: where AMV did not change; above it, it rose.
        counts: how many dots of each fate.
        left_out: how many images have no dot.
    """

    defense: str
    column: str
    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_zero: float
    y_zero: float
    counts: dict[str, int]
    left_out: int
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    top: int = TOP
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def scatters(study: Study) -> Iterator[Scatter]:
    """Yield a figure of each defense that lowers a loss and of each oracle, under the widest attack that all meet."""
    probed = study.probed
    for sights in probed.defenses.values():
        if sights[0].role in (Role.RECONSTRUCTION, Role.ORACLE):
            met = [one for one in sights if not one.clean and _together(one, probed.beside(one))]
            if met:
                yield scatter(max(met, key=lambda one: one.eps or 0.0), probed)


def _together(sight: Sight, beside: Sight | None) -> bool:
    return beside is not None and bool(np.isin(sight.place, beside.place).any())


def scatter(sight: Sight, probed: Probed) -> Scatter:
    """Place the images of one cell; the axes take in zero."""
    beside = probed.beside(sight)
    if beside is None:
        raise ValueError(f"expected {sight.column} without a defense too, got it on {sight.defense} alone")
    _, mine, theirs = np.intersect1d(sight.place, beside.place, assume_unique=True, return_indices=True)
    shown = mine[:DOTS]
    loss, amv = sight["loss_change"][shown], sight["amv_change"][shown]
    bare, after = beside.right[theirs[:DOTS]], sight.right[shown]
    fates = np.where(bare > 0.5, "was", np.where(after > 0.5, "right", "wrong"))
    x, y = Range.of(loss), Range.of(amv)
    across, up = (LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP)
    dots = [Dot(x.at(a, *across), y.at(b, *up), str(fate)) for a, b, fate in zip(loss, amv, fates, strict=True)]
    return Scatter(
        defense=sight.defense,
        column=sight.column,
        dots=tuple(sorted(dots, key=lambda dot: list(FATES)[::-1].index(dot.fate))),
        x_ticks=tuple(Tick(x.at(value, *across), f"{value:g}") for value in x.ticks()),
        y_ticks=tuple(Tick(y.at(value, *up), f"{value:g}") for value in y.ticks()),
        x_zero=x.at(0.0, *across),
        y_zero=y.at(0.0, *up),
        counts={fate: int((fates == fate).sum()) for fate in FATES},
        left_out=len(mine) - len(shown),
    )


@dataclass(frozen=True)
class Range:
    """A linear axis that takes in zero and all values, with a little room."""

    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Range:
        """Return one for the values."""
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        room = 0.04 * (high - low) or 1.0
        return cls(low - room, high + room)

    def at(self, value: float, begin: float, end: float) -> float:
        """Return where a value stands between the two ends of the axis."""
        return round(begin + (value - self.low) / (self.high - self.low) * (end - begin), 1)

    def ticks(self) -> list[float]:
        """Return round numbers on the axis, about five of them."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        return [round(k * step, 12) for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
