"""Where the numbers of a database come from: suites as run, weights, machines, times, failures; reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from harness.core.spec import short
from harness.store.store import Store
from harness.store.tables import ArtifactRow, AttemptRow, CellRow, EnvironmentRow, MemberRow, ResultRow, SuiteRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime


@dataclass(frozen=True)
class SuiteFacts:
    """A suite as it was run last, with the rules that are applied when reading."""

    name: str
    title: str
    text: str
    decision: str
    n_examples: int
    repeats: int


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
    """

    digest: str
    spec: Mapping[str, Any]
    weights: tuple[Weights, ...] = ()
    environments: tuple[str, ...] = ()
    started: datetime | None = None
    ended: datetime | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Failure:
    """A job whose last attempt failed."""

    kind: str
    label: str
    reason: str


@dataclass(frozen=True)
class Provenance:
    """All of it: suites in the order of their first run, cells by short id, environments by digest."""

    suites: tuple[SuiteFacts, ...]
    cells: Mapping[str, CellFacts]
    environments: Mapping[str, Mapping[str, Any]]
    failures: tuple[Failure, ...]


def provenance(url: str, suite: str | None = None) -> Provenance:
    """Return where the numbers come from: those of one suite, or of all.

    Failures of trainings and craftings belong to no suite and are returned in either case.

    Raises:
        UserError: if there is no such database.
    """
    store = Store.open(url)
    with store.session() as session:
        suites = [row for row in session.scalars(select(SuiteRow).order_by(SuiteRow.id)) if suite in (None, row.name)]
        members = select(MemberRow.cell).where(MemberRow.suite_id.in_([row.id for row in suites]))
        specs = select(CellRow).where(CellRow.digest.in_(members))
        cells = {row.digest: row.spec for row in session.scalars(specs)}
        labels = {
            (row.digest, row.sha256): row.label for row in session.scalars(select(ArtifactRow)) if row.kind == "weights"
        }
        measured = session.execute(
            select(
                ResultRow.cell, ResultRow.weights, AttemptRow.environment, AttemptRow.started_at, AttemptRow.ended_at
            )
            .join(AttemptRow, AttemptRow.id == ResultRow.attempt)
            .where(ResultRow.cell.in_(members))
            .order_by(ResultRow.id)
        )
        by_cell: dict[str, list[Any]] = {}
        for cell, *rest in measured:
            by_cell.setdefault(cell, []).append(rest)
        last = select(func.max(AttemptRow.id)).group_by(AttemptRow.job).scalar_subquery()
        failed = [
            row
            for row in session.scalars(
                select(AttemptRow)
                .where(AttemptRow.id.in_(last), AttemptRow.status == "failed")
                .order_by(AttemptRow.kind, AttemptRow.label, AttemptRow.job)
            )
            if row.cell is None or row.cell in cells
        ]
        reasons = {row.cell: row.reason or "" for row in failed if row.cell is not None}
        facts = {
            short(digest): _cell(digest, spec, by_cell.get(digest, []), labels, reasons.get(digest))
            for digest, spec in sorted(cells.items())
        }
        used = {environment for one in facts.values() for environment in one.environments}
        environments = {
            row.digest: row.facts
            for row in session.scalars(select(EnvironmentRow).order_by(EnvironmentRow.digest))
            if row.digest in used
        }
        return Provenance(
            tuple(SuiteFacts(r.name, r.title, r.text, r.decision, r.n_examples, r.repeats) for r in suites),
            facts,
            environments,
            tuple(Failure(row.kind, row.label, row.reason or "") for row in failed),
        )


def _cell(
    digest: str,
    spec: Mapping[str, Any],
    measured: Iterable[tuple[dict[str, str], str | None, datetime, datetime | None]],
    labels: Mapping[tuple[str, str], str],
    failure: str | None,
) -> CellFacts:
    measured = list(measured)
    latest = measured[-1][0] if measured else {}
    measured = [row for row in measured if row[0] == latest]  # as the frames are read
    return CellFacts(
        digest=digest,
        spec=spec,
        weights=tuple(
            Weights(label, *pair)
            for label, pair in sorted((labels.get(pair) or short(pair[0]), pair) for pair in latest.items())
        ),
        environments=tuple(sorted({environment for _, environment, *_ in measured if environment})),
        started=min((started for _, _, started, _ in measured), default=None),
        ended=max((ended for *_, ended in measured if ended), default=None),
        failure=failure,
    )
