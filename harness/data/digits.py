"""scikit-learn's bundled digits: 1,797 real 8 x 8 images of ten classes (a copy of the UCI test set)."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import numpy as np
from pydantic import Field

from harness.core.contracts import DataCard, Split
from harness.core.errors import UserError
from harness.options import Options as BaseOptions
from harness.options import Seed

TOTAL = 1797


class Digits:
    """Handwritten digits, 8 x 8 grey pixels; ships with scikit-learn, so nothing is downloaded."""

    version: ClassVar[int] = 1

    class Options(BaseOptions):
        """How the images are split into a part to train on and a part to evaluate on."""

        n_test: int = Field(500, ge=1, le=TOTAL - 1, description="images kept for evaluation")
        split_seed: Seed = Field(0, description="seed of the permutation that makes the split")

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def card(self) -> DataCard:
        """What is known before loading; the hash is of the content as scikit-learn ships it."""
        return DataCard(
            shape=(1, 8, 8),
            n_classes=10,
            n_test=self.options.n_test,
            sha256="8b3b6ae90863430bdef06a3f7d1ec2f6a905a53d3375655b18cf63780ad98772",
        )

    def load(self, part: str) -> Split:
        """Return the part ``train`` or ``test``, in the order of the split's permutation."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        pixels = (np.asarray(images, np.float64) / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
        classes = np.asarray(labels, np.int64)
        found = hashlib.sha256(pixels.tobytes() + classes.tobytes()).hexdigest()
        if found != self.card.sha256:
            raise UserError(
                f"expected digits with content hash {self.card.sha256[:12]}, got {found[:12]}; "
                "install the scikit-learn that constraints.txt names"
            )
        order = np.random.default_rng(self.options.split_seed).permutation(TOTAL)
        rows = {"test": order[: self.options.n_test], "train": order[self.options.n_test :]}[part]
        return Split(pixels[rows], classes[rows], rows.astype(np.int64))
