"""Latest: which suites and which results are read, where a database holds several versions of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import aliased

from harness.store.tables import CellRow, MemberRow, ResultRow, SuiteRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute

    from harness.store.store import Store

#: digests that a query takes one by one
MOST = 10_000


def latest_suites(store: Store) -> dict[str, SuiteRow]:
    """Return the version of each suite that was run last, in the order of the suites' first runs."""
    with store.session() as session:
        rows = list(session.scalars(select(SuiteRow).order_by(SuiteRow.id)))
    found = {row.name: row for row in rows}
    for row in rows:
        if row.declared_at > found[row.name].declared_at:
            found[row.name] = row
    return found


def read_results(suites: Sequence[int], others: Sequence[str] = ()) -> Any:
    """Return the condition that a result is of these suites, or of other cells, and one of those that are read."""
    its = aliased(CellRow)  # whoever asks may have joined the cells as well
    same = select(its.digest).where(its.digest == ResultRow.cell, its.current == ResultRow.weights).correlate(ResultRow)
    mine = select(MemberRow.cell).where(MemberRow.suite_id.in_(suites))
    return (ResultRow.cell.in_(mine) | within(ResultRow.cell, others)) & same.exists()


def within(column: InstrumentedAttribute[str], cells: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a digest is one of these; where they are too many to be told, of any attacked cell."""
    if len(cells) <= MOST:
        return column.in_(cells)
    return column.in_(select(CellRow.digest).where(CellRow.attack.is_not(None)))
