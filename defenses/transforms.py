"""Classical input transforms: no network, no training; what purification is measured against since 2018.

All have fallen to attackers who know them (Athalye et al. 2018, "Obfuscated Gradients Give a False Sense of Security").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from harness.components import Purifier
from harness.core.contracts import Setting, Traits
from harness.core.threat import Knowledge
from harness.options import Number
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws


def _refuse_steps(name: str, smooth: str, setting: Setting) -> str | None:
    """Return why a derivative of rounding is no attack, exact or smooth; None where it is not asked for."""
    if setting.threat.knowledge is Knowledge.FULL:
        return (
            f"{name} rounds, and the derivative of a step function is zero almost everywhere, so `full` has no "
            "gradient to follow; use knowledge: bpda"
        )
    if setting.threat.knowledge is Knowledge.SMOOTH:
        return (
            f"{name} rounds and takes no signs, and the smooth function that stands for rounding is the identity: "
            f"{smooth}; use knowledge: bpda"
        )
    return None


class JPEG(Purifier):
    """Compress by JPEG and decompress.

    Pixels are rounded to 8 bits first; colours are kept at half the resolution, as is libjpeg's habit. It works image
    by image on the CPU and is deterministic.

    The best that an attacker is offered is BPDA, by the identity; a differentiable JPEG, whose rounding is a polynomial
    (Shin and Song 2017), is not here.
    """

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Dziugaite et al. 2016; Guo et al., ICLR 2018"

    class Options(BaseOptions):
        """The scale of libjpeg."""

        quality: int = Field(75, ge=1, le=100, description="of libjpeg, 100 being the best; Guo et al. take 75")

    options: Options

    #: fixed; a step function
    traits = Traits(random=False, differentiable=False)

    def refuses(self, setting: Setting) -> str | None:
        """Refuse the exact gradient, which is zero, and a smooth one, which is the identity."""
        smooth = "through it an image comes back, colours at half the resolution, and `smooth` adds little to `bpda`"
        return _refuse_steps("jpeg", smooth, setting)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images after compression; one or three channels."""
        import io

        import numpy as np
        import torch
        from PIL import Image

        levels = (255.0 * x.detach()).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()  # (B, H, W, C)
        found = np.empty_like(levels)
        for place, image in enumerate(levels):
            with io.BytesIO() as file:
                Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(
                    file, "JPEG", quality=self.options.quality
                )
                found[place] = np.asarray(Image.open(file)).reshape(image.shape)
        return torch.from_numpy(found).permute(0, 3, 1, 2).to(x.device, x.dtype) / 255.0


class BitDepth(Purifier):
    """Round every pixel to 2^bits levels, 0 and 1 among them."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Xu et al., Feature Squeezing, NDSS 2018, colour depth"

    class Options(BaseOptions):
        """Bits of a pixel."""

        bits: int = Field(5, ge=1, le=8, description="bits per pixel; the paper takes 1 for MNIST, 5 for CIFAR-10")

    options: Options

    #: fixed; a step function
    traits = Traits(random=False, differentiable=False)

    def refuses(self, setting: Setting) -> str | None:
        """Refuse the exact gradient, which is zero, and a smooth one, which is the identity."""
        smooth = "through it an image comes back as it was, so that `smooth` would only repeat `bpda`"
        return _refuse_steps("bit-depth", smooth, setting)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images in fewer levels."""
        top = float(2**self.options.bits - 1)
        return (top * x).round() / top


class Blur(Purifier):
    """Gaussian blur, with the image mirrored at its edges.

    The paper takes the median of windows of 2 x 2 or 3 x 3, and means of alike patches: ours is linear, and its width
    is no one's but ours.
    """

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Xu et al., Feature Squeezing, NDSS 2018, smoothing, with a Gaussian for the median"

    class Options(BaseOptions):
        """Units: pixels of the grid."""

        sigma: Number = Field(0.7, gt=0, description="standard deviation of the kernel")
        kernel: int = Field(3, ge=1, description="side of the kernel; odd, and less than twice that of the image")

        @field_validator("kernel")
        @classmethod
        def _odd(cls, value: int) -> int:
            if value % 2 == 0:
                raise ValueError(f"expected an odd side, so that the kernel has a middle, got {value}")
            return value

    options: Options

    #: fixed and linear
    traits = Traits(random=False, differentiable=True)

    def refuses(self, setting: Setting) -> str | None:
        """Refuse a kernel that reaches over the image's other edge."""
        side = min(setting.data.shape[1:])
        if self.options.kernel >= 2 * side:
            return f"expected a kernel of less than twice the image's side, {side}, got {self.options.kernel}"
        return None

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the blurred images."""
        from torchvision.transforms.v2.functional import gaussian_blur

        from harness.bounds import clip

        size = [self.options.kernel, self.options.kernel]
        found: Tensor = gaussian_blur(x, size, [self.options.sigma, self.options.sigma])
        return clip(found).to(x.dtype)


class ResizePad(Purifier):
    """Shrink to a random size, then pad with zeros to the old size at a random place.

    The authors enlarge: 299 pixels become 299 to 330, padded to 331. A classifier of one input size cannot take that,
    so here the canvas is the image's own size and the content is smaller; its share of it, 0.9 to 1, is theirs.
    """

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Xie et al., Mitigating Adversarial Effects Through Randomization, ICLR 2018"

    class Options(BaseOptions):
        """Shares of the image's side."""

        scale: Number = Field(
            0.9,
            gt=0,
            le=1,
            description="smallest side of the content, rounded down; every side from it to the whole is as likely",
        )
        interpolation: Literal["nearest", "bilinear"] = Field("nearest", description="the authors' code has nearest")

    options: Options

    @property
    def traits(self) -> Traits:
        """Random in size and place; linear in the image."""
        return Traits(random=self.options.scale < 1, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images shrunk and padded; height and width shrink by the same share."""
        from harness.bounds import clip

        share = draws.at("size").uniform()
        down = self._along(x, x.shape[2], share, draws.at("top").uniform())
        across = self._along(x, x.shape[3], share, draws.at("left").uniform())
        return clip(down.unsqueeze(1) @ x @ across.unsqueeze(1).transpose(2, 3)).to(x.dtype)

    def _along(self, x: Tensor, whole: int, share: Tensor, place: Tensor) -> Tensor:
        """Return one axis' resizing and padding as matrices ``(B, whole, whole)``: resizing is linear and separable.

        Args:
            x: says dtype and device.
            whole: the axis' length.
            share: ``(B,)`` in [0, 1), which of the sizes.
            place: ``(B,)`` in [0, 1), which of the places.
        """
        import torch
        from torch.nn import functional as F

        smallest = max(1, int(self.options.scale * whole + 1e-9))
        sizes = range(smallest, whole + 1)
        identity = torch.eye(whole, dtype=x.dtype, device=x.device)[None, None]
        sides = [F.interpolate(identity, (size, whole), mode=self.options.interpolation)[0, 0] for size in sizes]
        table = torch.stack([F.pad(side, (0, 0, 0, whole - len(side))) for side in sides])  # (S, whole, whole)
        which = (share * len(sizes)).long()  # (B,)
        size = which + smallest
        start = (place * (whole - size + 1)).long()
        row = torch.arange(whole, device=x.device)[None, :] - start[:, None]  # (B, whole), of the content
        inside = (row >= 0) & (row < size[:, None])
        return table[which[:, None], row.clamp(0, whole - 1)] * inside.unsqueeze(2)
