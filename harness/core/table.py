"""Table: what a report shows, as typed values that every format maps to its markup.

A column declares its heading and how its numbers are written; a row has a value for each column. Beside tables a
section of a report may have sentences, lists, headings and plots: each is a ``Part``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, Literal, NamedTuple, cast, get_args

from harness.core.errors import UserError

#: how numbers are written: as they are; whole where they are; with three digits; shares in per cent, and differences of
#: them in points; with their unit; coefficients with their sign; chances with two decimals
Form = Literal["text", "count", "measure", "percent", "points", "seconds", "memory", "correlation", "decimals"]

FORMS: tuple[Form, ...] = get_args(Form)

Write = Callable[[float], str]

#: no blanks, quotes or brackets: nothing that could end the link early
_WEB = re.compile(r"https?://[^\s<>\"'`\\]+")


class Words(NamedTuple):
    """A value as text: what is read first, and what stands small beside it."""

    main: str
    small: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Join them."""
        return " ".join((self.main, *self.small))


# ---------------------------------------------------------------------- values


class Value:
    """A value of more than one number.

    ``words`` writes it, with a function that writes one number; ``order`` is what a page sorts by.
    """

    def words(self, write: Write) -> Words:
        """Return it as text."""
        raise NotImplementedError

    @property
    def order(self) -> float | str | None:
        """What it is sorted by."""
        raise NotImplementedError

    def fields(self, key: str) -> dict[str, object]:
        """Return it as columns of a CSV file; ``key`` is that of its column."""
        return {key: self.order}

    def plain(self, key: str) -> dict[str, Any]:
        """Return it as JSON."""
        return {key: asdict(self)}  # type: ignore[call-overload]  # each is a dataclass


@dataclass(frozen=True)
class Interval(Value):
    """A number with the ends of an interval."""

    value: float
    low: float
    high: float

    def words(self, write: Write) -> Words:
        """Return ``74.0`` and ``[70.1, 77.6]``."""
        return Words(write(self.value), (f"[{write(self.low)}, {write(self.high)}]",))

    @property
    def order(self) -> float:
        """The number."""
        return self.value

    def fields(self, key: str) -> dict[str, object]:
        """Return the three."""
        return {key: self.value, f"{key}_low": self.low, f"{key}_high": self.high}


@dataclass(frozen=True)
class Share(Value):
    """A share with its 95 % interval, all in [0, 1], over ``n`` examples; its column has the form ``percent``."""

    share: float
    low: float
    high: float
    n: int

    def words(self, write: Write) -> Words:
        """Return ``74.0`` and ``[70.1, 77.6]``."""
        return Interval(self.share, self.low, self.high).words(write)

    @property
    def order(self) -> float:
        """The share."""
        return self.share

    def fields(self, key: str) -> dict[str, object]:
        """Return the four."""
        return {**Interval(self.share, self.low, self.high).fields(key), f"{key}_n": self.n}


@dataclass(frozen=True)
class Range(Value):
    """From the least to the greatest of several."""

    low: float
    high: float

    def words(self, write: Write) -> Words:
        """Return ``0.12 to 0.40``."""
        return Words(f"{write(self.low)} to {write(self.high)}")

    @property
    def order(self) -> float:
        """The least."""
        return self.low

    def fields(self, key: str) -> dict[str, object]:
        """Return both."""
        return {f"{key}_low": self.low, f"{key}_high": self.high}


@dataclass(frozen=True)
class State(Value):
    """A word where no number is: ``refused``, ``missing``.

    Attributes:
        unfinished: whether there can be one yet.
        reason: why there is none.
    """

    word: str
    unfinished: bool = False
    reason: str = ""

    def words(self, write: Write) -> Words:
        """Return the word."""
        return Words(self.word)

    @property
    def order(self) -> None:
        """It stands below all numbers."""
        return

    def fields(self, key: str) -> dict[str, object]:
        """Return the word in a column of its own, so that the other has numbers alone."""
        return {key: None, f"{key}_state": self.word}

    def plain(self, key: str) -> dict[str, Any]:
        """Return the same."""
        return self.fields(key)


@dataclass(frozen=True)
class Code(Value):
    """A name that is set as code, such as the id of a cell."""

    text: str

    def words(self, write: Write) -> Words:
        """Return the name."""
        return Words(self.text)

    @property
    def order(self) -> str:
        """The name."""
        return self.text

    def plain(self, key: str) -> dict[str, Any]:
        """Return the name."""
        return {key: self.text}


@dataclass(frozen=True)
class Link(Value):
    """A text that leads to the web, and nowhere else."""

    text: str
    url: str = ""

    @property
    def web(self) -> bool:
        """Whether it may be followed."""
        return _WEB.fullmatch(self.url) is not None

    def words(self, write: Write) -> Words:
        """Return the text."""
        return Words(self.text)

    @property
    def order(self) -> str:
        """The text."""
        return self.text

    def fields(self, key: str) -> dict[str, object]:
        """Return both."""
        return {key: self.text, f"{key}_url": self.url if self.web else None}

    def plain(self, key: str) -> dict[str, Any]:
        """Return both."""
        return self.fields(key)


