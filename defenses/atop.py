"""AToP: transform the image at random, make a whole one of what is left by a generator tuned against attacks.

Source: Lin et al., "Adversarial Training on Purification: Advancing Both Robustness and Generalization", ICLR 2024. The
generator here is a masked autoencoder, as in their ablation with DMAE; their other one is a network that fills holes,
trained against a discriminator. The tuning is the recipe's (objective ``atop``): their rows without it are those of the
recipe that it starts from. Robust figures of theirs that leave the purifier out of the backward pass are BPDA's; ask
for ``full`` and ``eot``.

The authors' figures in their headlines are that other network's. The recipes that ship tune with a weight of 1 for the
cross-entropy, where the authors' code and the objective's default have 0.05: see there.

The transforms are told in ``harness.nets.transforms``. ``RT3`` follows figure 2 of the paper: one draw of noise, and
masks without overlap that cover the image, whose completed patches are put together. How many masks the figures of the
paper have is not known to us; its pictures and code have four, a ``mask_ratio`` of 1/4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.components import Purifier
from harness.core.contracts import Traits
from harness.options import Number, Pixels, Recipe
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws


class AToP(Purifier):
    """Random masks and noise, then one pass of a masked autoencoder that was tuned against attacks on the whole."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Lin et al., Adversarial Training on Purification, ICLR 2024"

    class Options(BaseOptions):
        """Units: pixels in [0, 1]. The defaults are those of the authors' code for CIFAR-10."""

        generator: Recipe = Field(description="recipe of the masked autoencoder that makes whole images")
        transform: Literal["RT1", "RT2", "RT3"] = Field(
            "RT2", description="a mask; noise and a mask; or noise, and masks that cover the image, a pass for each"
        )
        mask_ratio: Number = Field(
            0.25,
            gt=0,
            lt=1,
            description="share of the patches that a mask removes; RT3: at most, so as to cover all",
        )
        sigma: Pixels = Field(0.25, ge=0, description="standard deviation of the noise; RT1 has none")
        patch: int | None = Field(
            None, ge=1, description="side of the squares that masks are made of, in pixels; default: the net's patches"
        )

    options: Options

    #: random through masks and noise; one differentiable pass, or several side by side
    traits = Traits(random=True, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return what the generator makes of the transformed images; differentiable in ``x`` when gradients are on."""
        from harness.bounds import clip
        from harness.nets.transforms import completed

        options = self.options
        _, image = completed(
            nets["generator"],  # type: ignore[arg-type]
            x,
            draws,
            transform=options.transform,
            mask_ratio=options.mask_ratio,
            sigma=options.sigma,
            patch=options.patch,
        )
        return clip(image).to(x.dtype)
