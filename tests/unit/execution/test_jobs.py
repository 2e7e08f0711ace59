"""What a worker builds from specs."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

import pytest

import defenses
from harness.artifacts import Folder
from harness.core import registry
from harness.core.contracts import Traits
from harness.core.errors import UserError
from harness.core.job import Craft, Evaluate, Terms, Train
from harness.core.spec import Spec
from harness.data.digits import Digits
from harness.execution.worker.jobs import dataset, do
from harness.options import NoOptions
from harness.suite.load import read_suite

if TYPE_CHECKING:
    from pathlib import Path


def spec(content: str) -> Spec:
    return Spec.of("dataset", "digits", 1, {"n_test": 100, "split_seed": 0, "content": content})


def test_a_dataset_is_built_as_it_was_planned() -> None:
    planned = Digits(Digits.Options(n_test=100)).card
    assert dataset(spec(planned.sha256)).card == planned


def test_a_dataset_whose_content_is_not_what_was_planned_is_a_sentence() -> None:
    wanted = r"expected digits with content hash d0d0d0d0d0d0, as it was planned, got 8b3b6ae90863; put the same files"
    with pytest.raises(UserError, match=wanted):
        dataset(spec("d0" * 32))


# ---------------------------------------------------------------------- batch size and batch-mates

RECIPE = """
name: cnn
dataset: {use: digits}
net: {use: cnn, width: 4, hidden: 16}
objective: {use: classify}
steps: 0
"""

SUITE = """
name: mates
datasets: [{name: digits}]
classifiers: [{name: cnn, use: recipe, params: {recipe: cnn.yaml}}]
defenses: [{name: centred}]
attacks: [{name: pgd, params: {steps: 1}}]
threat_models: [{name: bpda, use: Linf, params: {eps: 0.2, knowledge: bpda}}]
evaluation: {n_examples: 8, shard_size: 8}
"""


class Centred:
    """Brings the mean of a batch to one half, unless it is told to look at each image alone."""

    version: ClassVar[int] = 1
    Options = NoOptions
    together: ClassVar[bool]
    seen: ClassVar[set[int]]

    def __init__(self, options):
        self.options = options

    @property
    def traits(self):
        return Traits(random=False, differentiable=True, batchwise=self.together)

    def refuses(self, setting):
        return None

    def purify(self, x, nets, draws):
        self.seen.add(len(x))
        return (x - x.mean(None if self.together else (1, 2, 3), keepdim=True) + 0.5).clamp(0, 1)


# three are tried first, and where each is looked at alone, one
@pytest.mark.parametrize(("together", "sizes"), [(True, {8, 3}), (False, {3, 2, 1})])
def test_only_a_defense_that_looks_across_its_batch_gets_a_shard_whole(
    together: bool, sizes: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("purebench_centred")
    module.Centred = Centred  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(defenses.TABLE, "centred", "purebench_centred:Centred")
    monkeypatch.setattr(Centred, "together", together, raising=False)
    monkeypatch.setattr(Centred, "seen", set(), raising=False)
    registry.entries.cache_clear()
    try:
        (tmp_path / "cnn.yaml").write_text(RECIPE, encoding="utf-8")
        suite = read_suite(SUITE, "suite.yaml", tmp_path)
        clean, cell = suite.cells
        folder, terms = Folder(tmp_path / "home"), Terms(batch_size=3)
        shard = suite.shards[0]
        jobs = (Train(*cell.recipes()), Craft(cell, shard), Evaluate(cell, shard, 0, 1), Evaluate(clean, shard, 0, 1))
        done = [do(job, folder, terms, lambda share: None) for job in jobs]
    finally:
        registry.entries.cache_clear()
    assert Centred.seen == sizes
    # the attack was looked at, and on clean input there was nobody to look
    assert done[2].notes is not None
    assert done[2].notes["zero_gradient"][1] == 8
    assert done[3].notes is None
