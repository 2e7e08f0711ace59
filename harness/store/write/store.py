"""Store: the one writer of the database, in short transactions."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from filelock import Timeout
from sqlalchemy import Connection, Engine, bindparam, func, select, update
from sqlalchemy.orm import Session

from harness.core.cell import SPECIAL, Cell, Labels
from harness.core.declaration import RULES
from harness.core.errors import UserError
from harness.core.job import Evaluate, Job, Measure
from harness.core.rectangle import Covered, Rectangle, TakenMetric, Version
from harness.core.spec import Spec, digest_of
from harness.store.database import connect, database_url, file_of, insert_new, lock_of
from harness.store.tables import (
    LABELS,
    ArtifactRow,
    AttemptRow,
    CellRow,
    CodeRow,
    ComponentRow,
    EnvironmentRow,
    JobRow,
    MeasureRow,
    MemberRow,
    ResultRow,
    SuiteRow,
    WeightsRow,
)
from harness.store.write.measures import record_measures
from harness.store.write.queue import JobQueue
from harness.store.write.record import Measured, counted_under, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness.core.declaration import Declaration, Member
    from harness.core.result import Done
    from harness.core.threat import ThreatModel

#: the parts of a cell that are components, as its columns are called
PARTS = ("dataset", "classifier", "defense", "attack", "threat", *SPECIAL)


class Store:
    """The database of one or many suites.

    Laws: results and outcomes are never changed; a retry is a new attempt; an attempt's end is written once, and
    the method answers whether it was this call that wrote it.

    Attributes:
        board: the jobs.
        kept: the set of weights and code that results of a cell add to, whatever code measures them; by cell.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.queue = JobQueue(engine)
        self.kept: dict[str, str] = {}

    @classmethod
    def open(cls, text: str, *, create: bool = False) -> Store:
        """Open a database; with ``create`` an absent one is made.

        Raises:
            UserError: if it is absent (without ``create``), of another schema version, or no database.
        """
        return cls(connect(text, create=create))

    @classmethod
    def peek(cls, text: str) -> Store | None:
        """Open a database for reading if there is one; write nothing."""
        path = file_of(database_url(text))
        return None if path is not None and not path.exists() else cls.open(text)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a read session; the caller writes nothing."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def hold(self) -> Iterator[bool]:
        """Be a driver of this database; yields whether the only one, which an SQLite file has.

        Raises:
            UserError: if another driver has the file.
        """
        path = file_of(self.engine.url)
        if path is None:
            yield False
            return
        try:
            lock = lock_of(path)
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"expected to be the only run that writes to {path}, but another one is under way; wait for it, or "
                "take a PostgreSQL database, where several runs may work on one suite"
            ) from None
        except OSError as error:
            raise UserError(f"expected to write beside {path}, got {error}; choose another --db") from error
        try:
            yield True
        finally:
            lock.release()

    # ------------------------------------------------------------------ what was asked

    def declare(self, suite: Declaration) -> None:
        """Record a suite as it is run now; earlier versions under the same name, and their results, stay.

        It is then ours, wherever it came from, and the latest of its name, even if the clock was set back.
        """
        now = datetime.now(UTC)
        same = (SuiteRow.name == suite.name) & (SuiteRow.digest == suite.digest)
        known = select(SuiteRow.id).where(same)
        mine = select(func.max(SuiteRow.declared_at)).where(SuiteRow.name == suite.name, SuiteRow.arrival.is_(None))
        with self.engine.begin() as connection:
            before = connection.execute(mine).scalar()
            if before is not None:
                now = max(now, before + timedelta(microseconds=1))
            if connection.execute(known).scalar() is None:
                _describe(connection, suite)
                values = {name: getattr(suite, name) for name in RULES}
                metrics = {one.spec.digest: [column.as_dict() for column in one.columns] for one in suite.metrics}
                whole = {**values, "metrics": metrics, "digest": suite.digest, "declared_at": now}
                insert_new(connection, SuiteRow, [whole])
                row = connection.execute(known).scalar_one()  # another driver may have been first
                members = [_member_row(row, position, one) for position, one in enumerate(suite.members)]
                insert_new(connection, MemberRow, members)
            connection.execute(update(SuiteRow).where(same).values(declared_at=now, arrival=None))
            self.queue.suite = connection.execute(known).scalar_one()
            _learn(connection, suite.members)

    def tell(self, members: Iterable[Member]) -> None:
        """Record what the defenses of some cells are, as far as that was not known."""
        with self.engine.begin() as connection:
            _learn(connection, members)

    def earlier_members(self, suite: str) -> dict[Labels, str]:
        """Return the cells that a suite's names stood for when it was last run and that have results."""
        query = (
            select(MemberRow.cell, *LABELS)
            .join(SuiteRow, SuiteRow.id == MemberRow.suite_id)
            .where(SuiteRow.name == suite, SuiteRow.arrival.is_(None), MemberRow.cell.in_(select(ResultRow.cell)))
            .order_by(SuiteRow.declared_at)
        )
        with self.session() as session:
            rows: Any = session.execute(query).all()
        return {Labels(*names): cell for cell, *names in rows}

    def spec_of(self, digest: str) -> dict[str, Any]:
        """Return what a cell's digest is made of."""
        with self.session() as session:
            row = session.get_one(CellRow, digest)
            parts = {name: key for name in PARTS if (key := getattr(row, name)) is not None}
            query = select(ComponentRow.digest, ComponentRow.spec).where(ComponentRow.digest.in_(parts.values()))
            return cell_spec(row, dict(session.execute(query).all()))

    # ------------------------------------------------------------------ what is there

    def failures(self) -> dict[str, str]:
        """Return why jobs failed that have not succeeded since, by digest."""
        return {digest: job.reason for digest, job in self.queue.failures().items()}

    def covered(self, cells: Iterable[str]) -> dict[str, list[Covered]]:
        """Return what counts as measured here of each cell, as rectangles of places and repeats."""
        found: dict[str, list[Covered]] = {digest: [] for digest in cells}
        places = (ResultRow.start, ResultRow.stop, ResultRow.first_repeat, ResultRow.stop_repeat)
        asked = (JobRow.start, JobRow.stop, JobRow.first_repeat, JobRow.stop_repeat)
        query = select(ResultRow.id, ResultRow.cell, ResultRow.weights, *places, *asked)
        query = query.join(AttemptRow, AttemptRow.id == ResultRow.attempt).join(JobRow, JobRow.digest == AttemptRow.job)
        own = select(*WeightsRow.__table__.columns).where(WeightsRow.origin.is_(None))
        with self.engine.connect() as connection:
            sets = {row.digest: row for row in connection.execute(own)}
            read: dict[str, Any] = dict(connection.execute(select(CellRow.digest, CellRow.current)).all())
            metrics = self._taken(connection, sets)
            for key, cell, weights, *edges in connection.execute(query.order_by(ResultRow.cell, ResultRow.start)):
                if cell in found and weights in sets:
                    hashes, code = tuple(sorted(sets[weights].hashes.items())), sets[weights].code
                    version = Version(weights, hashes, code, read[cell] == weights)
                    its = Rectangle(*edges[:4])
                    job = its if None in edges[4:] else Rectangle(*edges[4:])
                    found[cell].append(Covered(*its, version, job, tuple(metrics.get(key, {}).values())))
        return found

    def _taken(self, connection: Connection, sets: Mapping[str, Any]) -> dict[int, dict[str, TakenMetric]]:
        """Return the metrics that were taken of each result, the latest of each, by its digest."""
        found: dict[int, dict[str, TakenMetric]] = {}
        query = select(MeasureRow.result, MeasureRow.metric, MeasureRow.set).order_by(MeasureRow.attempt)
        for result, metric, which in connection.execute(query):
            if which in sets:
                hashes, code = tuple(sorted(sets[which].hashes.items())), sets[which].code or {}
                found.setdefault(result, {})[metric] = TakenMetric(metric, hashes, code)
        return found

    def artifact_hashes(self, kind: str) -> dict[str, set[str]]:
        """Return the content hashes under which each artifact of a kind has been seen."""
        found: dict[str, set[str]] = {}
        with self.engine.connect() as connection:
            query = select(ArtifactRow.digest, ArtifactRow.sha256).where(ArtifactRow.kind == kind)
            for digest, sha256 in connection.execute(query):
                found.setdefault(digest, set()).add(sha256)
        return found

    def n_results(self) -> int:
        """Return how many results there are."""
        with self.engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(ResultRow)).scalar_one())

    # ------------------------------------------------------------------ what is done

    def finish(self, attempt: int, job: Job, done: Done) -> bool:
        """Record a successful attempt and all it measured, in one transaction; answer whether it was still open.

        Where the same measurement is there already, the attempt says so and nothing is counted twice.
        """
        environment = digest_of(done.environment)
        now = datetime.now(UTC)
        with self.engine.begin() as connection:
            insert_new(connection, EnvironmentRow, [{"digest": environment, "facts": done.environment}])
            if not self.queue.close(connection, attempt, "done", None, seconds=done.seconds, environment=environment):
                return False
            insert_new(connection, ArtifactRow, [{**vars(item), "first_seen": now} for item in done.artifacts])
            for item in done.artifacts:  # one that others had as well is ours now
                same = (ArtifactRow.digest == item.digest) & (ArtifactRow.sha256 == item.sha256)
                theirs = update(ArtifactRow).where(same, ArtifactRow.arrival.is_not(None))
                connection.execute(theirs.values(arrival=None))
            if isinstance(job, Measure):
                version = job.version
            elif isinstance(job, Evaluate):
                measured = _measured(job, done, self.kept.get(job.cell.digest))
                record(connection, attempt, measured)
                version = counted_under(connection, measured)
            else:
                return True
            whole = Rectangle(job.shard.start, job.shard.stop, job.first_repeat, job.stop_repeat)
            record_measures(connection, attempt, job.cell.digest, version, whole, done.measurements)
            return True

    def read(self, versions: Mapping[str, str]) -> None:
        """Say which results of some cells are read from now on: the digest of their weights and code, by cell."""
        which = [{"which": cell, "now": version} for cell, version in sorted(versions.items())]
        if which:
            with self.engine.begin() as connection:
                condition = CellRow.digest == bindparam("which")
                connection.execute(update(CellRow).where(condition).values(current=bindparam("now")), which)


