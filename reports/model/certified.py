"""What is certified: the share of examples that no attack can change, by radius, one table per dataset and classifier.

The certified accuracy at a radius is the share of examples whose class is right and certified within it (Cohen et al.
2019, section 4); at 0 it is the share that is right at all, abstentions counting as wrong. It is a lower bound of what
the smoothed classifier withstands, where an attack gives an upper one, and says nothing of the defense without the
certificate's noise and vote. So it stands in a table of its own and is no part of any worst case.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.core.table import Cell, Column, Note, State, Table
from harness.store.read.frames import wilson
from reports.axes import Tick, spread
from reports.cell import Accuracy
from reports.model.columns import DEFENSE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pandas as pd

    from reports.cell import Entry

#: between two radii of a table, and how many there are at most besides 0; the papers' step is 0.25
STEPS, MOST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0), 8

#: of the drawing, in units that the browser scales; the right margin has the names of the lines
WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 46, 170, 14, 44

#: the height of a name; dashes of the lines, those after them begin anew
_LINE, DASHES = 15.0, ("none", "7 3", "2 3", "9 3 2 3")


@dataclass(frozen=True)
class Line:
    """A defense under a certificate.

    Attributes:
        shares: the certified accuracy at each radius of the table; none where nothing was measured.
        abstained: the share of examples of which nothing is said.
        mean: the mean certified radius; 0 where the class is wrong or nothing is said (Zhai et al. 2020, "ACR").
        radii: those above 0, rising.
    """

    entry: Entry
    shares: tuple[Accuracy, ...] = ()
    abstained: Accuracy | None = None
    mean: float | None = None
    radii: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The defense with its certificate."""
        return f"{self.entry.defense}, {self.entry.attack}"


@dataclass(frozen=True)
class Steps:
    """A line of the drawing: it falls where the radius of an example ends.

    Attributes:
        dash: tells it from the others.
        label: where its name stands, at the height of its end.
    """

    name: str
    anchor: str
    dash: str
    points: tuple[tuple[float, float], ...]
    label: tuple[float, float]


