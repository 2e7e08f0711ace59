"""A worker process per device on this machine; on a CPU, one per core with one thread each.

Every worker has a pool of its own (loky), so that one that dies or hangs is replaced without disturbing the others.
A job does not know how many workers there are, so their number can change no result. How their processes start says
``harness.execution.executors.processes``; the driver does not wait for it.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
import warnings
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loky import ProcessPoolExecutor
from loky.process_executor import BrokenProcessPool

from harness.core.job import Terms, code, plugins
from harness.core.printable import printable
from harness.execution.executors.executor import Ended, ended
from harness.execution.executors.processes import settle, start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.context import BaseContext

    from harness.artifacts import Folder
    from harness.core.job import Job
    from harness.core.result import Done, Failed
    from harness.execution.executors.devices import Seat

    Progress = Callable[[float], None]
    Work = Callable[[Job, Folder, Terms, Progress], Done | Failed]

#: seconds between two looks at the workers
TICK = 0.2


def attempt(job: Job, folder: Folder, terms: Terms, progress: Progress) -> Done | Failed:
    """Do a job; torch is imported here, in the worker, and never in the driver."""
    from harness.execution.executors import preload  # noqa: F401 - where it was not imported before the fork
    from harness.execution.worker import jobs as work

    try:
        return work.attempt(job, folder, terms, progress)
    except BaseException as error:  # nobody interrupts a worker by an exception: a plug-in did, and ends its own job
        return replace(work.failed(error), left=("changed: unknown",))


class LocalExecutor:
    """A process per seat.

    Args:
        folder: where artifacts are.
        seats: where the workers sit.
        work: what a worker does with a job.
    """

    def __init__(self, folder: Folder, seats: Sequence[Seat], work: Work = attempt) -> None:
        self.folder, self.work = folder, work
        self.shares = tempfile.TemporaryDirectory(prefix="purebench-")  # workers leave their progress here
        self.start = start()
        self.free = [_Worker(seat, self.start.context) for seat in reversed(seats)]
        self.capacity = len(self.free)
        self.held: dict[int, tuple[_Worker, Job, Terms]] = {}  # until processes can start
        self.busy: dict[Future[Done | Failed], tuple[int, _Worker]] = {}
        # torch keeps memory for later; that loky takes a fresh process then is no news, and no leak
        warnings.filterwarnings("ignore", category=UserWarning, message="A worker was restarted")

    def submit(self, ticket: int, job: Job, batch_size: int | None) -> None:
        """Hand a job to a free worker."""
        worker = self.free.pop()
        worker.serve(plugins(job))
        self.held[ticket] = (worker, job, Terms(batch_size, worker.seat.device, code=code(job)))
        if self.start.ready.is_set():
            self._begin()

    def _begin(self) -> None:
        for ticket, (worker, job, terms) in self.held.items():
            future = worker.begin(self.work, job, self.folder, terms, self._share_of(ticket))
            self.busy[future] = (ticket, worker)
        self.held.clear()

    def wait(self) -> tuple[Sequence[Ended], dict[int, float]]:
        """Return after a tick at most: what has ended, and how far the rest has come."""
        if self.held and self.start.ready.wait(TICK):
            self._begin()
        finished, _ = wait(self.busy, timeout=0 if self.held else TICK, return_when=FIRST_COMPLETED)
        ended = [self._read(future) for future in finished]
        under_way = [*self.held, *(ticket for ticket, _ in self.busy.values())]
        return ended, {ticket: _share(self._share_of(ticket)) for ticket in under_way}

    def at_work(self, ticket: int) -> bool:
        """Whether a worker has begun with a job; where that cannot be told, whether it was handed to one."""
        return ticket not in self.held and (self._share_of(ticket).exists() or not Path(self.shares.name).exists())

    def cancel(self, ticket: int) -> None:
        """Kill the worker that has the job, and put another in its place."""
        if ticket in self.held:
            self.free.append(self.held.pop(ticket)[0])
        for future, (its, worker) in list(self.busy.items()):
            if its == ticket:
                del self.busy[future]
                worker.replace()
                self.free.append(worker)

    def close(self) -> None:
        """Stop the workers at once."""
        held = (worker for worker, *_ in self.held.values())
        for worker in [*self.free, *held, *(worker for _, worker in self.busy.values())]:
            worker.pool.shutdown(kill_workers=True)
        self.shares.cleanup()

    def _share_of(self, ticket: int) -> Path:
        return Path(self.shares.name) / str(ticket)

    def _read(self, future: Future[Done | Failed]) -> Ended:
        ticket, worker = self.busy.pop(future)
        self.free.append(worker)
        self._share_of(ticket).unlink(missing_ok=True)
        try:
            found = future.result()
        except BrokenProcessPool as error:
            worker.replace()
            return Ended(ticket, reason=f"the worker died ({str(error).splitlines()[0]})", worker_died=True)
        except Exception as error:  # what a job brought did not survive the way here
            return Ended(ticket, reason=printable(f"expected a result that can be sent, got {type(error).__name__}"))
        if found.left:
            worker.replace()
        return ended(ticket, found)


class _Worker:
    """A process on a seat; started when it gets its first job."""

    def __init__(self, seat: Seat, context: BaseContext) -> None:
        self.seat, self.context = seat, context
        self.plugins: frozenset[str] = frozenset()
        self.pool = self._open()

    def serve(self, plugins: frozenset[str]) -> None:
        """Be a process in which no other plug-ins have run: what they do to it cannot all be seen."""
        if self.plugins and self.plugins != plugins:
            self.replace()
        self.plugins = plugins

    def _open(self) -> ProcessPoolExecutor:
        own = dict(self.seat.environment)
        began = (os.getpid(), {**os.environ, **own})
        return ProcessPoolExecutor(
            max_workers=1, context=self.context, initializer=_begin, initargs=began, env=own, timeout=None
        )

    def begin(self, *what: Any) -> Future[Done | Failed]:
        """Start a job; a process that died while it had nothing to do is replaced first."""
        try:
            future: Future[Done | Failed] = self.pool.submit(_work, *what)
        except BrokenProcessPool:
            self.replace()
            future = self.pool.submit(_work, *what)
        return future

    def replace(self) -> None:
        """Kill the process and take a new one."""
        self.pool.shutdown(kill_workers=True)
        self.pool = self._open()


def _begin(driver: int, environment: Mapping[str, str]) -> None:
    """Prepare a worker: leave interrupts to the driver, and end when the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    settle(driver, environment)


def _work(work: Work, job: Job, folder: Folder, terms: Terms, share: Path) -> Done | Failed:
    last = 0.0

    def tell(fraction: float) -> None:
        with suppress(OSError):  # a job does not fail for want of a progress bar
            share.write_text(f"{fraction:.4f}")

    def progress(fraction: float) -> None:
        nonlocal last
        if time.monotonic() - last > TICK:
            last = time.monotonic()
            tell(fraction)

    tell(0.0)
    return work(job, folder, terms, progress)


def _share(path: Path) -> float:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return 0.0
