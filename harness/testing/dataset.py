"""The contract of a dataset: fixed, ordered, hashed images in [0, 1] with labels from 0."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from harness.data.sound import card_fault, pixels_fault, split_fault

if TYPE_CHECKING:
    from harness.core.contracts import Dataset, Split

#: share of the test images that may be in the part to train on as well: photographs are taken twice now and then
SHARED = 0.1


class DatasetContract:
    """What every dataset promises.

    To test yours:

    1. Subclass, with a name that starts with ``Test``::

           class TestMine(DatasetContract):
               def make(self):
                   return Mine(Mine.Options(n_test=100))

    2. Return the dataset from ``make``.
    3. Say in ``parts`` which parts it has.
    4. Run pytest.

    A run looks at shapes, labels, numbers and pixels before each job.

    Attributes:
        parts: names of the parts that can be loaded.
    """

    parts: ClassVar[tuple[str, ...]] = ("test", "train")

    def make(self) -> Dataset:
        """Return the dataset under test."""
        raise NotImplementedError("return the dataset under test from make()")

    # ------------------------------------------------------------------ what it is

    def test_the_card_is_whole(self) -> None:
        """Shape, number of classes and of images, hash; known before anything is loaded, and always the same."""
        card = self.make().card
        fault = card_fault(card)
        assert fault is None, fault
        assert self.make().card == card, "expected the same card from the same options, got another"

    def test_a_part_is_what_the_card_says(self) -> None:
        """Arrays of the shape and types of a split; labels from 0; a number of its own for each image."""
        for part in self.parts:
            data = self.make()
            fault = split_fault(data.load(part), data.card, part)
            assert fault is None, fault

    def test_pixels_are_in_range(self) -> None:
        """Finite, in [0, 1], and not all near 0."""
        for part in self.parts:
            fault = pixels_fault(self._load(part).images)
            assert fault is None, fault

    def test_no_part_is_another_one(self) -> None:
        """What is judged was not trained on."""
        if not {"test", "train"} <= set(self.parts):
            return
        trained = {hash(image.tobytes()) for image in self._load("train").images}
        test = self._load("test").images
        share = sum(hash(image.tobytes()) in trained for image in test) / len(test)
        assert share <= SHARED, (
            f"expected test images that are not trained on, got {share:.0%} of them in the part to train on as well"
        )

    # ------------------------------------------------------------------ what stays the same

    def test_the_same_is_loaded_every_time(self) -> None:
        """Bit for bit and in the same order, also by a dataset that is built anew."""
        for part in self.parts:
            data = self.make()
            first = data.load(part)
            kept = {name: getattr(first, name).copy() for name in ("images", "labels", "ids")}
            for again in (data, self.make()):
                split = again.load(part)
                unlike = [name for name, before in kept.items() if not np.array_equal(before, getattr(split, name))]
                assert not unlike, (
                    f"expected the same {' and '.join(unlike)} of the {part} part at every load, got others; shuffle "
                    "by a seed among the options, if at all"
                )

    def test_the_global_generators_are_left_alone(self) -> None:
        """The state of numpy's, torch's and Python's generators is what it was."""
        for part in self.parts:
            before = _generators()
            self.make().load(part)
            assert _generators() == before, (
                f"expected the global generators as they were, but loading the {part} part drew from them or seeded "
                "them; take a generator of its own, as np.random.default_rng(seed)"
            )

    # ------------------------------------------------------------------ helpers

    def _load(self, part: str) -> Split:
        return self.make().load(part)


def _generators() -> tuple[object, ...]:
    """Return the state of the global generators, as values that can be compared."""
    numbers: Any = np.random.get_state(legacy=False)
    key, place = numbers["state"]["key"].tolist(), numbers["state"]["pos"]
    return torch.random.get_rng_state().tolist(), random.getstate(), key, place
