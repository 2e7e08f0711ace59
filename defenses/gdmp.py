"""GDMP: each step back through the diffusion is pulled towards the input, noised to the level of the step.

Source: Wang et al., "Guided Diffusion Model for Adversarial Purification", arXiv 2205.14969; their code adds the
gradient of a guide to the mean of each ancestral step, times the step's variance and

    s_t = sqrt(1 - abar_t) / (m sqrt(abar_t)),  m = 2 eps / (3 guide_scale),

the guide being minus the mean squared error, or the structural similarity, of the state and the noised input. The
defaults are theirs for CIFAR-10 at Linf 8/255: 4 rounds of 36 steps, guide_scale 60,000 for the squared error and
70,000 for the similarity, steps that clamp the predicted image and have the larger variance, an input noised to the
step above the one that the way back begins with, and 10 paths. Against BPDA they take the similarity at 1,000 in 2
rounds of 60 steps.

Their guide is a mean over a batch of 100 images, so that an image is pulled by a hundredth of its own mean's gradient:
``guide_batch``. Here the pull is an image's own, whatever it shares a batch with. On the way through a round 97 % of
the state's distance from the noised input survives the pull at those figures; were the mean each image's own
(``guide_batch: 1``) 6 % would. Means over fewer pixels have longer gradients: 60,000 for 3 x 32 x 32 is 1,250 for
1 x 8 x 8. As with them the last step is guided too, by the variance of the step before; ``variance: posterior`` has
none there.

Where it departs:

- The classes of the paths are counted (``votes``), which is one of the three counts of the authors' code; the others
  add up logits or probabilities. Of equal counts the more probable class is taken.
- The gradient of the guidance is part of the graph (``path: attached``); the authors' code cuts it off, and an attack
  through what is left goes astray (Kassis et al. 2025).
- The noise of the noised input has an address, so that the guidance can be replayed.

DiffBreak's similarity (Kassis et al. 2025) is to the input without noise; the authors' and this one to the noised one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from defenses.diffusion import Guided
from defenses.guidance import PATH, Path, gradient
from defenses.reverse import CLAMP, N_STEPS, NOISED, VARIANCE, Noised, Variance, refuse_strides
from harness.core.contracts import Traits
from harness.options import Number, Pixels, Recipe
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from defenses.deviation import Deviation
    from harness.core.contracts import Nets
    from harness.draws import Draws

#: side and deviation of the similarity's window, its constants for a range of 1 (Wang et al. 2004; the authors' code)
WINDOW, DEVIATION, C1, C2 = 11, 1.5, 0.01**2, 0.03**2

#: guide_scale of the authors' configurations for CIFAR-10 at Linf 8/255, of the squared error and of the similarity
ERROR_SCALE, SIMILARITY_SCALE = 60_000.0, 70_000.0


class GDMP(Guided):
    """Forward noise, then ancestral steps pulled towards the noised input; in several rounds."""

    version: ClassVar[int] = 2
    source: ClassVar[str] = "Wang et al., Guided Diffusion Model for Adversarial Purification, arXiv 2205.14969"
    name: ClassVar[str] = "gdmp"

    class Options(BaseOptions):
        """Noise levels are those of the training schedule, of 1000."""

        unet: Recipe = Field(description="recipe of the noise-predicting U-Net")
        t_star: int = Field(36, ge=1, le=N_STEPS, description="noise level of a round")
        steps: int = Field(36, ge=1, description="reverse steps of a round, equally far apart; divides t_star")
        rounds: int = Field(4, ge=1, description="rounds; all are pulled towards the input of the first")
        guide: Literal["mse", "ssim"] = Field("mse", description="squared error, or structural similarity")
        guide_scale: Number = Field(
            ERROR_SCALE, ge=0, description="strength of the guidance; 0 is none; default of ssim 70000"
        )
        guide_batch: int = Field(
            100, ge=1, description="images of the batch over which the authors' guide is a mean; weakens the pull"
        )
        eps: Pixels = Field(8 / 255, gt=0, description="size of the attack that the strength is tuned to, Linf")
        clamp: bool = Field(True, description=CLAMP)
        variance: Variance = Field("beta", description=VARIANCE)
        noised: Noised = Field("above", description=NOISED)
        votes: int = Field(10, ge=1, description="paths that are classified by majority")
        path: Path = Field("attached", description=PATH)

        @model_validator(mode="before")
        @classmethod
        def _scaled(cls, given: Any) -> Any:
            """Give the similarity its own strength where none is named, so that it stands in the spec."""
            if isinstance(given, dict) and given.get("guide") == "ssim" and "guide_scale" not in given:
                return {**given, "guide_scale": SIMILARITY_SCALE}
            return given

        @model_validator(mode="after")
        def _possible(self) -> GDMP.Options:
            reason = refuse_strides(self.t_star, self.steps, "ddpm", self.noised)
            if reason is not None:
                raise ValueError(reason)
            return self

    options: Options

    @property
    def traits(self) -> Traits:
        """Random through its noise; exact gradients unless some is cut off; a similarity is differentiated."""
        options = self.options
        return Traits(
            random=True,
            differentiable=options.path == "attached",
            optimises=options.guide == "ssim",
            votes=options.votes,
        )

    def there_and_back(self, x: Tensor, nets: Nets, draws: Draws, deviation: Deviation | None = None) -> Tensor:
        """Return the images in [-1, 1], unclipped, after all rounds."""
        from defenses.reverse import diffused, restore

        options = self.options
        shape = tuple(x.shape[1:])
        given = image = 2.0 * x - 1.0
        for number in range(options.rounds):
            here = draws.at("round", number)
            noise = here.at("forward").normal(*shape).to(x.dtype)
            state = diffused(image, noise, options.t_star, "ddpm", noised=options.noised)

            def shift(
                state: Tensor, step: int, share: float, variance: float, given: Tensor, here: Draws = here
            ) -> Tensor:
                if options.guide_scale == 0 or variance == 0:
                    return state.new_zeros(())
                noise = here.at("guide", step).normal(*shape).to(state.dtype)
                target = diffused(given, noise, step + 1, "ddpm")
                return variance * self.strength(share) * self.pull(state, target)

            image = restore(
                state,
                nets["unet"],
                here,
                t_star=options.t_star,
                steps=options.steps,
                sampler="ddpm",
                clamp=options.clamp,
                variance=options.variance,
                shift=shift,
                beside=(given,),
                seen=None if deviation is None else deviation.from_way(image, noise),
            )
        return image

    def strength(self, share: float) -> float:
        """Return s_t, where ``share`` is abar_t; eps is counted in [-1, 1], twice as long."""
        m = 2.0 * self.options.eps / 3.0 / self.options.guide_scale
        return math.sqrt(1.0 - share) / (m * math.sqrt(share))

    def pull(self, state: Tensor, target: Tensor) -> Tensor:
        """Return the gradient of the guide at the state, a share of the batch's mean; attached, it depends on both."""
        options = self.options
        if options.guide == "mse":
            found = -2.0 * (state - target) / (state[0].numel() * options.guide_batch)  # known in closed form
            return found if options.path == "attached" else found.detach()
        if options.path == "detached":
            target = target.detach()
        return gradient(lambda at: similarity(at, target), state, options.path) / options.guide_batch


def similarity(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean structural similarity of each pair of images, ``(B,)`` (Wang et al. 2004, equation 13).

    Windows are Gaussian; beyond the edges they see zeros, as in the code that the authors use.
    """
    import torch
    from torch.nn import functional as F

    channels = one.shape[1]
    places = torch.arange(WINDOW, dtype=one.dtype, device=one.device) - WINDOW // 2
    bell = torch.exp(-(places**2) / (2 * DEVIATION**2))
    window = torch.outer(bell, bell)
    kernel = (window / window.sum()).expand(channels, 1, WINDOW, WINDOW)

    def mean(images: Tensor) -> Tensor:
        return F.conv2d(images, kernel, padding=WINDOW // 2, groups=channels)

    a, b = mean(one), mean(other)
    spread_a, spread_b, joint = mean(one * one) - a * a, mean(other * other) - b * b, mean(one * other) - a * b
    likeness = ((2 * a * b + C1) * (2 * joint + C2)) / ((a * a + b * b + C1) * (spread_a + spread_b + C2))
    return likeness.flatten(1).mean(1)
