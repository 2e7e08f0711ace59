"""Real images, a published classifier and an autoencoder that trains on them, through the command itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import harness
from harness.data.cifar10 import CIFAR10
from harness.nets.files import FromFile
from harness.suite.components import Resolver, training_plan
from harness.suite.document import Document
from harness.training.loop import train

if TYPE_CHECKING:
    from conftest import Bench


@pytest.fixture
def bench(tiny_bench: type[Bench], tmp_path: Path) -> Bench:
    return tiny_bench.at(tmp_path)


@pytest.mark.shared
def test_real_images_go_the_whole_way(bench: Bench, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUREBENCH_DATA", str(shared / "data"))
    monkeypatch.setenv("PUREBENCH_WEIGHTS", str(shared / "weights"))
    bench.run("cifar10", "--workers", "1")
    found = harness.results(str(bench.db))
    cells = found.cells.set_index(["defense", "attack"])
    assert cells.loc[("none", "clean"), "accuracy"] >= 0.8  # 0.917 of all
    assert cells.loc[("none", "pgd"), "accuracy"] <= 0.1  # the weights were trained on clean images only
    examples = found.examples
    assert examples["fault"].isna().all()
    assert examples["linf"].max() <= 8 / 255 + 1e-6
    # steps against the gradient lower the loss of what is attacked, even with a poor autoencoder
    pure = examples[(examples["defense"] == "mae-pure") & (examples["attack"] == "pgd")]
    assert pure["reconstruction_purified"].mean() < pure["reconstruction_adversarial"].mean()


@pytest.mark.shared
def test_the_recipe_of_the_published_classifier_is_the_one_that_suites_judge(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUREBENCH_DATA", str(shared / "data"))
    monkeypatch.setenv("PUREBENCH_WEIGHTS", str(shared / "weights"))
    resolver = Resolver(Path())
    plan = training_plan(resolver.recipe("cifar10-resnet20", Document("", {}, {}), ()))
    data = CIFAR10(CIFAR10.Options())
    trained = train(plan, data.card, data.load("test"), lambda share: None).net
    objective = plan.objective.options
    options = FromFile.Options(net="resnet20", file=objective.file, sha256=objective.sha256)
    x = torch.from_numpy(data.load("test").images[:32])
    with torch.no_grad():
        assert torch.equal(trained(x), FromFile(options).load({}, data.card)(x))


def test_a_run_without_the_files_says_what_to_do(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    suite = str(bench.suites / "cifar10.yaml")
    done = bench.purebench("run", suite, "--db", str(bench.db), "--workers", "1", code=1)
    said = " ".join((done.stdout + done.stderr).split())
    assert "put the files there, or set PUREBENCH_DATA to the folder that has them" in said


def test_the_shipped_suite_can_be_planned_where_no_files_are(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    done = bench.purebench("plan", "cifar10-mae", "--db", str(bench.db))
    assert "25 cells: 25 run" in done.stdout
