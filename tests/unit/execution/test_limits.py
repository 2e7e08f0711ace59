"""What the scheduler does at its limits: memory, time, a user who wants to stop, drivers that share the work."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
from sqlalchemy import select, update

from harness.core.declaration import Declaration, Member
from harness.core.job import Evaluate
from harness.core.spec import Spec
from harness.execution.driver import scheduler
from harness.execution.driver.scheduler import Limits, run
from harness.execution.driver.signals import Stop
from harness.store.tables import AttemptRow, JobRow, ResultRow
from harness.store.write.store import Store


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(scheduler, "LOOK", 0.02)


def attempts(store, job):
    with store.session() as session:
        return list(session.scalars(select(AttemptRow).where(AttemptRow.job == job.digest).order_by(AttemptRow.id)))


def status(store, job):
    return store.queue.standings([job.digest])[job.digest].status


# ---------------------------------------------------------------------- memory


@pytest.mark.parametrize(("told", "tried"), [(None, [8, 4, 2, 1]), (3, [3, 1]), (100, [8, 4, 2, 1])])
def test_out_of_memory_halves_the_batch_down_to_one_image_and_then_fails(toy, store, silent, scripted, told, tried):
    executor = scripted(script={toy.craft: ["out of memory"] * 9})
    tally = run([toy.craft, toy.evaluate], store, executor, silent, Limits(batch_size=told))
    assert executor.sizes == tried
    assert [one.batch_size for one in attempts(store, toy.craft)] == tried
    assert {one.status for one in attempts(store, toy.craft)} == {"failed"}
    assert [reason for _, reason in tally.failed] == ["out of memory"]
    assert [job for job, _ in tally.skipped] == [toy.evaluate]
    assert store.queue.failures()[toy.craft.digest].reason == "out of memory"


def test_a_batch_that_fits_is_recorded_with_the_attempt_that_it_fitted(toy, store, silent, scripted):
    executor = scripted(script={toy.evaluate: ["out of memory"]})
    assert run(toy.jobs, store, executor, silent).done == 3
    tries = attempts(store, toy.evaluate)
    assert [(one.status, one.batch_size) for one in tries] == [("failed", 8), ("done", 4)]
    assert tries[0].reason == "out of memory with 8 images at a time; trying again with 4"


@pytest.mark.parametrize(("told", "tried"), [(100, [100, 50, 25]), (None, [8, 4, 2]), (3, [3, 1])])
def test_copies_of_the_images_fill_a_batch_that_is_larger_than_a_shard(toy, store, silent, scripted, told, tried):
    cell = replace(toy.craft.cell, attack=None, threat=None, certificate=Spec.of("certificate", "smoothing", 1, {}))
    store.declare(Declaration("toy", "", "", "mean", 8, 1, 8, (Member(cell.labels, cell, False),)))
    job = Evaluate(cell, toy.craft.shard, 0, 1)
    executor = scripted(script={job: ["out of memory"] * (len(tried) - 1)})
    assert run([job], store, executor, silent, Limits(batch_size=told)).done == 1
    assert executor.sizes == tried


def test_want_of_memory_takes_no_retry_from_a_job_whose_worker_dies(toy, store, silent, scripted):
    executor = scripted(script={toy.craft: ["out of memory", "died", "out of memory"]})
    assert run([toy.craft], store, executor, silent, Limits(retries=1)).done == 1
    assert executor.sizes == [8, 4, 4, 2]


def test_a_training_without_memory_fails_at_once(toy, store, silent, scripted):
    executor = scripted(script={toy.train: ["out of memory"]})
    tally = run([toy.train], store, executor, silent)
    assert [reason for _, reason in tally.failed] == ["out of memory"]
    assert executor.sizes == [None]


# ---------------------------------------------------------------------- time


@pytest.mark.parametrize("kind", ["train", "craft", "evaluate"])
def test_a_job_that_takes_too_long_is_cancelled_and_what_needs_it_skipped(toy, store, silent, scripted, kind):
    slow = next(job for job in toy.jobs if job.kind == kind)
    executor = scripted(script={slow: ["hangs"]})
    tally = run([*toy.jobs, toy.other], store, executor, silent, Limits(timeouts={kind: 0.05}))
    assert executor.cancelled == [slow]
    assert tally.failed == [(slow, f"given up after 0.05 s, the time limit of {kind} jobs")]
    assert [job for job, _ in tally.skipped] == [*toy.jobs[toy.jobs.index(slow) + 1 :]]
    assert status(store, slow) == "timeout"
    assert {status(store, job) for job, _ in tally.skipped} <= {"skipped"}
    assert status(store, toy.other) == "done"


def test_a_job_that_waits_for_its_worker_loses_no_time(toy, store, silent, scripted, monkeypatch):
    times = iter(range(0, 10_000, 100))
    monkeypatch.setattr(scheduler.time, "monotonic", lambda: float(next(times)))
    late = scripted(script={toy.train: ["hangs"]}, idle=20)
    run([toy.train], store, late, silent, Limits(timeouts={"train": 50.0}))
    assert late.cancelled == [toy.train]
    assert late.idle == -1  # looked at twenty times, a hundred seconds each, before its clock began


def test_the_time_limit_of_one_kind_is_none_for_another(toy, store, silent, scripted):
    executor = scripted(script={toy.train: ["hangs"], toy.craft: ["hangs"]})
    run([toy.train, toy.craft], store, executor, silent, Limits(timeouts={"train": 0.05, "craft": 0.0}))
    assert executor.cancelled == [toy.train]  # the craft, which needs it, was never begun


# ---------------------------------------------------------------------- a user who wants to stop


def test_one_interrupt_finishes_what_is_under_way_and_begins_nothing(toy, store, silent, scripted):
    def interrupt():
        signal.raise_signal(signal.SIGINT)
        return toy.fine

    told = []
    silent.stopping = told.append
    executor = scripted(script={toy.other: [interrupt]})
    with Stop() as stop, pytest.raises(KeyboardInterrupt):
        run([toy.train, toy.other, toy.craft, toy.evaluate], store, executor, silent, stop=stop)
    assert executor.begun == [toy.train, toy.other]
    assert [status(store, job) for job in executor.begun] == ["done", "done"]
    assert told == [1]
    assert executor.closed
    assert run([toy.craft, toy.evaluate], store, scripted(), silent).done == 2
    assert store.n_results() == 1


def test_a_worker_that_dies_while_stopping_leaves_its_job_to_the_next_run(toy, store, silent, scripted):
    def interrupt():
        signal.raise_signal(signal.SIGINT)
        return toy.fine

    executor = scripted(script={toy.other: [interrupt], toy.train: ["died"]})
    with Stop() as stop, pytest.raises(KeyboardInterrupt):
        run([toy.train, toy.other], store, executor, silent, Limits(retries=0), stop)
    assert executor.begun.count(toy.train) == 1
    assert attempts(store, toy.train)[0].status == "interrupted"
    assert store.queue.claim(toy.train) is not None


@pytest.mark.parametrize("signals", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]])
def test_two_interrupts_or_a_termination_end_at_once_and_the_jobs_can_be_claimed_again(
    toy, store, silent, scripted, signals
):
    def send():
        for number in signals:
            signal.raise_signal(number)

    executor = scripted(script={toy.other: [send]})
    with Stop() as stop, pytest.raises(KeyboardInterrupt):
        run([toy.train, toy.other], store, executor, silent, stop=stop)
    for job in (toy.train, toy.other):
        assert [(one.status, one.reason) for one in attempts(store, job)] == [("interrupted", "stopped by the user")]
        assert attempts(store, job)[0].ended_at is not None
        assert store.queue.claim(job) is not None
    assert executor.closed


def test_the_signals_are_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Stop():
        assert signal.getsignal(signal.SIGINT) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# ---------------------------------------------------------------------- drivers that share the work


@pytest.fixture
def neighbour(store):
    """Another driver of the same database, on a machine of its own."""
    made = Store(store.engine)
    made.queue.driver = "elsewhere:1:1"
    return made


def silence(store, job):
    """Let the lease of whoever has a job run out."""
    with store.engine.begin() as connection:
        connection.execute(update(JobRow).where(JobRow.digest == job.digest).values(lease=0.0))


def test_what_another_driver_finishes_is_counted_elsewhere(toy, store, silent, scripted, neighbour):
    attempt = neighbour.queue.claim(toy.train)

    def meanwhile():
        assert neighbour.finish(attempt, toy.train, toy.fine)
        return toy.fine

    executor = scripted(script={toy.other: [meanwhile]})
    tally = run([*toy.jobs, toy.other], store, executor, silent)
    assert (tally.done, tally.elsewhere) == (3, 1)
    assert toy.train not in executor.begun


def test_what_another_driver_fails_at_is_failed_and_what_needs_it_skipped(toy, store, silent, scripted, neighbour):
    attempt = neighbour.queue.claim(toy.train)

    def meanwhile():
        assert neighbour.queue.end(attempt, "failed", "a bad day")
        return toy.fine

    executor = scripted(script={toy.other: [meanwhile]})
    tally = run([*toy.jobs, toy.other], store, executor, silent)
    assert executor.begun == [toy.other]
    assert tally.failed == [(toy.train, "a bad day")]
    assert [job for job, _ in tally.skipped] == [toy.craft, toy.evaluate]


def test_what_another_driver_gives_back_is_done_here(toy, store, silent, scripted, neighbour):
    attempt = neighbour.queue.claim(toy.train)

    def meanwhile():
        assert neighbour.queue.end(attempt, "interrupted", "stopped by the user")
        return toy.fine

    executor = scripted(script={toy.other: [meanwhile]})
    assert run([*toy.jobs, toy.other], store, executor, silent).done == 4
    assert executor.begun == [toy.other, *toy.jobs]


def test_the_job_of_a_driver_that_went_silent_is_done_here(toy, store, silent, scripted, neighbour):
    attempt = neighbour.queue.claim(toy.train)

    def meanwhile():
        silence(store, toy.train)
        return toy.fine

    assert run([*toy.jobs, toy.other], store, scripted(script={toy.other: [meanwhile]}), silent).done == 4
    assert not neighbour.finish(attempt, toy.train, toy.fine)
    assert [one.status for one in attempts(store, toy.train)] == ["interrupted", "done"]


def test_after_a_lost_lease_nothing_is_recorded_and_the_other_driver_waited_for(
    toy, store, silent, scripted, neighbour
):
    taken = []

    def overtaken():
        silence(store, toy.evaluate)
        taken.append(neighbour.queue.claim(toy.evaluate))
        return toy.fine

    def meanwhile():
        assert store.n_results() == 0
        assert neighbour.finish(taken[0], toy.evaluate, toy.fine)
        return toy.fine

    executor = scripted(capacity=1, script={toy.evaluate: [overtaken], toy.other: [meanwhile]})
    tally = run([toy.evaluate, toy.other], store, executor, silent)
    assert (tally.done, tally.elsewhere) == (1, 1)
    assert [one.status for one in attempts(store, toy.evaluate)] == ["interrupted", "done"]
    with store.session() as session:
        assert list(session.scalars(select(ResultRow.attempt))) == taken


def test_the_lease_is_renewed_while_a_job_is_under_way(toy, store, silent, scripted):
    store.queue.lease = 0.4
    executor = scripted(script={toy.train: ["hangs"]})
    renewed, renew = [], store.queue.renew

    def counting():
        renewed.append(1)
        renew()
        if len(renewed) == 3:
            executor.script[toy.train].clear()  # and now it ends

    store.queue.renew = counting
    assert run([toy.train], store, executor, silent).done == 1
    assert len(renewed) >= 3
