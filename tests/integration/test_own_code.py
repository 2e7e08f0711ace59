"""A suite whose dataset, classifier, purifier and attack stand in files beside it, without a package."""

from __future__ import annotations

import sqlite3
import textwrap
from typing import TYPE_CHECKING

import pytest

import harness
from harness.store.tables import CodeRow
from harness.store.write.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Bench

FILES = {
    "mine.py": '''
        """All that this suite needs."""
        import numpy as np
        import torch

        from harness import Attack, Classifier, Dataset, Options, Purifier
        from strength import STRENGTH


        class Stripes(Dataset):
            """A bright column at the place of the label."""

            def arrays(self, part):
                images = np.zeros((40, 1, 4, 4), np.uint8)
                labels = np.arange(40) % 4
                images[np.arange(40), 0, :, labels] = 200
                return images, labels


        class Columns(Classifier):
            """Which column is brightest."""

            def load(self, nets, data):
                class Net(torch.nn.Module):
                    def forward(self, x):
                        return x.mean(dim=(1, 2)) * 10

                return Net()


        class Dim(Purifier):
            """Dims."""

            def purify(self, x, nets, draws):
                return x * STRENGTH


        class Push(Attack):
            """Moves every pixel the same way."""

            class Options(Options):
                """How far."""

                share: float = 1.0

            def propose(self, victim, x, y, threat, draws):
                return (x + self.options.share * threat.eps).clamp(0, 1)
    ''',
    "strength.py": "STRENGTH = 0.75\n",
    "mine.yaml": """
        name: mine
        datasets: [{name: stripes, use: "./mine.py:Stripes"}]
        classifiers: [{name: columns, use: "./mine.py:Columns"}]
        defenses: [{name: none, use: none}, {name: dim, use: "./mine.py:Dim"}]
        attacks: [{name: push, use: "./mine.py:Push", params: {share: 0.5}}]
        threat_models: [{name: full, use: Linf, params: {eps: 0.2, knowledge: full}}]
        evaluation: {n_examples: 8, shard_size: 8}
    """,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path


@pytest.fixture
def runs(tiny_bench: type[Bench], folder: Path) -> Callable[..., str]:
    """Runs the suite by worker processes; returns what the command says."""
    bench = tiny_bench.at(folder / "bench")

    def run(*words: str) -> str:
        suite = str(folder / "mine.yaml")
        return bench.purebench("run", suite, "--db", str(folder / "runs.db"), "--workers", "1", *words).stdout

    return run


def test_workers_run_it_and_an_edit_measures_again_what_it_touches(
    tiny_bench: type[Bench], runs: Callable[..., str], folder: Path
) -> None:
    bench, db = tiny_bench.at(folder / "bench"), str(folder / "runs.db")
    told = bench.purebench("validate", str(folder / "mine.yaml")).stdout
    assert "your own code that a run will execute: mine.py, strength.py" in told
    runs()
    found = harness.results(db).cells.set_index(["defense", "attack"])
    assert len(found) == 4
    assert set(found["accuracy"]) == {1.0}
    assert found.loc[("none", "push"), "linf"] == pytest.approx(0.1, abs=1e-6)

    (folder / "strength.py").write_text("# words alone\nSTRENGTH = 0.75\n")
    assert "nothing to compute" in runs()
    (folder / "strength.py").write_text("STRENGTH = 0.0\n")
    runs()
    after = harness.results(db).cells.set_index(["defense", "attack"])
    assert after.loc[("dim", "clean"), "accuracy"] == 0.25  # where nothing is left, all are taken for the first class
    assert bench.purebench("db", "code", db).stdout.count("mine.py") == 2
    assert bench.purebench("db", "check", db).stdout.startswith("sound")

    words = ("verify", "--db", db, "--fraction", "1", "--workers", "1")
    assert "which is not at hand; name it with --code FILE" in bench.process(*words, code=1).stdout
    told = bench.purebench(*words, "--code", str(folder / "mine.py")).stdout
    assert "4 of 4 results were drawn, 4 computed again\n4 equal to the last bit" in told


def test_what_is_wrong_with_it_is_said_at_once(tiny_bench: type[Bench], folder: Path) -> None:
    bench, suite = tiny_bench.at(folder / "bench"), folder / "mine.yaml"
    text = suite.read_text()
    for old, new, said in (
        ("mine.py:Dim", "yours.py:Dim", "expected the code of defense Dim in"),
        ("mine.py:Dim", "mine.py:Dimm", "has no attribute 'Dimm'; mend mine.py"),
        ("share: 0.5", "shore: 0.5", "did you mean 'share'?"),
    ):
        suite.write_text(text.replace(old, new))
        done = bench.any("validate", str(suite))
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    suite.write_text(text)
    code = folder / "mine.py"
    code.write_text(code.read_text().replace('"""Dims."""', 'role = "hero"'))
    done = bench.any("validate", str(suite))
    assert "to have the role purifier, reconstruction, control, oracle, reference or none, got 'hero'" in done.stderr


def test_a_recorded_text_that_was_changed_is_noticed_and_not_taken_in(
    tiny_bench: type[Bench], folder: Path, runs: Callable[..., str]
) -> None:
    bench, db = tiny_bench.at(folder / "bench"), folder / "runs.db"
    runs("--only", "attack=clean")
    with Store.open(str(db)).session() as session:
        assert [row.main for row in session.query(CodeRow)] == ["mine.py"]
    bench.purebench("db", "merge", str(db), "--into", str(folder / "all.db"))
    assert "STRENGTH = 0.75" in bench.purebench("db", "code", str(folder / "all.db"), "mine.py").stdout
    with sqlite3.connect(db) as connection:
        connection.execute("UPDATE code SET files = replace(files, '0.75', '0.76')")
    connection.close()
    assert "code: the content of" in bench.any("db", "check", str(db)).stdout
    assert bench.any("db", "merge", str(db), "--into", str(folder / "other.db")).returncode == 2
