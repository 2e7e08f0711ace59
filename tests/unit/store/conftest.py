"""Databases as a machine leaves them, by the store's own ways, with numbers that follow from what they are of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import Declaration, Member
from harness.core.job import Evaluate, Train
from harness.core.result import Artifact, Cost, Done, Outcome
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.write.store import Store

NET = Spec.of("recipe", "cnn", 1, {"width": 8}, label="toy-cnn")


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


def outcome(place: int, repeat: int, shift: int = 0) -> Outcome:
    """What is seen of a place in a repeat, wherever it is measured; machines with other weights shift it."""
    right = bool((place + repeat + shift) % 3)
    return Outcome(
        example=100 + place,
        place=place,
        repeat=repeat,
        label=3,
        prediction=3 if right else 5,
        correct=right,
        fault=None if place % 5 else "proposal over budget",
        linf=(place + 1) / 255,
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
    """

    path: Path
    weights: str = "a" * 64
    shift: int = 0
    code: dict[str, str] = field(default_factory=lambda: {"attack": "tree:1"})
    n_examples: int = 12
    repeats: int = 2
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store.open(str(self.path), create=True)
        self.declare()

    def declare(self, title: str = "A toy") -> None:
        cells = [cell(), cell(attacked=False)]
        members = [Member(one.labels, one, random=True) for one in cells]
        members.append(Member(Labels("digits", "cnn", "odd", "pgd", "full"), None, False, "it cannot be"))
        self.store.declare(
            Declaration("toy", title, "name: toy", "mean", self.n_examples, self.repeats, 4, tuple(members))
        )

    def measure(self, start: int, stop: int, first: int = 0, end: int = 2, *, attacked: bool = True) -> None:
        what = cell(attacked=attacked)
        job = Evaluate(what, Shard(start // 4, start, stop), first, end)
        seen = [outcome(place, repeat, self.shift) for place in range(start, stop) for repeat in range(first, end)]
        images = len(seen)
        done = Done(
            artifacts=(Artifact(NET.digest, "weights", self.weights, 1000, "toy-cnn"),),
            outcomes=tuple(seen),
            defense_cost=Cost(images, 0.5 * images, 11 * images, 10 * images, 9 * images, *peak(start, attacked)),
            attack_cost=Cost(stop - start, 2.0 * (stop - start), 20 * (stop - start), peak_memory=2**40, batch_size=4)
            if what.attack
            else None,
            environment={"python": "3.11", "weights": self.weights[:1]},
            code=self.code,
            seconds=1.0,
        )
        self.store.queue.post([job], self.store.queue.seen())
        assert self.store.finish(self.store.queue.claim(job), job, done)

    def fail(self, start: int, stop: int) -> None:
        job = Evaluate(cell(), Shard(start // 4, start, stop), 0, 2)
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
