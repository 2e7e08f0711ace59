"""Scheduler: order, capacity and prerequisites of jobs; it draws nothing and knows no torch.

Rules: a job starts when every job that it needs has ended well and a worker is free; among those ready, the plan's
order decides. A failed job does not stop the others; what needed it is recorded as skipped, with the reason. The driver
alone writes to the store. A job that another driver has is waited for, and taken over if that driver goes silent.
"""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sqlalchemy.exc import SQLAlchemyError

from harness.core.errors import UserError
from harness.core.job import Evaluate, Train
from harness.execution.driver.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.core.job import Job
    from harness.execution.driver.signals import Stop
    from harness.execution.executors.executor import Ended, Executor
    from harness.store.write.store import Store

#: seconds between two looks at the jobs that other drivers have
LOOK = 1.0

#: seconds in which a file that another driver has made appears here, over a network at the latest
GRACE = 30.0


@dataclass(frozen=True)
class Limits:
    """What a run may spend on one job.

    Attributes:
        batch_size: images at a time; None: the whole shard.
        retries: how often a job is tried again after its worker died under it.
        timeouts: seconds after which a job is given up, by kind.
        sizes: images at a time of some jobs, by their digest, in place of ``batch_size``.
    """

    batch_size: int | None = None
    retries: int = 2
    timeouts: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)


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

    def ended(self, ticket: int, job: Job, seconds: float, reason: str, *, again: bool = False) -> None:
        """Hear that a job ended; ``reason`` is empty where it ended well; ``again``: it will be tried again."""
        ...

    def stopping(self, under_way: int) -> None:
        """Hear that no more jobs are started, and how many are still under way."""
        ...

    def waiting(self, sentence: str) -> None:
        """Hear that the database is waited for, or that it is there again."""
        ...

    def closed(self) -> None:
        """Hear that nothing more will come, whatever the cause."""
        ...


@dataclass
class RunSummary:
    """How a run went; ``elsewhere`` counts what other drivers did meanwhile."""

    done: int = 0
    elsewhere: int = 0
    failed: list[tuple[Job, str]] = field(default_factory=list)
    skipped: list[tuple[Job, str]] = field(default_factory=list)


def run(
    jobs: Iterable[Job],
    store: Store,
    executor: Executor,
    watcher: Watcher,
    limits: Limits | None = None,
    stop: Stop | None = None,
    at_hand: Callable[[Job], bool] = lambda job: True,
) -> RunSummary:
    """Do the jobs and write what they bring; return how it went.

    Once ``stop`` is asked for, what is under way is finished and nothing new begins; KeyboardInterrupt ends at once
    what is under way, as interrupted, and is raised again. Either way the database continues where it stopped.

    Args:
        jobs: what there is to do, in the plan's order.
        store: where it is claimed and recorded.
        executor: who does it.
        watcher: who sees it.
        limits: what a job may take.
        stop: asks for an end.
        at_hand: whether what a job made, here or elsewhere, can be read here.

    Raises:
        KeyboardInterrupt: if the run was stopped before its end.
        UserError: if another driver keeps what it makes where this one cannot read it.
    """
    patience = Patience(watcher.waiting, stop)
    shift = _Shift(list(jobs), store, executor, watcher, limits or Limits(), at_hand, patience)
    watcher.planned(list(shift.jobs.values()))
    try:
        told = False
        while shift.unfinished:
            if stop is not None and stop.asked:
                if not told:
                    told = True
                    watcher.stopping(len(shift.running))
                if not shift.running:
                    raise KeyboardInterrupt
            else:
                shift.start_ready()
            if not shift.running:
                if shift.unfinished:
                    time.sleep(LOOK / 4)
                    shift.look_around()
                continue
            ended, shares = executor.wait()
            watcher.moved(shares)
            for one in ended:
                shift.settle(one, stopping=told)
            shift.look_around()
    except BaseException as error:
        by_user = isinstance(error, KeyboardInterrupt)
        with suppress(SQLAlchemyError, UserError):  # it may be the database that is in the way
            for attempt in shift.running:
                store.queue.end(attempt, "interrupted", "stopped by the user" if by_user else "the run broke off")
        raise
    finally:
        watcher.closed()
        executor.close()
    return shift.summary


