"""What an executor is, and how a job ends under one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.core.result import Done

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.core.job import Job
    from harness.core.result import Failed


@dataclass(frozen=True)
class Ended:
    """A job came to its end: with a result, with a reason why not, because its worker died, or for want of memory."""

    ticket: int
    done: Done | None = None
    reason: str = ""
    worker_died: bool = False
    out_of_memory: bool = False


class Executor(Protocol):
    """Runs jobs somewhere."""

    @property
    def capacity(self) -> int:
        """How many jobs can be under way at a time, now."""
        ...

    def submit(self, ticket: int, job: Job, batch_size: int | None) -> None:
        """Start a job; at most ``capacity`` are under way at a time."""
        ...

    def wait(self) -> tuple[Sequence[Ended], dict[int, float]]:
        """Return soon: jobs that have ended since the last call, and the share done of those under way."""
        ...

    def at_work(self, ticket: int) -> bool:
        """Whether a worker has begun with a job, as far as is known: its time limit counts from then on."""
        ...

    def cancel(self, ticket: int) -> None:
        """Stop a job that is under way, whatever it is doing; nothing more is heard of it."""
        ...

    def close(self) -> None:
        """Stop everything that is under way."""
        ...


def ended(ticket: int, outcome: Done | Failed) -> Ended:
    """Return how a job ended that a worker did to its end."""
    if isinstance(outcome, Done):
        return Ended(ticket, outcome)
    return Ended(ticket, reason=outcome.reason, out_of_memory=outcome.out_of_memory)
