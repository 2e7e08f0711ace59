"""What a person sees of a run: bars with remaining time in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from harness.core.job import Job
    from harness.execution.driver.scheduler import Watcher

#: seconds after which a log hears of a job that is still under way, and hears again
MEANWHILE = 60.0

VERBS = {"train": "training", "craft": "crafting", "evaluate": "evaluating", "measure": "measuring"}


def watcher(console: Console) -> Watcher:
    """Return what suits the console."""
    return Bars(console) if console.is_terminal else Lines(console)


def stopping_sentence(under_way: int) -> str:
    """Say what a run that was asked to stop still does."""
    jobs = "1 job" if under_way == 1 else f"{under_way} jobs"
    return f"stopping: finishing {jobs} under way and beginning no more; Ctrl-C again stops now"


class Bars:
    """A bar for each kind of job, and one for each job under way."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[count]}", justify="right"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.kinds: dict[str, TaskID] = {}
        self.totals: dict[str, int] = {}
        self.finished: dict[str, int] = {}
        self.flying: dict[int, tuple[TaskID, str, float]] = {}

    def planned(self, jobs: Sequence[Job]) -> None:
        """Open a bar for each kind."""
        self.progress.start()
        for kind, verb in VERBS.items():
            total = sum(job.kind == kind for job in jobs)
            if total:
                self.totals[kind], self.finished[kind] = total, 0
                self.kinds[kind] = self.progress.add_task(f"[bold]{verb}", total=total, count=f"0/{total}", start=False)

    def started(self, ticket: int, job: Job) -> None:
        """Open a bar for the job."""
        self.progress.start_task(self.kinds[job.kind])
        bar = self.progress.add_task(f"  [dim]{job}", total=1.0, count="")
        self.flying[ticket] = (bar, job.kind, 0.0)

    def moved(self, shares: dict[int, float]) -> None:
        """Move the bars."""
        for ticket, share in shares.items():
            if ticket in self.flying:
                bar, kind, _ = self.flying[ticket]
                self.flying[ticket] = (bar, kind, share)
                self.progress.update(bar, completed=share)
        for kind in self.kinds:
            self._show(kind)

    def ended(self, ticket: int, job: Job, seconds: float, reason: str, *, again: bool = False) -> None:
        """Close the job's bar; say why where it did not end well."""
        if ticket in self.flying:
            self.progress.remove_task(self.flying.pop(ticket)[0])
        if not again:
            self.finished[job.kind] += 1
        if reason:
            self.progress.console.print(Text(f"{job.kind} {job}: {reason}", style="red"), soft_wrap=True)
        self._show(job.kind)

    def stopping(self, under_way: int) -> None:
        """Say what the run waits for."""
        self.progress.console.print(stopping_sentence(under_way), highlight=False)

    def waiting(self, sentence: str) -> None:
        """Say what the run waits for."""
        self.progress.console.print(sentence, markup=False, highlight=False)

    def closed(self) -> None:
        """Take the bars of jobs away and give the terminal back."""
        for bar, _, _ in self.flying.values():
            self.progress.remove_task(bar)
        self.progress.stop()

    def _show(self, kind: str) -> None:
        under_way = sum(share for _, its_kind, share in self.flying.values() if its_kind == kind)
        done, total = self.finished[kind], self.totals[kind]
        self.progress.update(self.kinds[kind], completed=done + under_way, count=f"{done}/{total}")


class Lines:
    """A line for each job that ends, and every minute one for each that is still under way."""

    def __init__(self, console: Console) -> None:
        self.console, self.total, self.finished = console, 0, 0
        self.flying: dict[int, _Flight] = {}

    def planned(self, jobs: Sequence[Job]) -> None:
        """Hear how many there are."""
        self.total = len(jobs)

    def started(self, ticket: int, job: Job) -> None:
        """Look at the clock."""
        now = time.monotonic()
        self.flying[ticket] = _Flight(job, begun=now, told=now)

    def moved(self, shares: dict[int, float]) -> None:
        """Print a line for each job that nothing was said of for a minute."""
        now = time.monotonic()
        for ticket, one in self.flying.items():
            if shares.get(ticket, 0.0) > one.share:
                one.share, one.moved = shares[ticket], now
            if now - one.told >= MEANWHILE:
                one.told = now
                self._print(f"{one.job.kind} {one.job}: {one.standing(now)}")

    def ended(self, ticket: int, job: Job, seconds: float, reason: str, *, again: bool = False) -> None:
        """Print a line."""
        self.flying.pop(ticket, None)
        self.finished += not again
        self._print(f"[{self.finished}/{self.total}] {job.kind} {job}: {reason or f'{seconds:.1f} s'}")

    def stopping(self, under_way: int) -> None:
        """Say what the run waits for."""
        self._print(stopping_sentence(under_way))

    def waiting(self, sentence: str) -> None:
        """Say what the run waits for."""
        self._print(sentence)

    def closed(self) -> None:
        """Say nothing."""

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


@dataclass(slots=True)
class _Flight:
    """A job under way; times are by the monotonic clock.

    Attributes:
        begun: when it was.
        told: when a line was last printed of it.
        share: how far it has come, in [0, 1]; it stays 0 where nobody knows.
        moved: when it came as far as that.
    """

    job: Job
    begun: float
    told: float
    share: float = 0.0
    moved: float = 0.0

    def standing(self, now: float) -> str:
        """Say how far it has come, and how long it still takes if it goes on as it did until it last moved.

        One that should have ended by then has no time left to be told.
        """
        passed = duration(now - self.begun)
        if not self.share:
            return f"under way for {passed}"
        left = (self.moved - self.begun) * (1 - self.share) / self.share - (now - self.moved)
        said = f"{self.share:.0%} after {passed}"
        return f"{said}, about {duration(left)} left" if left > 0 else said


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