def cell_spec(row: CellRow, specs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what a cell's digest is made of, from its row and the specs of its components."""
    spec = {name: specs[digest] if (digest := getattr(row, name)) else None for name in PARTS}
    spec = {name: part for name, part in spec.items() if part is not None or name not in SPECIAL}
    return {**spec, "seed": row.seed, "subset_seed": row.subset_seed}


def _describe(connection: Connection, suite: Declaration) -> None:
    """Record a suite's cells and their components, in one order: drivers that do so at once never wait in a circle."""
    cells = {one.cell.digest: _cell_row(one.cell, one) for one in suite.members if one.cell is not None}
    components = {key: row for one in suite.members if one.cell for key, row in _components(one.cell)}
    refused = [_threat_row(one.threat) for one in suite.members if one.threat is not None]
    components |= {row["digest"]: row for row in refused}
    components |= {key: row for metric in suite.metrics for key, row in _metric_components(metric.spec)}
    code = {one.hash: {"digest": one.hash, "main": one.main, "files": dict(one.files)} for one in suite.code}
    for table, rows in ((CodeRow, code), (ComponentRow, components), (CellRow, cells)):
        insert_new(connection, table, [rows[digest] for digest in sorted(rows)])


def _learn(connection: Connection, members: Iterable[Member]) -> None:
    """Tell what the defenses of cells are, where that was not known, or not in all; what is known stays."""
    told = {one.cell.digest: one for one in members if one.cell}
    digests = sorted(told)
    query = select(CellRow.digest, CellRow.random, CellRow.traits).order_by(CellRow.digest)
    for start in range(0, len(digests), 500):
        some = query.where(CellRow.digest.in_(digests[start : start + 500]))
        for digest, random, traits in connection.execute(some).all():
            learnt = {**(told[digest].traits or {}), **(traits or {})} or None
            if random != told[digest].random or (learnt or {}).keys() - (traits or {}).keys():
                which = update(CellRow).where(CellRow.digest == digest)
                connection.execute(which.values(random=told[digest].random, traits=learnt))


def _components(cell: Cell) -> Iterator[tuple[str, dict[str, Any]]]:
    parts = (part for name in PARTS if isinstance(part := getattr(cell, name), Spec))
    for spec in (*parts, *cell.recipes()):
        yield spec.digest, _component_row(spec)
    if cell.threat is not None:
        yield digest_of(cell.threat.as_dict()), _threat_row(cell.threat)


def _metric_components(metric: Spec) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a metric and of the recipes that it stands on, those behind them included."""
    todo = [metric]
    while todo:
        spec = todo.pop()
        yield spec.digest, _component_row(spec)
        todo += [part for _, part in spec.parts if part.kind == "recipe"]


def _component_row(spec: Spec) -> dict[str, Any]:
    return {"digest": spec.digest, "kind": spec.kind, "use": spec.use, "version": spec.version, "spec": spec.as_dict()}


def _threat_row(threat: ThreatModel) -> dict[str, Any]:
    spec = threat.as_dict()
    return {"digest": digest_of(spec), "kind": "threat_model", "use": threat.norm.value, "version": 1, "spec": spec}


def _cell_row(cell: Cell, member: Member) -> dict[str, Any]:
    parts = {name: getattr(cell, name) for name in PARTS}
    digests = {name: part.digest if isinstance(part, Spec) else None for name, part in parts.items()}
    if cell.threat is not None:
        digests["threat"] = digest_of(cell.threat.as_dict())
    known = {"random": member.random, "traits": None if member.traits is None else dict(member.traits)}
    return {"digest": cell.digest, **digests, "seed": cell.seed, "subset_seed": cell.subset_seed, **known}


def _member_row(suite: int, position: int, member: Member) -> dict[str, Any]:
    threat = member.cell.threat if member.cell else member.threat
    return {
        "suite_id": suite,
        "cell": member.cell.digest if member.cell else None,
        "threat": digest_of(threat.as_dict()) if threat else None,
        "position": position,
        "reason": member.reason,
        **member.labels.as_dict(),
    }


def _measured(job: Evaluate, done: Done, kept: str | None) -> Measured:
    if done.defense_cost is None:
        raise ValueError("expected an evaluation with the defense's cost")
    judged = {recipe.digest for recipe in job.cell.networks()}  # others are those that metrics look through
    return Measured(
        cell=job.cell.digest,
        rectangle=Rectangle(job.shard.start, job.shard.stop, job.first_repeat, job.stop_repeat),
        weights={item.digest: item.sha256 for item in done.artifacts if item.digest in judged},
        outcomes=done.outcomes,
        defense_cost=done.defense_cost,
        attack_cost=done.attack_cost,
        code=done.code,
        notes=done.notes,
        within=kept,
    )
