"""Store: the one writer of the database, in short transactions."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy import Connection, Engine, create_engine, event, func, insert, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.orm import Session

from harness.core.cell import Cell, Labels
from harness.core.errors import UserError
from harness.core.job import Evaluate, Job
from harness.core.spec import digest_of
from harness.store.tables import (
    ArtifactRow,
    AttemptRow,
    CellRow,
    EnvironmentRow,
    MemberRow,
    OutcomeRow,
    ResultRow,
    SuiteRow,
    Table,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.core.result import Cost, Done

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True)
class Covered:
    """Places ``start`` to ``stop - 1`` of a cell, measured in repeats ``first_repeat`` to ``stop_repeat - 1``."""

    start: int
    stop: int
    first_repeat: int
    stop_repeat: int
    weights: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Member:
    """A cell's place in a suite; ``cell`` is None where it cannot be run, and ``reason`` says why."""

    labels: Labels
    cell: Cell | None
    random: bool
    reason: str | None = None


@dataclass(frozen=True)
class Declaration:
    """A suite as the store keeps it: its text, the rules applied when reading, and its members in order."""

    name: str
    title: str
    text: str
    decision: str
    n_examples: int
    repeats: int
    shard_size: int
    members: tuple[Member, ...]


def database_url(text: str) -> URL:
    """Read what ``--db`` takes: a path of an SQLite file, or an SQLAlchemy URL.

    Raises:
        UserError: if it is neither.
    """
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        return make_url(text)
    except ArgumentError as error:
        raise UserError(f"expected a path or an SQLAlchemy URL such as sqlite:///runs.db, got {text!r}") from error


