"""Latest: which suites and which results are read, where a database holds several versions of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, func, or_, select

from harness.store.related import related_cells
from harness.store.tables import MemberRow, ResultRow, SuiteRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.store.store import Store


def latest_suites(store: Store) -> dict[str, SuiteRow]:
    """Return the version of each suite that was run last, in the order of the suites' first runs."""
    with store.session() as session:
        rows = list(session.scalars(select(SuiteRow).order_by(SuiteRow.id)))
    found = {row.name: row for row in rows}
    for row in rows:
        if row.declared_at > found[row.name].declared_at:
            found[row.name] = row
    return found


def latest_results() -> Select[int]:
    """Return a query of the newest result of each cell: its weights are the ones that are read."""
    return select(func.max(ResultRow.id)).group_by(ResultRow.cell)


def read_results(suites: Sequence[int], *, related: bool = False) -> Any:
    """Return the condition that a result is of these suites and of the weights that are read.

    With ``related``, results of other suites' attacks on the same rows are read as well.
    """
    newest = select(ResultRow.cell, ResultRow.weights).where(ResultRow.id.in_(latest_results())).subquery()
    same = select(newest.c.cell).where(newest.c.cell == ResultRow.cell, newest.c.weights == ResultRow.weights)
    mine = select(MemberRow.cell).where(MemberRow.suite_id.in_(suites))
    cells = [ResultRow.cell.in_(mine), *([ResultRow.cell.in_(related_cells(suites))] if related else [])]
    return or_(*cells) & same.exists()
