"""What the defenses of a board cost, and what it costs to attack them: a line for each, the cheapest first."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core.table import Cell, Column, Line, State, Table
from reports import format as numbers
from reports.model.columns import ATTACK, DEFENSE, Costs, linked, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from reports.cell import Entry
    from reports.model.board import Board
    from reports.model.row import Attacked, Row

#: per image, before the peak memory
FORWARD = (DEFENSE.evaluations, DEFENSE.seconds, DEFENSE.forwards, DEFENSE.backwards)
THROUGH = (ATTACK.seconds, ATTACK.forwards, ATTACK.backwards)


@dataclass(frozen=True)
class Bill:
    """A defense.

    Attributes:
        forward: the cell that says what it takes to purify and classify: clean input, else the first that was judged.
        attacked: the cell of each attack that takes the defense into account; None where the suite has no such cell.
    """

    defense: str
    reference: bool
    forward: Entry | None
    attacked: tuple[Entry | None, ...]


@dataclass(frozen=True)
class Prices:
    """The lines in the order of evaluations, and the attacks that they are over.

    Attributes:
        columns: the attacks that take the defense into account, each with its own gradient.
        shared: those that do not: crafted once on the classifier alone, at the same cost whatever the defense.
    """

    columns: tuple[Attacked, ...]
    lines: tuple[Bill, ...]
    shared: tuple[tuple[Attacked, Entry], ...]

    @property
    def note(self) -> str:
        """What oblivious attacks cost, in a sentence or two; empty without any."""
        if not self.shared:
            return ""
        said = "; ".join(f"{column}: {_in_words(entry)}" for column, entry in self.shared)
        return (
            f"Oblivious attacks are crafted once, on the classifier alone, and shared by all rows. Per image, {said}."
        )


def prices(board: Board) -> Prices | None:
    """Return what a board's defenses cost; None where nothing was measured."""
    places = [place for place, column in enumerate(board.columns) if column.knowledge != "oblivious"]
    lines = [_line(row, places) for row in board.rows]
    if not any(line.forward for line in lines):
        return None
    lines.sort(key=_order)
    shared = []
    for place, column in enumerate(board.columns):
        paid = [entry for row in board.rows if (entry := row.attacked[place]) and ATTACK.seconds.of(entry) is not None]
        if place not in places and paid:
            shared.append((column, max(paid, key=lambda entry: entry.n)))
    return Prices(tuple(board.columns[place] for place in places), tuple(lines), tuple(shared))


def _line(row: Row, places: list[int]) -> Bill:
    forward = next((entry for entry in row.entries if DEFENSE.seconds.of(entry) is not None), None)
    return Bill(row.defense, row.reference, forward, tuple(row.attacked[place] for place in places))


def _order(line: Bill) -> tuple[float, float, str]:
    """Order by evaluations, then by time; what is not known stands last."""
    if line.forward is None:
        return (math.inf, math.inf, line.defense)
    evaluations, seconds = (column.of(line.forward) for column in (DEFENSE.evaluations, DEFENSE.seconds))
    return (
        math.inf if evaluations is None else evaluations,
        math.inf if seconds is None else seconds,
        line.defense,
    )


def cost_table(costs: Prices) -> Table:
    """Return the table: what it takes to purify and classify, and to attack by each attack."""
    columns = [Column("defense", "defense")]
    columns += _columns("defense", "", FORWARD, DEFENSE)
    for attack in costs.columns:
        named = f"{attack.attack} {attack.known_as}"
        columns += _columns(named, f"{named} ", THROUGH, ATTACK)
    lines = [Line(tuple(_cells(line)), quiet=line.reference) for line in costs.lines]
    note = "To purify and classify an image, and to attack it with its defense taken into account."
    return Table("What it costs", columns, lines, note)


def _columns(group: str, prefix: str, columns: Iterable[Column], side: Costs) -> list[Column]:
    peak = replace(side.peak_memory, unit="at batch size")
    return [replace(one, key=prefix + one.key, group=group, legend="") for one in (*columns, peak)]


def _cells(line: Bill) -> Iterator[Cell]:
    yield Cell(line.defense)
    yield from _paid(line.forward, FORWARD, DEFENSE)
    for entry in line.attacked:
        if entry and not entry.done and ATTACK.seconds.of(entry) is None:
            yield Cell(State(entry.state, entry.unfinished, entry.reason or ""), entry.anchor)
            yield from [Cell()] * len(THROUGH)
        else:
            yield from _paid(entry, THROUGH, ATTACK)


def _paid(entry: Entry | None, columns: Iterable[Column], side: Costs) -> Iterator[Cell]:
    yield from (linked(column, entry) for column in columns)
    yield Cell(side.peak(entry), entry.anchor) if entry else Cell()


def _in_words(entry: Entry) -> str:
    said = [
        f"{told(column, entry)}{after}" for column, after in zip(THROUGH, ("", " forwards", " backwards"), strict=True)
    ]
    peak = ATTACK.peak(entry)
    return ", ".join([*said, f"peak memory {numbers.words(peak, 'memory')}"] if peak else said)
