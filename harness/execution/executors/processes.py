"""How the processes of workers start.

Importing torch and what stands on it takes five seconds of a core. On Linux one process does so, and each worker is
forked from it; elsewhere, where it is not safe to fork what has loaded such libraries, each worker starts anew. Either
way a worker begins with the variables and the folder that its driver has then, and without the driver's main module.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from contextlib import contextmanager
from multiprocessing import context, forkserver, spawn
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from loky.backend.context import get_context

from harness.execution.executors.devices import ONE_THREAD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: imported by the process that workers are forked from; the last one ends what is done there
PRELOAD = ("harness.execution.executors.local", "harness.execution.executors.preload")

#: seconds between tries to reach the process that workers are forked from
PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)

#: a semaphore whose name is taken away twice, as a process ends, is no news for anybody
_UNTOLD = "ignore:resource_tracker:UserWarning"

_one_at_a_time = threading.RLock()


class _Worker(context.ForkServerProcess):
    """A worker; it does not import the main module of its driver, for a script would begin anew."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        with _one_at_a_time, _no_main():
            for pause in PAUSES:  # one that was killed is not at once seen to be dead
                try:
                    return context.ForkServerProcess._Popen(process_obj)
                except (ConnectionError, EOFError):
                    time.sleep(pause)
            return context.ForkServerProcess._Popen(process_obj)


class _Forking(context.ForkServerContext):
    Process = _Worker


class Start(NamedTuple):
    """How a pool starts its processes, and whether it can without a wait: what is imported may take a while."""

    context: context.BaseContext
    ready: threading.Event


def start() -> Start:
    """Return how processes start, and make ready for it in the background."""
    ready = threading.Event()
    if sys.platform != "linux":
        ready.set()
        return Start(get_context("loky"), ready)
    told = ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), _UNTOLD)))
    alone = {**ONE_THREAD, "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": told}  # a folder here is no package of ours
    with _one_at_a_time, _variables(alone):
        forkserver.set_forkserver_preload([*PRELOAD])
        forkserver.ensure_running()
    forking = _Forking()

    def first() -> None:
        try:
            process = forking.Process(target=os.getpid)
            process.start()
            process.join()
        finally:
            ready.set()

    threading.Thread(target=first, daemon=True).start()
    return Start(forking, ready)


def settle(driver: int, environment: Mapping[str, str]) -> None:
    """Take the driver's variables as they are now, and end when the driver does; called by a worker at its start."""
    os.environ.clear()
    os.environ.update(environment)
    np.random.seed()  # a fork has the state of what it was forked from, as every other one has
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()


def _end_with(driver: int) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    while parent is None and os.getppid() == driver:
        time.sleep(0.5)
    os._exit(1)


@contextmanager
def _no_main() -> Iterator[None]:
    whole = spawn.get_preparation_data

    def without(name: str) -> dict[str, object]:
        return {key: value for key, value in whole(name).items() if not key.startswith("init_main")}

    spawn.get_preparation_data = without
    try:
        yield
    finally:
        spawn.get_preparation_data = whole


@contextmanager
def _variables(these: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in these}
    os.environ.update(these)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
