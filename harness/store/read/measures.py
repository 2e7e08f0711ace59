"""What metrics gave: which of them a suite asks for, and their numbers, per result or in sum; reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sqlalchemy import select

from harness.core.metric import MetricColumn
from harness.core.rectangle import Rectangle
from harness.store.tables import MeasureRow, ResultRow, SuiteRow
from harness.store.write.aggregates import numbers_of, sums_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement

    from harness.store.write.aggregates import Numbers
    from harness.store.write.store import Store

    #: the columns of each metric that a suite asks for, by the metric's digest
    Asked = Mapping[str, tuple[MetricColumn, ...]]


def asked_metrics(store: Store, suites: Sequence[int]) -> dict[str, Asked]:
    """Return the metrics that suites ask for, by the suite's name."""
    query = select(SuiteRow.name, SuiteRow.metrics).where(SuiteRow.id.in_(suites)).order_by(SuiteRow.id)
    with store.engine.connect() as connection:
        rows = connection.execute(query).all()
    return {name: columns_of(metrics) for name, metrics in rows}


def columns_of(metrics: Mapping[str, Any]) -> Asked:
    """Return the columns of metrics as a suite's row records them."""
    return {digest: tuple(map(MetricColumn.from_dict, columns)) for digest, columns in metrics.items()}


def columns(asked: Iterable[Asked], *, arrays: bool = False) -> tuple[MetricColumn, ...]:
    """Return the columns of suites' metrics, each name once, in order; of arrays of numbers, or of plain numbers."""
    every = [column for one in asked for its in one.values() for column in its if bool(column.axes) == arrays]
    return tuple({column.name: column for column in every}.values())


class Sums(NamedTuple):
    """What a metric gave of some results in sum: by result, counts and sums of its columns, ``(columns, 3)``."""

    names: tuple[str, ...]
    by_result: Mapping[int, Numbers]


def sums_by_metric(store: Store, condition: ColumnElement[bool]) -> dict[str, Sums]:
    """Return the sums of results of which a condition is true, by the metric's digest; arrays have none."""
    names: dict[str, tuple[str, ...]] = {}
    by_result: dict[str, dict[int, Numbers]] = {}
    query = select(MeasureRow.result, MeasureRow.metric, MeasureRow.names, MeasureRow.sums)
    query = query.join(ResultRow, ResultRow.id == MeasureRow.result).where(condition, MeasureRow.shape == "")
    with store.engine.connect() as connection:
        for result, metric, its, packed in connection.execute(query.order_by(MeasureRow.attempt)):
            columns = tuple(its.split(","))
            if names.setdefault(metric, columns) != columns:  # it has others since, and the rest is to be taken anew
                names[metric], by_result[metric] = columns, {}
            by_result.setdefault(metric, {})[result] = sums_of(packed)
    return {metric: Sums(names[metric], results) for metric, results in by_result.items()}


class MetricNumbers(NamedTuple):
    """The numbers that a metric gave of a result: ``(columns, places, repeats, *axes)``.

    ``set`` names the networks and the code that it was taken with.
    """

    result: int
    metric: str
    names: tuple[str, ...]
    rectangle: Rectangle
    numbers: Numbers
    set: str


def taken(store: Store, results: Sequence[int], metrics: Iterable[str] | None = None) -> Iterator[MetricNumbers]:
    """Yield what some metrics, or all, gave of results; where one was taken several times, the latest."""
    edges = [getattr(ResultRow, name) for name in Rectangle._fields]
    told = (MeasureRow.result, MeasureRow.metric, MeasureRow.names, MeasureRow.shape, MeasureRow.numbers)
    query = select(*told, MeasureRow.set, *edges).join(ResultRow, ResultRow.id == MeasureRow.result)
    query = query if metrics is None else query.where(MeasureRow.metric.in_(list(metrics)))
    query = query.order_by(MeasureRow.result, MeasureRow.attempt)
    for start in range(0, len(results), 500):
        with store.engine.connect() as connection:
            rows = connection.execute(query.where(MeasureRow.result.in_(results[start : start + 500])))
            latest = {(row.result, row.metric): row for row in rows}
        for row in latest.values():
            rectangle = Rectangle(*(getattr(row, name) for name in Rectangle._fields))
            names, shape = tuple(row.names.split(",")), [int(length) for length in row.shape.split(",") if length]
            numbers = numbers_of(row.numbers, len(names), shape, rectangle)
            yield MetricNumbers(row.result, row.metric, names, rectangle, numbers, row.set)


def wanted_part(one: MetricNumbers, places: int, repeats: int) -> Numbers:
    """Return what of the numbers of a result a suite asks for that has so many places and repeats."""
    part = one.numbers[:, : max(0, places - one.rectangle.start)]
    return np.asarray(part[:, :, : max(0, repeats - one.rectangle.first_repeat)], float)
