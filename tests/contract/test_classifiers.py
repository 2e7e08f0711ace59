"""The classifiers that ship keep the contract of a classifier."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar

import pytest
import torch
from safetensors.torch import save

from harness.core.contracts import DataCard
from harness.nets import files
from harness.nets.classifiers import Trained
from harness.nets.files import FromFile
from harness.testing import ClassifierContract
from harness.testing.nets import tiny_cnn, tiny_joint

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = DataCard(shape=(3, 32, 32), n_classes=10, n_test=64, sha256="0" * 64)


class TestTrained(ClassifierContract):
    def make(self):
        return Trained(Trained.Options(recipe="tiny"))

    def nets(self):
        return {"recipe": tiny_cnn()}


class TestOneThatWasTrainedWithAPurifier(TestTrained):
    def nets(self):
        return {"recipe": tiny_joint().classifier}


class TestFromFile(ClassifierContract):
    net: ClassVar = "cnn-a"
    given: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _placed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PUREBENCH_WEIGHTS", str(tmp_path))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = files._build(self.net)
        content = save(made.state_dict())
        (tmp_path / "net.safetensors").write_bytes(content)
        self.sha256 = hashlib.sha256(content).hexdigest()

    def make(self):
        told = {"net": self.net, "file": "net.safetensors", "sha256": self.sha256}
        return FromFile(FromFile.Options(**told, **self.given))

    def card(self):
        return COLOURS


class TestFromFileWithBatchNorm(TestFromFile):
    net: ClassVar = "resnet20"


class TestFromFileWithoutNormalisation(TestFromFile):
    given: ClassVar = {"mean": (0, 0, 0), "std": (1, 1, 1)}
