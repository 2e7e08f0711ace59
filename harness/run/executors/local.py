"""A pool of worker processes on this machine, each with one thread (loky survives the death of a worker).

A job does not know how many workers there are, so their number can change no result.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
import warnings
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import TYPE_CHECKING

from loky import ProcessPoolExecutor
from loky.process_executor import BrokenProcessPool

from harness.run.scheduler import Ended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.artifacts import Folder
    from harness.core.job import Job
    from harness.core.result import Done

#: seconds between two looks at the workers
TICK = 0.2
#: libraries read these when they start; the pool sets them for its workers only
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class LocalExecutor:
    """A process per worker."""

    def __init__(self, folder: Folder, workers: int) -> None:
        self.capacity, self.folder = workers, folder
        self.shares = tempfile.TemporaryDirectory(prefix="purebench-")  # workers leave their progress here
        self.flying: dict[Future[tuple[Done | None, str]], int] = {}
        self.pool = self._open()

    def _open(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=self.capacity, initializer=_begin, initargs=(os.getpid(),), env=ONE_THREAD, timeout=None
        )

    def submit(self, ticket: int, job: Job) -> None:
        """Hand a job to a free worker."""
        share = Path(self.shares.name) / str(ticket)
        self.flying[self.pool.submit(_work, job, self.folder, share)] = ticket

    def wait(self) -> tuple[Sequence[Ended], dict[int, float]]:
        """Return after a tick at most: what has ended, and how far the rest has come."""
        finished, _ = wait(self.flying, timeout=TICK, return_when=FIRST_COMPLETED)
        ended = [self._read(future) for future in finished]
        if any(one.worker_died for one in ended):
            # a dead worker breaks the pool, and with it every job that was under way
            ended += [
                Ended(ticket, reason="a worker beside it died", worker_died=True) for ticket in self.flying.values()
            ]
            self.flying.clear()
            self.pool.shutdown(kill_workers=True)
            self.pool = self._open()
        return ended, {ticket: _share(Path(self.shares.name) / str(ticket)) for ticket in self.flying.values()}

    def _read(self, future: Future[tuple[Done | None, str]]) -> Ended:
        ticket = self.flying.pop(future)
        try:
            done, reason = future.result()
        except BrokenProcessPool as error:
            return Ended(ticket, reason=f"the worker died ({str(error).splitlines()[0]})", worker_died=True)
        return Ended(ticket, done, reason)

    def close(self) -> None:
        """Stop the workers at once."""
        self.pool.shutdown(kill_workers=True)
        self.shares.cleanup()


def _begin(driver: int) -> None:
    """Prepare a worker: leave interrupts to the driver, and end when the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # by origin: what these packages say of themselves at import is nothing that a user can mend
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit|torchvision|timm|robustbench")

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(job: Job, folder: Folder, share: Path) -> tuple[Done | None, str]:
    from harness.run.work import attempt

    last = 0.0

    def progress(fraction: float) -> None:
        nonlocal last
        if time.monotonic() - last > TICK:
            last = time.monotonic()
            share.write_text(f"{fraction:.4f}")

    return attempt(job, folder, progress)


def _share(path: Path) -> float:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return 0.0
