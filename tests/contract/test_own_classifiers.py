"""Defenses that bring a classifier of their own keep the contract too."""

from __future__ import annotations

import pytest

from defenses.dir import DIR
from defenses.nim_mae import NIMMAE
from harness.core.errors import UserError
from harness.nets.joint import Joint
from harness.nets.sizes import JointSize
from harness.testing import DefenseContract
from harness.testing.nets import CARD, tiny_cnn, tiny_dir, tiny_mae

SIZE = JointSize.model_validate(
    {
        "use": "joint",
        "purifier": {"use": "dir", "patch": 2, "dim": 16, "depth": 1, "heads": 2, "decoder_depth": 1},
        "classifier": {"use": "cnn", "width": 8, "hidden": 16},
    }
)


class TestNIMMAE(DefenseContract):
    def make(self):
        return NIMMAE(NIMMAE.Options(nim="tiny", classifier="tiny"))

    def nets(self):
        return {"nim": tiny_mae(targets="normalised"), "classifier": tiny_cnn()}


class TestDIR(DefenseContract):
    def make(self):
        return DIR(DIR.Options(dir="tiny", classifier="joint"))

    def nets(self):
        joint = Joint(SIZE, CARD)
        joint.purifier, joint.classifier = tiny_dir(), tiny_cnn()  # the same weights at every call
        return {"dir": joint.eval().requires_grad_(False)}


def test_dirs_own_classifier_is_asked_of_a_joint_network_only():
    with pytest.raises(UserError, match="expected a recipe of a joint network for classifier: joint"):
        DIR(DIR.Options(dir="tiny", classifier="joint")).classifier({"dir": tiny_dir()})
    assert DIR(DIR.Options(dir="tiny")).classifier({"dir": tiny_dir()}) is None
