"""What a job looks at before it computes anything: each flaw ends it with a sentence, or is told with its result."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType
from typing import ClassVar

import pytest
import torch
from torch import nn

from harness import data as datasets
from harness.artifacts import Folder
from harness.core import registry
from harness.core.errors import UserError
from harness.core.job import Craft, Evaluate, Terms, Train
from harness.data.digits import Digits
from harness.execution.worker.jobs import attempt
from harness.execution.worker.look import look_at
from harness.nets import classifiers
from harness.nets.normalise import Normalise
from harness.options import NoOptions
from harness.suite.load import read_suite

RECIPE = """
name: cnn
dataset: {use: toys}
net: {use: cnn, width: 4, hidden: 16}
objective: {use: classify}
steps: 0
"""

SUITE = """
name: looked-at
datasets: [{name: toys}]
classifiers: [{name: kept}]
defenses: [{name: none}]
attacks: [{name: pgd, params: {steps: 1}}]
threat_models: [{name: bpda, use: Linf, params: {eps: 0.2, knowledge: bpda}}]
evaluation: {n_examples: 8, shard_size: 8}
"""


class Kept(nn.Module):
    """The nearest of ten digits, one of each class: right about most, and without any training."""

    def __init__(self):
        super().__init__()
        split = Digits(Digits.Options()).load("train")
        rows = [int((split.labels == label).argmax()) for label in range(10)]
        self.register_buffer("seen", torch.from_numpy(split.images[rows]).flatten(1))

    def forward(self, x):
        return -torch.cdist(x.flatten(1), self.seen.to(x), compute_mode="donot_use_mm_for_euclid_dist")


class Tuple(Kept):
    def forward(self, x):
        return super().forward(x), None


class Few(Kept):
    def forward(self, x):
        return super().forward(x)[:, :9]


class Across(Kept):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class Dropping(Kept):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5))


class NeverFinite(Kept):
    def forward(self, x):
        return super().forward(x) * torch.inf


class Failing(Kept):
    def forward(self, x):
        return super().forward(x.reshape(len(x), 3, -1))


class Choking(Kept):
    def forward(self, x):
        raise RuntimeError("[enforce fail] not enough memory: you tried to allocate 1 byte")


class OtherUnit(Kept):
    """Was given the mean and the standard deviation of bytes."""

    def __init__(self):
        super().__init__()
        self.normalise = Normalise([125.3], [63.0])

    def forward(self, x):
        return super().forward(self.normalise(x))


class Bytes(OtherUnit):
    """Has them for what it makes of pixels itself."""

    def forward(self, x):
        return super().forward(255.0 * (63.0 * x + 125.3) / 255.0)


class Probable(Kept):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Source:
    """Where a classifier without training comes from."""

    version: ClassVar[int] = 1
    Options = NoOptions
    make: ClassVar = Kept

    def __init__(self, options):
        self.options = options

    def load(self, nets, data):
        return type(self).make()


def bytes_of(split):
    return replace(split, images=255 * split.images)


def off_by_one(split):
    return replace(split, labels=split.labels + 1)


def holed(split):
    images = split.images.copy()
    images[:, 0, 0, 0] = torch.nan
    return replace(split, images=images)


class Data(Digits):
    """Digits, or something that is made of them."""

    make: ClassVar = staticmethod(lambda split: split)

    def load(self, part):
        return type(self).make(super().load(part))


@pytest.fixture
def jobs(monkeypatch, tmp_path):
    """Make the jobs of a cell on clean input and of one under attack, with a classifier and a dataset."""
    module = ModuleType("purebench_looked_at")
    module.Source, module.Data = Source, Data  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(classifiers.TABLE, "kept", f"{module.__name__}:Source")
    monkeypatch.setitem(datasets.TABLE, "toys", f"{module.__name__}:Data")
    registry.entries.cache_clear()

    def make(classifier=Kept, data=lambda split: split):
        monkeypatch.setattr(Source, "make", classifier)
        monkeypatch.setattr(Data, "make", staticmethod(data))
        suite = read_suite(SUITE, "suite.yaml", tmp_path)
        clean, attacked = suite.cells
        (shard,) = suite.shards
        return Evaluate(clean, shard, 0, 1), Craft(attacked, shard), Evaluate(attacked, shard, 0, 1)

    yield make
    registry.entries.cache_clear()


def run(job, home, batch_size=None):
    return attempt(job, Folder(home), Terms(batch_size=batch_size), lambda share: None)


@pytest.mark.parametrize(
    ("classifier", "sentence"),
    [
        (Tuple, r"classifier kept: expected logits \(4, 10\) of 4 images from the classifier, got a tuple; let `load`"),
        (Few, r"for the dataset's 10 classes, got 9 of each image"),
        (Across, r"expected logits that depend on their own image alone"),
        (Dropping, r"expected the same logits of the same images at every call"),
        (NeverFinite, r"expected finite logits from the classifier, got none for any of 4 images"),
        (Failing, r"on images \(16, 1, 8, 8\) it failed with RuntimeError: shape"),
        (
            OtherUnit,
            r"got one that is right on \d of 16 images and normalises by Normalise with mean 125.3 and std 63; ",
        ),
        (lambda: torch.relu, r"expected a torch.nn.Module from its `load`, got builtin_function_or_method"),
    ],
)
def test_a_classifier_that_breaks_its_word_ends_every_job_with_a_sentence(jobs, tmp_path, classifier, sentence):
    clean, craft, _ = jobs(classifier)
    for job in (clean, craft):
        failed = run(job, tmp_path)
        assert not failed.out_of_memory
        with pytest.raises(UserError, match=sentence):
            raise UserError(failed.reason)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (bytes_of, r"Data: expected pixels in \[0, 1\], got 0 to 255; .*, where a byte is to be divided by 255"),
        (off_by_one, r"Data: expected labels from 0 to 9, of the card's 10 classes, got 1 to 10 in the test part"),
        (holed, r"Data: expected finite pixels, got 16 of 16 images with some that are not"),
        (lambda split: (split.images, split.labels), r"Data: expected a Split of images, labels and ids .* got tuple"),
    ],
)
def test_a_dataset_that_breaks_its_word_does_too(jobs, tmp_path, data, sentence):
    clean, craft, _ = jobs(data=data)
    for job in (clean, craft):
        with pytest.raises(UserError, match=sentence):
            raise UserError(run(job, tmp_path).reason)


def test_nothing_is_trained_on_such_data(jobs, tmp_path):
    jobs(data=bytes_of)
    (tmp_path / "cnn.yaml").write_text(RECIPE)
    trained = SUITE.replace("{name: kept}", "{name: cnn, use: recipe, params: {recipe: cnn.yaml}}")
    (recipe,) = read_suite(trained, "suite.yaml", tmp_path).cells[0].recipes()
    assert run(Train(recipe), tmp_path).reason.startswith("Data: expected pixels in [0, 1], got 0 to 255")


def test_a_look_that_has_no_memory_says_so_to_whom_may_halve_the_batch(jobs, tmp_path):
    assert run(jobs(Choking)[0], tmp_path).out_of_memory


def test_what_multiplies_pixels_first_may_normalise_bytes(jobs, tmp_path):
    assert run(jobs(Bytes)[0], tmp_path).outcomes


@pytest.mark.parametrize("size", [None, 3, 1])
def test_the_look_costs_nothing_and_changes_nothing(jobs, tmp_path, monkeypatch, size):
    found = []
    for looks in (True, False):
        home = tmp_path / str(looks)
        if not looks:
            monkeypatch.setattr("harness.execution.worker.jobs.look_at", lambda *args: {})
        done = [run(job, home, size) for job in jobs()]
        found.append(
            [
                (one.outcomes, one.notes, cost and (cost.images, cost.forwards, cost.backwards, cost.evaluations))
                for one in done
                for cost in (one.defense_cost, one.attack_cost)
            ]
        )
    assert found[0] == found[1]
    assert found[0][0][2] == (8, 8, 0, 0)


@pytest.mark.parametrize("size", [1, 3, 4, None])
def test_no_more_images_go_through_the_network_than_fit(size):
    seen = []

    class Watched(Kept):
        def forward(self, x):
            seen.append(len(x))
            return super().forward(x)

    split = Digits(Digits.Options()).load("test")
    x, y = torch.from_numpy(split.images[:16]), torch.from_numpy(split.labels[:16])
    assert look_at(Watched(), x, y, 10, size) == {}
    assert max(seen) == (size or 16)


def test_probabilities_are_told_with_the_result(jobs, tmp_path):
    done = [run(job, tmp_path) for job in jobs(Probable)]
    assert done[0].notes == {"probabilities": (1.0, 16)}
    assert done[2].notes["probabilities"] == (1.0, 16)
    assert done[2].notes["zero_gradient"][1] == 8
