"""One job at a time, in this process: for tests, debuggers and plug-in authors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.run.scheduler import Ended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.artifacts import Folder
    from harness.core.job import Job


class InlineExecutor:
    """Does each job when it is waited for."""

    capacity = 1

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.given: tuple[int, Job] | None = None

    def submit(self, ticket: int, job: Job) -> None:
        """Keep the job for the next wait."""
        self.given = (ticket, job)

    def wait(self) -> tuple[Sequence[Ended], dict[int, float]]:
        """Do the job that was submitted."""
        from harness.run.work import attempt

        if self.given is None:
            return [], {}
        (ticket, job), self.given = self.given, None
        done, reason = attempt(job, self.folder, lambda share: None)
        return [Ended(ticket, done, reason)], {}

    def close(self) -> None:
        """Forget what was submitted."""
        self.given = None
