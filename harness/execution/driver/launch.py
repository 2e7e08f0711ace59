"""Launch: a suite's name in, its missing results into the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.artifacts import Folder
from harness.console import warn
from harness.core.errors import UserError
from harness.execution.driver.progress import watcher
from harness.execution.driver.scheduler import Limits, RunSummary, run
from harness.execution.driver.signals import Stop
from harness.execution.executors.devices import seats
from harness.store.database import file_of, networked
from harness.store.write.store import Store
from harness.suite.load import load_suite
from harness.suite.plan import Plan, make_plan, part_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from harness.execution.executors.executor import Executor
    from harness.suite.suite import Suite

EXECUTORS = ("local", "ray", "inline")


@dataclass(frozen=True)
class Workers:
    """Who does the jobs; none of it changes a result.

    Attributes:
        executor: ``local``, worker processes on this machine; ``ray``, tasks on a Ray cluster; ``inline``, one job at a
            time in this process.
        devices: see ``harness.execution.executors.devices.seats``.
        count: processes on the CPU; one per core if None.
        batch_size: images at a time, before the suite's own word.
        address: of the Ray cluster; a new one on this machine if None.
        resources: custom resources that a Ray task asks for.
    """

    executor: str = "local"
    devices: str = "auto"
    count: int | None = None
    batch_size: int | None = None
    address: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)

    def open(self, folder: Folder, jobs: int) -> Executor:
        """Start the executor for so many jobs.

        Raises:
            UserError: if there is no such executor or device.
        """
        if self.executor == "local":
            from harness.execution.executors.local import LocalExecutor

            return LocalExecutor(folder, seats(self.devices, self.count)[:jobs])
        if self.executor == "ray":
            from harness.execution.executors.ray import RayExecutor

            return RayExecutor(folder, self.devices, self.address, self.resources, self.count)
        if self.executor == "inline":
            from harness.execution.executors.inline import InlineExecutor

            return InlineExecutor(folder, self.devices)
        raise UserError(f"expected --executor {' or '.join(EXECUTORS)}, got {self.executor!r}")


def launch(
    suite: str | Suite,
    db: str,
    *,
    console: Console,
    only: str | None = None,
    limit: int | None = None,
    keep_old_code: bool = False,
    workers: Workers | None = None,
) -> tuple[RunSummary, Plan]:
    """Compute what a suite lacks; return how it went and what had been planned.

    Args:
        suite: a shipped name or a path, or a suite that was read.
        db: a path or an SQLAlchemy URL; made if absent.
        console: where progress is shown.
        only: see ``harness.suite.plan.selection``.
        limit: only the first so many examples.
        keep_old_code: see ``harness.suite.plan.make_plan``.
        workers: who does the jobs.

    Raises:
        UserError: for a mistake in the arguments, or a database that cannot be written.
        KeyboardInterrupt: if the run was stopped before its end.
    """
    checked = load_suite(suite) if isinstance(suite, str) else suite
    for doubt in checked.doubts:
        warn(console, doubt)
    folder = Folder.default()
    part_of(checked, only, limit)  # a mistake in the arguments writes nothing
    store = Store.open(db, create=True)
    _warn_of_network(store, console)
    with store.hold() as alone:
        store.queue.reclaim(alone=alone)
        seen = store.queue.seen()
        made = make_plan(checked, store, folder, only=only, limit=limit, keep_old_code=keep_old_code)
        if made.jobs:
            folder.check_writable()
        store.declare(checked.declaration())
        store.read(made.versions)
        store.kept = made.versions if keep_old_code else {}
        store.queue.find(made.at_hand)
        if not made.jobs:
            return RunSummary(), made
        store.queue.post(made.jobs, seen)
        who = workers or Workers()
        executor = who.open(folder, len(made.jobs))
        with Stop() as stop:
            told = limits(checked, who.batch_size)
            summary = run(made.jobs, store, executor, watcher(console), told, stop, folder.has_made)
    return summary, made


def amounts(words: Sequence[str]) -> dict[str, float]:
    """Read custom resources, as ``--resource`` takes them.

    Raises:
        UserError: if one is not NAME=AMOUNT.
    """
    found: dict[str, float] = {}
    for word in words:
        name, _, amount = word.partition("=")
        try:
            found[name] = float(amount)
        except ValueError:
            raise UserError(f"expected --resource as NAME=AMOUNT, such as lab=1, got {word!r}") from None
    return found


def limits(suite: Suite, batch_size: int | None = None) -> Limits:
    """Return what a job of a suite may take; a batch size that is told goes before the suite's."""
    told = suite.execution
    return Limits(batch_size or told.batch_size, told.retries, told.timeouts.model_dump())


def _warn_of_network(store: Store, console: Console) -> None:
    path = file_of(store.engine.url)
    kind = networked(path) if path is not None else None
    if kind is not None:
        warn(
            console,
            f"{path} is on a network file system ({kind}), where SQLite's locks and write-ahead log are not "
            "safe; keep the database on a local disk, or take PostgreSQL for several machines",
        )
