"""Curves: accuracy against the radius of the budget, where a suite attacks a defense within several of one norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.spec import canonical_json
from harness.core.table import Column, Table
from reports import format as numbers
from reports.axes import Tick, spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reports.cell import Accuracy, Entry
    from reports.model.leaderboard import Section

#: of the drawing, in units that the browser scales; the right margin has the names of the lines
WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 46, 150, 14, 44

#: the height of a name, and how near two ticks may stand
_LINE, _NEAR = 15.0, 36.0

#: colours of the lines; those after them begin anew
HUES = 6


@dataclass(frozen=True)
class Point:
    """An accuracy with its interval at a radius, where it stands and where it links to; of plots the place alone."""

    eps: float
    accuracy: Accuracy | None
    x: float
    y: float
    low: float
    high: float
    anchor: str
    sentence: str


@dataclass(frozen=True)
class Curve:
    """A defense under one attack: clean input at radius 0, then the attack within each radius.

    Attributes:
        hue: which of the colours it has.
        label_y: the height of its name.
    """

    name: str
    reference: bool
    hue: int
    label_y: float
    points: tuple[Point, ...]

    @property
    def last(self) -> Point:
        """The point at the largest radius."""
        return self.points[-1]


@dataclass(frozen=True)
class Curves:
    """The defenses of a dataset and classifier under one attack, knowledge and norm."""

    title: str
    norm: str
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    @property
    def x_title(self) -> str:
        """What stands below the axis."""
        return f"eps, {self.norm}"

    @property
    def caption(self) -> str:
        """What is drawn."""
        return f"{self.title}: accuracy in per cent against eps, with its interval; clean input at 0."

    @property
    def radii(self) -> list[float]:
        """Every radius, in order, from 0."""
        return sorted({point.eps for curve in self.curves for point in curve.points})


def curve_table(plot: Curves) -> Table:
    """Return the points of a drawing, a column for each radius."""
    columns = [Column("defense", "defense")]
    columns += [Column(f"{eps:g}", _at(plot.norm, eps), "percent") for eps in plot.radii]
    found = ({point.eps: point.accuracy for point in curve.points} for curve in plot.curves)
    rows = [[curve.name, *map(at.get, plot.radii)] for curve, at in zip(plot.curves, found, strict=True)]
    return Table(f"Accuracy against eps: {plot.title}", columns, rows)


def _at(norm: str, eps: float) -> str:
    return f"{norm} {numbers.radius(eps)}" if eps else "clean"


def curves_of(section: Section) -> list[Curves]:
    """Return a drawing for each attack that met a defense within two radii or more, in the suite's order.

    Checks are left out, and transferred cells; what other suites have is taken in.
    """
    clean = {entry.row: entry for entry in section.entries if entry.clean and entry.done}
    families: dict[str, list[Entry]] = {}
    for entry in (*section.entries, *section.elsewhere):
        if entry.done and entry.spec.get("attack") and not entry.check and not entry.transferred:
            families.setdefault(_family(entry), []).append(entry)
    drawn = (_drawing(members, clean) for members in families.values())
    return [one for one in drawn if one]


def _family(entry: Entry) -> str:
    threat = {name: value for name, value in entry.spec["threat"].items() if name != "eps"}
    names = [entry.dataset, entry.classifier]
    # what a surrogate is differs between defenses, so it is no part of what they have in common
    return canonical_json([*names, entry.spec["attack"], threat])


def _drawing(members: Sequence[Entry], clean: dict[tuple[str, ...], Entry]) -> Curves | None:
    rows: dict[tuple[str, ...], dict[float, Entry]] = {}
    for entry in members:
        rows.setdefault(entry.row, {}).setdefault(float(entry.eps or 0.0), entry)
    several = {row: found for row, found in rows.items() if len(found) > 1}
    if not several:
        return None
    widest = max(eps for found in several.values() for eps in found)
    lines = []
    for row, found in several.items():
        at_rest = {0.0: clean[row]} if row in clean else {}
        lines.append((row[-1], _points({**at_rest, **dict(sorted(found.items()))}, widest)))
    first = members[0]
    heights = spread([points[-1].y + 4 for _, points in lines], HEIGHT - BOTTOM + 4.0, _LINE)
    curves = tuple(
        Curve(name, any(e.undefended for e in rows[row].values()), place % HUES, height, points)
        for place, (row, (name, points), height) in enumerate(zip(several, lines, heights, strict=True))
    )
    return Curves(
        title=f"{first.dataset} / {first.classifier}, {first.attack}, {first.knowledge}",
        norm=str(first.norm),
        curves=curves,
        x_ticks=tuple(_ticks({point.eps: point.x for curve in curves for point in curve.points})),
        y_ticks=tuple(Tick(_y(share / 100), str(share)) for share in range(0, 101, 25)),
    )


def _points(found: dict[float, Entry], widest: float) -> tuple[Point, ...]:
    points = []
    for eps, entry in found.items():
        accuracy = entry.accuracy
        if accuracy is not None:
            at = "clean" if entry.clean else f"{entry.norm} {numbers.radius(eps)}"
            points.append(
                Point(
                    eps=eps,
                    accuracy=accuracy,
                    x=round(LEFT + eps / widest * (WIDTH - LEFT - RIGHT), 1),
                    y=_y(accuracy.share),
                    low=_y(accuracy.low),
                    high=_y(accuracy.high),
                    anchor=entry.anchor,
                    sentence=f"{entry.defense}, {at}: {numbers.percent(accuracy.share)} "
                    f"{numbers.interval(accuracy.low, accuracy.high)}",
                )
            )
    return tuple(points)


def _y(share: float) -> float:
    return round(TOP + (1 - share) * (HEIGHT - TOP - BOTTOM), 1)


def _ticks(places: dict[float, float]) -> Iterable[Tick]:
    """Yield a tick for each radius that stands far enough from the one before."""
    last = -_NEAR
    for eps, x in sorted(places.items()):
        if x - last >= _NEAR:
            last = x
            yield Tick(x, numbers.radius(eps) if eps else "0")
