"""The sizes of the networks that recipes train, checked before torch is needed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from harness.options import Eps, Number, Options

#: mean and standard deviation of ImageNet's pixels in [0, 1], by channel
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class CNNSize(Options):
    """A small convolutional classifier: two blocks of two 3 x 3 convolutions, then two linear layers."""

    use: Literal["cnn"]
    width: int = Field(32, ge=1, description="channels of the first block; the second has twice as many")
    hidden: int = Field(128, ge=1, description="units of the hidden linear layer")


class ResNetSize(Options):
    """A residual network for small images (He et al. 2016, section 4.2) behind the normalisation of their pixels."""

    use: Literal["resnet"]
    depth: int = Field(20, ge=8, description="layers: 6 n + 2 with n blocks in each of three stages; 20, 32, 44, 56")
    mean: tuple[Number, ...] = Field(
        IMAGENET[0], min_length=1, description="subtracted from pixels in [0, 1], per channel or for all"
    )
    std: tuple[Eps, ...] = Field(IMAGENET[1], min_length=1, description="what pixels are divided by then")

    @field_validator("depth")
    @classmethod
    def _three_stages(cls, depth: int) -> int:
        if depth % 6 != 2:
            raise ValueError(f"expected a depth of 6 n + 2, such as 20, 32 or 56, got {depth}")
        return depth

    @property
    def blocks(self) -> int:
        """How many blocks a stage has."""
        return (self.depth - 2) // 6


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
    positions: Literal["sincos", "sincos-columns-first", "learned"] = Field(
        "sincos",
        description="fixed sine-cosine with the row in the first half of the channels, the same with the column "
        "there (the authors' code), or a learned table",
    )
    class_token: bool = Field(False, description="a learned token beside the patches, as the authors' code has")
    targets: Literal["raw", "normalised"] = Field(
        "raw", description="predict pixels, or pixels minus their patch's mean over its standard deviation"
    )
    mean: tuple[Number, ...] = Field((0.5,), min_length=1, description="subtracted from pixels, per channel or for all")
    std: tuple[Eps, ...] = Field((0.5,), min_length=1, description="what pixels are divided by then")
    norm_eps: Number = Field(
        1e-5, gt=0, description="added to the variance in the blocks' layer norms; the authors' code: 1e-6"
    )


class MaskDiTSize(Options):
    """A masked diffusion transformer (MaskDiT, Zheng et al. 2024) of pixels, preconditioned as in EDM."""

    use: Literal["maskdit"]
    patch: int = Field(4, ge=1, description="side of a square patch in pixels")
    dim: int = Field(128, ge=8, description="encoder width")
    depth: int = Field(6, ge=1, description="encoder blocks")
    heads: int = Field(4, ge=1, description="encoder heads")
    decoder_dim: int = Field(128, ge=8, description="decoder width")
    decoder_depth: int = Field(3, ge=1, description="decoder blocks")
    decoder_heads: int = Field(4, ge=1, description="decoder heads")
    positions: Literal["sincos", "sincos-columns-first", "learned"] = Field(
        "learned", description="fixed sine-cosine, with the row or the column first, or a learned table"
    )
    targets: Literal["raw", "normalised"] = Field(
        "normalised",
        description="what removed patches are predicted as: pixels, or, as in the authors' code, pixels minus their "
        "patch's mean over its standard deviation",
    )
    masked: Literal["plain", "preconditioned"] = Field(
        "plain",
        description="prediction of a removed patch: the network's output alone, or, as in the authors' code, with the "
        "skip connection to the noisy patch itself, which is most of the answer where there is little noise",
    )
    sigma_data: Number = Field(0.5, gt=0, description="standard deviation of pixels scaled to [-1, 1]; EDM's 0.5")


class DIRSize(Options):
    """DIR's purifier (Zhou et al. 2023): a masked autoencoder that sees both halves of the patches, one at a time."""

    use: Literal["dir"]
    patch: int = Field(2, ge=1, description="side of a square patch in pixels")
    dim: int = Field(192, ge=8, description="width; a multiple of the pixels of a patch, channels counted")
    depth: int = Field(8, ge=1, description="encoder blocks")
    heads: int = Field(3, ge=1, description="heads of encoder and decoder")
    decoder_depth: int = Field(2, ge=1, description="decoder blocks")


class UNetSize(Options):
    """A noise-predicting U-Net (Ho et al. 2020), diffusers' ``UNet2DModel``."""

    use: Literal["unet"]
    channels: tuple[int, ...] = Field((32, 64), min_length=1, description="channels of each resolution")
    layers: int = Field(1, ge=1, description="residual blocks of each resolution")
    groups: int = Field(8, ge=1, description="groups of each group norm; must divide every width")


class JointSize(Options):
    """A purifier and the classifier behind it, trained together and kept in one checkpoint."""

    use: Literal["joint"]
    purifier: Annotated[MAESize | DIRSize, Field(discriminator="use")] = Field(description="what purifies")
    classifier: Annotated[CNNSize | ResNetSize, Field(discriminator="use")] = Field(
        description="what classifies the purified images"
    )


NetSize = CNNSize | ResNetSize | MAESize | MaskDiTSize | DIRSize | UNetSize | JointSize
