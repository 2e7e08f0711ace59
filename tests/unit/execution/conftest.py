"""Jobs of a toy cell, and an executor that does as it is told."""

from __future__ import annotations

import time

import pytest

from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import Declaration, Member
from harness.core.job import Craft, Evaluate, Train
from harness.core.result import Cost, Done, Outcome
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.execution.executors.executor import Ended
from harness.store.write.store import Store

RECIPE = Spec.of("recipe", "cnn", 1, {"steps": 3, "net": {"use": "cnn"}}, label="toy-cnn")
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
SHARD = Shard(0, 0, 8)


class Toy:
    """The jobs of a cell, one that nobody needs, and how a job ends well."""

    train, craft, evaluate = jobs = Train(RECIPE), Craft(CELL, SHARD), Evaluate(CELL, SHARD, 0, 1)
    other = Train(Spec.of("recipe", "mae", 1, {"steps": 3}, label="toy-mae"))
    fine = Done(
        defense_cost=Cost(images=8),
        outcomes=tuple(Outcome(place, place, 0, label=3, prediction=3, correct=True) for place in range(8)),
    )


class Scripted:
    """Ends one job per wait, the last begun first; ``script`` says how, by job, one entry per try.

    An entry is a reason, an error to raise, what a job hands back, or something to call for any of these; a reason
    ``hangs`` is one that never comes. A job without entries ends well. Nobody is at work the first ``idle`` times that
    somebody asks.
    """

    def __init__(self, capacity=2, script=None, idle=0):
        self.capacity, self.script, self.idle = capacity, script or {}, idle
        self.flying, self.begun, self.sizes, self.cancelled = {}, [], [], []
        self.most, self.closed = 0, False

    def submit(self, ticket, job, batch_size):
        self.flying[ticket] = job
        self.begun.append(job)
        self.sizes.append(batch_size)
        self.most = max(self.most, len(self.flying))

    def wait(self):
        for ticket, job in reversed(self.flying.items()):
            entries = self.script.get(job, [])
            if entries[:1] == ["hangs"]:
                continue
            what = entries.pop(0) if entries else Toy.fine
            what = what() if callable(what) else what
            if isinstance(what, BaseException):
                raise what
            del self.flying[ticket]
            return [self._ended(ticket, what)], {}
        time.sleep(0.01)
        return [], {}

    def _ended(self, ticket, what):
        if isinstance(what, Done):
            return Ended(ticket, what)
        return Ended(ticket, reason=what, worker_died=what == "died", out_of_memory=what == "out of memory")

    def at_work(self, ticket):
        self.idle -= 1
        return self.idle < 0

    def cancel(self, ticket):
        self.cancelled.append(self.flying.pop(ticket))

    def close(self):
        self.closed = True


class Silent:
    def planned(self, jobs): ...
    def started(self, ticket, job): ...
    def moved(self, shares): ...
    def ended(self, ticket, job, seconds, reason, *, again=False): ...
    def stopping(self, under_way): ...

    def waiting(self, sentence): ...
    def closed(self): ...


@pytest.fixture
def toy():
    return Toy


@pytest.fixture
def scripted():
    """The class of the executor."""
    return Scripted


@pytest.fixture
def silent():
    return Silent()


@pytest.fixture
def store(tmp_path):
    made = Store.open(str(tmp_path / "runs.db"), create=True)
    made.declare(Declaration("toy", "", "", "mean", 8, 1, 8, (Member(CELL.labels, CELL, False),)))
    yield made
    made.engine.dispose()
