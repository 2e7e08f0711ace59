"""The networks that ship keep the contract of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from harness.core.contracts import DataCard
from harness.core.registry import entries
from harness.draws import Draws
from harness.nets import networks
from harness.testing import NetworkContract

if TYPE_CHECKING:
    from torch import Tensor, nn

MAE = {"patch": 2, "dim": 8, "depth": 1, "heads": 2, "decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2}
DIR = {"patch": 2, "dim": 8, "depth": 1, "heads": 2, "decoder_depth": 1}


def order(net, x):
    return Draws(("order",), torch.arange(len(x))).permutation(net.n_patches)


class Shipped(NetworkContract):
    use: ClassVar = ""
    options: ClassVar = {}

    def make(self):
        network = entries("network")[self.use].load()
        return network(network.Options.model_validate({"use": self.use, **self.options}))


class TestCNN(Shipped):
    use = "cnn"
    options: ClassVar = {"width": 4, "hidden": 8}


class TestResNet(Shipped):
    use = "resnet"
    options: ClassVar = {"depth": 8}

    def card(self):
        return DataCard((3, 16, 16), 10, 64, "0" * 64)


class TestMAE(Shipped):
    use = "mae"
    options: ClassVar = MAE
    classifies = False

    def ask(self, net: nn.Module, x: Tensor) -> Tensor:
        return net(x, order(net, x), 0.5).patches


class TestMaskDiT(Shipped):
    use = "maskdit"
    options: ClassVar = MAE
    classifies = False

    def ask(self, net: nn.Module, x: Tensor) -> Tensor:
        return net(x, torch.full((len(x),), 0.1), order(net, x), 0.5).patches


class TestDIR(Shipped):
    use = "dir"
    options: ClassVar = DIR
    classifies = False

    def ask(self, net: nn.Module, x: Tensor) -> Tensor:
        return net(x, order(net, x))


class TestUNet(Shipped):
    use = "unet"
    options: ClassVar = {"channels": (8,), "groups": 4}
    classifies = False

    def ask(self, net: nn.Module, x: Tensor) -> Tensor:
        return net(x, torch.arange(len(x)))


class TestDiffusersUNet(TestUNet):
    use = "diffusers-unet"
    options: ClassVar = {
        "sample_size": 8,
        "in_channels": 1,
        "out_channels": 1,
        "down_block_types": ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",),
        "block_out_channels": (8,),
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }


class TestJoint(Shipped):
    use = "joint"
    options: ClassVar = {"purifier": {"use": "dir", **DIR}, "classifier": {"use": "cnn", "width": 4, "hidden": 8}}
    classifies = False

    def ask(self, net: nn.Module, x: Tensor) -> Tensor:
        return net.classifier(net.purifier(x, order(net.purifier, x)))


def test_each_network_that_ships_is_tested():
    assert {one.use for one in globals().values() if isinstance(one, type) and issubclass(one, Shipped)} == {
        "",
        *networks.TABLE,
    }
