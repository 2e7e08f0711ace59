"""The defenses that ship keep the contract of a defense."""

from __future__ import annotations

from typing import ClassVar

from defenses.diffpure import DiffPure
from defenses.dmae import DMAE
from defenses.mae_pure import MAEPure
from defenses.none import Undefended
from harness.core.threat import Norm
from harness.options import NoOptions
from harness.testing import DefenseContract
from harness.testing.nets import tiny_mae, tiny_unet


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


class TestDiffPureByDDPM(DefenseContract):
    sampler = "ddpm"

    def make(self):
        return DiffPure(DiffPure.Options(unet="tiny", t_star=40, steps=4, sampler=self.sampler))

    def nets(self):
        return {"unet": tiny_unet()}


class TestDiffPureByDDIM(TestDiffPureByDDPM):
    sampler = "ddim"


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