#: what stands in a cell
Datum = None | str | int | float | Value

#: the values of more than one number that a section of anybody's may have
VALUES = (Interval, Share, Range, State, Code, Link)


def order(value: Datum) -> float | str | None:
    """Return what a value is sorted by."""
    return value.order if isinstance(value, Value) else value


def fields(key: str, value: Datum) -> dict[str, object]:
    """Return a value as columns of a CSV file."""
    return value.fields(key) if isinstance(value, Value) else {key: value}


def plain(key: str, value: Datum) -> dict[str, Any]:
    """Return a value as JSON, which has no number that is not finite."""
    if isinstance(value, Value):
        return value.plain(key)
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value}


# ---------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: its name in CSV and JSON.
        title: its heading.
        form: how its numbers are written; what is text stands left, numbers stand right.
        group: the heading that it shares with its neighbours.
        unit: the second line of its heading.
        value: finds its value in what a row is of, where the rows are made by ``Table.of``; may be a ``Cell``.
        legend: what it means, in a sentence or two.
        word: what the legend calls it; its title unless told.
        topic: the page of ``purebench help`` that says more.
        short: its heading where there is little room.
        beneath: the key of the column that it stands beneath where there is little room.
        own_line: whether what it shows has a line of its own in ``leaderboard.csv``.
        splits: whether it may stand in a further table where there is little room.
        below: whether a page shows it in a line of its own below the row.
    """

    key: str
    title: str
    form: Form = "text"
    group: str = ""
    unit: str = ""
    value: Callable[[Any], Any] | None = field(default=None, compare=False)
    legend: str = ""
    word: str = ""
    topic: str = ""
    short: str = ""
    beneath: str = ""
    own_line: bool = False
    splits: bool = False
    below: bool = False

    def of(self, thing: Any) -> Any:
        """Find its value."""
        return None if self.value is None else self.value(thing)

    @property
    def left(self) -> bool:
        """Whether it stands left."""
        return self.form == "text"

    @property
    def heading(self) -> str:
        """Its headings on one line."""
        return f"{self.group}: {self.name}" if self.group else self.name

    @property
    def name(self) -> str:
        """Title and unit."""
        return f"{self.title} {self.unit}".strip()


@dataclass(frozen=True)
class Note:
    """What is said beside a value, in small; ``title`` explains it on demand, ``warn`` sets it apart."""

    text: str
    title: str = ""
    warn: bool = False


@dataclass(frozen=True)
class Cell:
    """A value in its place.

    Attributes:
        link: the fragment of the page that it comes from.
        notes: what is said beside it.
        strong: whether it is what the row is about.
    """

    value: Datum = None
    link: str = ""
    notes: tuple[Note, ...] = ()
    strong: bool = False


@dataclass(frozen=True)
class Block:
    """Rows that stand together.

    Attributes:
        title: what sets them apart.
        foot: whether they stand at the foot, whatever the order.
    """

    title: str = ""
    foot: bool = False


@dataclass(frozen=True)
class Line:
    """A row of a table: a cell per column.

    Attributes:
        block: where it stands.
        anchor: its fragment on the page; unique there.
        begins: whether a group of rows begins with it.
        quiet: whether it is a line to compare with.
        reason: why it has no numbers; a page says so in their place.
        remarks: what a page says below its name.
    """

    cells: tuple[Cell, ...]
    block: Block = Block()
    anchor: str = ""
    begins: bool = False
    quiet: bool = False
    reason: str = ""
    remarks: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table with what it says in words.

    Attributes:
        title: its heading; empty where it stands under another one.
        columns: of keys that differ.
        lines: its rows; rows of plain values will do.
        note: a sentence or two above it.
        folded: whether a page shows it on demand.
        dense: whether it has many columns, so that there is little room for each.
    """

    title: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    note: str = ""
    folded: bool = False
    dense: bool = False

    def __init__(
        self,
        title: str,
        columns: Iterable[Column],
        rows: Iterable[Line | Sequence[Any]],
        note: str = "",
        *,
        folded: bool = False,
        dense: bool = False,
    ) -> None:
        given = {"title": title, "columns": tuple(columns), "lines": tuple(map(_line, rows)), "note": note}
        for name, value in {**given, "folded": folded, "dense": dense}.items():
            object.__setattr__(self, name, value)
        width = len(self.columns)
        uneven = next((line for line in self.lines if len(line.cells) != width), None)
        if uneven is not None:
            raise ValueError(f"expected {width} cells in each row of the table {title!r}, got {len(uneven.cells)}")

    @classmethod
    def of(cls, title: str, columns: Sequence[Column], things: Iterable[Any], note: str = "", **how: Any) -> Table:
        """Return a table with a row per thing, in which each column finds its value."""
        return cls(title, columns, ([column.of(thing) for column in columns] for thing in things), note, **how)

    @property
    def blocks(self) -> list[tuple[Block, list[Line]]]:
        """The rows as they stand together."""
        return [(block, list(lines)) for block, lines in groupby(self.lines, lambda line: line.block)]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The shared headings with the number of columns under each; none if no column has one."""
        if not any(column.group for column in self.columns):
            return []
        return [(group, len(list(some))) for group, some in groupby(self.columns, lambda column: column.group)]

    @property
    def records(self) -> list[dict[str, object]]:
        """The rows by key, unrounded, as a CSV file has them."""
        return [
            {name: value for column, cell in self.row(line) for name, value in fields(column.key, cell.value).items()}
            for line in self.lines
        ]

    def row(self, line: Line) -> Iterable[tuple[Column, Cell]]:
        """Return the cells of a row with their columns."""
        return zip(self.columns, line.cells, strict=True)


def _line(given: Line | Sequence[Any]) -> Line:
    if isinstance(given, Line):
        return given
    return Line(tuple(one if isinstance(one, Cell) else Cell(_plain(one)) for one in given))


def _plain(value: Any) -> Any:
    """Return a number of numpy's as Python has it."""
    return value.item() if hasattr(value, "item") else value


