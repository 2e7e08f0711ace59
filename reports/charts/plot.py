"""Plot: lines of anybody's section, drawn as those of accuracy against eps are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports.axes import Tick, spread
from reports.charts.attention import Range
from reports.charts.budget import BOTTOM, HEIGHT, HUES, LEFT, RIGHT, TOP, WIDTH, Curve, Point
from reports.format import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.core.table import Plot

#: the height of a name
_LINE = 15.0


@dataclass(frozen=True)
class Chart:
    """A plot, in units that the browser scales."""

    x_title: str
    caption: str
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def drawing(plot: Plot) -> Chart:
    """Place the points of a plot; both axes take in zero."""
    x, y = (Range.of(np.array([point[at] for line in plot.series.values() for point in line])) for at in (0, 1))
    across, up = (LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP)

    def points(name: str, line: Sequence[tuple[float, float]]) -> tuple[Point, ...]:
        return tuple(_point(name, at, x.at(at[0], *across), y.at(at[1], *up)) for at in line)

    lines = {name: points(name, line) for name, line in plot.series.items() if line}
    heights = spread([line[-1].y + 4 for line in lines.values()], HEIGHT - BOTTOM + 4.0, _LINE)
    return Chart(
        x_title=plot.x,
        caption=f"{plot.title}: {plot.y} against {plot.x}",
        curves=tuple(
            Curve(name, reference=False, hue=place % HUES, label_y=height, points=line)
            for place, ((name, line), height) in enumerate(zip(lines.items(), heights, strict=True))
        ),
        x_ticks=tuple(Tick(x.at(value, *across), f"{value:g}") for value in x.ticks()),
        y_ticks=tuple(Tick(y.at(value, *up), f"{value:g}") for value in y.ticks()),
    )


def _point(name: str, at: tuple[float, float], x: float, y: float) -> Point:
    sentence = f"{name}: {measure(at[0])}, {measure(at[1])}"
    return Point(eps=at[0], accuracy=None, x=x, y=y, low=y, high=y, anchor="", sentence=sentence)