@dataclass(frozen=True)
class Drawing:
    """Certified accuracy against the radius."""

    lines: tuple[Steps, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Certified:
    """The certificates of a dataset and classifier.

    Attributes:
        radii: of the columns, L2 with pixels in [0, 1], from 0 to the largest that was certified.
        lines: in the suite's order.
    """

    suite: str
    dataset: str
    classifier: str
    radii: tuple[float, ...]
    lines: tuple[Line, ...]

    @property
    def title(self) -> str:
        """Name what is certified."""
        return f"{self.dataset} / {self.classifier} / certified, L2"

    @property
    def table(self) -> Table:
        """A row per defense and certificate: the share at each radius, abstentions, the mean radius, the cost."""
        columns = [Column("defense", "defense"), Column("certificate", "certificate")]
        columns += [Column(f"{one:g}", f"{one:g}", "percent", unit="L2" if one else "right") for one in self.radii]
        columns += [Column("abstained", "abstained", "percent"), Column("mean_radius", "mean radius", "measure")]
        costs = ((DEFENSE.seconds, "time", ""), (DEFENSE.evaluations, "NFE", DEFENSE.seconds.key))
        columns += [replace(one, group="", unit="per image", short=short, beneath=at) for one, short, at in costs]
        note = "Share in per cent that is right and certified within an L2 radius, with its 95 % Wilson interval."
        return Table("", columns, map(self._row, self.lines), note)

    def _row(self, line: Line) -> list[Cell | str]:
        entry = line.entry
        note = () if entry.done else (Note(entry.state, warn=entry.unfinished),)
        shares = [Cell(one, entry.anchor) for one in (*line.shares, line.abstained) if one]
        if not shares:
            shares = [Cell(State(entry.state, entry.unfinished), entry.anchor), *[Cell()] * len(self.radii)]
        costs = [Cell(column.of(entry)) for column in (DEFENSE.seconds, DEFENSE.evaluations)]
        return [entry.defense, Cell(entry.attack, notes=note if line.shares else ()), *shares, Cell(line.mean), *costs]

    @property
    def reasons(self) -> tuple[Entry, ...]:
        """The cells that are not done: refused, missing, partial."""
        return tuple(line.entry for line in self.lines if not line.entry.done)

    @property
    def drawing(self) -> Drawing | None:
        """Its lines against the radius; None where no radius is above 0."""
        return _drawing(self)


def certified(entries: Sequence[Entry], radii: pd.DataFrame) -> tuple[Certified, ...]:
    """Return the tables of a suite, in its order; none where it asks for no certificate.

    Args:
        entries: the suite's cells.
        radii: a row per example of a certified cell, of any suite; see ``Results.radii``.
    """
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        if entry.certified:
            groups.setdefault((entry.suite, entry.dataset, entry.classifier), []).append(entry)
    names = ["suite", "dataset", "classifier", "defense", "attack", "threat_model"]
    measured: dict[Any, pd.DataFrame] = dict(iter(radii.groupby(names))) if groups and len(radii) else {}
    return tuple(_table(place, group, measured) for place, group in groups.items())


def _table(
    place: tuple[str, str, str], entries: Iterable[Entry], measured: Mapping[tuple[str, ...], pd.DataFrame]
) -> Certified:
    found = [(entry, measured.get(entry.key)) for entry in entries]
    largest = max((float(rows["radius"].max()) for _, rows in found if rows is not None), default=0.0)
    columns = tuple(columns_up_to(largest))
    lines = [Line(entry) if rows is None else _line(entry, rows, columns) for entry, rows in found]
    return Certified(*place, columns, tuple(lines))


def columns_up_to(largest: float) -> Iterable[float]:
    """Yield the radii of a table: from 0 in the smallest of some round steps that makes few of them."""
    step = next((one for one in STEPS if largest < one * (MOST + 1)), STEPS[-1])
    for number in range(math.floor(largest / step + 1e-9) + 1):
        yield round(number * step, 6)


def _line(entry: Entry, rows: pd.DataFrame, columns: Sequence[float]) -> Line:
    right, radius, n = rows["correct"].astype(bool), rows["radius"], len(rows)
    return Line(
        entry,
        tuple(_share(int((right & (radius >= column)).sum()), n) for column in columns),
        _share(int((rows["prediction"] == -1).sum()), n),
        float(radius.mean()),
        tuple(sorted(radius[right & (radius > 0)].tolist())),
    )


def _share(count: int, n: int) -> Accuracy:
    share, low, high = (float(value) for value in wilson(count, n))
    return Accuracy(share, low, high, n)


# ---------------------------------------------------------------------- the drawing


def _drawing(table: Certified) -> Drawing | None:
    known = [line for line in table.lines if line.radii]
    if not known:
        return None
    largest = max(line.radii[-1] for line in known)

    def x(radius: float) -> float:
        return round(LEFT + radius / largest * (WIDTH - LEFT - RIGHT), 1)

    traced = [_steps(line, x) for line in known]
    heights = spread([points[-2][1] + 4 for points in traced], HEIGHT - BOTTOM + 4.0, _LINE)
    lines = tuple(
        Steps(line.name, line.entry.anchor, DASHES[place % len(DASHES)], points, (WIDTH - RIGHT + 10.0, height))
        for place, (line, points, height) in enumerate(zip(known, traced, heights, strict=True))
    )
    ticks = (Tick(x(radius), f"{radius:g}") for radius in table.radii)
    return Drawing(lines, tuple(ticks), tuple(Tick(_y(share / 100), str(share)) for share in range(0, 101, 25)))


def _steps(line: Line, x: Callable[[float], float]) -> tuple[tuple[float, float], ...]:
    """Return the corners: level up to each radius, then down by the examples that end there; last down to nothing."""
    n, left = line.shares[0].n, len(line.radii)
    points = [(x(0.0), _y(left / n))]
    for radius, ending in itertools.groupby(line.radii):
        points.append((x(radius), _y(left / n)))
        left -= len(list(ending))
        points.append((x(radius), _y(left / n)))
    return tuple(points)


def _y(share: float) -> float:
    return round(TOP + (1 - share) * (HEIGHT - TOP - BOTTOM), 1)
