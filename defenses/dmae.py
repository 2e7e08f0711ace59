"""DMAE as a purifier: noise the input, denoise it by a denoising masked autoencoder, classify.

Source: Wu et al., "Denoising Masked Autoencoders Help Robust Classification", ICLR 2023, section 3.2 (pre-training:
noise on the whole image, loss over all patches of the clean one). As a purifier it stands in AToP's ablation (Lin et
al., ICLR 2024), behind noise of deviation 0.25 and a mask of a quarter: that is ``mask_ratio: 0.25``. By default
nothing is removed, as at the paper's inference.

DMAE itself is not here. Its authors remove 3/4 of the patches in training, on images of 224 x 224 with targets
normalised by patch, then tune the encoder as a ViT under noise and certify that one; they never classify what the
decoder makes. The recipes that ship remove a quarter, predict pixels, and are trained for minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from harness.components import Purifier
from harness.core.contracts import Traits
from harness.options import Number, Pixels, Recipe
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.core.contracts import Nets
    from harness.draws import Draws


class DMAE(Purifier):
    """Gaussian noise, then one pass of a denoising masked autoencoder."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Wu et al., Denoising Masked Autoencoders Help Robust Classification, ICLR 2023"

    class Options(BaseOptions):
        """Units: pixels in [0, 1]."""

        dmae: Recipe = Field(description="recipe of the denoising masked autoencoder")
        sigma: Pixels = Field(0.25, ge=0, description="standard deviation of the noise; that of training, by default")
        mask_ratio: Number = Field(0.0, ge=0, lt=1, description="share of the patches that is removed at inference")

    options: Options

    @property
    def traits(self) -> Traits:
        """Random through noise and mask; one differentiable pass."""
        return Traits(random=self.options.sigma > 0 or self.options.mask_ratio > 0, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the denoised images; differentiable in ``x`` when gradients are on."""
        noisy = x + self.options.sigma * draws.at("noise").normal(*x.shape[1:])
        return one_pass(nets["dmae"], noisy, self.options.mask_ratio, draws if self.traits.random else None).to(x.dtype)


def one_pass(net: nn.Module, x: Tensor, mask_ratio: float, draws: Draws | None, like: Tensor | None = None) -> Tensor:
    """Return what an autoencoder makes of images ``(B, C, H, W)`` in one pass, clipped to [0, 1].

    All patches are the net's own, visible ones included.

    Args:
        net: a masked autoencoder.
        x: what it sees.
        mask_ratio: share of the patches that is removed; 0 without draws.
        draws: of the mask; None keeps the patches in their order, so that nothing is left to chance.
        like: images whose patches lend mean and deviation to normalised predictions; default ``x``.
    """
    import torch

    from harness.bounds import clip

    n_patches = int(net.n_patches)  # type: ignore[arg-type]
    if draws is not None:
        order = draws.at("mask").permutation(n_patches)
    else:  # an order that is drawn changes the order of additions, and so the last digits
        order = torch.arange(n_patches, device=x.device).expand(len(x), -1)
    found = net(x, order, mask_ratio)
    image: Tensor = net.pixels(found.patches, x if like is None else like)  # type: ignore[operator]
    return clip(image)
