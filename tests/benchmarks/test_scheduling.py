"""What it costs to hand a job to a worker and to record its end, where the job itself takes no time."""

from __future__ import annotations

import time

import pytest

from harness.artifacts import Folder
from harness.core.job import Train
from harness.core.result import Done
from harness.core.spec import Spec
from harness.execution.driver.scheduler import run
from harness.execution.executors.devices import ONE_THREAD, Seat
from harness.execution.executors.local import LocalExecutor
from harness.store.write.store import Store

pytestmark = pytest.mark.benchmark

JOBS = 400


def jobs(name: str, number: int) -> list[Train]:
    return [Train(Spec.of("recipe", "cnn", 1, {"name": name, "number": n}, label=f"{name}-{n}")) for n in range(number)]


def nothing():
    """Return work that takes no time; a function in a function travels to a worker by value."""

    def work(job, folder, terms, progress):
        return Done()

    return work


class Silent:
    def planned(self, jobs): ...
    def started(self, ticket, job): ...
    def moved(self, shares): ...
    def ended(self, ticket, job, seconds, reason, *, again=False): ...
    def stopping(self, under_way): ...

    def waiting(self, sentence): ...
    def closed(self): ...


class Lasting:
    """An executor that a run does not close, so that a second run finds its workers started."""

    def __init__(self, executor):
        self.executor = executor

    def __getattr__(self, name):
        return getattr(self.executor, name)

    def close(self): ...


def measured(executor, store: Store, workers: int) -> tuple[float, float]:
    """Return the seconds until every worker has done its first job, and those of each of many jobs after that."""
    lasting = Lasting(executor)
    start = time.perf_counter()
    first = run(jobs("first", workers), store, lasting, Silent())
    started = time.perf_counter()
    rest = run(jobs("rest", JOBS), store, lasting, Silent())
    seconds = time.perf_counter() - started
    assert (first.done, rest.done) == (workers, JOBS)
    return started - start, seconds / JOBS


@pytest.fixture
def store(tmp_path):
    made = Store.open(str(tmp_path / "runs.db"), create=True)
    yield made
    made.engine.dispose()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_empty_job_on_this_machine(tmp_path, store, figure, workers):
    executor = LocalExecutor(Folder(tmp_path), [Seat("cpu", ONE_THREAD)] * workers, nothing())
    try:
        start, each = measured(executor, store, workers)
    finally:
        executor.close()
    figure(f"local executor, workers: {workers}, overhead of a job", f"{each * 1e3:.1f} ms (start {start:.2f} s)")


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets and files that Ray leaves to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning:ray")
@pytest.mark.parametrize("workers", [1, 2])
def test_an_empty_job_on_ray(tmp_path, store, figure, workers):
    pytest.importorskip("ray", reason="Ray comes with purebench[ray]")
    from harness.execution.executors.ray import RayExecutor

    began = time.perf_counter()
    executor = RayExecutor(Folder(tmp_path), "cpu", cpus=workers, work=nothing())
    cluster = time.perf_counter() - began
    try:
        start, each = measured(executor, store, workers)
    finally:
        executor.close()
    figure(
        f"Ray executor, cores: {workers}, overhead of a job",
        f"{each * 1e3:.1f} ms (cluster {cluster:.1f} s, first jobs {start:.1f} s)",
    )
