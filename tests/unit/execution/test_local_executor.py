"""Real worker processes that die, hang, run out of memory; the job's name says what a worker does with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager

import psutil
import pytest

from harness.artifacts import Folder
from harness.core.job import Train
from harness.core.result import Done
from harness.core.spec import Spec
from harness.execution.driver.scheduler import Limits, run
from harness.execution.executors.devices import ONE_THREAD, Seat
from harness.execution.executors.local import LocalExecutor

ONE = [Seat("cpu", ONE_THREAD)]
TWO = [Seat(f"cuda:{number}", {**ONE_THREAD, "CUDA_VISIBLE_DEVICES": number}) for number in "57"]
LOOK, KILL, HANG, HALF, MEMORY, QUIT, GROW, LOCK = (
    Train(Spec.of("recipe", "cnn", 1, {}, label=label))
    for label in ["look", "kill", "hang", "half", "memory", "quit", "grow", "lock"]
)


def told():
    """Return the work; a function in a function travels to a worker by value, since no worker could import a test."""

    def work(job, folder, terms, progress):
        import os
        import signal
        import time

        if str(job) == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if str(job) == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(86_400)
        if str(job) == "half":
            progress(0.5)
            patience = iter(range(2400))  # two minutes
            while not (folder.root / "seen").exists() and next(patience, None) is not None:
                time.sleep(0.05)
        if str(job) in ("memory", "quit"):
            from harness.execution.worker import jobs as work

            def do(*anything):
                raise MemoryError if str(job) == "memory" else SystemExit(4)

            work.do = do
            return work.attempt(job, folder, terms, progress)
        if str(job) == "grow":
            os.kept = b"x" * 400_000_000  # by as much as makes loky take a fresh process for the next job
            time.sleep(1.1)  # for which it looks once in a second
        if str(job) == "lock":
            import threading

            return Done(environment={"lock": threading.Lock()})
        seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
        return Done(environment={**seen, "pid": os.getpid(), "device": terms.device})

    return work


@contextmanager
def crew(tmp_path, seats):
    executor = LocalExecutor(Folder(tmp_path), seats, told())
    try:
        yield executor
    finally:
        executor.close()


def do(executor, *jobs):
    """Do as many jobs as there are seats; return how they ended, in the order of the jobs."""
    for ticket, job in enumerate(jobs):
        executor.submit(ticket, job, None)
    return ended(executor, len(jobs))


def ended(executor, number=1):
    """Wait until so many jobs have ended."""
    found = []
    while len(found) < number:
        found += executor.wait()[0]
    return sorted(found, key=lambda one: one.ticket)


def test_a_worker_that_kills_itself_is_reported_and_replaced(tmp_path):
    with crew(tmp_path, ONE) as executor:
        (before,) = do(executor, LOOK)
        (died,) = do(executor, KILL)
        (after,) = do(executor, LOOK)
    assert died.worker_died
    assert died.done is None
    assert died.reason.startswith("the worker died (")
    assert after.done.environment["pid"] != before.done.environment["pid"]


def test_a_worker_that_dies_between_two_jobs_is_replaced(tmp_path):
    with crew(tmp_path, ONE) as executor:
        pid = do(executor, LOOK)[0].done.environment["pid"]
        worker = psutil.Process(pid)
        pool = executor.free[0].pool
        worker.kill()
        while pool._flags.broken is None:  # until its pool has noticed
            time.sleep(0.05)
        (after,) = do(executor, LOOK)
    assert after.done.environment["pid"] != pid


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_the_process_that_workers_are_forked_from_may_die(tmp_path):
    with crew(tmp_path, ONE) as executor:
        pid = do(executor, LOOK)[0].done.environment["pid"]
        server = psutil.Process(pid).parent()
        assert server.pid != os.getpid()
        executor.submit(9, HANG, None)
        executor.wait()
        server.kill()
        (died,) = ended(executor)
        (after,) = do(executor, LOOK)
    assert died.worker_died
    assert not psutil.pid_exists(pid)
    assert after.done.environment["pid"] != pid


def test_a_worker_that_has_grown_makes_way_for_a_fresh_one_without_a_word(tmp_path, recwarn):
    with crew(tmp_path, ONE) as executor:
        pids = [do(executor, job)[0].done.environment["pid"] for job in (LOOK, GROW, LOOK)]
    assert pids[0] == pids[1] != pids[2]
    assert [str(one.message) for one in recwarn] == []


def test_the_variables_of_a_seat_reach_its_worker_and_the_one_that_replaces_it(tmp_path):
    with crew(tmp_path, TWO) as executor:
        before = [one.done.environment for one in do(executor, LOOK, LOOK)]
        assert all(one.worker_died for one in do(executor, KILL, KILL))
        after = [one.done.environment for one in do(executor, LOOK, LOOK)]
    places = {("cuda:5", "5", "1"), ("cuda:7", "7", "1")}
    for seen in (before, after):
        assert {(one["device"], one["CUDA_VISIBLE_DEVICES"], one["OMP_NUM_THREADS"]) for one in seen} == places
    assert len({one["pid"] for one in before + after}) == 4


def test_a_worker_that_hangs_is_killed_and_the_next_job_runs(tmp_path, store, silent):
    with crew(tmp_path, ONE) as executor:
        tally = run([HANG], store, executor, silent, Limits(timeouts={"train": 0.5}))
    assert [reason for _, reason in tally.failed] == ["given up after 0.5 s, the time limit of train jobs"]


def test_the_seat_of_a_job_that_was_cancelled_is_free(tmp_path):
    with crew(tmp_path, ONE) as executor:
        pid = do(executor, LOOK)[0].done.environment["pid"]
        executor.submit(9, HANG, None)
        executor.wait()
        executor.cancel(9)
        assert not psutil.pid_exists(pid)
        (after,) = do(executor, LOOK)
    assert after.ticket == 0
    assert after.done is not None


def test_progress_is_seen_while_a_job_is_under_way(tmp_path):
    with crew(tmp_path, ONE) as executor:
        executor.submit(3, HALF, None)
        shares = set()
        while 3 in (now := executor.wait()[1]):
            shares.add(now[3])
            if 0.5 in shares:
                (tmp_path / "seen").touch()
    assert 0.5 in shares


def test_a_job_does_not_fail_because_its_progress_cannot_be_told(tmp_path):
    with crew(tmp_path, ONE) as executor:
        shutil.rmtree(executor.shares.name)
        (tmp_path / "seen").touch()
        assert do(executor, HALF)[0].done is not None


def test_want_of_memory_is_told_apart_and_a_plug_in_that_quits_ends_its_job_only(tmp_path):
    with crew(tmp_path, ONE) as executor:
        (short,) = do(executor, MEMORY)
        (quitter,) = do(executor, QUIT)
        assert do(executor, LOOK)[0].done is not None
    assert short.out_of_memory
    assert "MemoryError" in short.reason
    assert not quitter.out_of_memory
    assert quitter.reason.startswith("SystemExit: 4 (at test_local_executor.py:")


def test_a_result_that_cannot_be_sent_fails_its_job_only(tmp_path):
    with crew(tmp_path, ONE) as executor:
        (locked,) = do(executor, LOCK)
        assert do(executor, LOOK)[0].done is not None
    assert locked.done is None
    assert locked.reason.startswith("expected a result that can be sent, got ")


DRIVER = """
    import sys, time
    from pathlib import Path
    from harness.artifacts import Folder
    from harness.core.job import Train
    from harness.core.result import Done
    from harness.core.spec import Spec
    from harness.execution.executors.devices import seats
    from harness.execution.executors.local import LocalExecutor

    def work(job, folder, terms, progress):
        import os, time
        (folder.root / "part").write_text(str(os.getpid()))
        (folder.root / "part").rename(folder.root / "pid")  # which appears whole
        time.sleep(86_400)

    executor = LocalExecutor(Folder(Path(sys.argv[1])), seats("cpu", 1), work)
    executor.submit(1, Train(Spec.of("recipe", "cnn", 1, {})), None)
    while not (Path(sys.argv[1]) / "pid").exists():
        executor.wait()
    print("torch" in sys.modules, flush=True)
    time.sleep(86_400)
"""


def test_the_driver_has_no_torch_and_its_workers_end_with_it(tmp_path):
    command = [sys.executable, "-P", "-c", textwrap.dedent(DRIVER), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as driver:
        assert driver.stdout.readline() == "False\n"
        worker = psutil.Process(int((tmp_path / "pid").read_text()))
        driver.send_signal(signal.SIGKILL)
    worker.wait()
