"""The attacks that ship keep the contract of an attack."""

from __future__ import annotations

import pytest

from attacks.autoattack import AutoAttack
from attacks.joint import Joint
from attacks.pgd import PGD
from harness.testing import AttackContract


class TestPGD(AttackContract):
    def make(self):
        return PGD(PGD.Options())


class TestPGDFromTheImage(AttackContract):
    random = False

    def make(self):
        return PGD(PGD.Options(random_start=False))


class TestPGDWithRestartsAndEOT(AttackContract):
    def make(self):
        return PGD(PGD.Options(steps=15, restarts=2, eot=3))


class TestPGDWithAStepSize(AttackContract):
    def make(self):
        return PGD(PGD.Options(steps=60, step_size=0.05))


class TestJointThatHides(AttackContract):
    inner = True

    def make(self):
        return Joint(Joint.Options())


class TestJointThatDisturbsFromTheImage(TestJointThatHides):
    random = False

    def make(self):
        return Joint(Joint.Options(direction="disturb", random_start=False, when="always"))


class TestJointOfPlainLossesWithRestartsAndEOT(TestJointThatHides):
    def make(self):
        return Joint(Joint.Options(scale="plain", weight=1.0, when="always", steps=15, restarts=2, eot=3))


class TestJointWithTheSameMasksInARestart(TestJointThatHides):
    def make(self):
        return Joint(Joint.Options(masks="per-restart", eot=2))


class TestAutoAttack(AttackContract):
    by_example = False  # the library draws for its whole batch
    maximises = False  # where it finds no success it returns the clean image

    def make(self):
        return AutoAttack(AutoAttack.Options())

    @pytest.mark.slow
    def test_no_image_falls_just_short_of_the_known_distance(self):
        super().test_no_image_falls_just_short_of_the_known_distance()  # runs the whole ensemble on survivors


@pytest.mark.slow
class TestAutoAttackRand(TestAutoAttack):
    def make(self):
        return AutoAttack(AutoAttack.Options(version="rand"))
