"""The attacks that ship keep the contract of an attack.

Those on the cross-entropy are tried in other units on two classes: of more it weighs all alike where logits are small.
"""

from __future__ import annotations

import hashlib

import pytest

from attacks.apgd import APGD
from attacks.autoattack import AutoAttack
from attacks.corruption import Corruption
from attacks.fab import FAB
from attacks.fgsm import FGSM
from attacks.joint import Joint
from attacks.minimal import DDN, BrendelBethge, CarliniWagner, DeepFool
from attacks.pgd import PGD
from attacks.replay import Replay
from attacks.square import Square
from attacks.stadv import StAdv
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.data.proposals import Proposals, packed
from harness.testing import AttackContract
from harness.testing.victims import LinearVictim


class TestPGD(AttackContract):
    classes = 2

    def make(self):
        return PGD(PGD.Options(steps=40, step_size=0.2))


class TestPGDByDefault(AttackContract):
    classes = 2
    reach = 1.05  # in L2, 2.5 eps of path leave an angle between a random start and the gradient

    def make(self):
        return PGD(PGD.Options())


class TestPGDFromTheImage(AttackContract):
    random = False

    def make(self):
        return PGD(PGD.Options(random_start=False, loss="margin"))


class TestPGDWithRestartsAndEOT(AttackContract):
    classes = 2

    def make(self):
        return PGD(PGD.Options(steps=40, step_size=0.2, restarts=2, eot=3))


class TestPGDOnDLR(AttackContract):
    maximises = False  # short of the boundary, the largest DLR is not where the margin is smallest

    def make(self):
        return PGD(PGD.Options(steps=40, step_size=10.0, loss="dlr"))


class TestPGDOnTheMargin(AttackContract):
    def make(self):
        return PGD(PGD.Options(steps=10, step_size=10.0, loss="margin"))


class TestFGSM(AttackContract):
    classes = 2
    random = False

    def make(self):
        return FGSM(FGSM.Options())


class TestFGSMFromARandomPoint(AttackContract):
    def make(self):
        return FGSM(FGSM.Options(random_start=True, step_size=10.0, eot=4, loss="margin"))


class TestDDN(AttackContract):
    norms = (Norm.L2,)
    random = False  # the library draws where a gradient is zero, which none of a linear victim is
    by_example = False
    stops = True

    def make(self):
        return DDN(DDN.Options(steps=50))


class TestDDNBeyondTheBoundary(TestDDN):
    stops = False

    def make(self):
        return DDN(DDN.Options(steps=50, extend=True))


class TestCarliniWagner(AttackContract):
    norms = (Norm.L2,)
    random = False
    by_example = False
    stops = True

    def make(self):
        return CarliniWagner(CarliniWagner.Options(steps=40, search_steps=4, step_size=0.1, initial_const=1))


class TestCarliniWagnerBeyondTheBoundary(TestCarliniWagner):
    stops = False

    def make(self):
        return CarliniWagner(
            CarliniWagner.Options(
                steps=20, search_steps=4, step_size=0.1, initial_const=1, abort_early=False, extend=True
            )
        )


class TestDeepFool(AttackContract):
    norms = (Norm.LINF, Norm.L2)
    random = False
    stops = True

    def make(self):
        return DeepFool(DeepFool.Options())


class TestDeepFoolBeyondTheBoundary(TestDeepFool):
    stops = False

    def make(self):
        return DeepFool(DeepFool.Options(extend=True))


@pytest.mark.slow
class TestBrendelBethge(AttackContract):
    random = False  # where DDN finds where to begin
    by_example = False
    stops = True

    def make(self):
        pytest.importorskip("numba", reason="the solver is compiled by numba, of the extra brendel-bethge")
        return BrendelBethge(BrendelBethge.Options(steps=60))


class TestStAdv(AttackContract):
    norms = (Norm.FLOW,)

    def make(self):
        return StAdv(StAdv.Options())


class TestStAdvFromTheImageWithEOT(AttackContract):
    norms = (Norm.FLOW,)
    random = False

    def make(self):
        return StAdv(StAdv.Options(steps=10, restarts=2, eot=3, random_start=False, tau=0))


class TestCorruption(AttackContract):
    norms = (Norm.CORRUPTION,)

    def make(self):
        return Corruption(Corruption.Options())


class TestCorruptionOfOneKind(AttackContract):
    norms = (Norm.CORRUPTION,)
    random = False  # nothing is drawn, and nobody is asked

    def make(self):
        return Corruption(Corruption.Options(kinds=["contrast"]))


