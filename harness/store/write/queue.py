"""JobQueue: the jobs, how each stands and who has it.

A job is claimed by one conditional UPDATE: of several drivers that want it, one changes the row and the others learn
that they did not. The claim is a lease by the database's clock, which the driver renews while it lives. Whoever lost a
lease can no longer record anything under it, so a job that was done twice is counted once.
"""

from __future__ import annotations

import functools
import itertools
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
from sqlalchemy import Connection, Engine, and_, bindparam, func, insert, or_, select, update

from harness.core.job import Craft, Train
from harness.core.rectangle import Rectangle
from harness.core.spec import digest_of
from harness.store.database import Clock, insert_new
from harness.store.tables import AttemptRow, JobRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.core.job import Job

#: seconds for which a claim holds unless it is renewed
LEASE = 60.0

#: statuses of a job, from the least advanced on
STATUSES = ("queued", "interrupted", "running", "skipped", "timeout", "failed", "done")

#: those of jobs that anybody may claim
WAITING = ("queued", "interrupted")

#: a process may run one suite after the other, and the first may have broken off
_numbers = itertools.count()


class JobStatus(NamedTuple):
    """How a job stands, and why."""

    status: str
    reason: str
    label: str = ""


class JobSnapshot(NamedTuple):
    """How a job stood at a moment, and how often it had been tried; by default one that is not there yet."""

    status: str = "queued"
    tries: int = 0


class Count(NamedTuple):
    """How many jobs of a kind have a status."""

    kind: str
    status: str
    jobs: int


class Pace(NamedTuple):
    """How fast jobs of a kind are: finished attempts that were looked at, and their mean seconds."""

    kind: str
    jobs: int
    seconds: float


