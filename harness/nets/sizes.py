"""The sizes of the networks that recipes train, checked before torch is needed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.options import Options


class CNNSize(Options):
    """A small convolutional classifier: two blocks of two 3 x 3 convolutions, then two linear layers."""

    use: Literal["cnn"]
    width: int = Field(32, ge=1, description="channels of the first block; the second has twice as many")
    hidden: int = Field(128, ge=1, description="units of the hidden linear layer")


class MAESize(Options):
    """A masked autoencoder (He et al. 2022): ViT encoder on visible tokens, lighter ViT decoder on all."""

    use: Literal["mae"]
    patch: int = Field(2, ge=1, description="side of a square patch in pixels")
    dim: int = Field(96, ge=8, description="encoder width")
    depth: int = Field(4, ge=1, description="encoder blocks")
    heads: int = Field(4, ge=1, description="encoder heads")
    decoder_dim: int = Field(64, ge=8, description="decoder width")
    decoder_depth: int = Field(2, ge=1, description="decoder blocks")
    decoder_heads: int = Field(4, ge=1, description="decoder heads")


class UNetSize(Options):
    """A noise-predicting U-Net (Ho et al. 2020), diffusers' ``UNet2DModel``."""

    use: Literal["unet"]
    channels: tuple[int, ...] = Field((32, 64), min_length=1, description="channels of each resolution")
    layers: int = Field(1, ge=1, description="residual blocks of each resolution")
    groups: int = Field(8, ge=1, description="groups of each group norm; must divide every width")


NetSize = CNNSize | MAESize | UNetSize
