"""Databases as a machine leaves them, by the store's own ways, with numbers that follow from what they are of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from measured import Row, measurements, metric, outcomes, row

from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import Declaration, Member
from harness.core.job import Evaluate, Measure, Train
from harness.core.metric import AskedMetric, Measurement
from harness.core.result import Artifact, Cost, Done
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.write.store import Store

NET = Spec.of("recipe", "cnn", 1, {"width": 8}, label="toy-cnn")
MAE = Spec.of("recipe", "mae", 1, {"depth": 2}, label="toy-mae")

#: what is measured here: without a probe, and through one
METRICS = (metric("distances"), metric("amv", MAE))


def cell(defense: str = "mae", *, attacked: bool = True) -> Cell:
    return Cell(
        dataset=Spec.of("dataset", "digits", 1, {}),
        classifier=Spec.of("classifier", "recipe", 1, {}, {"recipe": NET}),
        defense=Spec.of("defense", defense, 1, {"steps": 10}),
        attack=Spec.of("attack", "pgd", 1, {"steps": 20}) if attacked else None,
        threat=ThreatModel(Norm.LINF, 8 / 255, Knowledge.BPDA) if attacked else None,
        seed=0,
        subset_seed=0,
        labels=Labels("digits", "cnn", defense, *(("pgd", "bpda") if attacked else ())),
    )


def seen(place: int, repeat: int, shift: int = 0) -> Row:
    """What is seen of a place in a repeat, wherever it is measured; machines with other weights shift it."""
    right = bool((place + repeat + shift) % 3)
    return row(
        example=100 + place,
        place=place,
        repeat=repeat,
        label=3,
        prediction=3 if right else 5,
        correct=right,
        fault=None if place % 5 else "proposal over budget",
        linf=(place + 1) / 255,
        l2=(place + 1) / 50,
        amv_adversarial_last=1 / (5 + place),
        amv_adversarial_mean=1 / (7 + place),
        amv_purified_last=1 / (2 + place + repeat),
        amv_purified_mean=None if place % 2 else 1 / (3 + place + repeat + shift),
    )


def peak(start: int, attacked: bool) -> tuple[int | None, int | None]:
    """What memory a slice took and at which batch size; on clean input nobody looked."""
    return (2**33 + start, 4 + start) if attacked else (None, None)


@dataclass
class Machine:
    """A database and what is done to it.

    Attributes:
        weights: the content hash of the network that was trained here.
        shift: how its outcomes differ from those of the first machine.
        code: the hashes of the code that is at hand here.
        metrics: what is measured.
        probe: the content hash of the network that metrics look through.
        metric_code: the hashes of the code of metrics.
    """

    path: Path
    weights: str = "a" * 64
    shift: int = 0
    code: dict[str, str] = field(default_factory=lambda: {"attack": "tree:1"})
    metrics: tuple[AskedMetric, ...] = METRICS
    probe: str = "d" * 64
    metric_code: dict[str, str] = field(default_factory=lambda: {"metric": "tree:m"})
    n_examples: int = 12
    repeats: int = 2
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store.open(str(self.path), create=True)
        self.declare()

    recipe = MAE.digest

    def cells(self) -> list[Cell]:
        return [cell(), cell(attacked=False)]

    def declare(self, title: str = "A toy") -> None:
        cells = self.cells()
        members = [Member(one.labels, one, random=True) for one in cells]
        members.append(Member(Labels("digits", "cnn", "odd", "pgd", "full"), None, False, "it cannot be"))
        self.store.declare(
            Declaration(
                "toy", title, "name: toy", "mean", self.n_examples, self.repeats, 4, tuple(members), self.metrics
            )
        )

    def measure(self, start: int, stop: int, first: int = 0, end: int = 2, *, attacked: bool = True) -> None:
        what = cell(attacked=attacked)
        job = Evaluate(what, Shard(start // 4, start, stop), first, end, tuple(one.spec for one in self.metrics))
        rows = self._rows(job)
        images = len(rows)
        done = Done(
            artifacts=(Artifact(NET.digest, "weights", self.weights, 1000, "toy-cnn"), *self._probes()),
            outcomes=outcomes(rows),
            measurements=self._measurements(rows),
            defense_cost=Cost(images, 0.5 * images, 11 * images, 10 * images, 9 * images, *peak(start, attacked)),
            attack_cost=Cost(stop - start, 2.0 * (stop - start), 20 * (stop - start), peak_memory=2**40, batch_size=4)
            if what.attack
            else None,
            environment={"python": "3.11", "weights": self.weights[:1]},
            code=self.code,
            seconds=1.0,
        )
        self._do(job, done)

    def take(
        self, start: int, stop: int, first: int = 0, end: int = 2, *, attacked: bool = True, shift: int = 0
    ) -> None:
        """Take the metrics of what was judged before; other code of theirs shifts them."""
        what = cell(attacked=attacked)
        (version,) = {one.version.digest for one in self.store.covered([what.digest])[what.digest]}
        specs = tuple(one.spec for one in self.metrics)
        job = Measure(what, Shard(start // 4, start, stop), first, end, specs, version)
        rows = self._rows(job, shift)
        self._do(job, Done(artifacts=self._probes(), measurements=self._measurements(rows), seconds=1.0))

    def _rows(self, job: Evaluate, shift: int = 0) -> list[Row]:
        places, repeats = range(job.shard.start, job.shard.stop), range(job.first_repeat, job.stop_repeat)
        return [seen(place, repeat, self.shift + shift) for place in places for repeat in repeats]

    def _probes(self) -> tuple[Artifact, ...]:
        if not any(one.probed for one in self.metrics):
            return ()
        return (Artifact(MAE.digest, "weights", self.probe, 2000, "toy-mae"),)

    def _measurements(self, rows: list[Row]) -> tuple[Measurement, ...]:
        probed = {one.spec.digest for one in self.metrics if one.probed}
        return tuple(
            replace(one, weights={MAE.digest: self.probe} if one.metric in probed else {}, code=self.metric_code)
            for one in measurements(rows, self.metrics)
        )

    def _do(self, job: Evaluate, done: Done) -> None:
        self.store.queue.post([job], self.store.queue.seen())
        attempt = self.store.queue.claim(job)
        assert attempt is not None
        assert self.store.finish(attempt, job, done)

    def fail(self, start: int, stop: int) -> None:
        specs = tuple(one.spec for one in self.metrics)
        job = Evaluate(cell(), Shard(start // 4, start, stop), 0, 2, specs)
        assert self.store.queue.end(self.store.queue.claim(job), "failed", "a bad day")

    def train(self) -> int:
        """Begin to train the network; return the attempt, which stays open."""
        attempt = self.store.queue.claim(Train(NET))
        assert attempt is not None
        return attempt


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Machine]:
    """Makes a database of a name."""

    def make(name: str, **options: object) -> Machine:
        return Machine(tmp_path / f"{name}.db", **options)  # type: ignore[arg-type]

    return make
