"""Scheduler: order, capacity and prerequisites of jobs; it draws nothing and knows no torch.

Rules: a job starts when every job that it needs has ended well and a worker is free; among those ready, the plan's
order decides. A failed job does not stop the others; what needed it is recorded as skipped, with the reason. The driver
alone writes to the store.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.core.job import Job
    from harness.core.result import Done
    from harness.store.store import Store

#: how often a job is tried again after its worker died under it
RETRIES = 2


@dataclass(frozen=True)
class Ended:
    """A job came to its end: with a result, with a reason why not, or because its worker died."""

    ticket: int
    done: Done | None = None
    reason: str = ""
    worker_died: bool = False


class Executor(Protocol):
    """Runs jobs somewhere."""

    capacity: int

    def submit(self, ticket: int, job: Job) -> None:
        """Start a job; at most ``capacity`` are under way at a time."""
        ...

    def wait(self) -> tuple[Sequence[Ended], dict[int, float]]:
        """Return soon: jobs that have ended since the last call, and the share done of those under way."""
        ...

    def close(self) -> None:
        """Stop everything that is under way."""
        ...


class Watcher(Protocol):
    """Sees what happens, for a person; it must not raise."""

    def planned(self, jobs: Sequence[Job]) -> None:
        """Hear what there is to do."""
        ...

    def started(self, ticket: int, job: Job) -> None:
        """Hear that a job was started."""
        ...

    def moved(self, shares: dict[int, float]) -> None:
        """Hear how far the jobs under way have come."""
        ...

    def ended(self, ticket: int, job: Job, seconds: float, reason: str) -> None:
        """Hear that a job ended; ``reason`` is empty where it ended well."""
        ...

    def closed(self) -> None:
        """Hear that nothing more will come, whatever the cause."""
        ...


@dataclass
class Tally:
    """How a run went."""

    done: int = 0
    failed: list[tuple[Job, str]] = field(default_factory=list)
    skipped: list[tuple[Job, str]] = field(default_factory=list)


def run(jobs: Iterable[Job], store: Store, executor: Executor, watcher: Watcher) -> Tally:
    """Do the jobs and write what they bring; return how it went.

    An interrupt (Ctrl-C) ends the attempts under way as interrupted and is raised again: the database continues
    where it stopped.
    """
    waiting = list(jobs)
    watcher.planned(waiting)
    shift = _Shift(store, executor, watcher)
    try:
        while waiting or shift.running:
            waiting = shift.start_ready(waiting)
            if not shift.running:  # all that was left has been skipped
                continue
            ended, shares = executor.wait()
            watcher.moved(shares)
            for one in ended:
                again = shift.settle(one)
                if again is not None:
                    waiting.insert(0, again)
    except KeyboardInterrupt:
        for attempt in shift.running:
            store.end(attempt, "interrupted", "stopped by the user")
        raise
    finally:
        watcher.closed()
        executor.close()
    return shift.tally


class _Shift:
    """The state of one run: what is under way, what has failed."""

    def __init__(self, store: Store, executor: Executor, watcher: Watcher) -> None:
        self.store, self.executor, self.watcher = store, executor, watcher
        self.tally = Tally()
        self.running: dict[int, Job] = {}
        self.failed: dict[str, str] = {}
        self.deaths: dict[str, int] = {}

    def start_ready(self, waiting: list[Job]) -> list[Job]:
        """Start what can be started; return what still has to wait."""
        unfinished = {job.digest for job in waiting} | {job.digest for job in self.running.values()}
        left: list[Job] = []
        for job in waiting:
            broken = next((need for need in job.needs if need in self.failed), None)
            if broken is not None:
                self._skip(job, self.failed[broken])
                unfinished.discard(job.digest)
            elif len(self.running) < self.executor.capacity and not any(need in unfinished for need in job.needs):
                attempt = self.store.begin(job)
                self.running[attempt] = job
                self.watcher.started(attempt, job)
                self.executor.submit(attempt, job)
            else:
                left.append(job)
        return left

    def settle(self, one: Ended) -> Job | None:
        """Record how a job ended; return it if it is to be tried again."""
        job = self.running.pop(one.ticket)
        if one.done is not None:
            self.store.finish(one.ticket, job, one.done)
            self.tally.done += 1
            self.watcher.ended(one.ticket, job, one.done.seconds, "")
            return None
        if one.worker_died:
            self.deaths[job.digest] = self.deaths.get(job.digest, 0) + 1
            if self.deaths[job.digest] <= RETRIES:
                self.store.end(one.ticket, "interrupted", one.reason)
                self.watcher.ended(one.ticket, job, 0.0, f"{one.reason}; trying again")
                return job
        self.store.end(one.ticket, "failed", one.reason)
        self.failed[job.digest] = f"{job.kind} {job} failed: {one.reason}"
        self.tally.failed.append((job, one.reason))
        self.watcher.ended(one.ticket, job, 0.0, one.reason)
        return None

    def _skip(self, job: Job, reason: str) -> None:
        attempt = self.store.begin(job)
        self.store.end(attempt, "skipped", reason)
        self.failed[job.digest] = reason
        self.tally.skipped.append((job, reason))
        self.watcher.ended(attempt, job, 0.0, reason)
