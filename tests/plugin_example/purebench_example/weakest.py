"""A section of a report of an outsider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import Section
from harness.core.table import Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator


class Weakest(Section):
    """The attack that leaves least of each defense."""

    title = "The weakest spots"

    def of_board(self, board: Any, suite: Any, report: Any) -> Iterator[Any]:
        """Yield a table with a row per defense that was attacked."""
        columns = [Column("defense", "defense"), Column("attack", "attack"), Column("left", "left", form="percent")]
        rows = []
        for row in board.rows:
            met = [entry for entry in row.attacked if entry and entry.accuracy]
            if met:
                least = min(met, key=lambda entry: entry.accuracy.share)
                rows.append([row.defense, least.title, least.accuracy])
        if rows:
            yield Table("", columns, rows)
