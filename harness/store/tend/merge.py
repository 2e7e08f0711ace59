"""Merge: several databases into one; what was measured twice counts once, and what is ours stays as it is.

A database of our own, from another machine, is brought over as if it had been written here. Of a stranger's come its
suites, and what it measured, with the attempts behind it: marked with their origin, beside ours.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import Timeout
from sqlalchemy import bindparam, func, insert, or_, select, update

from harness.core.errors import UserError
from harness.core.metric import Measurement
from harness.core.rectangle import Rectangle
from harness.core.result import Cost, Outcome
from harness.core.spec import short
from harness.store.database import database_url, file_of, insert_new, lock_of
from harness.store.read.disputes import disputes
from harness.store.read.origins import Kind, arrive, identity, leave
from harness.store.read.snapshot import snapshot
from harness.store.tables import (
    ArrivalRow,
    ArtifactRow,
    AttemptRow,
    CellRow,
    CodeRow,
    ComponentRow,
    EnvironmentRow,
    JobRow,
    MeasureRow,
    MemberRow,
    OriginRow,
    OutcomeRow,
    ReferenceRow,
    ResultRow,
    SuiteRow,
    WeightsRow,
)
from harness.store.tend.check import findings
from harness.store.write.measures import record_measures
from harness.store.write.queue import STATUSES
from harness.store.write.record import Measured, counted_under, record, remaining
from harness.store.write.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Row, Select
    from sqlalchemy.orm import InstrumentedAttribute

    from harness.store.tables import TableBase
    from harness.store.write.record import Arrival

    Rows = Sequence[Row[Any]]

#: what a job takes over from one that is more advanced
_STANDING = ("status", "reason", "driver")

#: said of what a database that nobody works on still calls running
_SILENT = "the driver ended without a word"

#: rows that are held at a time
_BATCH = 500


class Added(NamedTuple):
    """What a source had that was not there yet; what was cut counts as the results that it became.

    Attributes:
        source: its name, as it was given.
        attempts: tries at jobs.
        results: measured slices of cells.
        outcomes: examples in them, each repeat counted.
        suites: names of suites that were not here in that version.
        foreign: whether it is a stranger's, so that what came is marked.
    """

    source: str
    attempts: int
    results: int
    outcomes: int
    suites: tuple[str, ...]
    foreign: bool

    def __str__(self) -> str:
        """Say it in a line."""
        suites = f", suites {', '.join(self.suites)}" if self.suites else ""
        marked = "; marked as computed elsewhere" if self.foreign and self.results else ""
        counted = f"{self.attempts} attempts, {self.results} results, {self.outcomes} outcomes"
        return f"{self.source}: {counted}{suites} are new{marked}"


@dataclass(frozen=True)
class Merged:
    """What a merge did: what each source added, and sentences on what differs, was left out or is to be known."""

    added: tuple[Added, ...]
    notes: tuple[str, ...]


class _Rehearsed(Exception):  # noqa: N818 - no error
    """Ends a transaction that was a rehearsal."""


def merge(
    sources: Sequence[str],
    into: str,
    say: Callable[[str], object] = lambda _: None,
    *,
    own: bool = False,
    dry_run: bool = False,
) -> Merged:
    """Bring the rows of several databases into one, which is made if it is absent; the sources stay as they are.

    The same merge again adds nothing. Where results of the same cell, weights, code and origin overlap, the one that is
    there stays and the other is cut to what is new. Each source goes in whole or not at all; one in which
    ``purebench db check`` finds something does not.

    Args:
        sources: paths of SQLite files or SQLAlchemy URLs.
        into: likewise.
        say: is told what is being merged, for somebody who waits.
        own: whether the sources are ours, so that what was computed there counts as computed here.
        dry_run: only find out what would come; a target that is absent stays so.

    Raises:
        UserError: if a source is absent, of another schema, damaged, the target itself, or is being written to.
    """
    opened = {name: _source(name, into) for name in dict.fromkeys(sources)}
    with _target(into, rehearsal=dry_run) as target, target.hold():
        networks, added = _Networks(own=own), []
        notes: list[str] = []
        for name, store in opened.items():
            say(f"merging {name}")
            with snapshot(store.engine) as there:
                _believe(name, there, say)
                networks.see(name, there)
                with suppress(_Rehearsed), target.engine.begin() as here:
                    arrival = arrive(here, store.engine, identity(there), own=own)
                    source = _Source(name, there, here, arrival)
                    added.append(source.merge())
                    notes += source.notes()
                    leave(here, arrival)
                    if dry_run:
                        raise _Rehearsed
        with snapshot(target.engine) as connection:
            networks.see(into, connection)
    return Merged(tuple(added), (*notes, *networks.notes()))


@contextmanager
def _target(into: str, *, rehearsal: bool) -> Iterator[Store]:
    """Open a target; where there is none yet, a rehearsal has one that is thrown away."""
    path = file_of(database_url(into))
    if not rehearsal or path is None or path.exists():
        yield Store.open(into, create=not rehearsal)
        return
    with tempfile.TemporaryDirectory(prefix="purebench-merge-") as folder:
        store = Store.open(f"{folder}/rehearsal.db", create=True)
        yield store
        store.engine.dispose()


def _believe(name: str, there: Connection, say: Callable[[str], object]) -> None:
    """Refuse a source that is not what it says.

    Raises:
        UserError: with the first findings.
    """
    found = findings(there, lambda step: say(f"{name}: {step}"))
    if found:
        told = "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
        raise UserError(
            f"expected sound rows in {name}, but {told}; nothing of it was merged, see `purebench db check {name}`"
        )


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
        return store.queue.drivers() > 0
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
    """Which weights the databases have of each recipe.

    Attributes:
        own: whether the databases are all ours.
    """

    def __init__(self, *, own: bool) -> None:
        self.own = own
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
        shown = "the ones recorded last" if self.own else "ours"
        for recipe, found in sorted(self.where.items(), key=lambda item: self.labels[item[0]]):
            if len(found) > 1:
                each = ", ".join(f"{short(sha256)} ({name})" for sha256, name in found.items())
                yield (
                    f"{self.labels[recipe]}: machines trained different weights from this recipe: {each}; their "
                    f"results are kept apart, and a report shows {shown}"
                )


class _Source:
    """A source and the target, in one transaction of each."""

    def __init__(self, name: str, there: Connection, here: Connection, arrival: Arrival) -> None:
        self.name = name
        self.there = there
        self.here = here
        self.arrival = arrival
        self.foreign = arrival.origin is not None
        self.touched: set[str] = set()

    def merge(self) -> Added:
        """Bring over what there is, in the order in which rows name each other."""
        self._copy(CodeRow)
        self._copy(ComponentRow)
        self._copy(EnvironmentRow, where=EnvironmentRow.digest.in_(self._places()))
        self._copy(ArtifactRow, where=_ours(ArtifactRow.arrival), arrival=self.arrival.id)
        if not self.foreign:
            self._copy(ReferenceRow)
        # what a defense is a stranger has no say in
        self._copy(CellRow, without=("current", "adopted", *(["traits"] if self.foreign else [])))
        if not self.foreign:
            self._traits()
        suites, names = self._suites()
        taken = self._jobs()
        attempts, tries = self._attempts(suites)
        self._renumber(taken, attempts, tries)
        results, outcomes = self._results(attempts)
        return Added(self.name, tries.total(), results, outcomes, names, self.foreign)

    def notes(self) -> Iterator[str]:
        """Yield what is to be known of it: what differs from ours, what was left out."""
        for one in disputes(self.here, sorted(self.touched)):
            if one.origin == self.arrival.origin and one.differing:
                yield f"{self.name}: {one}"
        left = self.there.scalar(
            select(func.count())
            .select_from(ResultRow)
            .join(WeightsRow, WeightsRow.digest == ResultRow.weights)
            .where(WeightsRow.origin.is_not(None))
        )
        if left:
            yield f"{self.name}: {left} results that it has from elsewhere were left out; merge where they come from"
        figures = self.there.scalar(select(func.count()).select_from(ReferenceRow))
        if self.foreign and figures:
            yield f"{self.name}: {figures} published figures were left out; read them with `purebench db import`"

    def _places(self) -> Any:
        """Return the query for the environments of what is brought over."""
        return select(AttemptRow.environment).where(self._tried(), AttemptRow.environment.is_not(None))

    def _tried(self) -> Any:
        """Return the condition that an attempt is brought over: of a stranger's, those that stand behind results."""
        if not self.foreign:
            return _ours(AttemptRow.arrival)
        judged = select(ResultRow.attempt).join(WeightsRow, WeightsRow.digest == ResultRow.weights)
        measured = select(MeasureRow.attempt).join(WeightsRow, WeightsRow.digest == MeasureRow.set)
        before = select(JobRow.digest).where(JobRow.kind.in_(("train", "craft")))
        behind = (AttemptRow.status == "done") & AttemptRow.job.in_(before) & _ours(AttemptRow.arrival)
        its = (AttemptRow.id.in_(some.where(WeightsRow.origin.is_(None))) for some in (judged, measured))
        return or_(behind, *its)

    def _copy(self, table: type[TableBase], where: Any = None, without: Sequence[str] = (), **told: Any) -> None:
        """Insert the rows that are not there; numbers are given anew.

        Args:
            table: whose rows.
            where: only such.
            without: columns that stay empty.
            told: a column's value in every row, or by what it is in the source.
        """
        columns = [column for column in table.__table__.columns if column.name not in ("id", *without)]
        query = select(*columns).order_by(*table.__table__.primary_key)
        for rows in _stream(self.there, query if where is None else query.where(where)):
            values = [dict(row._mapping) for row in rows]
            for value in values:
                value |= {name: new[value[name]] if isinstance(new, dict) else new for name, new in told.items()}
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

    def _suites(self) -> tuple[dict[int | None, int | None], tuple[str, ...]]:
        """Bring over the suites that were run there, with their members.

        Returns:
            Their numbers here by those there, and the names of those that are new.
        """
        run = SuiteRow.arrival.is_(None)
        query = select(SuiteRow.id, SuiteRow.name, SuiteRow.digest, SuiteRow.declared_at, SuiteRow.arrival)
        before = {(row.name, row.digest) for row in self.here.execute(query)}
        self._copy(SuiteRow, where=run, arrival=self.arrival.id if self.foreign else None)
        here = {(row.name, row.digest): row for row in self.here.execute(query)}
        numbers: dict[int | None, int | None] = defaultdict(lambda: None)
        for row in self.there.execute(query.where(run)):
            mine = here[row.name, row.digest]
            numbers[row.id] = mine.id
            if not self.foreign:
                at = row.declared_at if mine.arrival is not None else max(row.declared_at, mine.declared_at)
                now = update(SuiteRow).where(SuiteRow.id == mine.id)
                self.here.execute(now.values(declared_at=at, arrival=None))
        theirs = [number for number in numbers if number is not None]
        self._copy(MemberRow, where=MemberRow.suite_id.in_(theirs), suite_id=numbers)
        return numbers, tuple(dict.fromkeys(name for name, digest in here.keys() - before))

    def _jobs(self) -> dict[str, int | None]:
        """Bring over jobs; return the last attempt, by its number there, of those that stand as they do there.

        How a job of ours stands a stranger has no say in.
        """
        taken: dict[str, int | None] = {}
        tried = select(AttemptRow.job).where(self._tried())
        mine = JobRow.attempt.is_(None) | JobRow.attempt.not_in(select(AttemptRow.id).where(~_ours(AttemptRow.arrival)))
        wanted = select(*JobRow.__table__.columns).order_by(JobRow.digest)
        wanted = wanted.where(JobRow.digest.in_(tried) if self.foreign else mine)
        for rows in _stream(self.there, wanted):
            query = select(JobRow.digest, JobRow.status).where(JobRow.digest.in_([row.digest for row in rows]))
            known = dict(self.here.execute(query).all())
            fresh, ahead = [], []
            for row in rows:
                values = {**row._mapping, **_ended(row), "lease": None, "attempt": None}
                if row.digest not in known:
                    fresh.append({**values, "tries": 0})
                elif not self.foreign and STATUSES.index(values["status"]) > STATUSES.index(known[row.digest]):
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
        query = select(*AttemptRow.__table__.columns).where(self._tried()).order_by(AttemptRow.id)
        for rows in _stream(self.there, query):
            known = self._known(rows)
            fresh = [row for row in rows if _who(row) not in known]
            if fresh:
                told = {"arrival": self.arrival.id}
                values = [{**row._mapping, **_ended(row), **told, "suite": suites[row.suite]} for row in fresh]
                for value in values:
                    del value["id"]
                self.here.execute(insert(AttemptRow), values)
                known = self._known(rows)
            tries.update(row.job for row in fresh)
            numbers |= {row.id: known[_who(row)] for row in rows}
        return numbers, tries

    def _known(self, rows: Rows) -> dict[tuple[Any, ...], int]:
        """Return the numbers here of the attempts at some jobs, by what tells attempts apart."""
        columns = (AttemptRow.id, AttemptRow.job, AttemptRow.driver, AttemptRow.started_at, ArrivalRow.origin)
        query = select(*columns).outerjoin(ArrivalRow, ArrivalRow.id == AttemptRow.arrival)
        found = self.here.execute(query.where(AttemptRow.job.in_({row.job for row in rows}))).all()
        same = [row for row in found if not self.foreign or row.origin == self.arrival.origin]
        return {_who(row): row.id for row in same}

    def _renumber(self, taken: Mapping[str, int | None], attempts: Mapping[int, int], tries: Counter[str]) -> None:
        """Tell the jobs their last attempt, and how often they were tried."""
        which = JobRow.digest == bindparam("which")
        last = [{"which": job, "now": attempts[key]} for job, key in taken.items() if key and key in attempts]
        if last:
            self.here.execute(update(JobRow).where(which).values(attempt=bindparam("now")), last)
        more = [{"which": job, "more": n} for job, n in tries.items() if not self.foreign or job in taken]
        if more:
            self.here.execute(update(JobRow).where(which).values(tries=JobRow.tries + bindparam("more")), more)

    def _results(self, attempts: Mapping[int, int]) -> tuple[int, int]:
        """Record what is new of the results, as if it had been measured now; return how many results and outcomes."""
        own = select(*WeightsRow.__table__.columns).where(WeightsRow.origin.is_(None))
        sets = {row.digest: row for row in self.there.execute(own)}
        read: dict[str, Any] = dict(self.there.execute(select(CellRow.digest, CellRow.current)).all())
        results = outcomes = 0
        for rows in _stream(self.there, select(*ResultRow.__table__.columns).order_by(ResultRow.id)):
            for row in rows:
                if row.weights not in sets:
                    continue
                self.touched.add(row.cell)
                measured = self._measured(row, sets[row.weights], read=read[row.cell] == row.weights)
                parts = remaining(self.here, row.cell, counted_under(self.here, measured), measured.rectangle)
                if parts:
                    full = replace(measured, outcomes=self._outcomes(row.id))
                    outcomes += record(self.here, attempts[row.attempt], full)
                    results += len(parts)
                self._measures(row.id, measured, attempts)
        return results, outcomes

    def _measures(self, result: int, measured: Measured, attempts: Mapping[int, int]) -> None:
        """Record what metrics gave of a result, with those here that it is the whole of."""
        query = select(*MeasureRow.__table__.columns, WeightsRow.hashes, WeightsRow.code)
        query = query.join(WeightsRow, WeightsRow.digest == MeasureRow.set)
        query = query.where(MeasureRow.result == result, WeightsRow.origin.is_(None)).order_by(MeasureRow.attempt)
        version = counted_under(self.here, measured)
        for row in self.there.execute(query).all():
            shape = tuple(int(length) for length in row.shape.split(",") if length)
            names = tuple(row.names.split(","))
            one = Measurement(row.metric, names, row.numbers, shape, row.hashes, row.code or {})
            attempt = attempts[row.attempt]
            record_measures(self.here, attempt, measured.cell, version, measured.rectangle, [one], self.arrival)

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
            arrival=self.arrival,
            notes=None if row.notes is None else {name: tuple(pair) for name, pair in row.notes.items()},
        )


def _ours(arrival: InstrumentedAttribute[int | None]) -> ColumnElement[bool]:
    """Return the condition that a row of a source was made there, or in another database of its owner's."""
    foreign = select(ArrivalRow.id).join(OriginRow, OriginRow.id == ArrivalRow.origin)
    return arrival.is_(None) | arrival.not_in(foreign.where(OriginRow.kind == Kind.FOREIGN))


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
