"""From Python: the same judge and database as at the command line, for objects of a session."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.store.tables import AttemptRow
from harness.store.write.store import Store
from harness.topics import topics

if TYPE_CHECKING:
    from collections.abc import Callable

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


class Columns(nn.Module):
    """Which of four columns is brightest; a setting makes it another network."""

    def __init__(self, slope: float = 10.0) -> None:
        super().__init__()
        self.slope = slope
        self.shift = nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return x.mean(dim=(1, 2)) * self.slope + self.shift


def dim(x):
    return x * 0.75


def rounded(x):
    return torch.round(x * 4) / 4


def noisy(x, draws):
    return (x + 0.1 * draws.at("noise").normal(*x.shape[1:])).clamp(0, 1)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUREBENCH_HOME", str(tmp_path / "home"))


@pytest.fixture
def data() -> tuple[Any, Any]:
    images, labels = np.full((12, 1, 4, 4), 60, np.uint8), np.arange(12) % 4
    images[np.arange(12), 0, :, labels] = 160
    return images, labels


@pytest.fixture
def evaluate(tmp_path: Path, data: Any) -> Callable[..., harness.Evaluation]:
    def look(*what: Any, **settings: Any) -> harness.Evaluation:
        told = {"data": data, "eps": 0.1, "db": tmp_path / "mine.db", "quiet": True, **settings}
        return harness.evaluate(*what, **told)

    return look


def tried(db: Path) -> int:
    with Store.open(str(db)).session() as session:
        return session.query(AttemptRow).count()


def test_a_network_and_a_function_give_a_board_that_ranks(evaluate, tmp_path):
    net = Columns()
    found = evaluate(net, dim)
    table = found.table.set_index("defense")
    assert table.loc["dim", "rank"] == "1"
    assert table.loc["dim", "clean"] == 1.0
    # the columns are .39 apart: two budgets of .1 do not reach that
    assert table.loc["dim", "worst case"] == 1.0
    assert table.loc["none", "not ranked"] == "reference"
    assert "dim" in repr(found)
    assert "Linf 0.1" in repr(found)
    assert "<table" in found._repr_html_()
    assert found.report(tmp_path / "out").name == "index.html"
    assert (net.shift.requires_grad, net.training) == (True, True)


def test_the_process_is_left_as_it_was(evaluate):
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    before = torch.get_num_threads(), torch.get_rng_state(), random.getstate()
    evaluate(Columns(), noisy, repeats=2)
    assert (torch.get_num_threads(), random.getstate()) == (before[0], before[2])
    assert torch.equal(torch.get_rng_state(), before[1])
    found = np.random.rand()
    np.random.seed(3)
    assert found == np.random.rand()


def test_a_wide_budget_breaks_it_and_the_comparison_says_so(evaluate):
    near, far = evaluate(Columns(), dim), evaluate(Columns(), dim, eps=0.25)
    assert far.table.set_index("defense").loc["dim", "worst case"] == 0.0
    assert "dim" in near.compare(near)


def test_the_same_again_computes_nothing_and_what_differs_does(evaluate, tmp_path):
    evaluate(Columns(), dim)
    before = tried(tmp_path / "mine.db")
    assert evaluate(Columns(), dim).table.shape[0] == 2
    assert tried(tmp_path / "mine.db") == before
    evaluate(Columns(9.0), dim)
    after = tried(tmp_path / "mine.db")
    assert after > before
    evaluate(Columns(9.0), lambda_of(0.5))
    assert tried(tmp_path / "mine.db") > after


def lambda_of(strength: float) -> Any:
    def dimmed(x):
        return x * strength

    return dimmed


@pytest.mark.parametrize(
    ("purifier", "random", "differentiable"), [(dim, False, True), (rounded, False, False), (noisy, True, True)]
)
def test_what_a_function_is_is_found_out(evaluate, tmp_path, purifier, random, differentiable):
    found = evaluate(Columns(), purifier, repeats=5)
    mine, seen = (frame[frame["defense"] == purifier.__name__] for frame in list(found.results)[:2])
    assert seen["repeat"].nunique() == (5 if random else 1)
    full = mine[mine["threat_model"] == "full"]["status"]
    assert (set(full) == {"done"}) is differentiable


def test_components_by_name_and_attacks_by_entry(evaluate):
    found = evaluate(
        Columns(),
        {"use": "bit-depth", "params": {"bits": 3}},
        attacks=[{"name": "steps", "use": "pgd", "params": {"steps": 3}}],
    )
    assert {"bit-depth", "none"} == set(found.table["defense"])
    assert any(name.startswith("steps ") for name in found.table.columns)


def test_a_module_as_purifier_and_tensors_as_data(evaluate, data):
    images, labels = (torch.as_tensor(one) for one in data)
    found = evaluate(Columns(), nn.AvgPool2d(3, 1, 1), data=(images / 255, labels))
    assert "avgpool2d" in set(found.table["defense"])


def test_a_suite_as_a_dictionary_with_what_was_registered(tmp_path, data):
    @harness.register("dataset", "columns")
    class Striped(harness.Dataset):
        def arrays(self, part):
            return data

    @harness.register("classifier", "brightest")
    class Brightest(harness.Classifier):
        def load(self, nets, data):
            return Columns()

    @harness.register("defense", "dim")
    class Dim(harness.Purifier):
        def purify(self, x, nets, draws):
            return x * 0.5

    suite = {
        "name": "registered",
        "datasets": [{"name": "columns", "use": "session:columns"}],
        "classifiers": [{"name": "net", "use": "session:brightest"}],
        "defenses": [{"name": "dim", "use": "session:dim"}],
        "attacks": [{"name": "fgsm", "use": "fgsm"}],
        "threat_models": [{"name": "full", "use": "Linf", "params": {"eps": 0.1, "knowledge": "full"}}],
        "evaluation": {"n_examples": 8},
    }
    assert len(harness.validate(suite).cells) == 2
    assert len(harness.plan(suite, tmp_path / "r.db").jobs) == 3
    found = harness.run(suite, tmp_path / "r.db", quiet=True)
    assert list(found.results.cells["accuracy"]) == [1.0, 1.0]
    assert harness.report(tmp_path / "r.db", tmp_path / "out").is_file()


def fails(x):
    raise ValueError("no such pixels")


class Fails(harness.Purifier):
    def purify(self, x, nets, draws):
        raise ValueError("no such pixels")


@pytest.mark.parametrize(
    ("what", "settings", "said"),
    [
        ((3,), {}, "expected a torch.nn.Module as classifier, or a name, got int"),
        ((nn.Linear(7, 4),), {}, "expected a classifier that takes images .*1, 4, 4.*, but it raised RuntimeError"),
        ((Columns(), 3), {}, "expected a function from images to images as purifier, or a name, got 3"),
        ((Columns(), fails), {}, "expected a purifier that takes images .* it raised ValueError: no such pixels"),
        ((Columns(), lambda x: x[:, :, 1:]), {}, "expected a purifier that returns images .*1, 4, 4.*, got"),
        ((Columns(), Fails), {}, "jobs were not done: .*ValueError: no such pixels"),
        ((Columns(),), {"data": "didgits"}, "did you mean 'digits'"),
        ((Columns(),), {"data": 3}, "expected data as a name or as images and labels"),
        ((Columns(),), {"eps": 8}, "^eps: expected at most 1, since pixels are in .*8 of 255 grey levels is 8/255$"),
        ((Columns(),), {"attacks": "all"}, "expected a set of attacks, one of purifier-1, or a list, got 'all'"),
        ((Columns(),), {"norm": "Linff"}, "expected a norm, one of Linf"),
    ],
)
def test_a_mistake_is_an_exception_with_a_sentence(evaluate, what, settings, said):
    with pytest.raises(harness.UserError, match=said):
        evaluate(*what, **settings)


def test_the_lines_of_the_readme_run(tmp_path, data, monkeypatch):
    (code,) = (part.partition("```")[0] for part in README.split("```python\n")[1:] if "harness.evaluate(" in part)
    monkeypatch.chdir(tmp_path)
    images, labels = data
    names = {"classifier": Columns(), "purifier": dim, "images": images, "labels": labels}
    exec(code, names)
    assert (tmp_path / "out" / "mine" / "index.html").is_file()


def test_the_lines_of_the_help_on_results_run(tiny, tmp_path, monkeypatch):
    (code,) = (part.partition("```")[0] for part in topics()["results"].split("```python\n")[1:])
    (tmp_path / "out").mkdir()
    with sqlite3.connect(tiny.db) as there, sqlite3.connect(tmp_path / "out" / "quickstart.db") as here:
        there.backup(here)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(names["examples"]) > len(names["cells"]) > 0


def test_importing_it_takes_no_torch_and_the_module_is_the_command():
    code = "import purebench, harness, sys, json; assert purebench is harness and harness.__version__"
    code += "; print(json.dumps('torch' in sys.modules))"
    told = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(told) is False
    done = subprocess.run([sys.executable, "-P", "-m", "harness", "--help"], capture_output=True, text=True)
    assert "quickstart" in done.stdout or "run" in done.stdout
