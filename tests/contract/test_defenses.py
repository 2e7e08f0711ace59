"""The defenses that ship keep the contract of a defense."""

from __future__ import annotations

from typing import ClassVar

import pytest

from defenses.amv_oracle import AMVOracle
from defenses.atop import AToP
from defenses.contrastive import Contrastive
from defenses.controls import Noise, RandomSign
from defenses.coup import COUP
from defenses.diffpure import ADBM, DiffPure
from defenses.dir import DIR
from defenses.dmae import DMAE
from defenses.gdmp import GDMP
from defenses.lm import LM
from defenses.mae_pure import MAEPure, RMAEPure
from defenses.maep import MAEP
from defenses.maskdit_pure import MaskDiTPure, RMaskDiTPure
from defenses.nim_mae import NIMMAE
from defenses.none import Undefended
from defenses.scoreopt import ScoreOpt
from defenses.soap import SOAP
from defenses.transforms import JPEG, BitDepth, Blur, ResizePad
from harness.core.registry import entries
from harness.core.threat import Norm
from harness.options import NoOptions
from harness.testing import DefenseContract
from harness.testing.nets import by_default, tiny_cnn, tiny_dir, tiny_joint, tiny_mae, tiny_maskdit, tiny_unet


class TestUndefended(DefenseContract):
    def make(self):
        return Undefended(NoOptions())


class TestMAEPureWithFreshMasks(DefenseContract):
    how: ClassVar = {"mask_mode": "fresh"}

    def make(self):
        return MAEPure(MAEPure.Options(mae="tiny", steps=4, masks=2, eps=0.1, **self.how))

    def nets(self):
        return {"mae": tiny_mae()}

    def ball(self):
        return Norm.LINF, 0.1


class TestMAEPureWithFixedMasks(TestMAEPureWithFreshMasks):
    how: ClassVar = {"mask_mode": "fixed"}


class TestMAEPureWithHalvedSteps(TestMAEPureWithFreshMasks):
    how: ClassVar = {"halve_step": True, "mask_ratio": 0.5}


class TestMAEPureThroughTheVisibleInput(TestMAEPureWithFreshMasks):
    how: ClassVar = {"gradient": "visible", "ratio_is": "kept"}


class TestMAEPureThroughTheMaskedTarget(TestMAEPureWithFreshMasks):
    how: ClassVar = {"gradient": "target", "units": "normalised"}


class TestMAEPureOfANetWithNormalisedTargets(TestMAEPureWithFreshMasks):
    def nets(self):
        return {"mae": tiny_mae(targets="normalised")}


class TestMAEPureInPixelsOfANetWithNormalisedTargets(TestMAEPureOfANetWithNormalisedTargets):
    how: ClassVar = {"units": "raw"}


class TestRMAEPure(TestMAEPureWithFreshMasks):
    def make(self):
        return RMAEPure(RMAEPure.Options(mae="tiny", steps=3, eps=0.1))


class TestMaskDiTPure(DefenseContract):
    how: ClassVar = {}
    net: ClassVar = {}

    def make(self):
        return MaskDiTPure(MaskDiTPure.Options(maskdit="tiny", **({"steps": 3, "eps": 0.1, "masks": 2} | self.how)))

    def nets(self):
        return {"maskdit": tiny_maskdit(**self.net)}

    def ball(self):
        return Norm.LINF, 0.1


class TestMaskDiTPureOfTheReconstructionAlone(TestMaskDiTPure):
    how: ClassVar = {"denoising_weight": 0, "mask_mode": "fixed", "halve_step": True}
    net: ClassVar = {"targets": "normalised"}


class TestMaskDiTPureAtSeveralLevelsWithoutNoise(TestMaskDiTPure):
    how: ClassVar = {"sigma": (0.3, 0.1), "noise": "none", "gradient": "visible", "ratio_is": "kept"}
    net: ClassVar = {"masked": "preconditioned"}


class TestRMaskDiTPure(TestMaskDiTPure):
    def make(self):
        return RMaskDiTPure(RMaskDiTPure.Options(maskdit="tiny", steps=2, eps=0.1))


class TestDiffPureByDDPM(DefenseContract):
    sampler = "ddpm"

    def make(self):
        return DiffPure(DiffPure.Options(unet="tiny", t_star=40, steps=4, sampler=self.sampler))

    def nets(self):
        return {"unet": tiny_unet()}


class TestDiffPureByDDIM(TestDiffPureByDDPM):
    sampler = "ddim"


class TestDiffPureByTheStochasticEquation(TestDiffPureByDDPM):
    sampler = "sde"


class TestDiffPureByTheLibrary(TestDiffPureByDDPM):
    sampler = "torchsde"


class TestDiffPureByTheFlow(TestDiffPureByDDPM):
    sampler = "ode"


class TestDiffPureInRoundsWithVotes(TestDiffPureByDDPM):
    def make(self):
        return DiffPure(DiffPure.Options(unet="tiny", t_star=[10, 20], steps=[2, 1], sampler="ddpm", votes=3))


