"""A contract is worth something only if it can fail: each broken dataset fails at the right test."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.core.contracts import DataCard, Split
from harness.testing import DatasetContract

CARD = DataCard(shape=(1, 6, 8), n_classes=3, n_test=20, sha256="0" * 64)


class Good:
    """What the broken ones differ from."""

    card = CARD

    def load(self, part):
        numbers = np.random.default_rng(["test", "train"].index(part))
        images = numbers.random((20, *CARD.shape), np.float32)
        return Split(images, np.arange(20) % 3, np.arange(20) + (0 if part == "test" else 20))


def carded(**changed):
    class Carded(Good):
        card = replace(CARD, **changed)

    return Carded


def made(**changes):
    """A dataset whose arrays are made otherwise: by name, from those of a good one."""

    class Made(Good):
        def load(self, part):
            split = super().load(part)
            return replace(split, **{name: change(getattr(split, name)) for name, change in changes.items()})

    return Made


class NewEachTime(Good):
    @property
    def card(self):
        return replace(CARD, sha256=f"{random.getrandbits(256):064x}")


class Cardless(Good):
    card = ("1", "2")


class Pair(Good):
    def load(self, part):
        split = super().load(part)
        return split.images, split.labels


class Tensors(Good):
    def load(self, part):
        return Split(*map(torch.from_numpy, vars(super().load(part)).values()))


class OnePart(Good):
    def load(self, part):
        return super().load("test")


class Shuffled(Good):
    def load(self, part):
        split = super().load(part)
        order = np.random.default_rng().permutation(20)
        return Split(split.images[order], split.labels[order], split.ids[order])


class GrowingDarker(Good):
    """Hands out the array that it keeps, and changes it."""

    def __init__(self):
        self.split = {part: super(GrowingDarker, self).load(part) for part in ("test", "train")}

    def load(self, part):
        self.split[part].images[:] *= 0.5
        return self.split[part]


class Seeding(Good):
    def load(self, part):
        np.random.seed(0)
        return super().load(part)


class SeedingTorch(Good):
    def load(self, part):
        torch.manual_seed(0)
        return super().load(part)


def holed(images):
    images[3, 0, 0, 0] = np.nan
    return images


WHOLE, SAYS, RANGE = "the_card_is_whole", "a_part_is_what_the_card_says", "pixels_are_in_range"
BROKEN = [
    (Cardless, WHOLE, "expected a DataCard for a dataset's card, got tuple"),
    (carded(shape=(6, 8)), WHOLE, r"channels, height and width, got \(6, 8\)"),
    (carded(shape=(32, 32, 3)), WHOLE, "whose last is the channels'"),
    (carded(n_classes=1), WHOLE, "2 classes or more, got 1"),
    (carded(n_test=0), WHOLE, "1 test image or more, got 0"),
    (carded(sha256="abc"), WHOLE, "64 digits of hexadecimal, got 'abc'"),
    (NewEachTime, WHOLE, "expected the same card"),
    (Pair, SAYS, "expected a Split of images, labels and ids from the test part, got tuple"),
    (Tensors, SAYS, "expected the images of the test part as an array of numpy, got Tensor"),
    (made(images=lambda x: x.transpose(0, 2, 3, 1)), SAYS, r"expected images \(N, 1, 6, 8\), .*, got \(20, 6, 8, 1\)"),
    (made(images=lambda x: (255 * x).astype(np.uint8)), SAYS, r"expected images as float32 in \[0, 1\], got uint8"),
    (made(images=lambda x: x.astype(np.float64)), SAYS, "got float64"),
    (
        made(images=lambda x: x[:19], labels=lambda y: y[:19], ids=lambda i: i[:19]),
        SAYS,
        "the 20 test images .* got 19",
    ),
    (made(labels=lambda y: y[:, None]), SAYS, r"expected labels \(20,\), .*, got \(20, 1\)"),
    (made(labels=lambda y: np.eye(3)[y]), SAYS, r"expected labels \(20,\), .*, got \(20, 3\)"),
    (made(labels=lambda y: y.astype(np.uint8)), SAYS, "expected labels as int64, got uint8"),
    (made(labels=lambda y: y + 1), SAYS, "expected labels from 0 to 2, of the card's 3 classes, got 1 to 3"),
    (made(labels=lambda y: y - 1), SAYS, "got -1 to 1"),
    (made(ids=lambda i: i // 2), SAYS, "expected an id of its own .*, got 10 that others have too"),
    (made(ids=lambda i: i - 5), SAYS, "expected ids from 0 to"),
    (made(ids=lambda i: i + 2**32), SAYS, "expected ids from 0 to"),
    (made(ids=lambda i: i.astype(str)), SAYS, "expected ids as int64"),
    (made(images=lambda x: 255 * x), RANGE, r"expected pixels in \[0, 1\], got .*, where a byte is to be divided"),
    (made(images=lambda x: (x - np.float32(0.5)) / np.float32(0.25)), RANGE, r"expected pixels in \[0, 1\], got -"),
    (made(images=lambda x: x + np.float32(1e-3)), RANGE, r"expected pixels in \[0, 1\], got"),
    (made(images=holed), RANGE, "expected finite pixels, got 1 of 20 images"),
    (made(images=lambda x: x / np.float32(255)), RANGE, "as if divided by 255 twice"),
    (made(images=np.zeros_like), RANGE, "that show something, got 0 to 0"),
    (OnePart, "no_part_is_another_one", "got 100% of them in the part to train on"),
    (Shuffled, "the_same_is_loaded_every_time", "expected the same images and labels and ids of the test part"),
    (GrowingDarker, "the_same_is_loaded_every_time", "expected the same images of the test part"),
    (Seeding, "the_global_generators_are_left_alone", "drew from them or seeded them"),
    (SeedingTorch, "the_global_generators_are_left_alone", "drew from them or seeded them"),
]
TESTS = sorted(name for name in dir(DatasetContract) if name.startswith("test_"))


def contract_of(dataset):
    class Contract(DatasetContract):
        def make(self):
            return dataset()

    return Contract()


@pytest.fixture(autouse=True)
def _generators_as_they_were():
    numbers = np.random.get_state(legacy=False)
    with torch.random.fork_rng():
        yield
    np.random.set_state(numbers)


@pytest.mark.parametrize(("dataset", "test", "sentence"), BROKEN)
def test_a_broken_dataset_fails(dataset, test, sentence):
    with pytest.raises(AssertionError, match=sentence):
        getattr(contract_of(dataset), f"test_{test}")()


@pytest.mark.parametrize("test", TESTS)
def test_what_they_differ_from_passes(test):
    getattr(contract_of(Good), test)()


def test_every_test_of_the_contract_is_seen_to_fail():
    assert {f"test_{test}" for _, test, _ in BROKEN} == set(TESTS)
