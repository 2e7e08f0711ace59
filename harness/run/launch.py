"""Launch: a suite's name in, its missing results into the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.artifacts import Folder
from harness.run.progress import watcher
from harness.run.scheduler import Executor, Tally, run
from harness.store.store import Store
from harness.suite.load import load_suite
from harness.suite.plan import Plan, make_plan

if TYPE_CHECKING:
    from rich.console import Console


def launch(
    suite: str,
    db: str,
    *,
    console: Console,
    only: str | None = None,
    limit: int | None = None,
    workers: int = 1,
    executor: Executor | None = None,
) -> tuple[Tally, Plan]:
    """Compute what a suite lacks; return how it went and what had been planned.

    Args:
        suite: a shipped name or a path.
        db: a path or an SQLAlchemy URL; made if absent.
        console: where progress is shown.
        only: see ``harness.suite.plan.selection``.
        limit: only the first so many examples.
        workers: processes of one thread each; changes no result.
        executor: runs the jobs; by default a local pool of ``workers``.
    """
    checked = load_suite(suite)
    folder = Folder.default()
    make_plan(checked, None, folder, only=only, limit=limit)  # a mistake in the arguments writes nothing
    store = Store.open(db, create=True)
    store.interrupt_leftovers()
    made = make_plan(checked, store, folder, only=only, limit=limit)
    store.declare(checked.declaration())
    if not made.jobs:
        return Tally(), made
    if executor is None:
        from harness.run.executors.local import LocalExecutor

        executor = LocalExecutor(folder, min(workers, len(made.jobs)))
    return run(made.jobs, store, executor, watcher(console)), made