class TestADBM(DefenseContract):
    how: ClassVar = {}

    def make(self):
        return ADBM(ADBM.Options(unet="tiny", **self.how))

    def nets(self):
        return {"unet": tiny_unet()}


class TestADBMByAncestralStepsFromAnotherLevel(TestADBM):
    how: ClassVar = {"t_star": 40, "steps": 4, "sampler": "ddpm"}


class TestGDMP(DefenseContract):
    how: ClassVar = {}

    def make(self):
        return GDMP(
            GDMP.Options(**({"unet": "tiny", "t_star": 20, "steps": 2, "rounds": 2, "guide_scale": 125_000} | self.how))
        )

    def nets(self):
        return {"unet": tiny_unet()}


class TestGDMPBySimilarity(TestGDMP):
    how: ClassVar = {"guide": "ssim", "guide_scale": 2000}


class TestGDMPWithADetachedGuide(TestGDMP):
    how: ClassVar = {"path": "detached", "guide": "ssim", "rounds": 1}


class TestCOUP(DefenseContract):
    how: ClassVar = {}

    def make(self):
        return COUP(COUP.Options(**({"unet": "tiny", "guide": "tiny", "t_star": 20, "steps": 2} | self.how)))

    def nets(self):
        return {"unet": tiny_unet(), "guide": tiny_cnn()}


class TestCOUPByTheFlow(TestCOUP):
    how: ClassVar = {"sampler": "ode"}


class TestCOUPAfterForwardNoise(TestCOUP):
    how: ClassVar = {"sampler": "ddim", "forward_noise": True}


class TestCOUPWithADetachedGuide(TestCOUP):
    how: ClassVar = {"path": "detached", "weight": 100}

    def nets(self):
        guide = tiny_cnn()
        for weights in guide.parameters():
            weights.mul_(2.0)  # sure enough of itself to be felt
        return {"unet": tiny_unet(), "guide": guide}


class TestDMAE(DefenseContract):
    how: ClassVar = {}

    def make(self):
        return DMAE(DMAE.Options(dmae="tiny", **self.how))

    def nets(self):
        return {"dmae": tiny_mae()}


class TestDMAEWithMasks(TestDMAE):
    how: ClassVar = {"mask_ratio": 0.5}


class TestDMAEWithoutNoise(TestDMAE):
    how: ClassVar = {"sigma": 0.0}


class TestAToP(DefenseContract):
    how: ClassVar = {}
    targets = "raw"

    def make(self):
        return AToP(AToP.Options(generator="tiny", **self.how))

    def nets(self):
        return {"generator": tiny_mae(targets=self.targets)}


class TestAToPByMasksAlone(TestAToP):
    how: ClassVar = {"transform": "RT1", "mask_ratio": 0.5}


class TestAToPByMasksThatCover(TestAToP):
    how: ClassVar = {"transform": "RT3", "patch": 4}
    targets = "normalised"


class TestMAEP(DefenseContract):
    how: ClassVar = {}

    def make(self):
        return MAEP(MAEP.Options(maep="tiny", **self.how))

    def nets(self):
        return {"maep": tiny_mae()}


class TestMAEPWithMasks(TestMAEP):
    how: ClassVar = {"mask_ratio": 0.5}


class TestNIMMAE(DefenseContract):
    how: ClassVar = {}
    targets = "raw"

    def make(self):
        return NIMMAE(NIMMAE.Options(nim="tiny", **self.how))

    def nets(self):
        return {"nim": tiny_mae(targets=self.targets)}


class TestNIMMAEWithStatisticsOfTheInput(TestNIMMAE):
    targets = "normalised"


class TestNIMMAEWithStatisticsOfTheNoisyImage(TestNIMMAE):
    how: ClassVar = {"statistics": "noisy"}
    targets = "normalised"


class TestNIMMAEWithoutNoise(TestNIMMAE):
    how: ClassVar = {"sigma": 0.0}


class TestDIR(DefenseContract):
    def make(self):
        return DIR(DIR.Options(dir="tiny"))

    def nets(self):
        return {"dir": tiny_dir()}


class TestDIRWithItsClassifier(DefenseContract):
    def make(self):
        return DIR(DIR.Options(dir="tiny", classifier="joint"))

    def nets(self):
        return {"dir": tiny_joint()}


class TestDIRTrainedJointlyBeforeTheCellsClassifier(TestDIRWithItsClassifier):
    def make(self):
        return DIR(DIR.Options(dir="tiny"))


class TestNIMMAEWithItsClassifier(TestNIMMAE):
    how: ClassVar = {"classifier": "tiny"}

    def nets(self):
        return {"nim": tiny_mae(), "classifier": tiny_cnn()}


