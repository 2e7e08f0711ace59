"""A suite whose networks, and what they are trained by, stand in a file beside it, with workers of their own."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

import harness

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Bench

FILES = {
    "nets.py": '''
        """A classifier, a masked autoencoder that inherits from none, and what both are trained by."""
        from typing import NamedTuple

        import torch
        from pydantic import Field
        from torch import Tensor, nn
        from torch.nn import functional as F

        from harness import Network, Objective, Options
        from smoothing import SMOOTHING


        class Flat(Network):
            """One hidden layer."""

            class Options(Options):
                width: int = Field(8, ge=1, description="units")

            def build(self, data):
                units = data.shape[0] * data.shape[1] * data.shape[2]
                width = self.options.width
                return nn.Sequential(nn.Flatten(), nn.Linear(units, width), nn.ReLU(), nn.Linear(width, data.n_classes))


        class Smoothed(Objective):
            """Cross-entropy with smooth labels."""

            def loss(self, net, batch, beside):
                return F.cross_entropy(net(batch.x), batch.y, label_smoothing=SMOOTHING)


        class Found(NamedTuple):
            rows: Tensor
            hidden: Tensor
            attention: tuple


        class RowNet(nn.Module):
            """Attention among the rows of an image, of which some are hidden."""

            def __init__(self, data, heads):
                super().__init__()
                self.n_patches, self.heads, width = data.shape[1], heads, data.shape[0] * data.shape[2]
                self.ask = nn.Linear(width, 2 * width)
                self.predict = nn.Linear(width, width)

            def rows(self, x):
                return x.transpose(1, 2).flatten(2)

            def forward(self, x, order, mask_ratio, attention=False):
                rows, kept = self.rows(x), order[:, : max(1, round(self.n_patches * (1 - mask_ratio)))]
                hidden = torch.ones(rows.shape[:2], dtype=torch.bool).scatter(1, kept, False)
                seen = rows * ~hidden[:, :, None]
                q, k = self.ask(seen).reshape(*seen.shape[:2], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
                maps = (q @ k.transpose(-2, -1)).softmax(-1)
                return Found(self.predict(maps.mean(1) @ seen), hidden, (maps,) if attention else ())

            def loss(self, found, x, units="own"):
                return ((found.rows - self.rows(x)) ** 2).mean((1, 2))


        class Rows(Network):
            """A masked autoencoder of rows."""

            class Options(Options):
                decoder_depth: int = Field(1, description="layers that show attention")
                decoder_heads: int = Field(2, description="heads of each")

            def build(self, data):
                return RowNet(data, self.options.decoder_heads)


        class Liar(Rows):
            """Says that it shows more than it does."""

            class Options(Rows.Options):
                decoder_depth: int = 2


        class Restoring(Objective):
            """Reconstruction from half of the rows."""

            def loss(self, net, batch, beside):
                order = batch.draws.at("mask").permutation(net.n_patches)
                return net.loss(net(batch.x, order, 0.5), batch.x).mean()
    ''',
    "smoothing.py": "SMOOTHING = 0.1\n",
    "flat.yaml": """
        name: flat
        dataset: {use: digits}
        net: {use: "./nets.py:Flat", width: 16}
        objective: {use: "./nets.py:Smoothed"}
        optimiser: {lr: 0.01}
        steps: 200
    """,
    "rows.yaml": """
        name: rows
        dataset: {use: digits}
        net: {use: "./nets.py:Rows"}
        objective: {use: "./nets.py:Restoring"}
        steps: 20
    """,
    "mine.yaml": """
        name: mine
        datasets: [{name: digits, use: digits}]
        classifiers: [{name: flat, use: recipe, params: {recipe: flat.yaml}}]
        defenses:
          - {name: none, use: none}
          - {name: rows, use: mae-pure, params: {mae: rows.yaml, steps: 2, step_size: 0.01, eps: 0.02}}
        attacks: [{name: pgd, use: pgd, params: {steps: 2}}]
        threat_models: [{name: bpda, use: Linf, params: {eps: 0.1, knowledge: bpda}}]
        evaluation: {n_examples: 16, shard_size: 16}
        metrics: {names: [reconstruction, amv-by-head], probe: {recipe: rows.yaml, masks: 1}}
    """,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path


def test_they_are_trained_attacked_and_measured_and_an_edit_trains_anew(tiny_bench: type[Bench], folder: Path) -> None:
    bench, suite, db = tiny_bench.at(folder / "bench"), str(folder / "mine.yaml"), str(folder / "runs.db")
    told = bench.purebench("validate", suite).stdout
    assert "your own code that a run will execute: nets.py, smoothing.py" in told
    bench.purebench("run", suite, "--db", db, "--workers", "1")
    cells = harness.results(db).cells.set_index(["defense", "attack"])
    assert cells.loc[("none", "clean"), "accuracy"] > 0.7
    heads = harness.results(db).heads
    assert set(heads["layer"]) == {1}
    assert set(heads["head"]) == {1, 2}
    assert bench.purebench("db", "check", db).stdout.startswith("sound")
    assert bench.purebench("db", "code", db).stdout.count("nets.py") == 1

    (folder / "smoothing.py").write_text("# words alone\nSMOOTHING = 0.1\n")
    assert "nothing to compute" in bench.purebench("run", suite, "--db", db, "--workers", "1").stdout
    words = ("verify", "--db", db, "--fraction", "1", "--workers", "1")
    assert "which is not at hand; name it with --code FILE" in bench.process(*words, code=1).stdout
    told = bench.purebench(*words, "--code", str(folder / "nets.py")).stdout
    assert "4 of 4 results were drawn, 4 computed again\n4 equal to the last bit" in told

    (folder / "smoothing.py").write_text("SMOOTHING = 0.2\n")
    planned = bench.purebench("plan", suite, "--db", db).stdout
    assert "train: 2 jobs" in planned


def test_a_probe_that_shows_other_attention_than_it_says_is_refused(tiny_bench: type[Bench], folder: Path) -> None:
    (folder / "rows.yaml").write_text((folder / "rows.yaml").read_text().replace(":Rows", ":Liar"))
    bench, suite = tiny_bench.at(folder / "bench"), str(folder / "mine.yaml")
    words = ("--only", "attack=clean", "--only", "defense=none", "--workers", "1")
    done = bench.any("run", suite, "--db", str(folder / "runs.db"), *words)
    told = done.stdout + done.stderr
    assert done.returncode == 1, told
    assert "expected attention (1, 2, T, T) of each of 2 decoder layers" in " ".join(told.split())
