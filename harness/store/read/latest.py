"""Latest: which suites and which results are read, where a database holds several versions of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import false, select
from sqlalchemy.orm import aliased

from harness.store.tables import CellRow, MemberRow, ResultRow, SuiteRow, WeightsRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute

    from harness.store.write.store import Store

#: digests that a query takes one by one
MOST = 10_000


def latest_suites(store: Store, *, own: bool = False) -> dict[str, SuiteRow]:
    """Return the version of each suite that was run last, in the order of the suites' first runs.

    What was run here goes before all that came from elsewhere, whenever that says it was run.

    Args:
        store: the database.
        own: only what was run here.
    """
    with store.session() as session:
        rows = list(session.scalars(select(SuiteRow).order_by(SuiteRow.id)))
    listed = [row for row in rows if row.arrival is None or not own]
    found = {row.name: row for row in listed}
    for row in sorted(listed, key=lambda row: (row.arrival is None, row.arrival or 0, row.declared_at)):
        found[row.name] = row
    return found


def read_results(suites: Sequence[int], others: Sequence[str] = (), *, own: bool = False) -> Any:
    """Return the condition that a result is of these suites, or of other cells, and one of those that are read.

    What came from elsewhere is read of a cell that no suite of ours has, or once it was adopted; see ``CellRow``. With
    ``own`` it never is.
    """
    its, set_ = aliased(CellRow), aliased(WeightsRow)  # whoever asks may have joined the cells as well
    ours = select(MemberRow.cell).join(SuiteRow, SuiteRow.id == MemberRow.suite_id).where(SuiteRow.arrival.is_(None))
    apart = its.digest.not_in(ours.where(MemberRow.cell.is_not(None)))
    current = (its.digest == ResultRow.cell) & (its.current == ResultRow.weights)
    same = (
        select(its.digest)
        .join(set_, set_.digest == its.current)
        .where(current, set_.origin.is_(None) | (false() if own else (its.adopted == its.current) | apart))
        .correlate(ResultRow)
    )
    mine = select(MemberRow.cell).where(MemberRow.suite_id.in_(suites))
    return (ResultRow.cell.in_(mine) | within(ResultRow.cell, others)) & same.exists()


def within(column: InstrumentedAttribute[str], cells: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a digest is one of these; where they are too many to be told, of any attacked cell."""
    if len(cells) <= MOST:
        return column.in_(cells)
    return column.in_(select(CellRow.digest).where(CellRow.attack.is_not(None)))
