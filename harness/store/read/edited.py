"""Edited: cells whose results were measured by other code than what is at hand; reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select

from harness.core.cell import Cell, Labels
from harness.core.code_hashes import changed_code, code_of, unlike
from harness.core.spec import short
from harness.store.read.latest import latest_suites
from harness.store.tables import LABELS, CellRow, ComponentRow, MemberRow, WeightsRow
from harness.store.write.store import Store, cell_spec

if TYPE_CHECKING:
    from typing import Any


class Edited(NamedTuple):
    """A cell of a suite, and what of its code has changed since it was measured."""

    suite: str
    labels: Labels
    cell: str
    changed: str

    def __str__(self) -> str:
        """Say it in a sentence."""
        return f"cell {short(self.cell)} ({self.suite}: {self.labels}): {self.changed}"


def edited(url: str) -> tuple[Edited, ...]:
    """Return the cells of the suites as they were run last whose code has changed since.

    What was measured before code was kept, and components that are not installed here, are not known to have changed.

    Raises:
        UserError: if there is no such database.
    """
    store = Store.open(url)
    found: list[Edited] = []
    with store.engine.connect() as connection:
        specs: dict[str, Any] = dict(connection.execute(select(ComponentRow.digest, ComponentRow.spec)).all())
        for suite in latest_suites(store).values():
            query = (
                select(*CellRow.__table__.columns, WeightsRow.code, *(name.label(f"its_{name.key}") for name in LABELS))
                .join(MemberRow, MemberRow.cell == CellRow.digest)
                .join(WeightsRow, WeightsRow.digest == CellRow.current)
                .where(MemberRow.suite_id == suite.id, WeightsRow.code.is_not(None))
                .order_by(MemberRow.position)
            )
            for row in connection.execute(query):
                labels = Labels(*(getattr(row, f"its_{name.key}") for name in LABELS))
                cell = Cell.from_dict(cell_spec(row, specs), labels)  # type: ignore[arg-type]
                roles = unlike(row.code, code_of(cell))
                if roles:
                    found.append(Edited(suite.name, labels, cell.digest, changed_code(cell, roles)))
    return tuple(found)
