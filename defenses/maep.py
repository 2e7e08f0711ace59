"""MAEP: one pass of a masked autoencoder that was trained to give the clean image back.

Source: Chen and Lu, "Adversarial Masked Autoencoder Purifier with Defense Transferability", arXiv 2501.16904. The
training is the recipe's: the L1 distance to the clean image from an attacked one beside the masked reconstruction loss.
The authors close the gap between masks in training and none at inference by low-rank fine-tuning, which is not here:
our training purifies without masks from the start (objective ``purify-pixels``). Patch size, loss weights, attack and
rank are not known to us, so figures of this class stand for the method, not for their weights. Their own figures meet
attackers who do not know of the purifier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from defenses.dmae import one_pass
from harness.components import Purifier
from harness.core.contracts import Traits
from harness.options import Number, Recipe
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws


class MAEP(Purifier):
    """One pass of a masked autoencoder trained with a purification loss, nothing removed."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Chen and Lu, Adversarial Masked Autoencoder Purifier, arXiv 2501.16904"

    class Options(BaseOptions):
        """Shares of the patches."""

        maep: Recipe = Field(description="recipe of the masked autoencoder with a purification loss")
        mask_ratio: Number = Field(
            0.0, ge=0, lt=1, description="share of the patches that is removed at inference; the paper's is 0"
        )

    options: Options

    @property
    def traits(self) -> Traits:
        """Random where masks are drawn; one differentiable pass."""
        return Traits(random=self.options.mask_ratio > 0, differentiable=True)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the reconstructed images; differentiable in ``x`` when gradients are on."""
        ratio = self.options.mask_ratio
        return one_pass(nets["maep"], x, ratio, draws if ratio > 0 else None).to(x.dtype)
