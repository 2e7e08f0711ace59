"""Merge: several databases into one; every attempt is kept, and what was measured twice counts once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import Timeout
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import DataError, IntegrityError

from harness.core.errors import UserError
from harness.core.result import Cost, Outcome
from harness.core.spec import short
from harness.store.database import database_url, file_of, insert_new, lock_of
from harness.store.recording import Measured, Rectangle, counted_under, record, remaining
from harness.store.snapshot import snapshot
from harness.store.store import Store
from harness.store.tables import (
    ArtifactRow,
    AttemptRow,
    CellRow,
    ComponentRow,
    EnvironmentRow,
    JobRow,
    MemberRow,
    OutcomeRow,
    ReferenceRow,
    ResultRow,
    SuiteRow,
    WeightsRow,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Row, Select

    from harness.store.tables import Table

    Rows = Sequence[Row[Any]]

#: statuses of a job, from the least advanced on
ADVANCE = ("queued", "interrupted", "running", "skipped", "timeout", "failed", "done")

#: what a job takes over from one that is more advanced
_STANDING = ("status", "reason", "driver")

#: said of what a database that nobody works on still calls running
_SILENT = "the driver ended without a word"

#: rows that are held at a time
_BATCH = 500


class Added(NamedTuple):
    """What a source had that was not there yet; what was cut counts as the results that it became."""

    source: str
    attempts: int
    results: int
    outcomes: int

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.source}: {self.attempts} attempts, {self.results} results, {self.outcomes} outcomes were new"


@dataclass(frozen=True)
class Merged:
    """What a merge did: what each source added, and a sentence per recipe with differently trained weights."""

    added: tuple[Added, ...]
    notes: tuple[str, ...]


def merge(sources: Sequence[str], into: str, say: Callable[[str], object] = lambda _: None) -> Merged:
    """Bring the rows of several databases into one, which is made if it is absent; the sources stay as they are.

    The same merge again adds nothing. Where results of the same cell and weights overlap, the one that is there stays
    and the other is cut to what is new. Each source goes in whole or not at all.

    Args:
        sources: paths of SQLite files or SQLAlchemy URLs.
        into: likewise.
        say: is told what is being merged, for somebody who waits.

    Raises:
        UserError: if a source is absent, of another schema, damaged, the target itself, or is being written to.
    """
    opened = {name: _source(name, into) for name in dict.fromkeys(sources)}
    target = Store.open(into, create=True)
    networks, added = _Networks(), []
    with target.hold():
        for name, store in opened.items():
            say(f"merging {name}")
            try:
                with snapshot(store.engine) as there, target.engine.begin() as here:
                    networks.see(name, there)
                    added.append(_Source(name, there, here).merge())
            except (IntegrityError, DataError, ValueError, KeyError) as error:
                raise UserError(
                    f"expected sound rows in {name}, got {type(error).__name__}: {_line(error)}; nothing of it was "
                    f"merged, see `purebench db check {name}`"
                ) from error
        with snapshot(target.engine) as connection:
            networks.see(into, connection)
    return Merged(tuple(added), tuple(networks.notes()))


def _line(error: Exception) -> str:
    return str(error.orig if isinstance(error, IntegrityError | DataError) else error).partition("\n")[0]


def _source(name: str, into: str) -> Store:
    """Open a source; refuse one that is the target, or that changes while it is read."""
    if _place(name) == _place(into):
        raise UserError(f"expected sources other than the target, got {name} as both; name another file for --into")
    store = Store.open(name)
    if _busy(store):
        raise UserError(f"expected databases that nobody writes to, but {name} is being run; wait for the end of it")
    return store


def _place(text: str) -> object:
    """Return where a database is, however it is spelt."""
    url = database_url(text)
    path = file_of(url)
    return path.resolve() if path is not None else (url.host, url.port or 5432, url.database)


def _busy(store: Store) -> bool:
    """Whether a driver works on a database: it holds the lock of a file, or leases."""
    path = file_of(store.engine.url)
    if path is None:
        return store.board.drivers() > 0
    lock = lock_of(path)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # in a folder that cannot be written nobody runs
        return False


def _stream(connection: Connection, query: Select[*tuple[Any, ...]]) -> Iterator[Rows]:
    """Yield rows in batches."""
    return connection.execute(query.execution_options(yield_per=_BATCH)).partitions()


class _Networks:
    """Which weights the databases have of each recipe."""

    def __init__(self) -> None:
        self.labels: dict[str, str] = {}
        self.where: dict[str, dict[str, str]] = {}

    def see(self, name: str, connection: Connection) -> None:
        """Look into a database; who has some weights first is who they are said to come from."""
        query = select(ArtifactRow.digest, ArtifactRow.sha256, ArtifactRow.label).where(ArtifactRow.kind == "weights")
        for recipe, sha256, label in connection.execute(query.order_by(ArtifactRow.digest, ArtifactRow.sha256)):
            self.labels[recipe] = self.labels.get(recipe) or label or short(recipe)
            self.where.setdefault(recipe, {}).setdefault(sha256, name)

    def notes(self) -> Iterator[str]:
        """Yield a sentence per recipe that has been trained to different weights."""
        for recipe, found in sorted(self.where.items(), key=lambda item: self.labels[item[0]]):
            if len(found) > 1:
                each = ", ".join(f"{short(sha256)} ({name})" for sha256, name in found.items())
                yield (
                    f"{self.labels[recipe]}: machines trained different weights from this recipe: {each}; their "
                    "results are kept apart, and a report shows the ones recorded last"
                )


class _Source:
    """A source and the target, in one transaction of each."""

    def __init__(self, name: str, there: Connection, here: Connection) -> None:
        self.name = name
        self.there = there
        self.here = here

    def merge(self) -> Added:
        """Bring everything over, in the order in which rows name each other."""
        for table in (ComponentRow, EnvironmentRow, WeightsRow, ArtifactRow, ReferenceRow, CellRow):
            self._copy(table)
        self._traits()
        suites = self._suites()
        taken = self._jobs()
        attempts, tries = self._attempts(suites)
        self._renumber(taken, attempts, tries)
        results, outcomes = self._results(attempts)
        return Added(self.name, tries.total(), results, outcomes)

    def _copy(self, table: type[Table], **changed: Mapping[Any, Any]) -> None:
        """Insert the rows that are not there; columns in ``changed`` are translated, numbers are given anew."""
        columns = [column for column in table.__table__.columns if column.name != "id"]
        for rows in _stream(self.there, select(*columns).order_by(*table.__table__.primary_key)):
            values = [dict(row._mapping) for row in rows]
            for value in values:
                value |= {name: new[value[name]] for name, new in changed.items()}
            insert_new(self.here, table, values)

    def _traits(self) -> None:
        """Tell the traits of cells that were recorded here before all of them were, where they are known there."""
        known = {row.digest: row.traits or {} for row in self.here.execute(select(CellRow.digest, CellRow.traits))}
        which = CellRow.digest == bindparam("which")
        for rows in _stream(self.there, select(CellRow.digest, CellRow.traits).where(CellRow.traits.is_not(None))):
            told = [
                {"which": row.digest, "told": {**row.traits, **known[row.digest]}}
                for row in rows
                if row.traits.keys() - known.get(row.digest, row.traits).keys()
            ]
            if told:
                self.here.execute(update(CellRow).where(which).values(traits=bindparam("told")), told)

    def _suites(self) -> dict[int | None, int | None]:
        """Bring over the suites as run with their members; return their numbers here by those there."""
        self._copy(SuiteRow)
        query = select(SuiteRow.id, SuiteRow.name, SuiteRow.digest, SuiteRow.declared_at)
        here = {(row.name, row.digest): row for row in self.here.execute(query)}
        numbers: dict[int | None, int | None] = {None: None}
        for row in self.there.execute(query):
            mine = here[row.name, row.digest]
            numbers[row.id] = mine.id
            if row.declared_at > mine.declared_at:
                later = update(SuiteRow).where(SuiteRow.id == mine.id).values(declared_at=row.declared_at)
                self.here.execute(later)
        self._copy(MemberRow, suite_id=numbers)
        return numbers

    def _jobs(self) -> dict[str, int | None]:
        """Bring over jobs; return the last attempt, by its number there, of those that stand as they do there."""
        taken: dict[str, int | None] = {}
        for rows in _stream(self.there, select(*JobRow.__table__.columns).order_by(JobRow.digest)):
            query = select(JobRow.digest, JobRow.status).where(JobRow.digest.in_([row.digest for row in rows]))
            known = dict(self.here.execute(query).all())
            fresh, ahead = [], []
            for row in rows:
                values = {**row._mapping, **_ended(row), "lease": None, "attempt": None}
                if row.digest not in known:
                    fresh.append({**values, "tries": 0})
                elif ADVANCE.index(values["status"]) > ADVANCE.index(known[row.digest]):
                    ahead.append({"which": row.digest, **{f"new_{name}": values[name] for name in _STANDING}})
                else:
                    continue
                taken[row.digest] = row.attempt
            insert_new(self.here, JobRow, fresh)
            if ahead:
                changed: dict[str, Any] = {name: bindparam(f"new_{name}") for name in _STANDING}
                which = JobRow.digest == bindparam("which")
                self.here.execute(update(JobRow).where(which).values(lease=None, **changed), ahead)
        return taken

    def _attempts(self, suites: Mapping[int | None, int | None]) -> tuple[dict[int, int], Counter[str]]:
        """Bring over attempts; return their numbers here by those there, and how many are new, by job."""
        numbers: dict[int, int] = {}
        tries: Counter[str] = Counter()
        for rows in _stream(self.there, select(*AttemptRow.__table__.columns).order_by(AttemptRow.id)):
            known = self._known(rows)
            fresh = [row for row in rows if _who(row) not in known]
            if fresh:
                values = [{**row._mapping, **_ended(row), "suite": suites[row.suite]} for row in fresh]
                for value in values:
                    del value["id"]
                self.here.execute(insert(AttemptRow), values)
                known = self._known(rows)
            tries.update(row.job for row in fresh)
            numbers |= {row.id: known[_who(row)] for row in rows}
        return numbers, tries

    def _known(self, rows: Rows) -> dict[tuple[Any, ...], int]:
        """Return the numbers here of the attempts at some jobs, by what tells attempts apart."""
        columns = (AttemptRow.id, AttemptRow.job, AttemptRow.driver, AttemptRow.started_at)
        query = select(*columns).where(AttemptRow.job.in_({row.job for row in rows}))
        return {_who(row): row.id for row in self.here.execute(query)}

    def _renumber(self, taken: Mapping[str, int | None], attempts: Mapping[int, int], tries: Counter[str]) -> None:
        """Tell the jobs their last attempt, and how often they were tried."""
        which = JobRow.digest == bindparam("which")
        last = [{"which": job, "now": attempts[key]} for job, key in taken.items() if key is not None]
        if last:
            self.here.execute(update(JobRow).where(which).values(attempt=bindparam("now")), last)
        more = [{"which": job, "more": number} for job, number in tries.items()]
        if more:
            self.here.execute(update(JobRow).where(which).values(tries=JobRow.tries + bindparam("more")), more)

    def _results(self, attempts: Mapping[int, int]) -> tuple[int, int]:
        """Record what is new of the results, as if it had been measured now; return how many results and outcomes."""
        sets = {row.digest: row for row in self.there.execute(select(*WeightsRow.__table__.columns))}
        read: dict[str, Any] = dict(self.there.execute(select(CellRow.digest, CellRow.current)).all())
        results = outcomes = 0
        for rows in _stream(self.there, select(*ResultRow.__table__.columns).order_by(ResultRow.id)):
            for row in rows:
                measured = self._measured(row, sets[row.weights], read=read[row.cell] == row.weights)
                parts = remaining(self.here, row.cell, counted_under(self.here, measured), measured.rectangle)
                if parts:
                    full = replace(measured, outcomes=self._outcomes(row.id))
                    outcomes += record(self.here, attempts[row.attempt], full)
                    results += len(parts)
        return results, outcomes

    def _outcomes(self, result: int) -> list[Outcome]:
        columns = [column for column in OutcomeRow.__table__.columns if column.name != "result"]
        found = self.there.execute(select(*columns).where(OutcomeRow.result == result))
        return [Outcome(**one._mapping) for one in found]

    def _measured(self, row: Row[Any], counted: Row[Any], *, read: bool) -> Measured:
        """Return what a result says of itself, without its outcomes."""
        return Measured(
            cell=row.cell,
            rectangle=Rectangle(row.start, row.stop, row.first_repeat, row.stop_repeat),
            weights=counted.hashes,
            outcomes=(),
            defense_cost=_cost(row, "defense"),
            attack_cost=None if row.attack_images is None else _cost(row, "attack"),
            code=row.code,
            counted=counted.code or {},
            read=read,
            notes=None if row.notes is None else {name: tuple(pair) for name, pair in row.notes.items()},
        )


def _who(row: Any) -> tuple[Any, ...]:
    return (row.job, row.driver, row.started_at)


def _ended(row: Row[Any]) -> dict[str, Any]:
    """Return what is to be changed of a job or an attempt that is called running where nobody is at work."""
    if row.status != "running":
        return {}
    ended = {"ended_at": datetime.now(UTC)} if "ended_at" in row._mapping else {}
    return {"status": "interrupted", "reason": _SILENT, **ended}


def _cost(row: Row[Any], side: str) -> Cost:
    return Cost(**{name: getattr(row, f"{side}_{name}") for name in vars(Cost())})