class JobQueue:
    """The jobs of a database, as one driver sees them.

    Attributes:
        driver: place, process number, when the process started (numbers are used again), and which of its drivers.
        suite: the row of the suite that the driver works for.
    """

    def __init__(self, engine: Engine, lease: float = LEASE) -> None:
        self.engine = engine
        self.lease = lease
        self.driver = _me()
        self.suite: int | None = None

    # ------------------------------------------------------------------ before work

    def seen(self) -> dict[str, JobSnapshot]:
        """Return how each job stands; taken before planning, it tells ``post`` what is news."""
        query = select(JobRow.digest, JobRow.status, JobRow.tries)
        with self.engine.connect() as connection:
            return {digest: JobSnapshot(status, tries) for digest, status, tries in connection.execute(query)}

    def post(self, jobs: Sequence[Job], seen: Mapping[str, JobSnapshot]) -> None:
        """Queue jobs; one that somebody has begun or ended since ``seen``, or has now, is left alone."""
        if not jobs:
            return
        ordered = _in_one_order(jobs)
        with self.engine.begin() as connection:
            insert_new(connection, JobRow, [_row(job) for job in ordered])
            connection.execute(
                update(JobRow)
                .where(
                    JobRow.digest == bindparam("which"),
                    JobRow.status == bindparam("was"),
                    JobRow.tries == bindparam("known"),
                    JobRow.status != "running",
                )
                .values(status="queued", driver=None, lease=None, reason=None),
                [
                    {"which": job.digest, "was": before.status, "known": before.tries}
                    for job in ordered
                    for before in [seen.get(job.digest, JobSnapshot())]
                ],
            )

    def find(self, jobs: Iterable[Job]) -> None:
        """Take as done the jobs whose files were found; their attempt may have ended before anybody recorded it."""
        found = [{"which": job.digest} for job in _in_one_order(jobs)]
        if found:
            with self.engine.begin() as connection:
                connection.execute(
                    update(JobRow)
                    .where(JobRow.digest == bindparam("which"), JobRow.status != "done", JobRow.status != "running")
                    .values(status="done", driver=None, lease=None, reason="its file was there"),
                    found,
                )

    # ------------------------------------------------------------------ one try

    def claim(self, job: Job, batch_size: int | None = None) -> int | None:
        """Take a job that waits, or one whose lease ran out; return the attempt's number, or None if it is taken.

        One that this driver took, and did not hear that it did, is taken again.
        """
        with self.engine.begin() as connection:
            insert_new(connection, JobRow, [_row(job)])
            lost = (JobRow.lease < Clock()) | (JobRow.driver == self.driver)
            free = or_(JobRow.status.in_(WAITING), and_(JobRow.status == "running", lost))
            taken = connection.execute(
                update(JobRow)
                .where(JobRow.digest == job.digest, free)
                .values(
                    status="running",
                    tries=JobRow.tries + 1,
                    driver=self.driver,
                    lease=Clock() + self.lease,
                    reason=None,
                )
            )
            if taken.rowcount != 1:
                return None
            self._interrupt(connection, [job.digest], "its driver went silent and the lease ran out")
            key = connection.execute(
                insert(AttemptRow).values(
                    job=job.digest,
                    suite=self.suite,
                    status="running",
                    started_at=datetime.now(UTC),
                    driver=self.driver,
                    batch_size=batch_size,
                )
            ).inserted_primary_key
            if key is None:
                raise RuntimeError("expected the database to number the attempt")
            connection.execute(update(JobRow).where(JobRow.digest == job.digest).values(attempt=key[0]))
        return int(key[0])

    def end(self, attempt: int, status: str, reason: str, *, again: bool = False) -> bool:
        """Record that an attempt ended without a result; answer whether it was still open and this driver's.

        With ``again`` the job is queued for another try.
        """
        with self.engine.begin() as connection:
            return self.close(connection, attempt, status, reason, again=again)

    def close(
        self,
        connection: Connection,
        attempt: int,
        status: str,
        reason: str | None,
        *,
        again: bool = False,
        **facts: Any,
    ) -> bool:
        """End an attempt within a transaction; answer whether it was still open."""
        mine = connection.execute(
            update(JobRow)
            .where(JobRow.attempt == attempt, JobRow.status == "running")
            .values(status="queued" if again else status, reason=reason, lease=None)
        )
        if mine.rowcount != 1:
            return False
        connection.execute(
            update(AttemptRow)
            .where(AttemptRow.id == attempt)
            .values(status=status, reason=reason, ended_at=datetime.now(UTC), **facts)
        )
        return True

    # ------------------------------------------------------------------ while working

    def renew(self) -> None:
        """Say that this driver lives: its claims hold for another lease."""
        with self.engine.begin() as connection:
            connection.execute(
                update(JobRow)
                .where(JobRow.status == "running", JobRow.driver == self.driver)
                .values(lease=Clock() + self.lease)
            )

    def reclaim(self, *, alone: bool = False) -> int:
        """Queue again what dead drivers left running; return how much.

        A driver is dead if its lease ran out, if its process on this host is gone, or if this one is known to be
        ``alone``.
        """
        with self.engine.begin() as connection:
            running = connection.execute(
                select(JobRow.digest, JobRow.driver, JobRow.attempt, (JobRow.lease < Clock()).label("over")).where(
                    JobRow.status == "running", JobRow.driver != self.driver
                )
            ).all()
            left = [row for row in running if alone or row.over or _dead(row.driver)]
            freed = 0
            for row in left:
                # the attempt says that nobody has claimed the job in between
                freed += connection.execute(
                    update(JobRow)
                    .where(JobRow.digest == row.digest, JobRow.attempt == row.attempt, JobRow.status == "running")
                    .values(status="queued", lease=None, reason="the driver ended without a word")
                ).rowcount
                self._interrupt(connection, [row.digest], "the driver ended without a word", row.attempt)
        return freed

    def _interrupt(self, connection: Connection, jobs: Sequence[str], reason: str, attempt: int | None = None) -> None:
        which = AttemptRow.job.in_(jobs) if attempt is None else AttemptRow.id == attempt
        connection.execute(
            update(AttemptRow)
            .where(which, AttemptRow.status == "running")
            .values(status="interrupted", reason=reason, ended_at=datetime.now(UTC))
        )

    # ------------------------------------------------------------------ looking

    def standings(self, digests: Iterable[str]) -> dict[str, JobStatus]:
        """Return how some jobs stand; one that is running on a lease that ran out stands as queued."""
        wanted = list(digests)
        found: dict[str, JobStatus] = {}
        with self.engine.connect() as connection:
            for start in range(0, len(wanted), 500):
                query = select(
                    JobRow.digest, JobRow.status, JobRow.reason, JobRow.label, (JobRow.lease < Clock()).label("over")
                ).where(JobRow.digest.in_(wanted[start : start + 500]))
                for row in connection.execute(query):
                    status = "queued" if row.status == "running" and row.over else row.status
                    found[row.digest] = JobStatus(status, row.reason or "", row.label)
        return found

    def failures(self) -> dict[str, JobStatus]:
        """Return the jobs that failed or ran out of time and have not succeeded since, by digest."""
        query = select(JobRow.digest, JobRow.status, JobRow.reason, JobRow.label).where(
            JobRow.status.in_(("failed", "timeout"))
        )
        with self.engine.connect() as connection:
            return {row.digest: JobStatus(row.status, row.reason or "", row.label) for row in connection.execute(query)}

    def counts(self) -> list[Count]:
        """Count the jobs by kind and status."""
        query = select(JobRow.kind, JobRow.status, func.count()).group_by(JobRow.kind, JobRow.status)
        with self.engine.connect() as connection:
            return [Count(*row) for row in connection.execute(query.order_by(JobRow.kind, JobRow.status))]

    def drivers(self) -> int:
        """Count the drivers that have jobs under way on leases that hold."""
        query = select(func.count(JobRow.driver.distinct())).where(JobRow.status == "running", JobRow.lease >= Clock())
        with self.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def paces(self, latest: int = 200) -> list[Pace]:
        """Return how fast the latest finished attempts of each kind were."""
        recent = (
            select(AttemptRow.job, AttemptRow.seconds)
            .where(AttemptRow.status == "done", AttemptRow.arrival.is_(None))
            .order_by(AttemptRow.id.desc())
            .limit(latest)
            .subquery()
        )
        query = (
            select(JobRow.kind, func.count(), func.avg(recent.c.seconds))
            .join(recent, recent.c.job == JobRow.digest)
            .group_by(JobRow.kind)
        )
        with self.engine.connect() as connection:
            return [Pace(kind, jobs, float(seconds or 0.0)) for kind, jobs, seconds in connection.execute(query)]

    def troubles(self, most: int = 100) -> list[str]:
        """Return a line for every job that is running, or that did not end well."""
        query = select(JobRow).where(JobRow.status.not_in(("queued", "done"))).order_by(JobRow.attempt).limit(most)
        with self.engine.connect() as connection:
            return [
                f"{row.status}: {row.kind} {row.label}" + (f" ({row.reason})" if row.reason else "")
                for row in connection.execute(query)
            ]


