"""Where the numbers of a database come from: suites as run, weights, machines, times, failures; reads only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, type_coerce

from harness.core.spec import short
from harness.store.read.disputes import Dispute, disputes
from harness.store.read.latest import latest_suites, read_results, within
from harness.store.read.origins import origin_names
from harness.store.tables import (
    ArrivalRow,
    ArtifactRow,
    AttemptRow,
    CellRow,
    ComponentRow,
    EnvironmentRow,
    JobRow,
    MemberRow,
    ResultRow,
    SuiteRow,
    WeightsRow,
)
from harness.store.types import Moment
from harness.store.write.store import Store, cell_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class SuiteFacts:
    """A suite as it was run last, with the rules that are applied when reading.

    Attributes:
        origin: the database that it was run in, where that is another.
        disputes: what others have of its cells beside what is read.
    """

    name: str
    title: str
    text: str
    decision: str
    n_examples: int
    repeats: int
    origin: str = ""
    disputes: tuple[Dispute, ...] = ()


@dataclass(frozen=True)
class Weights:
    """A network that a cell's results were measured with: its name, what made it, what it contains."""

    label: str
    digest: str
    sha256: str


@dataclass(frozen=True)
class CellFacts:
    """What is known of a cell besides its numbers.

    Attributes:
        digest: the whole identity.
        spec: what the digest is made of.
        weights: by label; the latest where results were measured with different ones.
        environments: digests of where its results were measured.
        started: when the first of its results was begun; None without results.
        ended: when the last of them ended.
        failure: why its last attempt failed, if no attempt has succeeded since.
        traits: what the defense is; see ``CellRow``. None where that was not recorded.
        origin: the database that its results were computed in, where that is another.
        adopted: whether they may rank all the same, since a share of them was computed again here.
    """

    digest: str
    spec: Mapping[str, Any]
    weights: tuple[Weights, ...] = ()
    environments: tuple[str, ...] = ()
    started: datetime | None = None
    ended: datetime | None = None
    failure: str | None = None
    traits: Mapping[str, Any] | None = None
    origin: str = ""
    adopted: bool = False


@dataclass(frozen=True)
class Failure:
    """A job that failed or ran out of time, and has not succeeded since; ``cell`` is None for trainings and crafts."""

    kind: str
    label: str
    status: str
    reason: str
    cell: str | None = None


@dataclass(frozen=True)
class Provenance:
    """All of it: suites in the order of their first run, cells by short id, environments by digest."""

    suites: tuple[SuiteFacts, ...]
    cells: Mapping[str, CellFacts]
    environments: Mapping[str, Mapping[str, Any]]
    failures: tuple[Failure, ...]


