"""A database of any size, written as a run writes it: `python tests/benchmarks/generator.py FILE --cells 1000`.

The numbers are drawn, the rest is the product's own: every job is claimed and finished through the store. What comes
out is a line of JSON with the seconds that the store took.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from typing import TYPE_CHECKING

from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import Declaration, Member
from harness.core.job import Evaluate
from harness.core.result import MEASURES, Artifact, Cost, Done, Outcome
from harness.core.spec import Spec, digest_of
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.write.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

#: images of a shard
SHARD = 250

#: clean input and four attacks: what each defense meets
ATTACKS: tuple[tuple[str, Knowledge | None], ...] = (
    ("clean", None),
    ("pgd", Knowledge.OBLIVIOUS),
    ("autoattack", Knowledge.OBLIVIOUS),
    ("pgd-eot", Knowledge.BPDA),
    ("pgd-eot", Knowledge.FULL),
)

ENVIRONMENT = {
    "commit": "0" * 40,
    "dirty": "False",
    "python": "3.12.3",
    "platform": "Linux-6.8-x86_64",
    "torch": "2.9.0",
    "device": "cpu",
    "processor": "a processor",
    "precision": "float32",
    "threads": "1",
}


def cells(number: int) -> Iterator[Cell]:
    """Yield cells: 20 pairs of dataset and classifier, each with as many defenses as it takes, under all attacks."""
    defenses = -(-number // (20 * len(ATTACKS)))
    grid = itertools.product(range(4), range(5), range(defenses), ATTACKS)
    for dataset, classifier, defense, (attack, knowledge) in itertools.islice(grid, number):
        data = Spec.of("dataset", "digits", 1, {"content": f"{dataset:064x}"})
        net = _recipe("cnn", f"{dataset}-{classifier}", data)
        mae = _recipe("mae", f"{dataset}-{defense}", data)
        named = f"mae-{defense:03d}" if defense else "none"
        use, parts = ("mae-pure", {"mae": mae}) if defense else ("none", {})
        yield Cell(
            dataset=data,
            classifier=Spec.of("classifier", "recipe", 1, {}, {"recipe": net}),
            defense=Spec.of("defense", use, 1, {"steps": defense}, parts),
            attack=Spec.of("attack", attack, 1, {"steps": 20}) if knowledge else None,
            threat=ThreatModel(Norm.LINF, 8 / 255, knowledge) if knowledge else None,
            seed=0,
            subset_seed=0,
            labels=Labels(
                f"data-{dataset}",
                f"net-{classifier}",
                named,
                *((attack, f"linf-{knowledge}") if knowledge else ()),
            ),
        )


def _recipe(use: str, label: str, data: Spec) -> Spec:
    return Spec.of("recipe", use, 1, {"steps": 1000, "name": label}, {"dataset": data}, label=f"{use}-{label}")


def done(cell: Cell, shard: Shard, draw: random.Random) -> Done:
    """Return what an evaluation of the shard would hand back: every metric, some faults, costs."""
    size = shard.size
    share = draw.random()
    outcomes = tuple(
        Outcome(
            example=7 * place,
            place=place,
            repeat=0,
            label=place % 10,
            prediction=place % 10 if correct else (place + 1) % 10,
            correct=correct,
            fault="proposal over budget" if draw.random() < 0.01 else None,
            **{name: draw.random() for name in MEASURES},
        )
        for place in range(shard.start, shard.stop)
        for correct in [draw.random() < share]
    )
    artifacts = tuple(
        Artifact(recipe.digest, "weights", digest_of(recipe.digest), 2**20, recipe.label) for recipe in cell.recipes()
    )
    return Done(
        artifacts=artifacts,
        outcomes=outcomes,
        defense_cost=Cost(size, draw.random() * size, 31 * size, 15 * size, 30 * size),
        attack_cost=Cost(size, draw.random() * size, 400 * size, 300 * size, 0) if cell.attack else None,
        environment=ENVIRONMENT,
        code={"attack": "a" * 64, "defense": "d" * 64},
        seconds=draw.random(),
    )


def fill(store: Store, number: int, examples: int) -> dict[str, float]:
    """Declare a suite of so many cells and measure them all; return the seconds by what was done."""
    draw = random.Random(0)
    members = tuple(Member(cell.labels, cell, random=cell.labels.defense != "none") for cell in cells(number))
    suite = Declaration("large", "A large suite", "name: large\n", "mean", examples, 1, SHARD, members)
    clock = {"declare": 0.0, "claim": 0.0, "finish": 0.0}
    start = time.perf_counter()
    store.declare(suite)
    clock["declare"] = time.perf_counter() - start
    for member in members:
        assert member.cell is not None
        for shard in Shard.slices(examples, SHARD):
            job, found = Evaluate(member.cell, shard, 0, 1), done(member.cell, shard, draw)
            started = time.perf_counter()
            attempt = store.queue.claim(job)
            claimed = time.perf_counter()
            assert attempt is not None
            assert store.finish(attempt, job, found)
            clock["claim"] += claimed - started
            clock["finish"] += time.perf_counter() - claimed
    return clock


def main() -> None:
    """Make the database that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--examples", type=int, default=1_000)
    told = parser.parse_args()
    store = Store.open(told.file, create=True)
    clock = fill(store, told.cells, told.examples)
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    print(json.dumps({"outcomes": told.cells * told.examples, **clock}))  # noqa: T201


if __name__ == "__main__":
    main()
