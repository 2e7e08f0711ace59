"""What a plan costs: the line through timings by hand, the rest on the tiny suite with real workers."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import func, select

from harness.artifacts import Folder
from harness.core.cell import Shard
from harness.core.job import Craft, Evaluate, Train
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.execution.driver.scheduler import run
from harness.execution.executors.devices import seats
from harness.execution.executors.local import LocalExecutor
from harness.execution.recheck.estimate import Timing, _Clock, _sample, estimate, kind
from harness.store.tables import AttemptRow
from harness.store.write.store import Store
from harness.suite.load import load_suite
from harness.suite.plan import make_plan

TINY = Path(__file__).parents[2] / "integration" / "suites" / "tiny.yaml"
QUIET = Console(file=io.StringIO())


def recipe(**params):
    return Spec.of("recipe", "cnn", 1, {"net": {"use": "cnn", "width": 8}, "steps": 10, "seed": 0, **params})


def priced(folder, only):
    return estimate(make_plan(load_suite(str(TINY)), None, folder, only=only), folder, QUIET, devices="cpu", workers=2)


# ---------------------------------------------------------------------- by hand


def test_time_follows_the_line_of_the_last_two_points():
    timing = Timing(((1, 9.0), (4, 2.0), (16, 5.0)))
    assert timing.seconds(16) == 5.0
    assert timing.seconds(64) == pytest.approx(5.0 + 48 * 0.25)
    assert timing.seconds(8) == pytest.approx(3.0)


def test_time_does_not_fall_where_more_took_less():
    assert Timing(((1, 2.0), (4, 1.0))).seconds(16) == 1.0


def test_one_point_is_taken_for_proportional():
    assert Timing(((2, 30.0),)).seconds(8) == 120.0


def test_a_further_repeat_costs_what_was_spent_on_the_defense():
    assert Timing(((1, 1.0), (4, 2.0)), again=0.5).seconds(4, repeats=3) == pytest.approx(3.0)


def test_work_is_of_a_kind_where_only_its_size_and_seeds_differ(toy):
    cell = toy.craft.cell
    assert kind(Craft(cell, Shard(0, 0, 8))) == kind(Craft(replace(cell, seed=5), Shard(3, 24, 25)))
    assert kind(Train(recipe())) == kind(Train(recipe(steps=99)))
    assert kind(Evaluate(cell, Shard(0, 0, 8), 0, 1)) == kind(
        Evaluate(replace(cell, attack=None, threat=None), Shard(1, 8, 9), 2, 5)
    )
    assert kind(Train(recipe())) != kind(Train(recipe(net={"use": "cnn", "width": 9})))
    assert kind(Train(recipe())) != kind(Train(recipe(batch_size=1)))


def test_weights_of_one_architecture_make_one_kind_and_attacks_make_several(toy):
    cell = toy.craft.cell
    nets = [
        replace(cell, classifier=Spec.of("classifier", "recipe", 1, {}, {"recipe": recipe(**params)}))
        for params in ({}, {"seed": 7, "steps": 99}, {"net": {"use": "cnn", "width": 9}})
    ]
    first, second, third = (kind(Craft(one, toy.craft.shard)) for one in nets)
    assert first == second != third
    harder = replace(cell, attack=Spec.of("attack", "pgd", 1, {"steps": 9}))
    assert kind(Craft(harder, toy.craft.shard)) != kind(toy.craft)
    knows = ThreatModel(Norm.LINF, 0.1, Knowledge.SURROGATE)
    cheaper = [
        replace(cell, threat=knows, surrogate=Spec.of("defense", "diffpure", 1, {"steps": steps})) for steps in (1, 2)
    ]
    assert kind(Craft(cheaper[0], toy.craft.shard)) != kind(Craft(cheaper[1], toy.craft.shard))


def test_a_certificate_is_timed_with_few_looks_and_priced_by_all(toy):
    def job(**options):
        spec = Spec.of("certificate", "smoothing", 1, {"sigma": 0.25, "alpha": 0.001, "clip": False, **options})
        return Evaluate(replace(clean, certificate=spec), Shard(0, 0, 8), 0, 1)

    clean = replace(toy.craft.cell, attack=None, threat=None)
    many, few = job(n0=100, n=900), job(n0=1, n=1)
    assert kind(many) == kind(few) != kind(Evaluate(clean, Shard(0, 0, 8), 0, 1))
    assert kind(many) != kind(job(n0=100, n=900, clip=True))
    sample = _sample(many, 4)
    assert sample.shard == Shard(0, 0, 4)
    assert (sample.cell.certificate.params["n0"], sample.cell.certificate.params["n"]) == (1, 1)
    clock = _Clock(None, None, None)
    clock.timings[kind(many)] = Timing(((1, 1.0), (8, 2.0)), again=0.5)
    assert clock.price(few) == pytest.approx(2.0)  # two looks: what was timed
    assert clock.price(many) == pytest.approx(2.0 + 499 * 0.5)


# ---------------------------------------------------------------------- on the tiny suite


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "home")


def test_each_part_of_a_plan_is_priced_and_nothing_is_written(folder, monkeypatch):
    monkeypatch.setattr("harness.execution.recheck.estimate.PATIENCE", 0.0)
    found = priced(folder, "defense=none|dmae,attack=clean|pgd,threat_model=-|bpda|oblivious")
    lines = {line.name: line for line in found.lines}
    assert set(lines) == {"training", "none", "dmae", "crafting for all"}
    assert all(line.seconds > 0 for line in found.lines)
    assert lines["dmae"].evaluating > 0
    assert lines["dmae"].crafting > 0
    assert lines["none"].crafting > 0
    assert lines["training"].evaluating is lines["training"].crafting is None
    # two shards: crafted for all, and for each of two defenses evaluated under three attacks and crafted under one
    assert [lines[name].jobs for name in ("training", "none", "dmae", "crafting for all")] == [3, 8, 8, 2]
    assert not any(line.rough for line in found.lines)
    assert set(found.stand_ins) == {"tiny-cnn", "tiny-mae", "tiny-dmae"}
    assert found.seconds == pytest.approx(sum(line.seconds for line in found.lines))
    assert found.wall == pytest.approx(max(found.longest, found.seconds / 2))
    assert not folder.root.exists()


def test_the_command_shows_it_and_writes_nothing(tmp_path):
    words = ["plan", str(TINY), "--db", str(tmp_path / "runs.db"), "--only", "defense=none,attack=autoattack"]
    words += ["--estimate", "--devices", "cpu", "--workers", "2"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "harness", *words],
        env={**os.environ, "PUREBENCH_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "device-hours" in done.stdout
    assert "with 2 workers" in done.stdout
    assert "~ an attack in it leaves images alone once they are wrong" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_trained_networks_are_used_and_left_as_they_are(folder, store, silent):
    only = "defense=none,attack=clean"
    trainings = make_plan(load_suite(str(TINY)), None, folder, only=only).jobs_of("train")
    run(trainings, store, LocalExecutor(folder, seats("cpu", 1)), silent)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.root.rglob("*.safetensors")}
    found = priced(folder, only)
    assert [line.name for line in found.lines] == ["none"]
    assert found.stand_ins == ()
    assert {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.root.rglob("*") if path.is_file()
    } == (before)


@pytest.mark.slow
def test_the_price_is_near_what_a_run_takes(folder, tmp_path, silent):
    suite, only = load_suite(str(TINY)), "attack=clean|pgd"
    plan = make_plan(suite, None, folder, only=only)
    said = priced(folder, only).seconds
    store = Store.open(str(tmp_path / "runs.db"), create=True)
    store.declare(suite.declaration())
    run(plan.jobs, store, LocalExecutor(folder, seats("cpu", 1)), silent)
    with store.engine.connect() as connection:
        took = float(connection.execute(select(func.sum(AttemptRow.seconds))).scalar_one())
    assert took / 3 < said < took * 3
