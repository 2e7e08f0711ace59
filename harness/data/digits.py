"""scikit-learn's bundled digits: 1,797 real 8 x 8 images of ten classes (a copy of the UCI test set)."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from harness.components import Dataset
from harness.core.contracts import DataCard, Split
from harness.core.errors import UserError
from harness.options import Options as BaseOptions
from harness.options import Seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOTAL = 1797

#: a line per image: 64 pixels from 0 to 16, and the label
FILE = Path("datasets") / "data" / "digits.csv.gz"


class Digits(Dataset):
    """Handwritten digits, 8 x 8 grey pixels; ships with scikit-learn, so nothing is downloaded."""

    version: ClassVar[int] = 1

    class Options(BaseOptions):
        """How the images are split into a part to train on and a part to evaluate on."""

        n_test: int = Field(500, ge=1, le=TOTAL - 1, description="images kept for evaluation")
        split_seed: Seed = Field(0, description="seed of the permutation that makes the split")

    options: Options

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
        table = _shipped()
        pixels = (table[:, :-1] / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
        classes = table[:, -1].astype(np.int64)
        found = hashlib.sha256(pixels.tobytes() + classes.tobytes()).hexdigest()
        if found != self.card.sha256:
            raise UserError(
                f"expected digits with content hash {self.card.sha256[:12]}, got {found[:12]}; "
                "install the scikit-learn that constraints.txt names"
            )
        order = np.random.default_rng(self.options.split_seed).permutation(TOTAL)
        rows = {"test": order[: self.options.n_test], "train": order[self.options.n_test :]}[part]
        return Split(pixels[rows], classes[rows], rows.astype(np.int64))


def _shipped() -> NDArray[np.float64]:
    """Read scikit-learn's file, without the package: importing that takes seconds, of every worker.

    Raises:
        UserError: if it is not where it has always been.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise UserError("expected scikit-learn, whose images these are, found none; pip install scikit-learn")
    path = Path(package.origin).parent / FILE
    if not path.is_file():
        raise UserError(
            f"expected the images that scikit-learn ships, found no {path}; install the one of constraints.txt"
        )
    return np.loadtxt(path, np.float64, delimiter=",")
