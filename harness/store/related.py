"""Related: attacks on a suite's rows that other suites, or earlier versions of it, had measured; reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from sqlalchemy import Select, and_, exists, select
from sqlalchemy.orm import aliased

from harness.store.tables import CellRow, MemberRow, ResultRow, SuiteRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.store.store import Store

#: what cells have in common whose verdicts can be compared example by example
SAME = ("dataset", "subset_seed", "classifier", "defense")


def related_cells(suites: Sequence[int]) -> Select[str]:
    """Return a query of the attacked cells that judge the same examples, classifier and defense as one of the suites'.

    Those of the suites themselves are among them.
    """
    rows = (
        select(*(getattr(CellRow, name) for name in SAME))
        .join(MemberRow, MemberRow.cell == CellRow.digest)
        .where(MemberRow.suite_id.in_(suites))
        .distinct()
        .subquery()
    )
    other = aliased(CellRow)
    same = and_(*(getattr(rows.c, name) == getattr(other, name) for name in SAME))
    return select(other.digest).join(rows, same).where(other.attack.is_not(None))


def related_members(store: Store, suites: Sequence[int]) -> pd.DataFrame:
    """Return a row per measured attack that meets a row of a suite and is no member of it.

    It has the suite's names for its row, what the suite wants of a cell, the attack's and the threat model's names by
    those who have it, and ``elsewhere``, the suite of these that was run last.
    """
    names = ("dataset", "classifier", "defense")
    rows = (
        select(
            MemberRow.suite_id,
            *(getattr(MemberRow, name) for name in names),
            *(getattr(CellRow, name).label(f"of_{name}") for name in SAME),
        )
        .join(CellRow, CellRow.digest == MemberRow.cell)
        .where(MemberRow.suite_id.in_(suites))
        .distinct()
        .subquery()
    )
    other = aliased(CellRow)
    same = and_(*(getattr(rows.c, f"of_{name}") == getattr(other, name) for name in SAME))
    member = exists().where(MemberRow.suite_id == rows.c.suite_id, MemberRow.cell == other.digest)
    query = (
        select(
            SuiteRow.name.label("suite"),
            other.digest.label("cell"),
            *(rows.c[name] for name in names),
            other.threat,
            SuiteRow.decision,
            SuiteRow.n_examples.label("wanted_examples"),
            SuiteRow.repeats.label("wanted_repeats"),
            other.random,
            other.defense.label("defense_use"),
        )
        .select_from(rows)
        .join(other, same)
        .join(SuiteRow, SuiteRow.id == rows.c.suite_id)
        .where(other.attack.is_not(None), ~member, other.digest.in_(select(ResultRow.cell)))
        .order_by(rows.c.suite_id, *(rows.c[name] for name in names), other.digest)
    )
    with store.engine.connect() as connection:
        found = pd.read_sql(query, connection)
    return found.merge(_titles(store, sorted(set(found["cell"]))), on="cell")


def _titles(store: Store, cells: Sequence[str]) -> pd.DataFrame:
    """Return by cell what the suite that was run last, of those that have it, calls its attack and threat model."""
    columns = (MemberRow.cell, MemberRow.attack, MemberRow.threat_model, SuiteRow.name)
    query = select(*columns).join(SuiteRow, SuiteRow.id == MemberRow.suite_id).order_by(SuiteRow.declared_at)
    found: dict[str, tuple[str, ...]] = {}
    with store.engine.connect() as connection:
        for start in range(0, len(cells), 500):
            part = query.where(MemberRow.cell.in_(cells[start : start + 500]))
            found |= {row.cell: tuple(row) for row in connection.execute(part)}
    return pd.DataFrame(list(found.values()), columns=["cell", "attack", "threat_model", "elsewhere"])
