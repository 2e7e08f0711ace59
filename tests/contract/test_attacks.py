"""The attacks that ship keep the contract of an attack."""

from __future__ import annotations

import pytest

from attacks.apgd import APGD
from attacks.autoattack import AutoAttack
from attacks.fab import FAB
from attacks.fgsm import FGSM
from attacks.pgd import PGD
from attacks.square import Square
from harness.core.threat import Norm
from harness.testing import AttackContract


class TestPGD(AttackContract):
    reach = 1.05  # in L2, 2.5 eps of path leave an angle between a random start and the gradient

    def make(self):
        return PGD(PGD.Options())


class TestPGDFromTheImage(AttackContract):
    random = False

    def make(self):
        return PGD(PGD.Options(random_start=False, loss="margin"))


class TestPGDWithRestartsAndEOT(AttackContract):
    reach = 1.05

    def make(self):
        return PGD(PGD.Options(steps=15, restarts=2, eot=3))


class TestPGDWithAStepSize(AttackContract):
    norms = (Norm.LINF, Norm.L2)  # in L1 so short a step would not come to the boundary

    def make(self):
        return PGD(PGD.Options(steps=60, step_size=0.05, loss="margin"))


class TestPGDOnDLR(AttackContract):
    reach = 1.05  # short of the boundary, the largest DLR is not where the margin is smallest

    def make(self):
        return PGD(PGD.Options(steps=40, step_size=10.0, loss="dlr"))


class TestPGDOnTheMargin(AttackContract):
    def make(self):
        return PGD(PGD.Options(steps=10, step_size=10.0, loss="margin"))


class TestFGSM(AttackContract):
    random = False

    def make(self):
        return FGSM(FGSM.Options())


class TestFGSMFromARandomPoint(AttackContract):
    def make(self):
        return FGSM(FGSM.Options(random_start=True, step_size=10.0, eot=4, loss="margin"))


class OfTheLibrary(AttackContract):
    by_example = False  # the library draws for its whole batch


class TestAPGD(OfTheLibrary):
    def make(self):
        return APGD(APGD.Options(steps=50))


class TestAPGDOnDLR(OfTheLibrary):
    reach = 1.05

    def make(self):
        return APGD(APGD.Options(steps=100, loss="dlr", eot=2))


class TestAPGDOnTheMargin(OfTheLibrary):
    def make(self):
        return APGD(APGD.Options(steps=50, loss="margin", restarts=2))


class TestAPGDTargeted(OfTheLibrary):
    reach = 1.05

    def make(self):
        return APGD(APGD.Options(steps=100, loss="dlr-targeted", targets=3))


class TestSquare(OfTheLibrary):
    reach = 3.0  # the rows of a Hadamard matrix are the worst that squares can meet

    def make(self):
        return Square(Square.Options(n_queries=300, eot=2, rescale=True))


class TestFAB(OfTheLibrary):
    random = False
    maximises = False  # it looks for the smallest perturbation

    def make(self):
        return FAB(FAB.Options(steps=30, targets=3))

    def test_a_random_victim_falls(self):
        # in L1 few pixels are changed, and those as far as they go: there is no way on in that direction
        self.norms = (Norm.LINF, Norm.L2)
        super().test_a_random_victim_falls()


class TestFABUntargeted(TestFAB):
    def make(self):
        return FAB(FAB.Options(steps=30, targeted=False, restarts=2, eot=2))


class TestAutoAttack(OfTheLibrary):
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
