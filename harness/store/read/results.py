"""Recorded: results as they were recorded, with all that it takes to do them again; reads only."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from harness.core.cell import Labels, Shard
from harness.core.errors import UserError, nearest
from harness.core.job import Evaluate, evaluation_digest
from harness.core.rectangle import Rectangle
from harness.core.result import TOTALS
from harness.core.spec import Spec, digest_of
from harness.store.read.latest import latest_suites, read_results
from harness.store.read.measures import MetricNumbers, taken
from harness.store.read.origins import Kind
from harness.store.tables import (
    LABELS,
    ArrivalRow,
    ArtifactRow,
    AttemptRow,
    CellRow,
    ComponentRow,
    EnvironmentRow,
    JobRow,
    MemberRow,
    OriginRow,
    OutcomeRow,
    ResultRow,
    SuiteRow,
    WeightsRow,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Row

    from harness.core.cell import Cell
    from harness.store.read.origins import Origin
    from harness.store.write.store import Store

#: what a cost counts, and a clock does not
COUNTS = tuple(name for name in TOTALS if name != "seconds")


@dataclass(frozen=True)
class Attempted:
    """How a job was done: images at a time, and where; what is not known is None."""

    batch_size: int | None = None
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True)
class RecordedMeasure:
    """What a metric gave of a result: its spec, the numbers, and the networks and the code that it was taken with."""

    metric: Spec
    taken: MetricNumbers
    weights: Mapping[str, str]
    code: Mapping[str, str]


@dataclass(frozen=True)
class Recorded:
    """A result.

    Attributes:
        id: its number in the database.
        cell: the digest of its cell.
        labels: what the suite calls the cell.
        spec: what the cell's digest is made of.
        rectangle: its places and repeats.
        weights: content hash by recipe digest.
        job: the digest of the job that measured it.
        asked: the places and repeats that the job was to measure, of which a result may be a part; None if unknown.
        asked_metrics: the metrics that the job was to take, by digest.
        shard_size: by which the suite cuts the cell.
        attempted: how that was done.
        code: hashes of the source of attack and defense.
        counts: images and passes, by the names of the columns.
        measures: what metrics gave of it.
    """

    id: int
    cell: str
    labels: Labels
    spec: dict[str, Any]
    rectangle: Rectangle
    weights: Mapping[str, str]
    job: str
    asked: Rectangle | None
    asked_metrics: tuple[str, ...]
    shard_size: int
    attempted: Attempted
    code: Mapping[str, str]
    counts: Mapping[str, int | None]
    measures: tuple[RecordedMeasure, ...] = ()

    def __str__(self) -> str:
        """Name cell, places and repeats."""
        start, stop, first, end = self.rectangle
        return f"{self.labels}, places {start} to {stop - 1}, repeats {first} to {end - 1}"

    def evaluation(self, cell: Cell) -> Evaluate | None:
        """Return the job that measured it, of its cell; None where that is not known."""
        if self.asked is None:
            return None
        start, stop, first, end = self.asked
        job = Evaluate(cell, Shard(start // self.shard_size, start, stop), first, end)
        told = evaluation_digest(self.cell, *self.asked, self.asked_metrics)
        return job if told == self.job else None


@dataclass(frozen=True)
class Sample:
    """Some of the results of a database, and how many there are."""

    results: tuple[Recorded, ...]
    total: int


def sample(
    store: Store, fraction: float, seed: int = 0, suite: str | None = None, origin: Origin | None = None
) -> Sample:
    """Return a random part of the results that reports read, at least one if there are any.

    Which ones follows from the seed and from what the results are of: the same database gives the same sample, and
    one that has grown keeps most of it.

    Of another origin come results of each cell that was not measured here, so many of each arrival, and at least one.

    Args:
        store: the database.
        fraction: of the results, above 0 and up to 1.
        seed: another one takes others.
        suite: only this suite's; every suite's if None.
        origin: what came from this one, whether it is read or not, instead of what is read.

    Raises:
        UserError: if there is no such suite, or the fraction is none.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"expected --fraction above 0 and up to 1, got {fraction:g}")
    known = latest_suites(store)
    if suite is not None and suite not in known:
        raise UserError(f"expected a suite of the database, got {suite!r}; {nearest(suite, known)}")
    suites = [row.id for row in known.values() if suite in (None, row.name)]
    columns = [getattr(ResultRow, name) for name in ("cell", "weights", *Rectangle._fields)]
    query = select(ResultRow.id, ResultRow.arrival, *columns)
    query = query.where(read_results(suites) if origin is None else _of(origin, suites))
    with store.engine.connect() as connection:
        rows: Any = connection.execute(query).all()
    apart: dict[Any, list[Row[Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: digest_of([seed, *row[2:]])):
        apart[None if origin is None else (row.cell, row.arrival)].append(row)
    drawn = [row for some in apart.values() for row in some[: math.ceil(fraction * len(some) - 1e-9)]]
    return Sample(tuple(_recorded(store, suites, [row.id for row in drawn])), len(rows))


def _of(origin: Origin, suites: Sequence[int]) -> Any:
    """Return the condition that a result came from an origin, and that there is none of ours of its cell."""
    current = select(CellRow.digest).join(WeightsRow, WeightsRow.digest == CellRow.current)
    current = current.where(WeightsRow.origin == origin.id, CellRow.current == ResultRow.weights)
    mine = select(MemberRow.cell).where(MemberRow.suite_id.in_(suites), MemberRow.cell.is_not(None))
    return ResultRow.cell.in_(current.correlate(ResultRow)) & ResultRow.cell.in_(mine)


def _recorded(store: Store, suites: Sequence[int], ids: Sequence[int]) -> Iterator[Recorded]:
    with store.engine.connect() as connection:
        for number in ids:
            columns = (*ResultRow.__table__.columns, WeightsRow.hashes, AttemptRow.job, AttemptRow.batch_size)
            places = [getattr(JobRow, name).label(f"asked_{name}") for name in (*Rectangle._fields, "metrics")]
            row = connection.execute(
                select(*columns, EnvironmentRow.facts, *places)
                .join(WeightsRow, WeightsRow.digest == ResultRow.weights)
                .join(AttemptRow, AttemptRow.id == ResultRow.attempt)
                .join(JobRow, JobRow.digest == AttemptRow.job)
                .outerjoin(EnvironmentRow, EnvironmentRow.digest == AttemptRow.environment)
                .where(ResultRow.id == number)
            ).one()
            asked = [getattr(row, f"asked_{name}") for name in Rectangle._fields]
            member = select(SuiteRow.shard_size, *LABELS).join(SuiteRow, SuiteRow.id == MemberRow.suite_id)
            member = member.where(MemberRow.cell == row.cell, MemberRow.suite_id.in_(suites))
            shard_size, *names = connection.execute(member.order_by(MemberRow.id).limit(1)).one()
            yield Recorded(
                id=row.id,
                cell=row.cell,
                labels=Labels(*names),
                spec=store.spec_of(row.cell),
                rectangle=Rectangle(*(getattr(row, name) for name in Rectangle._fields)),
                weights=row.hashes,
                job=row.job,
                asked=None if None in asked else Rectangle(*asked),
                asked_metrics=tuple(row.asked_metrics.split(",")) if row.asked_metrics else (),
                shard_size=shard_size,
                attempted=Attempted(row.batch_size, row.facts),
                code=row.code,
                counts={key: getattr(row, key) for key in map("_".join, product(("defense", "attack"), COUNTS))},
                measures=tuple(_measures(store, connection, row.id)),
            )


def _measures(store: Store, connection: Connection, result: int) -> Iterator[RecordedMeasure]:
    for one in taken(store, [result]):
        spec = connection.execute(select(ComponentRow.spec).where(ComponentRow.digest == one.metric)).scalar_one()
        its = connection.execute(select(WeightsRow.hashes, WeightsRow.code).where(WeightsRow.digest == one.set)).one()
        yield RecordedMeasure(Spec.from_dict(spec), one, its.hashes, its.code or {})


def outcomes(store: Store, result: Recorded) -> Sequence[Row[Any]]:
    """Return what was seen, by place and repeat."""
    query = select(*OutcomeRow.__table__.columns).where(OutcomeRow.result == result.id)
    with store.engine.connect() as connection:
        return connection.execute(query.order_by(OutcomeRow.place, OutcomeRow.repeat)).all()


def attempted(store: Store, job: str, origin: Origin | None = None) -> Attempted:
    """Return how a job was last done well; here, or where an origin is."""
    theirs = select(ArrivalRow.id).join(OriginRow, OriginRow.id == ArrivalRow.origin)
    theirs = theirs.where(OriginRow.kind == Kind.FOREIGN if origin is None else OriginRow.id == origin.id)
    mine = AttemptRow.arrival.is_(None) | AttemptRow.arrival.not_in(theirs)
    query = (
        select(AttemptRow.batch_size, EnvironmentRow.facts)
        .outerjoin(EnvironmentRow, EnvironmentRow.digest == AttemptRow.environment)
        .where(AttemptRow.job == job, AttemptRow.status == "done")
        .where(mine if origin is None else AttemptRow.arrival.in_(theirs))
        .order_by(AttemptRow.id.desc())
        .limit(1)
    )
    with store.engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    return Attempted(*row) if row else Attempted()


def seen(store: Store, kind: str, digest: str) -> dict[str, str]:
    """Return the content hashes under which an artifact has been seen, with what it was called."""
    query = select(ArtifactRow.sha256, ArtifactRow.label).where(ArtifactRow.kind == kind, ArtifactRow.digest == digest)
    with store.engine.connect() as connection:
        return dict(connection.execute(query).all())