class TestContrastive(DefenseContract):
    how: ClassVar = {}

    def make(self):
        options = {"unet": "tiny", "guide": "tiny", "t_star": 30, "steps": 3} | self.how
        return Contrastive(Contrastive.Options(**options))

    def nets(self):
        return {"unet": tiny_unet(), "guide": tiny_cnn()}


class TestContrastiveAlone(TestContrastive):
    how: ClassVar = {"mates": "alone", "sees": "pixels"}


@pytest.mark.slow
class TestContrastiveWithAllNegativesAlike(TestContrastive):
    how: ClassVar = {"estimator": "soft", "sampler": "ddim"}


@pytest.mark.slow
class TestContrastiveWithAllPairs(TestContrastive):
    how: ClassVar = {"pairs": "all"}


class TestContrastiveThatIsTrainedOn(TestContrastive):
    how: ClassVar = {"memory": "kept"}


class TestContrastiveAsTheAuthorsHaveIt(TestContrastive):
    how: ClassVar = {"pairs": "all", "memory": "kept", "path": "detached", "multiplier": 5e4}


class TestScoreOptOfTheImage(DefenseContract):
    how: ClassVar = {}

    def make(self):
        return ScoreOpt(ScoreOpt.Options(**({"unet": "tiny", "steps": 3, "lr": 0.05} | self.how)))

    def nets(self):
        return {"unet": tiny_unet()}


class TestScoreOptOfTheNoise(TestScoreOptOfTheImage):
    how: ClassVar = {"optimised": "noise"}


class TestScoreOptWithoutAPath(TestScoreOptOfTheImage):
    how: ClassVar = {"path": "detached"}


class TestLM(DefenseContract):
    how: ClassVar = {}

    def make(self):
        return LM(LM.Options(**({"unet": "tiny", "steps": 3, "lr": 0.05} | self.how)))

    def nets(self):
        return {"unet": tiny_unet()}


class TestLMWithoutAPath(TestLM):
    how: ClassVar = {"path": "detached"}


class TestSOAPByReconstruction(DefenseContract):
    how: ClassVar = {}

    def make(self):
        return SOAP(SOAP.Options(net="tiny", steps=2, eps=0.1, radii=3, **self.how))

    def nets(self):
        return {"net": tiny_mae()}

    def ball(self):
        return Norm.LINF, 0.1


class TestSOAPByMaskedReconstruction(TestSOAPByReconstruction):
    how: ClassVar = {"mask_ratio": 0.5}


class TestSOAPByConsistency(TestSOAPByReconstruction):
    how: ClassVar = {"auxiliary": "consistency", "flip": True}

    def nets(self):
        return {"net": tiny_cnn()}


class TestAMVOracle(DefenseContract):
    how: ClassVar = {}

    def make(self):
        return AMVOracle(AMVOracle.Options(mae="tiny", steps=3, eps=0.1, **self.how))

    def nets(self):
        return {"mae": tiny_mae()}

    def ball(self):
        return Norm.LINF, 0.1


class TestAMVOracleOfTheLastLayer(TestAMVOracle):
    how: ClassVar = {"layers": "last", "masks": 2, "mask_mode": "fixed", "halve_step": True}


class TestRandomSign(DefenseContract):
    def make(self):
        return RandomSign(RandomSign.Options(eps=0.1))

    def ball(self):
        return Norm.LINF, 0.1


class TestNoise(DefenseContract):
    def make(self):
        return Noise(Noise.Options(sigma=0.05))


class TestJPEG(DefenseContract):
    def make(self):
        return JPEG(JPEG.Options(quality=50))


class TestBitDepth(DefenseContract):
    def make(self):
        return BitDepth(BitDepth.Options(bits=3))

    def ball(self):
        return Norm.LINF, 1 / 14


class TestBlur(DefenseContract):
    def make(self):
        return Blur(Blur.Options(sigma=0.7))


class TestResizePad(DefenseContract):
    how: ClassVar = {}

    def make(self):
        return ResizePad(ResizePad.Options(**({"scale": 0.6} | self.how)))


class TestResizePadByInterpolation(TestResizePad):
    how: ClassVar = {"interpolation": "bilinear"}


class TestResizePadOfTheWholeSize(TestResizePad):
    how: ClassVar = {"scale": 1.0}


def held():
    return {type(case().make()) for case in globals().values() if isinstance(case, type) and is_case(case)}


def is_case(case):
    return issubclass(case, DefenseContract) and case is not DefenseContract


def of_defaults(defense):
    """Return a case of a defense that has none of its own."""

    class Case(DefenseContract):
        def make(self):
            return by_default(defense)[0]

        def nets(self):
            return {role: make() for role, make in by_default(defense)[1].items()}

    return Case


def shipped():
    return {entry.load() for entry in entries("defense").values() if entry.origin.startswith("purebench ")}


for _defense in sorted(shipped() - held(), key=lambda one: one.__name__):
    globals()[f"Test{_defense.__name__}ByDefault"] = of_defaults(_defense)


def test_every_shipped_defense_is_held_to_the_contract():
    assert shipped() <= held()
