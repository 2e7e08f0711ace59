"""The sizes of the networks that recipes train, checked before torch is needed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from harness.options import Deviation, Grey, Number, Options

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
    mean: tuple[Grey, ...] = Field(
        IMAGENET[0], min_length=1, description="subtracted from pixels in [0, 1], per channel or for all"
    )
    std: tuple[Deviation, ...] = Field(IMAGENET[1], min_length=1, description="what pixels are divided by then")

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
    mean: tuple[Grey, ...] = Field((0.5,), min_length=1, description="subtracted from pixels, per channel or for all")
    std: tuple[Deviation, ...] = Field((0.5,), min_length=1, description="what pixels are divided by then")
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


class DiffusersUNetSize(Options):
    """A published U-Net of diffusers, ``UNet2DModel``, by the keys of its ``config.json``.

    The defaults are those of google/ddpm-cifar10-32 (Ho et al. 2020). What the weights' names and shapes do not show is
    here; a key of ``config.json`` that is not changes them, or nothing at inference.
    """

    use: Literal["diffusers-unet"]
    sample_size: int = Field(32, ge=1, description="side of the images in pixels")
    in_channels: int = Field(3, ge=1, description="channels of the images")
    out_channels: int = Field(3, ge=1, description="channels of the noise; as many, without a learned variance")
    center_input_sample: Literal[False] = Field(False, description="images come in [-1, 1]")
    time_embedding_type: Literal["positional"] = Field("positional", description="sines and cosines of the step")
    freq_shift: int = Field(1, ge=0, description="taken from the number of their frequencies")
    flip_sin_to_cos: bool = Field(False, description="the cosines come first")
    down_block_types: tuple[Literal["DownBlock2D", "AttnDownBlock2D"], ...] = Field(
        ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        min_length=1,
        description="blocks of each resolution on the way down, with self-attention or without",
    )
    up_block_types: tuple[Literal["UpBlock2D", "AttnUpBlock2D"], ...] = Field(
        ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        min_length=1,
        description="those on the way up, the coarsest resolution first",
    )
    block_out_channels: tuple[int, ...] = Field(
        (128, 256, 256, 256), min_length=1, description="channels of each resolution, the finest first"
    )
    layers_per_block: int = Field(2, ge=1, description="residual blocks of each resolution")
    mid_block_scale_factor: Number = Field(1, gt=0, description="what sums in the middle block are divided by")
    add_attention: bool = Field(True, description="self-attention in the middle block")
    downsample_padding: Literal[0, 1] = Field(0, description="zeros right and below alone (0), or on all sides (1)")
    act_fn: Literal["silu"] = Field("silu", description="the nonlinearity")
    attention_head_dim: int | None = Field(None, ge=1, description="channels of a head; nothing: one head has all")
    norm_num_groups: int = Field(32, ge=1, description="groups of each group norm; must divide every width")
    attn_norm_num_groups: int | None = Field(None, ge=1, description="those of the middle attention, if others")
    norm_eps: Number = Field(1e-6, gt=0, description="added to the variance in the group norms")

    @model_validator(mode="after")
    def _whole(self) -> DiffusersUNetSize:
        widths = self.block_out_channels
        for name in ("down_block_types", "up_block_types"):
            told = len(getattr(self, name))
            if told != len(widths):
                raise ValueError(f"expected as many {name} as block_out_channels, got {told} for {len(widths)}")
        if self.in_channels != self.out_channels:
            raise ValueError(
                f"expected as many out_channels as in_channels, got {self.out_channels} for {self.in_channels}; "
                "a network that learns a variance beside the noise has no adapter yet"
            )
        for name in ("norm_num_groups", "attn_norm_num_groups", "attention_head_dim"):
            divisor = getattr(self, name)
            odd = next((width for width in widths if divisor and width % divisor), None)
            if odd is not None:
                raise ValueError(f"expected {name} that divides all block_out_channels, got {divisor} for {odd}")
        return self


class JointSize(Options):
    """A purifier and the classifier behind it, trained together and kept in one checkpoint."""

    use: Literal["joint"]
    purifier: Annotated[MAESize | DIRSize, Field(discriminator="use")] = Field(description="what purifies")
    classifier: Annotated[CNNSize | ResNetSize, Field(discriminator="use")] = Field(
        description="what classifies the purified images"
    )


NetSize = CNNSize | ResNetSize | MAESize | MaskDiTSize | DIRSize | UNetSize | DiffusersUNetSize | JointSize
