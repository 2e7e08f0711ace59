"""A suite whose network stands on others, by the command line and with real workers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.artifacts import Folder
from harness.core.job import Train
from harness.store.write.store import Store
from harness.suite.load import load_suite
from harness.suite.plan import PlanVerdict, make_plan

if TYPE_CHECKING:
    from conftest import Bench

SUITE = Path(__file__).parent / "suites" / "standing.yaml"


def recipes() -> dict[str, Train]:
    cells = load_suite(str(SUITE)).cells
    return {recipe.label: Train(recipe) for cell in cells for recipe in cell.recipes()}


def test_what_a_network_stands_on_is_trained_for_it_and_remembered(standing: Bench) -> None:
    folder, jobs = Folder(standing.home), recipes()
    assert set(jobs) == {"tiny-cnn", "tiny-mae", "tiny-tuned"}
    about = folder.about("weights", jobs["tiny-tuned"].digest)
    assert about is not None
    stood_on = {jobs[name].digest: folder.sha256("weights", jobs[name].digest) for name in ("tiny-cnn", "tiny-mae")}
    assert about["weights"] == stood_on


def test_a_second_run_finds_everything_done(standing: Bench) -> None:
    assert standing.run("standing").stdout == "nothing to compute: 2 cells: 2 done\n"


def test_other_weights_below_are_noticed(standing: Bench, tmp_path: Path) -> None:
    home = Folder(tmp_path / "home")
    shutil.copytree(standing.home, home.root)
    suite, store = load_suite(str(SUITE)), Store.open(str(standing.db))
    assert {one.verdict for one in make_plan(suite, store, home).cells} == {PlanVerdict.DONE}
    mae = recipes()["tiny-mae"]
    tensors, about, _ = home.load("weights", mae.digest)
    home.save("weights", mae.digest, {name: tensor + 1e-3 for name, tensor in tensors.items()}, about)
    plan = make_plan(suite, store, home)
    assert {one.verdict for one in plan.cells} == {PlanVerdict.STALE}
    assert [str(job) for job in plan.jobs_of("train")] == ["tiny-tuned"]
    store.engine.dispose()


def test_a_plan_with_networks_to_be_trained_on_others_has_a_price(standing: Bench, tmp_path: Path) -> None:
    fresh = type(standing).at(tmp_path)
    said = fresh.purebench("plan", str(SUITE), "--db", str(fresh.db), "--estimate", "--workers", "2").stdout
    assert "tiny-tuned" in said
    assert "training" in said


def test_a_ray_task_gets_the_weights_that_its_training_stands_on() -> None:
    pytest.importorskip("ray")
    from harness.execution.executors.ray import needed

    jobs = recipes()
    wanted = {("weights", jobs[name].digest) for name in ("tiny-cnn", "tiny-mae")}
    assert set(needed(jobs["tiny-tuned"])) == wanted
    assert needed(jobs["tiny-mae"]) == []
