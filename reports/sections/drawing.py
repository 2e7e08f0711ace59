"""What built-in sections have beside the parts that anybody's may have: hand-written charts, and the flags in full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.core.table import Item, Notes

if TYPE_CHECKING:
    from harness.core.table import Table
    from reports.model.board import Board


@dataclass(frozen=True)
class Drawings:
    """Charts side by side on a page.

    Attributes:
        kind: which of the page's macros draws them.
        plots: what that takes.
        tables: what other formats show in their place; nothing if empty.
    """

    kind: str
    plots: tuple[Any, ...]
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class FlagsInFull:
    """What every flag of a board's rows saw, and what nobody could look at."""

    board: Board

    @property
    def notes(self) -> Notes:
        """The flags that fired and those that nobody could look at, in sentences."""
        items = [
            Item(flag.sentence, f"{row.defense}, {flag.name}") for row in self.board.rows for flag in row.flagged()
        ]
        for who, flags in self.board.untested:
            missing = "; ".join(f"{flag.name} ({flag.sentence})" for flag in flags)
            items.append(Item(f"{who}, untested: {missing}"))
        return Notes(items)