def _sqlite_pragmas(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("foreign_keys=ON", "journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def head() -> str:
    """Return the schema version that this code writes."""
    revision = ScriptDirectory.from_config(_alembic()).get_current_head()
    if revision is None:
        raise RuntimeError("expected at least one migration beside the tables")
    return revision


class Store:
    """The database of one or many suites.

    Laws: results and outcomes are never changed; a retry is a new attempt; an attempt's end is written once, and
    the method answers whether it was this call that wrote it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, text: str, *, create: bool = False) -> Store:
        """Open a database; with ``create`` an absent one is made and an older one is brought up to date.

        Raises:
            UserError: if it is absent (without ``create``), of another schema version, or no database.
        """
        url = database_url(text)
        sqlite = url.get_backend_name() == "sqlite"
        path = Path(url.database) if sqlite and url.database and url.database != ":memory:" else None
        if path is not None and not path.exists() and not create:
            raise UserError(f"expected a database at {path}, found none; `purebench run SUITE --db {path}` makes one")
        if path is not None and path.is_dir():
            raise UserError(f"expected a database file, got the folder {path}; name a file in it")
        if path is not None and create:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"expected a folder for {path}, could not make it: {error}") from error
        engine = create_engine(url)
        if sqlite:
            event.listen(engine, "connect", _sqlite_pragmas)
        store = cls(engine)
        try:
            if create and path is not None and not path.exists():
                with FileLock(path.with_name(path.name + ".lock")):
                    store._bring_up_to_date()
            elif create:
                store._bring_up_to_date()
            store._check_version(text)
        except DatabaseError as error:
            raise UserError(f"expected a purebench database at {text}, but reading it failed: {error.orig}") from error
        return store

    @classmethod
    def peek(cls, text: str) -> Store | None:
        """Open a database for reading if there is one; write nothing."""
        url = database_url(text)
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
            return None
        return cls.open(text)

    def _revision(self, connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    def _bring_up_to_date(self) -> None:
        with self.engine.connect() as connection:
            if self._revision(connection) == head():
                return
        config = _alembic()
        with self.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _check_version(self, text: str) -> None:
        with self.engine.connect() as connection:
            found = self._revision(connection)
        if found != head():
            raise UserError(
                f"expected a purebench database of schema {head()} at {text}, got {found or 'no schema at all'}; "
                "use the version of purebench that wrote it, or another file"
            )

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a read session; the caller writes nothing."""
        with Session(self.engine) as session:
            yield session

    # ------------------------------------------------------------------ what was asked

    def declare(self, suite: Declaration) -> None:
        """Record a suite as it is run now; what an earlier text under the same name had measured stays."""
        with Session(self.engine) as session, session.begin():
            row = session.scalar(select(SuiteRow).where(SuiteRow.name == suite.name))
            if row is None:
                row = SuiteRow(name=suite.name)
                session.add(row)
            row.title, row.text, row.decision = suite.title, suite.text, suite.decision
            row.n_examples, row.repeats, row.shard_size = suite.n_examples, suite.repeats, suite.shard_size
            row.declared_at = datetime.now(UTC)
            session.flush()
            for member in session.scalars(select(MemberRow).where(MemberRow.suite_id == row.id)):
                session.delete(member)
            session.flush()
            for position, one in enumerate(suite.members):
                if one.cell is not None and session.get(CellRow, one.cell.digest) is None:
                    session.add(_cell_row(one.cell, one.random))
                    session.flush()
                session.add(
                    MemberRow(
                        suite_id=row.id,
                        cell=one.cell.digest if one.cell else None,
                        position=position,
                        reason=one.reason,
                        **one.labels.as_dict(),
                    )
                )

    def earlier_members(self, suite: str) -> dict[Labels, str]:
        """Return the cells that a suite's names stood for when it was last run and that have results."""
        query = (
            select(MemberRow)
            .join(SuiteRow, SuiteRow.id == MemberRow.suite_id)
            .where(SuiteRow.name == suite, MemberRow.cell.in_(select(ResultRow.cell)))
        )
        with self.session() as session:
            return {
                Labels(row.dataset, row.classifier, row.defense, row.attack, row.threat_model): row.cell
                for row in session.scalars(query)
                if row.cell is not None
            }

    def spec_of(self, digest: str) -> dict[str, Any]:
        """Return what a cell's digest is made of."""
        with self.session() as session:
            spec: dict[str, Any] = session.execute(select(CellRow.spec).where(CellRow.digest == digest)).scalar_one()
            return spec

    # ------------------------------------------------------------------ what is there

    def covered(self, cells: Iterable[str]) -> dict[str, list[Covered]]:
        """Return what has been measured of each cell, as rectangles of places and repeats."""
        wanted = set(cells)
        found: dict[str, list[Covered]] = {digest: [] for digest in wanted}
        with self.session() as session:
            for row in session.scalars(select(ResultRow).order_by(ResultRow.cell, ResultRow.start)):
                if row.cell in wanted:
                    weights = tuple(sorted(row.weights.items()))
                    found[row.cell].append(Covered(row.start, row.stop, row.first_repeat, row.stop_repeat, weights))
        return found

    def artifact_hashes(self) -> dict[str, set[str]]:
        """Return the content hashes under which each artifact has been seen."""
        with self.session() as session:
            found: dict[str, set[str]] = {}
            for digest, sha256 in session.execute(select(ArtifactRow.digest, ArtifactRow.sha256)):
                found.setdefault(digest, set()).add(sha256)
            return found

    def failures(self) -> dict[str, str]:
        """Return the reason of the last failed attempt of each job that has not succeeded since."""
        last = select(func.max(AttemptRow.id)).group_by(AttemptRow.job).scalar_subquery()
        query = select(AttemptRow.job, AttemptRow.reason).where(AttemptRow.id.in_(last), AttemptRow.status == "failed")
        with self.session() as session:
            return {job: reason or "" for job, reason in session.execute(query)}

    def open_attempts(self) -> list[str]:
        """Return a line for every attempt that is running, and for every job whose last attempt did not end well."""
        last = select(func.max(AttemptRow.id)).group_by(AttemptRow.job).scalar_subquery()
        query = select(AttemptRow).where(AttemptRow.id.in_(last), AttemptRow.status != "done").order_by(AttemptRow.id)
        with self.session() as session:
            return [
                f"{row.status}: {row.kind} {row.label}" + (f" ({row.reason})" if row.reason else "")
                for row in session.scalars(query)
            ]

    # ------------------------------------------------------------------ what is done

    def interrupt_leftovers(self) -> int:
        """End the attempts that an earlier driver on this host left running when it died; return how many."""
        host, mine = socket.gethostname(), _driver()
        with Session(self.engine) as session, session.begin():
            left = [
                row
                for row in session.scalars(select(AttemptRow).where(AttemptRow.status == "running"))
                if row.driver != mine and row.driver.startswith(f"{host}:") and not _alive(row.driver)
            ]
            for row in left:
                row.status, row.reason = "interrupted", "the driver ended without a word"
                row.ended_at = datetime.now(UTC)
        return len(left)

    def begin(self, job: Job) -> int:
        """Record that a job is tried now; return the attempt's number."""
        with self.engine.begin() as connection:
            row = connection.execute(
                insert(AttemptRow).values(
                    job=job.digest,
                    kind=job.kind,
                    label=str(job),
                    cell=job.cell.digest if isinstance(job, Evaluate) else None,
                    status="running",
                    started_at=datetime.now(UTC),
                    driver=_driver(),
                )
            )
            key = row.inserted_primary_key
        if key is None:
            raise RuntimeError("expected the database to number the attempt")
        return int(key[0])

    def end(self, attempt: int, status: str, reason: str) -> bool:
        """Record that an attempt ended without a result; answer whether it was still open."""
        with self.engine.begin() as connection:
            return self._close(connection, attempt, status=status, reason=reason)

    def finish(self, attempt: int, job: Job, done: Done) -> bool:
        """Record a successful attempt and all it measured, in one transaction; answer whether it was still open."""
        environment = digest_of(done.environment)
        with self.engine.begin() as connection:
            if not connection.execute(select(EnvironmentRow).where(EnvironmentRow.digest == environment)).first():
                connection.execute(insert(EnvironmentRow).values(digest=environment, facts=done.environment))
            if not self._close(connection, attempt, status="done", seconds=done.seconds, environment=environment):
                return False
            for item in done.artifacts:
                same = (ArtifactRow.digest == item.digest) & (ArtifactRow.sha256 == item.sha256)
                if not connection.execute(select(ArtifactRow.digest).where(same)).first():
                    connection.execute(insert(ArtifactRow).values(**vars(item), first_seen=datetime.now(UTC)))
            if isinstance(job, Evaluate):
                self._record(connection, attempt, job, done)
            return True

    def _close(self, connection: Connection, attempt: int, **values: Any) -> bool:
        statement = (
            update(AttemptRow)
            .where(AttemptRow.id == attempt, AttemptRow.status == "running")
            .values(ended_at=datetime.now(UTC), **values)
        )
        return connection.execute(statement).rowcount == 1

    def _record(self, connection: Connection, attempt: int, job: Evaluate, done: Done) -> None:
        if done.defense_cost is None:
            raise ValueError("expected an evaluation with the defense's cost")
        weights = {item.digest: item.sha256 for item in done.artifacts if item.kind == "weights"}
        row = connection.execute(
            insert(ResultRow).values(
                cell=job.cell.digest,
                attempt=attempt,
                start=job.shard.start,
                stop=job.shard.stop,
                first_repeat=job.first_repeat,
                stop_repeat=job.stop_repeat,
                weights=weights,
                weights_digest=digest_of(weights),
                **_cost_columns("defense", done.defense_cost),
                **_cost_columns("attack", done.attack_cost),
            )
        )
        key = row.inserted_primary_key
        if key is None:
            raise RuntimeError("expected the database to number the result")
        rows = [{"result": key[0], "cell": job.cell.digest, **vars(outcome)} for outcome in done.outcomes]
        if rows:
            connection.execute(insert(OutcomeRow), rows)


def _cell_row(cell: Cell, random: bool) -> CellRow:
    return CellRow(
        digest=cell.digest,
        dataset=cell.dataset.use,
        classifier=cell.classifier.use,
        defense=cell.defense.use,
        attack=cell.attack.use if cell.attack else None,
        norm=cell.threat.norm.value if cell.threat else None,
        eps=cell.threat.eps if cell.threat else None,
        knowledge=cell.threat.knowledge.value if cell.threat else None,
        seed=cell.seed,
        random=random,
        spec=cell.as_dict(),
    )


def _cost_columns(side: str, cost: Cost | None) -> dict[str, Any]:
    return {f"{side}_{name}": value for name, value in vars(cost).items()} if cost else {}


def _driver() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _alive(driver: str) -> bool:
    try:
        os.kill(int(driver.rpartition(":")[2]), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def tables() -> Sequence[str]:
    """Return the names of all tables."""
    return [table.name for table in Table.metadata.sorted_tables]