# ---------------------------------------------------------------------- other parts


@dataclass(frozen=True)
class Heading:
    """Begins what comes after it; ``topic`` is the page of ``purebench help`` that says more."""

    text: str
    topic: str = ""


@dataclass(frozen=True)
class Item:
    """A sentence of a list.

    Attributes:
        lead: what it begins with, set apart.
        link: the fragment of the page that this leads to.
    """

    text: str
    lead: str = ""
    link: str = ""


@dataclass(frozen=True)
class Notes:
    """A list of sentences; texts will do."""

    items: Sequence[Item | str]

    def __iter__(self) -> Iterator[Item]:
        """Yield them."""
        yield from (one if isinstance(one, Item) else Item(one) for one in self.items)


@dataclass(frozen=True)
class Plot:
    """Lines through points: a drawing on the page, a table of the points elsewhere.

    Attributes:
        title: what is drawn.
        x: what is drawn against.
        y: what is drawn.
        series: points ``(x, y)`` by the name of their line.
    """

    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float, float]]]

    @property
    def table(self) -> Table:
        """The points, a row each."""
        columns = (Column("line", "line"), Column("x", self.x, "measure"), Column("y", self.y, "measure"))
        return Table(self.title, columns, [(name, *point) for name, points in self.series.items() for point in points])


#: beyond it a number cannot be drawn
_LARGEST = 1e100

#: what a section may be made of; a text is a paragraph
Part = str | Heading | Notes | Table | Plot


def checked(part: object) -> Part:
    """Return a part that is sound.

    Raises:
        UserError: if it is none, or holds what is no value.
    """
    match part:
        case Heading() | str():
            pass
        case Notes() if isinstance(part.items, str) or not all(isinstance(one, str | Item) for one in part.items):
            raise UserError(f"expected texts or Items in Notes, got {part.items!r}")
        case Plot():
            _check_plot(part)
        case Table():
            _check_table(part)
    if type(part) not in get_args(Part):
        known = "a text, Heading, Notes, Table or Plot"
        raise UserError(f"expected a section to be made of parts, each {known}, got {type(part).__name__}")
    return cast("Part", part)


def _check_plot(plot: Plot) -> None:
    points = [(name, point) for name, line in plot.series.items() for point in line]
    if not points:
        raise UserError(f"expected a point in the plot {plot.title!r}, got none")
    for name, point in points:
        if len(point) != 2 or not all(isinstance(one, int | float) and abs(one) < _LARGEST for one in point):
            raise UserError(f"expected points of two finite numbers in the line {name!r}, got {point!r}")


def _check_table(table: Table) -> None:
    keys = [column.key for column in table.columns]
    if len(set(keys)) < len(keys):
        raise UserError(f"expected columns of different keys in the table {table.title!r}, got {', '.join(keys)}")
    for column in table.columns:
        if column.form not in FORMS:
            raise UserError(f"expected a form of {', '.join(FORMS)} for the column {column.key}, got {column.form!r}")
    for line in table.lines:
        for column, cell in table.row(line):
            if type(cell.value) not in (type(None), str, int, float, *VALUES):
                kinds = ", ".join(kind.__name__ for kind in VALUES)
                raise UserError(
                    f"expected None, a text, an int, a float, {kinds} in the column {column.key}, got {cell.value!r}"
                )
