"""The rules of the scheduler, with an executor that does as it is told."""

from __future__ import annotations

import pytest

from harness.core.errors import UserError
from harness.core.result import Done
from harness.execution.driver.scheduler import Limits, run
from harness.store.write.store import Store


def test_a_job_waits_for_what_it_needs(toy, store, silent, scripted):
    executor = scripted()
    tally = run(reversed(toy.jobs), store, executor, silent)
    assert executor.begun == [*toy.jobs]
    assert tally.done == 3
    assert executor.closed


def test_no_more_jobs_than_workers_are_under_way(toy, store, silent, scripted):
    executor = scripted(capacity=1)
    run([*toy.jobs, toy.other], store, executor, silent)
    assert executor.most == 1


def test_what_needs_a_failed_job_is_skipped_with_the_reason_and_the_rest_goes_on(toy, store, silent, scripted):
    executor = scripted(script={toy.train: ["a bad day"]})
    tally = run([*toy.jobs, toy.other], store, executor, silent)
    assert tally.done == 1
    assert [job for job, _ in tally.failed] == [toy.train]
    assert [job for job, _ in tally.skipped] == [toy.craft, toy.evaluate]
    assert "train toy-cnn failed: a bad day" in store.queue.troubles()[-1]


def test_a_job_whose_worker_died_is_tried_again(toy, store, silent, scripted):
    executor = scripted(script={toy.craft: ["died"] * Limits().retries})
    assert run(toy.jobs, store, executor, silent).done == 3
    assert executor.begun.count(toy.craft) == Limits().retries + 1


def test_a_job_that_kills_every_worker_fails_in_the_end(toy, store, silent, scripted):
    executor = scripted(script={toy.craft: ["died"] * (Limits().retries + 1)})
    tally = run(toy.jobs, store, executor, silent)
    assert [job for job, _ in tally.failed] == [toy.craft]


def test_a_failure_under_a_lost_lease_is_left_to_whoever_has_the_job_now(toy, store, silent, scripted, monkeypatch):
    monkeypatch.setattr("harness.execution.driver.scheduler.LOOK", 0.02)
    other = Store.open(str(store.engine.url.database))

    def too_late():
        other.queue.reclaim(alone=True)
        other.finish(other.queue.claim(toy.train), toy.train, Done())
        return "a bad day"

    tally = run([toy.train, toy.other], store, scripted(script={toy.train: [too_late]}), silent)
    assert (tally.done, tally.elsewhere, tally.failed) == (1, 1, [])


def test_an_interrupt_leaves_no_attempt_open(toy, store, silent, scripted):
    executor = scripted(script={toy.train: [KeyboardInterrupt()]})
    with pytest.raises(KeyboardInterrupt):
        run([toy.train], store, executor, silent)
    assert store.queue.troubles() == ["interrupted: train toy-cnn (stopped by the user)"]
    assert executor.closed


def test_what_another_driver_made_out_of_reach_ends_the_run_with_a_sentence(toy, store, silent, scripted, monkeypatch):
    monkeypatch.setattr("harness.execution.driver.scheduler.LOOK", 0.02)
    monkeypatch.setattr("harness.execution.driver.scheduler.GRACE", 0.0)
    other = Store.open(str(store.engine.url.database))
    other.finish(other.queue.claim(toy.train), toy.train, Done())
    with pytest.raises(UserError, match=r"what another run has made \(train toy-cnn\).*set PUREBENCH_HOME"):
        run([toy.train, toy.craft], store, scripted(), silent, at_hand=lambda job: False)


def test_whatever_breaks_a_run_off_leaves_no_attempt_open(toy, store, silent, scripted):
    executor = scripted(script={toy.train: [OSError("the disk is gone")]})
    with pytest.raises(OSError, match="the disk is gone"):
        run([toy.train], store, executor, silent)
    assert store.queue.troubles() == ["interrupted: train toy-cnn (the run broke off)"]
