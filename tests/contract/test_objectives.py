"""The objectives that ship keep the contract of an objective."""

from __future__ import annotations

from typing import ClassVar

from harness.core.registry import entries
from harness.testing import ObjectiveContract
from harness.testing.nets import tiny_cnn, tiny_dir, tiny_joint, tiny_mae, tiny_maskdit, tiny_unet
from harness.training import objectives


class Shipped(ObjectiveContract):
    use: ClassVar = ""
    options: ClassVar = {}

    def make(self):
        objective = entries("objective")[self.use].load()
        return objective(objective.Options.model_validate({"use": self.use, **self.options}))

    def nets(self):
        return {"classifier": tiny_cnn(), "purifier": tiny_mae()}


class TestClassify(Shipped):
    use = "classify"


class TestAdversarial(Shipped):
    use = "adversarial"


class TestTrades(Shipped):
    use = "trades"
    options: ClassVar = {"steps": 2}


class TestSmoothClassify(Shipped):
    use = "smooth-classify"


class TestClassifyPurified(Shipped):
    use = "classify-purified"


class OfAnAutoencoder(Shipped):
    def net(self):
        return tiny_mae()


class TestReconstruct(OfAnAutoencoder):
    use = "reconstruct"


class TestDenoiseMasked(OfAnAutoencoder):
    use = "denoise-masked"


class TestNoisyImage(OfAnAutoencoder):
    use = "noisy-image"


class TestPurifyClassify(OfAnAutoencoder):
    use = "purify-classify"


class TestPurifyPixels(OfAnAutoencoder):
    use = "purify-pixels"


class TestAToP(OfAnAutoencoder):
    use = "atop"


class TestMaskedDiffusion(Shipped):
    use = "masked-diffusion"

    def net(self):
        return tiny_maskdit()


class TestRestore(Shipped):
    use = "restore"

    def net(self):
        return tiny_dir()


class TestDIR(Shipped):
    use = "dir"
    options: ClassVar = {"kl_steps": 1}

    def net(self):
        return tiny_joint()


class TestDiffuse(Shipped):
    use = "diffuse"

    def net(self):
        return tiny_unet()


class TestBridge(Shipped):
    use = "bridge"

    def net(self):
        return tiny_unet()


def test_each_objective_that_ships_is_tested_but_for_the_one_that_trains_nothing():
    tested = {one.use for one in globals().values() if isinstance(one, type) and issubclass(one, Shipped)} - {""}
    assert tested == set(objectives.TABLE) - {"published"}
    assert [name for name in objectives.TABLE if not entries("objective")[name].load().trains] == ["published"]
