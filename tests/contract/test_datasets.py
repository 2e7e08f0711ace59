"""The datasets that ship keep the contract of a dataset."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from harness.data.cifar10 import CIFAR10
from harness.data.digits import Digits
from harness.data.npz import NPZ
from harness.testing import DatasetContract

if TYPE_CHECKING:
    from pathlib import Path


class TestDigits(DatasetContract):
    def make(self):
        return Digits(Digits.Options(n_test=100))


class TestNPZ(DatasetContract):
    @pytest.fixture(autouse=True)
    def _placed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
        numbers = np.random.default_rng(0)
        self.files = []
        for name in ("test.npz", "train.npz"):
            images = numbers.integers(0, 256, (10, 6, 8, 3), np.uint8)
            np.savez_compressed(tmp_path / name, images=images, labels=np.arange(10) % 3)
            self.files.append({"file": name, "sha256": hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()})

    def make(self):
        test, train = self.files
        return NPZ(NPZ.Options.model_validate({"test": [test], "train": [train], "n_classes": 3}))


@pytest.mark.shared
class TestCIFAR10(DatasetContract):
    parts: ClassVar = ("test",)  # of the fifty thousand others the loader compares the hash

    @pytest.fixture(autouse=True)
    def _placed(self, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PUREBENCH_DATA", str(shared / "data"))

    def make(self):
        return CIFAR10(CIFAR10.Options())