class _Shift:
    """The state of one run: what is ready, what is under way, what has failed."""

    def __init__(
        self,
        jobs: list[Job],
        store: Store,
        executor: Executor,
        watcher: Watcher,
        limits: Limits,
        at_hand: Callable[[Job], bool],
        patience: Patience,
    ) -> None:
        self.ask = patience.ask
        self.store, self.executor, self.watcher, self.limits, self.at_hand = store, executor, watcher, limits, at_hand
        self.summary = RunSummary()
        self.jobs = {job.digest: job for job in jobs}
        self.order = {digest: place for place, digest in enumerate(self.jobs)}
        self.unfinished = set(self.jobs)
        self.needs = {digest: {need for need in job.needs if need in self.jobs} for digest, job in self.jobs.items()}
        self.needed_by: dict[str, list[str]] = defaultdict(list)
        for digest, needs in self.needs.items():
            for need in needs:
                self.needed_by[need].append(digest)
        self.ready = [(self.order[digest], digest) for digest, needs in self.needs.items() if not needs]
        heapq.heapify(self.ready)
        self.running: dict[int, tuple[Job, float | None]] = {}  # and since when a worker is at it
        self.elsewhere: set[str] = set()
        self.awaited: dict[str, float] = {}
        self.deaths: dict[str, int] = defaultdict(int)
        self.batches: dict[str, int] = dict(limits.sizes)
        self.renewed = self.looked = time.monotonic()

    # ------------------------------------------------------------------ starting

    def start_ready(self) -> None:
        """Start what can be started; a job that another driver has is put aside."""
        while self.ready and len(self.running) < self.executor.capacity:
            _, digest = heapq.heappop(self.ready)
            job = self.jobs[digest]
            batch_size = self._batch_size(job)
            attempt = self.ask(self.store.queue.claim, job, batch_size)
            if attempt is None:
                self.elsewhere.add(digest)
                continue
            self.running[attempt] = (job, None)
            self.watcher.started(attempt, job)
            self.executor.submit(attempt, job, batch_size)

    def _batch_size(self, job: Job) -> int | None:
        if isinstance(job, Train):
            return None
        told, most = self.limits.batch_size or job.shard.size, job.shard.size
        if isinstance(job, Evaluate) and job.cell.certificate is not None:
            most = told  # there are copies of the images to fill a batch with
        return self.batches.get(job.digest, min(told, most))

    def _ready_again(self, digest: str) -> None:
        heapq.heappush(self.ready, (self.order[digest], digest))

    # ------------------------------------------------------------------ while jobs are under way

    def look_around(self) -> None:
        """Renew the lease, give up what takes too long, see what other drivers have done."""
        now = time.monotonic()
        if now - self.renewed > self.store.queue.lease / 4:
            self.renewed = now
            self.ask(self.store.queue.renew)
        for ticket, (job, began) in list(self.running.items()):
            limit = self.limits.timeouts.get(job.kind)
            if began is None and self.executor.at_work(ticket):
                self.running[ticket] = (job, now)
            if limit is not None and began is not None and now - began > limit:
                self.executor.cancel(ticket)
                del self.running[ticket]
                self._fail(ticket, job, f"given up after {limit:g} s, the time limit of {job.kind} jobs", "timeout")
        if self.elsewhere and now - self.looked > LOOK:
            self.looked = now
            self._look_elsewhere()

    def _look_elsewhere(self) -> None:
        self.ask(self.store.queue.reclaim)
        for digest, standing in self.ask(self.store.queue.standings, self.elsewhere).items():
            job = self.jobs[digest]
            if standing.status == "running" or (standing.status == "done" and not self._here(job)):
                continue
            self.elsewhere.discard(digest)
            if standing.status == "done":
                self.summary.elsewhere += 1
                self._well(digest)
                self.watcher.ended(0, job, 0.0, "")
            elif standing.status in ("queued", "interrupted"):
                self._ready_again(digest)
            else:
                self.summary.failed.append((job, standing.reason))
                self.watcher.ended(0, job, 0.0, standing.reason)
                self._give_up(digest, f"{job.kind} {job} failed: {standing.reason}")

    def _here(self, job: Job) -> bool:
        """Whether what another driver has made can be read here; a file takes a while over a network."""
        if self.at_hand(job):
            return True
        if time.monotonic() - self.awaited.setdefault(job.digest, time.monotonic()) > GRACE:
            raise UserError(
                f"expected what another run has made ({job.kind} {job}) in the artifact folder here, found nothing; "
                "runs that share a database share the folder too: set PUREBENCH_HOME to the same one for all"
            )
        return False

    # ------------------------------------------------------------------ ending

    def settle(self, one: Ended, *, stopping: bool = False) -> None:
        """Record how a job ended; queue it again if it is to be tried again."""
        job, _ = self.running.pop(one.ticket)
        if one.done is not None:
            if self.ask(self.store.finish, one.ticket, job, one.done):
                self.summary.done += 1
                self._well(job.digest)
                self.watcher.ended(one.ticket, job, one.done.seconds, "")
            else:  # the lease was lost meanwhile: whoever has the job now will record it
                self.elsewhere.add(job.digest)
            return
        if one.worker_died:
            self.deaths[job.digest] += 1
            if stopping or self.deaths[job.digest] <= self.limits.retries:
                self._again(one.ticket, job, "interrupted", f"{one.reason}; trying again")
                return
        batch_size = self._batch_size(job)
        if one.out_of_memory and batch_size is not None and batch_size > 1:
            self.batches[job.digest] = batch_size // 2
            reason = f"out of memory with {batch_size} images at a time; trying again with {batch_size // 2}"
            self._again(one.ticket, job, "failed", reason)
            return
        self._fail(one.ticket, job, one.reason)

    def _well(self, digest: str) -> None:
        self.unfinished.discard(digest)
        for dependent in self.needed_by[digest]:
            self.needs[dependent].discard(digest)
            if not self.needs[dependent] and dependent in self.unfinished:
                self._ready_again(dependent)

    def _again(self, ticket: int, job: Job, status: str, reason: str) -> None:
        if self.ask(self.store.queue.end, ticket, status, reason, again=True):
            self._ready_again(job.digest)
        else:
            self.elsewhere.add(job.digest)
        self.watcher.ended(ticket, job, 0.0, reason, again=True)

    def _fail(self, ticket: int, job: Job, reason: str, status: str = "failed") -> None:
        if not self.ask(
            self.store.queue.end, ticket, status, reason
        ):  # the lease was lost: its new holder may fare better
            self.elsewhere.add(job.digest)
            self.watcher.ended(ticket, job, 0.0, reason, again=True)
            return
        self.summary.failed.append((job, reason))
        self.watcher.ended(ticket, job, 0.0, reason)
        self._give_up(job.digest, f"{job.kind} {job} failed: {reason}")

    def _give_up(self, digest: str, reason: str) -> None:
        """Skip what needs a job that failed, and what needs that."""
        self.unfinished.discard(digest)
        for dependent in self.needed_by[digest]:
            if dependent not in self.unfinished:
                continue
            job = self.jobs[dependent]
            attempt = self.ask(self.store.queue.claim, job)
            if attempt is not None:
                self.ask(self.store.queue.end, attempt, "skipped", reason)
            self.summary.skipped.append((job, reason))
            self.watcher.ended(attempt or 0, job, 0.0, reason)
            self._give_up(dependent, reason)
