"""A dataset of one's own: two files and their hashes are enough to train on it, and to attack what was trained."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

import harness

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Bench

RECIPE = """
name: own-cnn
dataset: {use: npz, params: %s}
net: {use: cnn, width: 16, hidden: 64}
objective: {use: classify}
steps: 300
batch_size: 64
"""

SUITE = """
name: own
datasets: [{name: own, use: npz, params: %s}]
classifiers: [{name: cnn, use: recipe, params: {recipe: own-cnn.yaml}}]
defenses: [{name: none, use: none}]
attacks:
  - {name: worst, use: corruption, params: {kinds: [gaussian_noise, contrast, defocus_blur]}}
  - {name: contrast, use: corruption, params: {kinds: [contrast]}}
threat_models: [{name: severe, use: corruption, params: {eps: 5, knowledge: oblivious}}]
evaluation: {n_examples: 40, shard_size: 20}
"""


@pytest.fixture
def bench(tiny_bench: type[Bench], tmp_path: Path) -> Bench:
    """Scikit-learn's digits as bytes, some of them masked, in two files; a recipe and a suite that name them."""
    from sklearn.datasets import load_digits

    made = tiny_bench.at(tmp_path)
    (made.home / "data").mkdir(parents=True)
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8) * 255 / 16).round().astype(np.uint8)
    named = {}
    for part, rows in (("test", slice(0, 60)), ("train", slice(60, None))):
        path = made.home / "data" / f"own-{part}.npz"
        good = np.arange(len(labels[rows])) % 5 != 0
        np.savez_compressed(path, images=images[rows], labels=labels[rows], good=good)
        named[part] = f"[{{file: {path.name}, sha256: {hashlib.sha256(path.read_bytes()).hexdigest()}}}]"
    params = f"{{test: {named['test']}, train: {named['train']}, n_classes: 10, mask: good}}"
    (tmp_path / "own-cnn.yaml").write_text(RECIPE % params)
    (tmp_path / "own.yaml").write_text(SUITE % params)
    return made


def test_it_is_trained_on_and_attacked(bench: Bench, tmp_path: Path) -> None:
    bench.purebench("run", str(tmp_path / "own.yaml"), "--db", str(bench.db), "--workers", "1")
    cells = harness.results(str(bench.db)).cells.set_index("attack")
    assert set(cells["status"]) == {"done"}
    assert float(cells.loc["clean", "accuracy"]) > 0.6
    assert float(cells.loc["worst", "accuracy"]) <= float(cells.loc["contrast", "accuracy"])
    assert float(cells.loc["worst", "accuracy"]) < float(cells.loc["clean", "accuracy"])
    assert float(cells.loc["worst", "linf"]) > 0.2
    examples = harness.results(str(bench.db)).examples
    assert not (examples["example"] % 5 == 0).any()  # the mask leaves them out, the others keep their rows


def test_a_file_that_is_missing_is_told_where_it_is_named(bench: Bench, tmp_path: Path) -> None:
    (bench.home / "data" / "own-test.npz").unlink()
    told = bench.purebench("validate", str(tmp_path / "own.yaml"), code=2).stderr
    assert f"own.yaml:3: datasets[0].params: expected images at {bench.home / 'data' / 'own-test.npz'}" in told
    assert "own-cnn.yaml:3: dataset.params: expected images at" in told


def test_more_images_than_the_mask_leaves_are_too_many(bench: Bench, tmp_path: Path) -> None:
    suite = tmp_path / "own.yaml"
    suite.write_text(suite.read_text().replace("n_examples: 40", "n_examples: 49"))
    told = bench.purebench("validate", str(suite), code=2).stderr
    assert "expected at most 48, the test images of dataset 'own', got 49" in told
