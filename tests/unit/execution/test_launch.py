"""A run: its suite is read once and planned once, and a mistake in its arguments writes nothing."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from harness.core.errors import UserError
from harness.execution.driver import launch as driver
from harness.execution.driver.scheduler import RunSummary
from harness.suite import document, load

SUITE = """
name: mine
datasets: [{name: digits, use: digits}]
classifiers: [{name: cnn, use: recipe, params: {recipe: digits-cnn}}]
defenses: [{name: none, use: none}]
attacks: [{name: pgd, use: pgd, params: {steps: 3}}]
threat_models: [{name: blind, use: Linf, params: {eps: 8/255, knowledge: oblivious}}]
evaluation: {n_examples: 8}
"""

QUIET = Console(file=io.StringIO())


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_HOME", str(tmp_path / "home"))
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE)
    return str(path)


def test_a_suite_is_read_once_and_planned_once(path, tmp_path, monkeypatch):
    told: Counter[str] = Counter()

    def parse(text, name):
        told[name] += 1
        return document.parse(text, name)

    def make_plan(suite, store, *words, **options):
        told["plan"] += 1
        assert store is not None
        return planned(suite, store, *words, **options)

    def run(jobs, store, executor, *others):
        executor.close()
        return RunSummary(done=len(jobs))

    planned = driver.make_plan
    monkeypatch.setattr(load, "parse", parse)
    monkeypatch.setattr(driver, "make_plan", make_plan)
    monkeypatch.setattr(driver, "run", run)
    tally, plan = driver.launch(path, str(tmp_path / "runs.db"), console=QUIET)
    assert told == {path: 1, "plan": 1}
    assert tally.done == len(plan.jobs) > 0


@pytest.mark.parametrize("mistake", [{"only": "defense=other"}, {"limit": 0}, {"only": "colour=red"}])
def test_a_mistake_in_the_arguments_makes_no_database(path, tmp_path, mistake):
    with pytest.raises(UserError, match="--"):
        driver.launch(path, str(tmp_path / "runs.db"), console=QUIET, **mistake)
    assert not (tmp_path / "runs.db").exists()