def provenance(
    url: str | Store, suite: str | None = None, others: Sequence[str] = (), *, own: bool = False
) -> Provenance:
    """Return where the numbers of a database, or of one that is open, come from.

    They are those of one suite, or of all; and of other cells, by digest. With ``own`` they are those of what was run
    and computed here alone.

    Raises:
        UserError: if there is no such database.
    """
    store = Store.open(url) if isinstance(url, str) else url
    suites = [row for row in latest_suites(store, own=own).values() if suite in (None, row.name)]
    ids = [row.id for row in suites]
    with store.session() as session:
        mine = select(MemberRow.cell).where(MemberRow.suite_id.in_(ids))
        specs: dict[str, dict[str, Any]] = dict(session.execute(select(ComponentRow.digest, ComponentRow.spec)).all())
        cells: Any = session.execute(
            select(*CellRow.__table__.columns)
            .where(CellRow.digest.in_(mine) | within(CellRow.digest, others))
            .order_by(CellRow.digest)
        ).all()
        weights = _weights(session)
        measured = _measured(session, ids, others, own)
        names = origin_names(session.connection())
        sets = dict(session.execute(select(WeightsRow.digest, WeightsRow.origin)).all())
        arrivals = dict(session.execute(select(ArrivalRow.id, ArrivalRow.origin)).all())
        failures = [
            Failure(row.kind, row.label, row.status, row.reason or "", row.cell)
            for row in session.execute(
                select(JobRow.kind, JobRow.label, JobRow.status, JobRow.reason, JobRow.cell)
                .where(JobRow.status.in_(("failed", "timeout")), _asked_by([row.name for row in suites]))
                .order_by(JobRow.kind, JobRow.label, JobRow.digest)
            )
        ]
        reasons = {one.cell: one.reason for one in failures if one.cell is not None}
        facts = {}
        for row in cells:
            places = measured.get(row.digest, [])
            facts[short(row.digest)] = CellFacts(
                digest=row.digest,
                spec=cell_spec(row, specs),
                weights=weights[places[0].weights] if places else (),
                environments=tuple(sorted({one.environment for one in places if one.environment})),
                started=min((one.started for one in places), default=None),
                ended=max((one.ended for one in places if one.ended), default=None),
                failure=reasons.get(row.digest),
                traits=row.traits,
                origin=names.get(sets[places[0].weights] or 0, "") if places else "",
                adopted=row.adopted is not None and row.adopted == row.current,
            )
        used = {environment for one in facts.values() for environment in one.environments}
        environments = {
            row.digest: row.facts
            for row in session.scalars(select(EnvironmentRow).order_by(EnvironmentRow.digest))
            if row.digest in used
        }
        return Provenance(
            tuple(
                SuiteFacts(
                    *(r.name, r.title, r.text, r.decision, r.n_examples, r.repeats),
                    origin=names.get(arrivals.get(r.arrival or 0, 0), ""),
                    disputes=() if own else _disputes(session, r.id),
                )
                for r in suites
            ),
            facts,
            environments,
            tuple(failures),
        )


def _disputes(session: Session, suite: int) -> tuple[Dispute, ...]:
    """Return what others have of the cells of a suite, beside what is read."""
    if session.scalar(select(WeightsRow.digest).where(WeightsRow.origin.is_not(None)).limit(1)) is None:
        return ()
    mine = select(MemberRow.cell).where(MemberRow.suite_id == suite, MemberRow.cell.is_not(None))
    cells = dict.fromkeys(session.scalars(mine.order_by(MemberRow.position)))
    return tuple(one for one in disputes(session.connection(), [cell for cell in cells if cell]) if one.beside)


def _weights(session: Session) -> dict[str, tuple[Weights, ...]]:
    """Return each set of weights, its networks by the names that they were trained under."""
    labels = {
        (row.digest, row.sha256): row.label
        for row in session.execute(
            select(ArtifactRow.digest, ArtifactRow.sha256, ArtifactRow.label).where(ArtifactRow.kind == "weights")
        )
    }
    return {
        row.digest: tuple(
            Weights(label, *pair)
            for label, pair in sorted((labels.get(pair) or short(pair[0]), pair) for pair in row.hashes.items())
        )
        for row in session.execute(select(WeightsRow.digest, WeightsRow.hashes))
    }


def _measured(session: Session, suites: Sequence[int], others: Sequence[str], own: bool) -> dict[str, list[Row[Any]]]:
    """Return, for each cell, the environments that its results were measured in, with the times."""
    query = (
        select(
            ResultRow.cell,
            ResultRow.weights,
            AttemptRow.environment,
            type_coerce(func.min(AttemptRow.started_at), Moment).label("started"),
            type_coerce(func.max(AttemptRow.ended_at), Moment).label("ended"),
        )
        .join(AttemptRow, AttemptRow.id == ResultRow.attempt)
        .where(read_results(suites, others, own=own))
        .group_by(ResultRow.cell, ResultRow.weights, AttemptRow.environment)
        .order_by(ResultRow.cell)
    )
    rows: Any = session.execute(query).all()
    return {cell: list(mine) for cell, mine in groupby(rows, attrgetter("cell"))}


def _asked_by(suites: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a job was last tried for one of these suites, in whatever version."""
    tried = select(AttemptRow.id).join(SuiteRow, SuiteRow.id == AttemptRow.suite).where(SuiteRow.name.in_(suites))
    unknown = select(AttemptRow.id).where(AttemptRow.suite.is_(None))
    return JobRow.attempt.in_(tried) | JobRow.attempt.in_(unknown)
