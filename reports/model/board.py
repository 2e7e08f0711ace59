"""Board: what can be compared - one dataset, one classifier, one budget; a row per defense."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.core.minimum import MINIMA, USUAL
from reports.flags.evidence import State
from reports.format import percent, radius
from reports.model.row import Group
from reports.model.shortfall import Additions

if TYPE_CHECKING:
    from harness.core.minimum import Minimum
    from harness.store.tend.published import Reference
    from reports.cell import Entry
    from reports.flags.evidence import Flag
    from reports.model.row import Attacked, Row


@dataclass(frozen=True)
class Board:
    """What can be compared: one dataset, one classifier, one budget; a row per defense.

    Attributes:
        published: figures from elsewhere on the same dataset and budget, whatever their classifier; never ranked.
        minimum: what a row has to have met to be ranked.
        additions: what to add to the suite so that every row has met it.
        examples: that the worst cases are over; 0 without any.
        detectable: the smallest difference of two worst cases that so many examples show; None where none is shown.
    """

    anchor: str
    suite: str
    dataset: str
    classifier: str
    norm: str | None
    eps: float | None
    columns: tuple[Attacked, ...]
    rows: tuple[Row, ...]
    published: tuple[Reference, ...] = ()
    minimum: Minimum = MINIMA[USUAL]
    additions: Additions = field(default_factory=Additions)
    examples: int = 0
    detectable: float | None = None

    @property
    def title(self) -> str:
        """Name what is compared."""
        return f"{self.dataset} / {self.classifier} / {self.budget}"

    @property
    def budget(self) -> str:
        """Name the budget."""
        return "clean input only" if self.norm is None or self.eps is None else f"{self.norm} {radius(self.eps)}"

    def heading(self, group: Group) -> str:
        """Name what sets the rows of a group apart; nothing for the ranked: no two of different groups are compared."""
        return {
            Group.RANKED: "",
            Group.BELOW: f"not ranked: attacked less than {self.minimum.name} asks",
            Group.OTHER: "not ranked",
            Group.REFERENCE: "no defense: the reference",
        }[group]

    @property
    def below(self) -> tuple[Row, ...]:
        """The rows that were attacked less than is asked."""
        return tuple(row for row in self.rows if row.group is Group.BELOW)

    @property
    def resolution(self) -> str:
        """What its number of examples can show; without a worst case why there is none, where that is known."""
        if not self.examples:
            return self._checks_alone
        if self.detectable is None:
            return f"{self.examples} examples are too few to tell any two rows apart"
        said = (
            f"two rows that truly differ by {percent(self.detectable)} points are told apart in 80 % of boards of "
            f"{self.examples} examples"
        )
        if any(row.tied for row in self.rows):
            return f"{said}; a shared place (=) says that no difference was shown, and can hide one of about that size"
        return f"{said}; a smaller difference may be shown by luck of the draw, a larger one missed"

    @property
    def _checks_alone(self) -> str:
        """Why nothing counts though something was attacked: all of it is checks; empty otherwise."""
        checks = [entry for row in self.rows for entry in row.checks]
        if self.norm is not None or not checks:
            return ""
        wide = {f"{entry.norm} {radius(entry.eps)}" for entry in checks if entry.unbounded and entry.eps is not None}
        why = [f"a budget without a bound ({', '.join(sorted(wide))})"] if wide else []
        why += ["known randomness"] if any(not entry.unbounded for entry in checks) else []
        return (
            f"clean input only: all attacks are checks, of {' or '.join(why)}, and count for no worst case; "
            "8 of 255 grey levels is an eps of 8/255"
        )

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All cells of the board, row by row."""
        return tuple(entry for row in self.rows for entry in row.entries)

    @property
    def notes(self) -> tuple[Entry, ...]:
        """The cells that are not done: refused, missing, partial."""
        return tuple(entry for entry in self.entries if not entry.done)

    @property
    def unfinished(self) -> int:
        """How many cells can be measured and have not been, or not wholly."""
        return sum(entry.unfinished for entry in self.entries)

    @property
    def untested(self) -> tuple[tuple[str, tuple[Flag, ...]], ...]:
        """What nobody could look at, and in which rows: those that lack the same are named together."""
        lacking: dict[tuple[Flag, ...], list[Row]] = {}
        for row in self.rows:
            if row.evidence.attacks:
                lacking.setdefault(row.flagged(State.UNTESTED), []).append(row)
        defenses = [row for row in self.rows if not row.reference]
        return tuple(
            ("every defense" if len(rows) > 1 and rows == defenses else ", ".join(row.defense for row in rows), flags)
            for flags, rows in lacking.items()
            if flags
        )
