"""The networks that recipes train, by name; their modules, which import torch, are reached when one is built."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar

from harness.components import Network
from harness.nets.sizes import (
    CNNSize,
    DiffusersUNetSize,
    DIRSize,
    JointSize,
    MAESize,
    MaskDiTSize,
    ResNetSize,
    UNetSize,
)

if TYPE_CHECKING:
    from torch import nn

    from harness.core.contracts import DataCard

#: registered name -> where the class is
TABLE = {
    "cnn": "harness.nets.networks:CNN",
    "diffusers-unet": "harness.nets.networks:DiffusersUNet",
    "dir": "harness.nets.networks:DIR",
    "joint": "harness.nets.networks:Joint",
    "mae": "harness.nets.networks:MAE",
    "maskdit": "harness.nets.networks:MaskDiT",
    "resnet": "harness.nets.networks:ResNet",
    "unet": "harness.nets.networks:UNet",
}


class _Built(Network):
    """A network that a function of another module builds.

    Attributes:
        code: where ``build(size, data)`` is.
    """

    code: ClassVar[str]

    def build(self, data: DataCard) -> nn.Module:
        """Return the untrained network; its first weights come from torch's global generator."""
        module, _, name = self.code.partition(":")
        build: Any = getattr(importlib.import_module(module), name)
        net: nn.Module = build(self.options, data)
        return net


class CNN(_Built):
    """A small convolutional classifier: two blocks of two 3 x 3 convolutions, then two linear layers."""

    Options = CNNSize
    code = "harness.nets.cnn:build"


class ResNet(_Built):
    """A residual classifier of small images (He et al. 2016, section 4.2) behind the normalisation of their pixels."""

    Options = ResNetSize
    code = "harness.nets.resnet:build"


class MAE(_Built):
    """A masked autoencoder (He et al. 2022): ViT encoder on visible tokens, lighter ViT decoder on all."""

    Options = MAESize
    code = "harness.nets.mae:build"


class MaskDiT(_Built):
    """A masked diffusion transformer (MaskDiT, Zheng et al. 2024) of pixels, preconditioned as in EDM."""

    Options = MaskDiTSize
    code = "harness.nets.maskdit:build"


class DIR(_Built):
    """DIR's purifier (Zhou et al. 2023): a masked autoencoder that sees both halves of the patches, one at a time."""

    Options = DIRSize
    code = "harness.nets.dir:build"


class UNet(_Built):
    """A noise-predicting U-Net (Ho et al. 2020), diffusers' ``UNet2DModel``."""

    Options = UNetSize
    code = "harness.nets.unet:build"


class DiffusersUNet(_Built):
    """A published U-Net of diffusers, ``UNet2DModel``, by the keys of its ``config.json``."""

    Options = DiffusersUNetSize
    code = "harness.nets.unet:build"


class Joint(_Built):
    """A purifier and the classifier behind it, trained together and kept in one checkpoint."""

    Options = JointSize
    code = "harness.nets.joint:build"
