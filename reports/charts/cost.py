"""Accuracy against what it costs, as small figures; drawn by a template, so that they follow the page's colours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness.core.spec import canonical_json
from reports import format as numbers
from reports.axes import Tick
from reports.charts.labels import Box, Point, place
from reports.model.columns import DEFENSE, told
from reports.model.row import Group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from harness.core.table import Column
    from harness.store.read.provenance import Provenance
    from reports.cell import Accuracy, Entry
    from reports.charts.labels import Label, Segment
    from reports.model.board import Board
    from reports.model.row import Row

#: margins of a drawing, in units that the browser scales
LEFT, RIGHT, TOP, BOTTOM = 46, 24, 14, 44

#: where what costs nothing stands on a logarithmic axis, and where the logarithms begin then
_NOTHING, _BEGIN = LEFT + 24, LEFT + 92

#: marks beyond which a drawing takes the whole width of the page
MANY = 10

#: how many marks have a label, those of the highest worst cases
NAMED = 40

#: parameters of a defense that buy more of the same: rows that differ in them alone are one curve
COUNTS = ("steps", "rounds")


@dataclass(frozen=True)
class Size:
    """Of a drawing; two narrow ones stand side by side."""

    width: int
    height: int

    @property
    def frame(self) -> Box:
        """Where labels may stand."""
        return Box(LEFT, self.width - RIGHT / 2, 0, self.height - BOTTOM - 3)

    def y(self, share: float) -> float:
        """Return where a share in [0, 1] stands."""
        return round(TOP + (1 - share) * (self.height - TOP - BOTTOM), 1)


NARROW, WIDE = Size(720, 320), Size(1440, 480)


@dataclass(frozen=True)
class Axis:
    """A cost that accuracy is drawn against.

    Attributes:
        title: what stands below the axis.
        against: the cost in a sentence.
        fact: the cost.
        tick: how to write a round number of it.
    """

    title: str
    against: str
    fact: Column
    tick: Callable[[float], str]


AXES = (
    Axis("time per image on clean input, log scale", "the time that the defense takes", DEFENSE.seconds, numbers.tick),
    Axis(
        "network evaluations (NFE) per image on clean input, log scale",
        "the evaluations of the defense's own networks",
        DEFENSE.evaluations,
        numbers.count,
    ),
)


@dataclass(frozen=True)
class Mark:
    """A defense: clean accuracy above, worst case with its interval below, at its cost per image.

    Attributes:
        apart: whether it was attacked less than is asked, so that it cannot be compared with the others.
        leader: where a line from the worst case to a label ends that stands away from it; None if it stands beside.
    """

    name: str
    reference: bool
    apart: bool
    x: float
    clean: float
    worst: float
    low: float
    high: float
    label: Label | None
    leader: tuple[float, float] | None
    clean_anchor: str
    worst_anchor: str
    sentence: str


@dataclass(frozen=True)
class Curve:
    """Rows of one defense that differ in the number of their steps or rounds alone, in order of cost.

    Attributes:
        clean: the points of its line through clean accuracies.
        worst: likewise, of worst cases.
    """

    names: tuple[str, ...]
    clean: tuple[tuple[float, float], ...]
    worst: tuple[tuple[float, float], ...]

    @property
    def segments(self) -> list[Segment]:
        """What its two lines consist of."""
        return [*pairwise(self.clean), *pairwise(self.worst)]

    @property
    def sentence(self) -> str:
        """What it joins."""
        return f"{', '.join(self.names)}: they differ in the number of their steps or rounds alone"


@dataclass(frozen=True)
class Figure:
    """Where everything stands.

    Attributes:
        nothing: the place of what costs nothing, left of the logarithms; None where nothing does.
        apart: the defenses that are drawn apart, since they are not ranked.
        absent: the defenses that are not drawn, since they lack a worst case or the cost.
        unnamed: how many marks, of the lowest worst cases, have no label, since there are too many to be read.
    """

    axis: Axis
    marks: tuple[Mark, ...]
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    nothing: Tick | None
    apart: tuple[str, ...]
    absent: tuple[str, ...]
    unnamed: int
    title: str
    size: Size
    left: int = LEFT
    top: int = TOP
    begin: int = _BEGIN

    @property
    def right(self) -> int:
        """Where the axes end."""
        return self.size.width - RIGHT

    @property
    def bottom(self) -> int:
        """Where nothing is right."""
        return self.size.height - BOTTOM

    @property
    def wide(self) -> bool:
        """Whether it wants the whole width of the page."""
        return self.size == WIDE


def figures_of(board: Board, origin: Provenance) -> list[Figure]:
    """Return the figures of a board, one for each axis that has something to tell."""
    found = (figure_of(board, origin, axis) for axis in AXES)
    return [figure for figure in found if figure]


def figure_of(board: Board, origin: Provenance, axis: Axis) -> Figure | None:
    """Place a board's defenses; None where fewer than two have an accuracy and a cost, or all cost nothing."""
    known = [Known.of(row, axis) for row in board.rows]
    shown = sorted((one for one in known if one), key=lambda one: (one.worst.share, -one.cost, one.row.defense))
    size = WIDE if len(shown) > MANY else NARROW
    scale = Scale.of([one.cost for one in shown], size.width)
    if len(shown) < 2 or scale is None:
        return None
    spots = [Spot(one, scale.x(one.cost), size) for one in shown]
    curves = tuple(_curves(spots, origin))
    named = place([one.point for one in spots[-NAMED:]], size.frame, [line for one in curves for line in one.segments])
    labels = [*[None] * (len(spots) - len(named)), *named]
    marks = [one.mark(label) for one, label in zip(spots, labels, strict=True)]
    return Figure(
        axis=axis,
        marks=tuple(reversed(marks)),  # a reader goes from the top
        curves=curves,
        x_ticks=tuple(Tick(scale.x(value), axis.tick(value)) for value in scale.round_numbers()),
        y_ticks=tuple(Tick(size.y(share / 100), str(share)) for share in range(0, 101, 25)),
        nothing=Tick(_NOTHING, axis.tick(0)) if scale.nothing else None,
        apart=tuple(mark.name for mark in reversed(marks) if mark.apart),
        absent=tuple(row.defense for row, one in zip(board.rows, known, strict=True) if not one),
        unnamed=len(spots) - len(named),
        title=board.title,
        size=size,
    )


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis from ``10**first`` to ``10**last``, with a place left of it if something costs nothing."""

    first: float
    last: float
    nothing: bool
    width: int

    @classmethod
    def of(cls, costs: Sequence[float], width: int) -> Scale | None:
        """Return one that has room for all costs, of a decade or more; None if there is none above nothing."""
        logs = [math.log10(cost) for cost in costs if cost > 0]
        if not logs:
            return None
        least, most = min(logs), max(logs)
        room = max(0.07 * (most - least), (1 - most + least) / 2, 0.05)
        return cls(least - room, most + room, len(logs) < len(costs), width)

    def x(self, cost: float) -> float:
        """Return where a cost stands."""
        if cost <= 0:
            return _NOTHING
        begin = _BEGIN if self.nothing else LEFT
        return round(
            begin + (math.log10(cost) - self.first) / (self.last - self.first) * (self.width - RIGHT - begin), 1
        )

    def round_numbers(self) -> list[float]:
        """Return the powers of ten on the axis; where they are few, what is twice and five times as much too."""
        powers = range(math.floor(self.first), math.ceil(self.last) + 1)
        tens = [10.0**power for power in powers if self.first <= power <= self.last]
        if len(tens) > 3:
            return tens
        between = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        return [one for one in between if self.first <= math.log10(one) <= self.last]


@dataclass(frozen=True)
class Known:
    """A row that can be drawn: it has an accuracy on clean input, a worst case, and a cost."""

    row: Row
    entry: Entry
    clean: Accuracy
    worst: Accuracy
    anchor: str
    cost: float

    @classmethod
    def of(cls, row: Row, axis: Axis) -> Known | None:
        """Read a row; None if it cannot be drawn."""
        cost = axis.fact.of(row.clean) if row.clean else None
        if row.clean is None or row.clean.accuracy is None or row.worst is None or cost is None:
            return None
        return cls(row, row.clean, row.clean.accuracy, row.worst.accuracy, row.worst.anchor, cost)


@dataclass(frozen=True)
class Spot:
    """A row at its place on a drawing."""

    known: Known
    x: float
    size: Size

    @property
    def name(self) -> str:
        """The defense's."""
        return self.known.row.defense

    @property
    def clean(self) -> float:
        """Where its ring stands."""
        return self.size.y(self.known.clean.share)

    @property
    def worst(self) -> float:
        """Where its dot stands."""
        return self.size.y(self.known.worst.share)

    @property
    def ends(self) -> tuple[float, float]:
        """Where its interval ends, above and below."""
        return self.size.y(self.known.worst.high), self.size.y(self.known.worst.low)

    @property
    def point(self) -> Point:
        """What wants a label, and what labels have to keep clear of: dot, ring and interval."""
        dots = (Box(self.x - 6, self.x + 6, y - 6, y + 6) for y in (self.worst, self.clean))
        return Point(self.name, self.x, self.worst, (*dots, Box(self.x - 2, self.x + 2, *self.ends)))

    def mark(self, label: Label | None) -> Mark:
        """Return what is drawn."""
        row, entry, worst = self.known.row, self.known.entry, self.known.worst
        away = label is not None and abs(label.y - 4 - self.worst) > 12
        return Mark(
            name=self.name,
            reference=row.reference,
            apart=row.group in (Group.BELOW, Group.OTHER),
            x=self.x,
            clean=self.clean,
            worst=self.worst,
            high=self.ends[0],
            low=self.ends[1],
            label=label,
            leader=(label.x + (2 if label.end else -2), label.y - 4) if label and away else None,
            clean_anchor=entry.anchor,
            worst_anchor=self.known.anchor,
            sentence=(
                f"{self.name}: worst case {row.bound}{numbers.percent(worst.share)} "
                f"{numbers.interval(worst.low, worst.high)}, clean {numbers.percent(self.known.clean.share)}, "
                f"{told(DEFENSE.seconds, entry)} and {told(DEFENSE.evaluations, entry)} evaluations per image"
                + (f"; not ranked: {row.unranked}" if row.group in (Group.BELOW, Group.OTHER) else "")
                + (f"; flags: {row.warning}" if row.warning else "")
            ),
        )


def _curves(spots: Iterable[Spot], origin: Provenance) -> Iterator[Curve]:
    """Yield a curve for each family of more than one row."""
    families: dict[str, list[Spot]] = {}
    for spot in spots:
        if (family := _family(spot.known.row, origin)) is not None:
            families.setdefault(family, []).append(spot)
    for members in families.values():
        if len(members) > 1:
            members.sort(key=lambda spot: (spot.x, spot.name))
            yield Curve(
                names=tuple(spot.name for spot in members),
                clean=tuple((spot.x, spot.clean) for spot in members),
                worst=tuple((spot.x, spot.worst) for spot in members),
            )


def _family(row: Row, origin: Provenance) -> str | None:
    """Return what a row's defense is but for the number of its steps and rounds; None where it is not known."""
    facts = (origin.cells.get(entry.id or "") for entry in row.entries)
    spec: Mapping[str, Any] | None = next((one.spec["defense"] for one in facts if one), None)
    if spec is None:
        return None
    params = {name: value for name, value in spec["params"].items() if name not in COUNTS}
    return canonical_json({**spec, "params": params})
