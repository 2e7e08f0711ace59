"""What the defenses of a board cost, and what it costs to attack them: a line for each, the cheapest first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports import format as numbers
from reports.model.columns import ATTACK, DEFENSE

if TYPE_CHECKING:
    from reports.cell import Entry
    from reports.model.leaderboard import Board
    from reports.model.row import Column, Row

#: per image, before the peak memory
FORWARD = (DEFENSE.evaluations, DEFENSE.seconds, DEFENSE.forwards, DEFENSE.backwards)
THROUGH = (ATTACK.seconds, ATTACK.forwards, ATTACK.backwards)


@dataclass(frozen=True)
class Line:
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

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    shared: tuple[tuple[Column, Entry], ...]

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
        paid = [
            entry for row in board.rows if (entry := row.attacked[place]) and ATTACK.seconds.value(entry) is not None
        ]
        if place not in places and paid:
            shared.append((column, max(paid, key=lambda entry: entry.n)))
    return Prices(tuple(board.columns[place] for place in places), tuple(lines), tuple(shared))


def _line(row: Row, places: list[int]) -> Line:
    forward = next((entry for entry in row.entries if DEFENSE.seconds.value(entry) is not None), None)
    return Line(row.defense, row.reference, forward, tuple(row.attacked[place] for place in places))


def _order(line: Line) -> tuple[float, float, str]:
    """Order by evaluations, then by time; what is not known stands last."""
    if line.forward is None:
        return (math.inf, math.inf, line.defense)
    evaluations, seconds = (fact.value(line.forward) for fact in (DEFENSE.evaluations, DEFENSE.seconds))
    return (
        math.inf if evaluations is None else evaluations,
        math.inf if seconds is None else seconds,
        line.defense,
    )


def forward(line: Line) -> list[str]:
    """Write what it takes to purify and classify: ``FORWARD``, and the peak memory with its batch size."""
    if line.forward is None:
        return [numbers.NOTHING] * (len(FORWARD) + 1)
    return [*(fact.of(line.forward) for fact in FORWARD), DEFENSE.memory(line.forward)]


def through(entry: Entry | None) -> list[str]:
    """Write what it takes to attack: ``THROUGH``, and the peak memory; the state of a cell that says nothing."""
    if entry is None or ATTACK.seconds.value(entry) is None:
        state = entry.state if entry and not entry.done else numbers.NOTHING
        return [state, *[numbers.NOTHING] * len(THROUGH)]
    return [*(fact.of(entry) for fact in THROUGH), ATTACK.memory(entry)]


def _in_words(entry: Entry) -> str:
    said = [
        ATTACK.seconds.of(entry),
        f"{ATTACK.forwards.of(entry)} forwards",
        f"{ATTACK.backwards.of(entry)} backwards",
    ]
    if ATTACK.peak_memory.value(entry) is not None:
        said.append(f"peak memory {ATTACK.memory(entry)}")
    return ", ".join(said)
