"""The rules of the scheduler, with an executor that does as it is told."""

from __future__ import annotations

import pytest

from harness.core.cell import Cell, Labels, Shard
from harness.core.job import Craft, Evaluate, Train
from harness.core.result import Cost, Done, Outcome
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.run.scheduler import Ended, Limits, run
from harness.store.store import Declaration, Member, Store

RECIPE = Spec.of("recipe", "cnn", 1, {"steps": 3}, label="toy-cnn")
CELL = Cell(
    dataset=Spec.of("dataset", "digits", 1, {}),
    classifier=Spec.of("classifier", "recipe", 1, {}, {"recipe": RECIPE}),
    defense=Spec.of("defense", "none", 1, {}),
    attack=Spec.of("attack", "pgd", 1, {}),
    threat=ThreatModel(Norm.LINF, 0.2, Knowledge.OBLIVIOUS),
    seed=0,
    subset_seed=0,
    labels=Labels("digits", "cnn", "none", "pgd", "oblivious"),
)
TRAIN, CRAFT, EVALUATE = Train(RECIPE), Craft(CELL, Shard(0, 0, 2)), Evaluate(CELL, Shard(0, 0, 2), 0, 1)
OTHER = Train(Spec.of("recipe", "mae", 1, {"steps": 3}, label="toy-mae"))
FINE = Done(
    defense_cost=Cost(images=2),
    outcomes=tuple(Outcome(place, place, 0, label=3, prediction=3, correct=True) for place in range(2)),
)


class Scripted:
    """Ends one job per wait, the last begun first; ``script`` says how, by job, one entry per try."""

    def __init__(self, capacity=2, script=None):
        self.capacity, self.script = capacity, script or {}
        self.flying, self.order, self.most, self.closed = {}, [], 0, False

    def submit(self, ticket, job, batch_size):
        self.flying[ticket] = job
        self.order.append(str(job))
        self.most = max(self.most, len(self.flying))

    def wait(self):
        ticket, job = self.flying.popitem()
        how = self.script.get(str(job), [])
        what = how.pop(0) if how else FINE
        if isinstance(what, BaseException):
            raise what
        if isinstance(what, Done):
            return [Ended(ticket, what)], {}
        return [Ended(ticket, reason=what, worker_died=what == "died")], {}

    def cancel(self, ticket):
        del self.flying[ticket]

    def close(self):
        self.closed = True


class Silent:
    def planned(self, jobs): ...
    def started(self, ticket, job): ...
    def moved(self, shares): ...
    def ended(self, ticket, job, seconds, reason, *, again=False): ...
    def stopping(self, under_way): ...
    def closed(self): ...


@pytest.fixture
def store(tmp_path):
    made = Store.open(str(tmp_path / "runs.db"), create=True)
    made.declare(Declaration("toy", "", "", "mean", 2, 1, 2, (Member(CELL.labels, CELL, False),)))
    return made


def test_a_job_waits_for_what_it_needs(store):
    executor = Scripted()
    tally = run([EVALUATE, CRAFT, TRAIN], store, executor, Silent())
    assert executor.order == [str(TRAIN), str(CRAFT), str(EVALUATE)]
    assert tally.done == 3
    assert executor.closed


def test_no_more_jobs_than_workers_are_under_way(store):
    executor = Scripted(capacity=1)
    run([TRAIN, OTHER, CRAFT, EVALUATE], store, executor, Silent())
    assert executor.most == 1


def test_what_needs_a_failed_job_is_skipped_with_the_reason_and_the_rest_goes_on(store):
    executor = Scripted(script={str(TRAIN): ["no more memory"]})
    tally = run([TRAIN, OTHER, CRAFT, EVALUATE], store, executor, Silent())
    assert tally.done == 1
    assert [job for job, _ in tally.failed] == [TRAIN]
    assert [job for job, _ in tally.skipped] == [CRAFT, EVALUATE]
    assert "train toy-cnn failed: no more memory" in store.board.troubles()[-1]


def test_a_job_whose_worker_died_is_tried_again(store):
    executor = Scripted(script={str(CRAFT): ["died"] * Limits().retries})
    assert run([TRAIN, CRAFT, EVALUATE], store, executor, Silent()).done == 3
    assert executor.order.count(str(CRAFT)) == Limits().retries + 1


def test_a_job_that_kills_every_worker_fails_in_the_end(store):
    executor = Scripted(script={str(CRAFT): ["died"] * (Limits().retries + 1)})
    tally = run([TRAIN, CRAFT, EVALUATE], store, executor, Silent())
    assert [job for job, _ in tally.failed] == [CRAFT]


def test_an_interrupt_leaves_no_attempt_open(store):
    executor = Scripted(script={str(TRAIN): [KeyboardInterrupt()]})
    with pytest.raises(KeyboardInterrupt):
        run([TRAIN], store, executor, Silent())
    assert store.board.troubles() == ["interrupted: train toy-cnn (stopped by the user)"]
    assert executor.closed
