"""Disputes: cells that were measured here and elsewhere, and where the outcomes differ; reads only."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sqlalchemy import select

from harness.core.cell import Labels
from harness.core.spec import short
from harness.store.read.origins import origin_names
from harness.store.tables import LABELS, CellRow, MemberRow, ResultRow, SuiteRow, WeightsRow
from harness.store.write.aggregates import bits_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from sqlalchemy import Connection, Row

#: cells that are asked for at a time
_BATCH = 500


@dataclass(frozen=True)
class Dispute:
    """A cell of which there are results of another origin, beside those that are read or where there are none.

    Attributes:
        cell: the digest.
        labels: what a suite calls it.
        origin: the number of the other database.
        name: of the file that it came from, with the beginning of the database's name.
        theirs: share of their outcomes that are correct, in [0, 1], of those that both have; of all where none is ours.
        ours: likewise, ours; None where none is ours.
        common: outcomes that both have.
        differing: of those, the ones that differ in whether they are correct.
        beside: whether theirs are not what is read: of a suite of ours, until they were adopted.
    """

    cell: str
    labels: Labels
    origin: int
    name: str
    theirs: float
    ours: float | None
    common: int
    differing: int
    beside: bool = True

    def __str__(self) -> str:
        """Say it in a sentence."""
        cell = f"{self.labels} (cell {short(self.cell)})"
        if self.ours is None:
            return f"{cell}: {self.name} has {100 * self.theirs:.1f} % right, and nothing of it was measured here"
        if not self.differing:
            return f"{cell}: {self.name} has the same {self.common} outcomes"
        return (
            f"{cell}: {self.name} has {100 * self.theirs:.1f} % right and we {100 * self.ours:.1f} %, "
            f"{self.differing} of {self.common} outcomes differ; ours are shown"
        )


class _Set(NamedTuple):
    """Results of a cell that count together."""

    digest: str
    origin: int | None
    results: list[Row[Any]]


def disputes(connection: Connection, cells: Sequence[str]) -> Iterator[Dispute]:
    """Yield what others have of some cells, cell by cell in their order and then origin by origin."""
    for start in range(0, len(cells), _BATCH):
        yield from _some(connection, cells[start : start + _BATCH])


def _some(connection: Connection, cells: Sequence[str]) -> Iterator[Dispute]:
    columns = (ResultRow.cell, ResultRow.weights, ResultRow.correct, WeightsRow.origin)
    places = (ResultRow.start, ResultRow.stop, ResultRow.first_repeat, ResultRow.stop_repeat)
    query = (
        select(*columns, *places)
        .join(WeightsRow, WeightsRow.digest == ResultRow.weights)
        .where(ResultRow.cell.in_(cells))
        .order_by(ResultRow.id)
    )
    found: dict[str, dict[str, _Set]] = defaultdict(dict)
    rows: Any = connection.execute(query)
    for row in rows:
        found[row.cell].setdefault(row.weights, _Set(row.weights, row.origin, [])).results.append(row)
    asked = select(*CellRow.__table__.columns).where(CellRow.digest.in_(cells))
    known = {row.digest: row for row in connection.execute(asked)}
    ours_too = select(MemberRow.cell).join(SuiteRow, SuiteRow.id == MemberRow.suite_id)
    own = set(connection.scalars(ours_too.where(SuiteRow.arrival.is_(None), MemberRow.cell.in_(cells))))
    names, labels = origin_names(connection), _labels(connection, cells)
    for cell in cells:
        sets = found.get(cell, {})
        read = sets.get(known[cell].current) if cell in known else None
        ours = read if read is not None and read.origin is None else None
        for other in sets.values():
            if other.origin is None:
                continue
            adopted = known[cell].adopted == other.digest
            theirs, mine = _bits(other.results, ours.results if ours else other.results)
            both = (theirs >= 0) & (mine >= 0)
            if ours is not None and not both.any():
                continue
            yield Dispute(
                cell=cell,
                labels=labels.get(cell, Labels("", "", "")),
                origin=other.origin,
                name=names.get(other.origin, str(other.origin)),
                theirs=float((theirs[both] == 1).mean()),
                ours=float((mine[both] == 1).mean()) if ours is not None else None,
                common=int(both.sum()) if ours is not None else 0,
                differing=int((theirs[both] != mine[both]).sum()),
                beside=ours is not None or not (known[cell].current == other.digest and (adopted or cell not in own)),
            )


def _bits(*sets: list[Row[Any]]) -> list[np.ndarray[Any, np.dtype[np.int8]]]:
    """Return each set's outcomes by place and repeat: 1 correct, 0 wrong, -1 not measured."""
    every = [row for rows in sets for row in rows]
    shape = max(row.stop for row in every), max(row.stop_repeat for row in every)
    arrays = [np.full(shape, -1, np.int8) for _ in sets]
    for array, rows in zip(arrays, sets, strict=True):
        for row in rows:
            size = row.stop - row.start, row.stop_repeat - row.first_repeat
            array[row.start : row.stop, row.first_repeat : row.stop_repeat] = bits_of([row.correct], *size)[0]
    return arrays


def _labels(connection: Connection, cells: Sequence[str]) -> dict[str, Labels]:
    """Return what suites call cells, ours before others'."""
    query = select(MemberRow.cell, *LABELS).join(SuiteRow, SuiteRow.id == MemberRow.suite_id)
    query = query.where(MemberRow.cell.in_(cells)).order_by(SuiteRow.arrival.is_(None), MemberRow.id)
    rows: Any = connection.execute(query)
    return {cell: Labels(*told) for cell, *told in rows}
