"""One job at a time, in this process: for components of a Python session, debuggers and tests."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.core.job import Terms, code
from harness.execution.executors.executor import Ended, ended

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.artifacts import Folder
    from harness.core.job import Job


class InlineExecutor:
    """Does each job when it is waited for."""

    capacity = 1

    def __init__(self, folder: Folder, device: str = "cpu") -> None:
        self.folder, self.device = folder, device
        self.given: tuple[int, Job, int | None] | None = None

    def submit(self, ticket: int, job: Job, batch_size: int | None) -> None:
        """Keep the job for the next wait."""
        self.given = (ticket, job, batch_size)

    def wait(self) -> tuple[Sequence[Ended], dict[int, float]]:
        """Do the job that was submitted."""
        from harness.execution.worker.jobs import attempt

        if self.given is None:
            return [], {}
        (ticket, job, batch_size), self.given = self.given, None
        with _as_it_was():
            found = attempt(job, self.folder, Terms(batch_size, self.device, code=code(job)), lambda share: None)
        return [ended(ticket, found)], {}

    def at_work(self, ticket: int) -> bool:
        """Whether a job was submitted: it is done before anybody can ask."""
        return True

    def cancel(self, ticket: int) -> None:
        """Forget the job; one that is being done cannot be stopped here."""
        self.given = None

    def close(self) -> None:
        """Forget what was submitted."""
        self.given = None


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Give a person's process its number of threads and its random numbers back."""
    import numpy as np
    import torch

    threads, ours, theirs = torch.get_num_threads(), random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(ours)
        np.random.set_state(theirs)
