"""NIM-MAE (De^3): noise the input, denoise it once by an autoencoder that was trained on noisy, unmasked images.

Source: You et al., "Beyond Pretrained Features: Noisy Image Modeling Provides Adversarial Defense", NeurIPS 2023. Its
classifier is fine-tuned on denoised images of weaker noise, so the figures of the paper are those of the pair: name it
under ``classifier``. By default the suite's stands behind the denoiser, so that rows compare. The authors' is a ViT
that begins as the denoiser's encoder, with patches of 16 on ImageNet; tuning that is not here, nor its mixup, cutmix
and drop-path (objective ``classify-purified``): a recipe tunes any classifier in its place. The paper's attacks draw
the noise anew in every step and average nothing, so its robust figures flatter; ask for ``eot``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from defenses.dmae import one_pass
from harness.components import Purifier
from harness.core.contracts import Traits
from harness.options import Options as BaseOptions
from harness.options import Pixels, Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.core.contracts import Nets
    from harness.draws import Draws


class NIMMAE(Purifier):
    """Gaussian noise, then one pass of a denoising autoencoder that sees every patch."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "You et al., Noisy Image Modeling Provides Adversarial Defense, NeurIPS 2023"

    class Options(BaseOptions):
        """Units: pixels in [0, 1]."""

        nim: Recipe = Field(description="recipe of the autoencoder of noisy images")
        sigma: Pixels = Field(
            70 / 255, ge=0, description="standard deviation of the noise; the authors' script has 0, 70/255 and 140/255"
        )
        statistics: Literal["input", "noisy"] = Field(
            "input",
            description="where normalised predictions have each patch's mean and deviation from: the images before the "
            "noise, as in the authors' code, so that an attack's come back with them; or what the net is shown",
        )
        classifier: Recipe | None = Field(
            None, description="recipe of a classifier that was tuned on denoised images, in place of the suite's"
        )

    options: Options

    @property
    def traits(self) -> Traits:
        """Random through its noise; one differentiable pass."""
        own = self.options.classifier is not None
        return Traits(random=self.options.sigma > 0, differentiable=True, own_classifier=own)

    def classifier(self, nets: Nets) -> nn.Module | None:
        """Return the classifier that was tuned on denoised images, if the options name one."""
        return nets.get("classifier")

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the denoised images; differentiable in ``x`` when gradients are on."""
        noisy = x + self.options.sigma * draws.at("noise").normal(*x.shape[1:])
        like = x if self.options.statistics == "input" else noisy
        return one_pass(nets["nim"], noisy, 0.0, None, like).to(x.dtype)
