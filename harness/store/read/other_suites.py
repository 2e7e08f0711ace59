"""Related: attacks on a suite's rows that other suites, or earlier versions of it, had measured; reads only."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import select

from harness.core.cell import Labels
from harness.store.tables import LABELS, CellRow, MemberRow, ResultRow, SuiteRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Row, Select
    from sqlalchemy.orm import InstrumentedAttribute

    from harness.store.write.store import Store

#: what cells have in common whose verdicts can be compared example by example
SAME = ("dataset", "subset_seed", "classifier", "defense")

#: the names of a row in its suite
NAMES = ("dataset", "classifier", "defense")

#: what is known of a related attack; see ``related_members``
_COLUMNS = [
    *("suite", "cell", *(one.key for one in LABELS), "threat", "decision", "wanted_examples", "wanted_repeats"),
    *("random", "defense_use", "elsewhere"),
]

#: cells that are asked for at a time
_BATCH = 500


def related_members(store: Store, suites: Sequence[int]) -> pd.DataFrame:
    """Return a row per measured attack that meets a row of a suite and is no member of it.

    It has the suite's names for its row, what the suite wants of a cell, the attack's and the threat model's names by
    those who have it, and ``elsewhere``, the suite of these that was run last.
    """
    found = list(_related(store, suites))
    digests = sorted({other.digest for _, _, other in found})
    measured = set(_asked(store, select(ResultRow.cell).distinct(), ResultRow.cell, digests))
    titles = _titles(store, digests)
    rows = [
        (
            *(suite.name, other.digest, *_renamed(labels, *names).as_dict().values(), other.threat),
            *(suite.decision, suite.n_examples, suite.repeats, other.random, other.defense, elsewhere),
        )
        for suite, names, other in found
        if (other.digest,) in measured
        for labels, elsewhere in [titles[other.digest]]
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _related(store: Store, suites: Sequence[int]) -> Iterator[tuple[Any, tuple[str, str, str], Row[Any]]]:
    """Yield a suite, its names for a row and a cell whose attack meets that row, in an order that stays."""
    with store.engine.connect() as connection:
        theirs = select(CellRow.digest).where(CellRow.attack.is_not(None), CellRow.digest.not_in(_of(suites)))
        if len(suites) == 1 and connection.execute(theirs.limit(1)).first() is None:
            return  # there are no other attacks at all
    mine = select(MemberRow.suite_id, MemberRow.cell, *(getattr(MemberRow, name) for name in NAMES))
    mine = mine.where(MemberRow.suite_id.in_(suites), MemberRow.cell.is_not(None)).order_by(
        MemberRow.suite_id, MemberRow.position
    )
    cells = select(
        CellRow.digest, CellRow.attack, CellRow.threat, CellRow.random, *(getattr(CellRow, name) for name in SAME)
    )
    rules = select(SuiteRow.id, SuiteRow.name, SuiteRow.decision, SuiteRow.n_examples, SuiteRow.repeats)
    with store.engine.connect() as connection:
        named: dict[int, Any] = {row.id: row for row in connection.execute(rules.where(SuiteRow.id.in_(suites)))}
        members = connection.execute(mine).all()
        known = {row.digest: row for row in connection.execute(cells.order_by(CellRow.digest))}
    attacks: dict[tuple[Any, ...], list[Row[Any]]] = defaultdict(list)
    for row in known.values():
        if row.attack is not None:
            attacks[_identity(row)].append(row)
    own = {(row.suite_id, row.cell) for row in members}
    rows = dict.fromkeys(
        (row.suite_id, (row.dataset, row.classifier, row.defense), _identity(known[row.cell])) for row in members
    )
    for suite, names, identity in rows:
        for other in attacks[identity]:
            if (suite, other.digest) not in own:
                yield named[suite], names, other


def _of(suites: Sequence[int]) -> Select[str | None]:
    return select(MemberRow.cell).where(MemberRow.suite_id.in_(suites), MemberRow.cell.is_not(None))


def _identity(row: Row[Any]) -> tuple[Any, ...]:
    return tuple(row[4:])


def _asked(store: Store, query: Any, column: InstrumentedAttribute[Any], cells: Sequence[str]) -> Iterator[Row[Any]]:
    """Yield what a query answers about cells."""
    with store.engine.connect() as connection:
        for start in range(0, len(cells), _BATCH):
            yield from connection.execute(query.where(column.in_(cells[start : start + _BATCH])))


def _titles(store: Store, cells: Sequence[str]) -> dict[str, tuple[Labels, str]]:
    """Return by cell what the suite that was run last, of those that have it, calls its parts, and that suite."""
    query = select(SuiteRow.declared_at, SuiteRow.name, MemberRow.cell, *LABELS)
    query = query.join(SuiteRow, SuiteRow.id == MemberRow.suite_id)
    rows: Iterable[Any] = _asked(store, query, MemberRow.cell, cells)
    return {cell: (Labels(*names), suite) for _, suite, cell, *names in sorted(rows, key=lambda row: row.declared_at)}


def _renamed(labels: Labels, dataset: str, classifier: str, defense: str) -> Labels:
    """Return a cell's labels with a suite's names for its row."""
    source = classifier if labels.source_classifier == labels.classifier else labels.source_classifier
    return replace(labels, dataset=dataset, classifier=classifier, defense=defense, source_classifier=source)