class TestReplay(AttackContract):
    norms = tuple(Norm)
    random = False
    searches = False

    @pytest.fixture(autouse=True)
    def files(self, tmp_path, monkeypatch):
        """Images a little away from the toy ones, none for the last; and as many flows."""
        monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
        x, _, draws = LinearVictim().images()
        ids = draws.examples[:5].numpy()
        made = {"images": (x[:5] + 0.001).numpy(), "flows": x[:5].expand(5, 2, 8, 8).numpy()}
        for name, values in made.items():
            (tmp_path / f"{name}.npz").write_bytes(packed(Proposals(ids, values, flows=name == "flows")))
        self.folder = tmp_path

    def make(self, name="images"):
        sha256 = hashlib.sha256((self.folder / f"{name}.npz").read_bytes()).hexdigest()
        return Replay(Replay.Options(file=f"{name}.npz", sha256=sha256))

    def _propose(self, victim, x, y, norm, draws, share=1.5):
        return self.make("flows" if norm is Norm.FLOW else "images").propose(
            victim, x, y, ThreatModel(norm, share, Knowledge.OBLIVIOUS), draws
        )


class TestJointThatHides(AttackContract):
    classes = 2
    inner = True

    def make(self):
        return Joint(Joint.Options(steps=30, step_size=0.2))


@pytest.mark.slow
class TestJointWithTheSameMasksInARestart(TestJointThatHides):
    def make(self):
        return Joint(Joint.Options(steps=60, step_size=0.1, masks="per-restart", eot=2))


class TestJointThatAlwaysHides(TestJointThatHides):
    reach = 1.05  # its way is that of both losses: tests of its own know how far that leads

    def _measured(self):
        return (Norm.LINF, Norm.L2)  # in L1 a step takes the pixel where both losses agree most, not the weightiest one

    def make(self):
        return Joint(Joint.Options(when="always"))


class TestJointThatDisturbsFromTheImage(TestJointThatAlwaysHides):
    random = False

    def make(self):
        return Joint(Joint.Options(direction="disturb", random_start=False, when="always"))


class TestJointOfPlainLossesWithRestartsAndEOT(TestJointThatAlwaysHides):
    units = ()  # a sum of losses as they are depends on what each is counted in

    def make(self):
        return Joint(Joint.Options(scale="plain", weight=1.0, when="always", steps=15, restarts=2, eot=3))


class OfTheLibrary(AttackContract):
    by_example = False  # the library draws for its whole batch


class TestAPGD(OfTheLibrary):
    classes = 2

    def make(self):
        return APGD(APGD.Options(steps=50))


class TestAPGDOnDLR(OfTheLibrary):
    maximises = False  # short of the boundary, the largest DLR is not where the margin is smallest

    def make(self):
        return APGD(APGD.Options(steps=100, loss="dlr", eot=2))

    def test_a_random_victim_falls(self):
        # beyond the boundary too, a larger DLR is no larger margin: in L1 it goes not as far from noise
        self.norms = (Norm.LINF, Norm.L2)
        super().test_a_random_victim_falls()


class TestAPGDOnTheMargin(OfTheLibrary):
    def make(self):
        return APGD(APGD.Options(steps=50, loss="margin", restarts=2))


class TestAPGDTargeted(OfTheLibrary):
    maximises = False

    def make(self):
        return APGD(APGD.Options(steps=100, loss="dlr-targeted", targets=3))


class TestSquare(OfTheLibrary):
    reach = 3.0  # in L2 and L1 its patterns are not the victim's; in Linf tests of its own find the optimum
    queries = 150

    def make(self):
        return Square(Square.Options(n_queries=self.queries, eot=2, rescale=True))

    def test_the_margin_falls_as_far_as_it_can(self):
        self.queries = 300
        super().test_the_margin_falls_as_far_as_it_can()


class TestFAB(OfTheLibrary):
    random = False
    maximises = False  # it looks for the smallest perturbation

    def make(self):
        return FAB(FAB.Options(steps=30, targets=3))

    def test_a_random_victim_falls(self):
        # in L1 few pixels are changed, and those as far as they go: there is no way on in that direction
        self.norms = (Norm.LINF, Norm.L2)
        super().test_a_random_victim_falls()


@pytest.mark.slow
class TestFABUntargeted(TestFAB):
    def make(self):
        return FAB(FAB.Options(steps=30, targeted=False, restarts=2, eot=2))


class TestAutoAttack(OfTheLibrary):
    maximises = False  # where it finds no success it returns the clean image
    units = (1e-3, 1e6)  # its parts are tried with all of them

    def make(self):
        return AutoAttack(AutoAttack.Options())

    @pytest.mark.slow
    def test_no_image_falls_just_short_of_the_known_distance(self):
        super().test_no_image_falls_just_short_of_the_known_distance()  # runs the whole ensemble on survivors


@pytest.mark.slow
class TestAutoAttackRand(TestAutoAttack):
    def make(self):
        return AutoAttack(AutoAttack.Options(version="rand"))
