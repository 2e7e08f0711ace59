"""A small database of honest results, for tests that spoil a copy of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from measured import measurements, metric, outcomes, row

from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import Declaration, Member
from harness.core.job import Evaluate
from harness.core.result import Artifact, Cost, Done
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.write.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NET = Spec.of("recipe", "cnn", 1, {"width": 8}, label="toy-cnn")
DATASET = Spec.of("dataset", "digits", 1, {})
CLASSIFIER = Spec.of("classifier", "recipe", 1, {}, {"recipe": NET})
ATTACK = Spec.of("attack", "pgd", 1, {"steps": 20})
THREAT = ThreatModel(Norm.LINF, 0.2, Knowledge.BPDA)
PROBE = Spec.of("recipe", "mae", 1, {"width": 8}, label="toy-mae")
METRICS = (metric("distances"), metric("amv-by-head", PROBE))


def cell(defense: str, *, attacked: bool) -> Cell:
    tried = {"attack": ATTACK if attacked else None, "threat": THREAT if attacked else None}
    labels = Labels("digits", "cnn", defense, *(("pgd", "bpda") if attacked else ()))
    part = Spec.of("defense", defense, 1, {"steps": 10})
    return Cell(DATASET, CLASSIFIER, part, **tried, seed=0, subset_seed=0, labels=labels)


def lay(path: Path, weights: str = "a" * 64, right: int = 3) -> str:
    """Write a database: two defenses, clean and attacked, six images in two shards, two repeats.

    Args:
        path: the file.
        weights: the content hash of the classifier.
        right: one outcome in so many is wrong under attack.
    """
    store = Store.open(str(path), create=True)
    cells = [cell(defense, attacked=attacked) for defense in ("mae", "dmae") for attacked in (False, True)]
    members = [Member(one.labels, one, random=True) for one in cells]
    members.append(Member(Labels("digits", "cnn", "odd", "pgd", "bpda"), None, False, "it cannot be", THREAT))
    store.declare(Declaration("toy", "A toy", "name: toy", "mean", 6, 2, 3, tuple(members), METRICS))
    for one in cells:
        for start in (0, 3):
            job = Evaluate(one, Shard(start // 3, start, start + 3), 0, 2, tuple(asked.spec for asked in METRICS))
            size = 0.1 if one.attack else 0.0
            heads = np.arange(1.0, 9.0).reshape(2, 2, 1, 2)
            seen = tuple(
                row(
                    *(100 + place, place, repeat, 3, 3 if good else 5, good),
                    linf=size,
                    l2=8 * size + 0.001 * place,
                    amv_by_head=size * heads + place,
                )
                for place in range(start, start + 3)
                for repeat in range(2)
                for good in [not one.attack or (place + repeat) % right > 0]
            )
            nets = {NET: weights, PROBE: "b" * 64}
            through = {asked.spec.digest: {PROBE.digest: nets[PROBE]} for asked in METRICS if asked.probed}
            done = Done(
                artifacts=tuple(Artifact(net.digest, "weights", its, 1000, net.label) for net, its in nets.items()),
                outcomes=outcomes(seen),
                measurements=tuple(
                    replace(given, weights=through.get(given.metric, {}), code={"metric": "tree:2"})
                    for given in measurements(seen, METRICS)
                ),
                defense_cost=Cost(6, 0.5, 6),
                attack_cost=Cost(3, 2.0, 60, 60) if one.attack else None,
                environment={"python": "3.11"},
                code={"attack": "tree:1"},
                seconds=1.0,
            )
            store.queue.post([job], store.queue.seen())
            assert store.finish(store.queue.claim(job), job, done)
    store.engine.dispose()
    return str(path)


@pytest.fixture(scope="session")
def _honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("honest") / "honest.db"
    lay(path)
    return path


@pytest.fixture
def honest(_honest: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies the honest database to a name."""

    def copy(name: str) -> Path:
        shutil.copy(_honest, tmp_path / name)
        return tmp_path / name

    return copy


@pytest.fixture
def laid() -> Callable[..., str]:
    """Writes a database of other figures; see ``lay``."""
    return lay
