"""Measures: what metrics gave, into rows of the results that it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from harness.core.rectangle import Rectangle
from harness.store.database import insert_new
from harness.store.tables import MeasureRow, ResultRow, WeightsRow
from harness.store.write.aggregates import cut, numbers_of, sums_of_numbers
from harness.store.write.record import set_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.core.metric import Measurement
    from harness.store.write.record import Arrival


def record_measures(
    connection: Connection,
    attempt: int,
    cell: str,
    version: str,
    whole: Rectangle,
    measurements: Iterable[Measurement],
    arrival: Arrival | None = None,
) -> None:
    """Record what metrics gave of a rectangle with every result of a cell that lies within it.

    What was taken before with the same networks and code stays.

    Args:
        connection: of the transaction.
        attempt: what measured it.
        cell: whose results, by digest.
        version: the set of weights and code of those results.
        whole: the places and repeats that the measurements are of.
        measurements: what metrics gave.
        arrival: the merge that brought it; None for what was measured into this database.
    """
    columns = [getattr(ResultRow, name) for name in Rectangle._fields]
    mine = select(ResultRow.id, *columns).where(ResultRow.cell == cell, ResultRow.weights == version)
    results = {row.id: Rectangle(*row[1:]) for row in connection.execute(mine.order_by(ResultRow.id))}
    within = {key: part for key, part in results.items() if whole.contains(part)}
    for one in measurements:
        origin = None if arrival is None else arrival.origin
        hashes, code = dict(one.weights), dict(one.code)
        taken_with = set_digest(hashes, code, arrival.database if arrival and origin is not None else None)
        values = {"digest": taken_with, "hashes": hashes, "code": code or None, "origin": origin}
        insert_new(connection, WeightsRow, [values])
        numbers = numbers_of(one.values, len(one.names), one.shape, whole)
        rows = []
        for key, part in within.items():
            its = cut(numbers, whole, part)
            rows.append(
                {
                    "result": key,
                    "metric": one.metric,
                    "set": taken_with,
                    "attempt": attempt,
                    "names": ",".join(one.names),
                    "shape": ",".join(map(str, one.shape)),
                    "sums": sums_of_numbers(its),
                    "numbers": its.tobytes(),
                    "arrival": None if arrival is None else arrival.id,
                }
            )
        insert_new(connection, MeasureRow, rows)