def _in_one_order(jobs: Iterable[Job]) -> list[Job]:
    """Return jobs by digest: drivers that change rows in the same order never wait for each other in a ring."""
    return sorted(jobs, key=lambda job: job.digest)


def _row(job: Job) -> dict[str, Any]:
    row = {"digest": job.digest, "kind": job.kind, "label": str(job), "status": "queued", "tries": 0}
    return {**row, **dict.fromkeys(("recipe", "cell", "metrics", *Rectangle._fields)), **_coordinates(job)}


def _coordinates(job: Job) -> dict[str, Any]:
    """Return what a job does, as far as it applies; see ``JobRow``."""
    if isinstance(job, Train):
        return {"recipe": job.recipe.digest}
    places = {"start": job.shard.start, "stop": job.shard.stop}
    if isinstance(job, Craft):
        return places
    repeats = {"first_repeat": job.first_repeat, "stop_repeat": job.stop_repeat}
    metrics = ",".join(sorted(metric.digest for metric in job.metrics))
    return {"cell": job.cell.digest, **places, **repeats, "metrics": metrics}


def _me() -> str:
    return f"{_place()}:{os.getpid()}:{psutil.Process().create_time():.0f}:{next(_numbers)}"


@functools.cache
def _place() -> str:
    """Return what drivers that see each other's processes have in common: host, boot, and names of processes.

    Containers may share a host's name, and machines may be called alike.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        processes = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot, processes = f"{psutil.boot_time():.0f}", ""
    return f"{socket.gethostname()}-{digest_of([boot, processes])[:12]}"


def _dead(driver: str | None) -> bool:
    """Whether a driver's process would be seen from here, and is gone."""
    place, pid, began, *_ = [*(driver or "").split(":"), "", ""]
    if place != _place() or not pid.isdigit():
        return False
    with suppress(psutil.Error, ValueError):
        return bool(began) and abs(psutil.Process(int(pid)).create_time() - float(began)) > 2.0
    return True
