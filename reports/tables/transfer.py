"""Transfer: what examples that were crafted on one defense do to the others, as a matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core.table import Cell, Column, Table
from reports.model.columns import figure

if TYPE_CHECKING:
    from reports.cell import Entry
    from reports.model.board import Board


@dataclass(frozen=True)
class Line:
    """Examples that were crafted on ``source``, judged on each column; None where the suite has no such cell."""

    source: str
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True)
class Matrix:
    """One attack under one threat model, crafted on (lines) and judged on (columns).

    Where the two are the same, the direct attack stands.
    """

    attack: str
    threat_model: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def title(self) -> str:
        """Name the attack."""
        return f"{self.attack} {self.threat_model}"

    @property
    def table(self) -> Table:
        """The matrix; direct attacks are set apart."""
        columns = [Column("crafted_on", "crafted on")]
        columns += [Column(name, name, "percent", "judged on") for name in self.columns]
        rows = [
            [line.source, *map(self._cell, self.columns, [line.source] * len(self.columns), line.entries)]
            for line in self.lines
        ]
        note = "Accuracy in per cent. Where a defense meets its own examples, the direct attack stands, set apart."
        return Table(f"Transfer of {self.title}", columns, rows, note)

    @staticmethod
    def _cell(judged: str, crafted: str, entry: Entry | None) -> Cell:
        return replace(figure(entry), strong=judged == crafted)


def matrices(board: Board) -> list[Matrix]:
    """Return a matrix for each attack of which the suite has judged examples on another defense, in its order."""
    crafted = [entry.labels for row in board.rows for entry in row.transferred]
    order = list(dict.fromkeys((one.attack, one.threat_model) for one in crafted))
    found = {
        (entry.defense, entry.labels.attack, entry.labels.source, entry.threat_model): entry
        for row in board.rows
        for entry in row.entries
    }
    made = []
    for attack, threat_model in order:
        sources = {one.source for one in crafted if (one.attack, one.threat_model) == (attack, threat_model)}

        def cell(source: str, judged: str, attack: str = attack, threat_model: str = threat_model) -> Entry | None:
            return found.get((judged, attack, "" if source == judged else source, threat_model))

        defenses = [row.defense for row in board.rows]
        columns = tuple(one for one in defenses if one in sources or any(cell(source, one) for source in sources))
        names = [*(one for one in columns if one in sources or cell(one, one)), *sorted(sources - set(columns))]
        lines = tuple(Line(name, tuple(cell(name, one) for one in columns)) for name in names)
        made.append(Matrix(attack, threat_model, columns, lines))
    return made
