"""DiffPure: noise the input to a level t* of a diffusion, then run the reverse process back to an image.

Source: Nie et al., "Diffusion Models for Adversarial Purification", ICML 2022, equations 4 and 6; how to go back is
told in ``defenses.reverse``. The defaults are the authors' for CIFAR-10 at Linf 8/255: the stochastic equation from
t* = 100 in 100 steps, by their grid and clock. Their other levels are 75 (L2 0.5), 125 (L2 1.0) and 150 (ImageNet), in
as many steps each. A suite that takes fewer steps or another sampler says so. By ``ddpm`` they clamp and noise to the
level, with variances that their network has learned; a U-Net here has none, so ``variance`` is fixed.

Several rounds with rising noise, and a vote of several runs, are those of Lee and Kim, "Robust Evaluation of
Diffusion-Based Adversarial Purification", ICCV 2023: t* = 30, 30, 30, 30, 50, 50, 125, 125 on CIFAR-10 by ``ddpm`` with
as many steps each, 10 votes; their code does not clamp and noises to the step above (``clamp: false``, ``noised:
above``).

ADBM (Li et al., ICLR 2025) is DiffPure with a network that was tuned for it.

Where it departs from the authors' code: the noise of each step has an address, so that it is replayed exactly, and the
gradient is autograd's through every step instead of the adjoint equation's. Images of ImageNet are not resized to 256
pixels and back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, model_validator

from defenses.diffusion import Diffusion, walked
from defenses.reverse import (
    CLAMP,
    CLOCK,
    N_STEPS,
    NOISED,
    VARIANCE,
    Clock,
    Noised,
    Sampler,
    Variance,
    refuse_strides,
)
from harness.core.contracts import Traits
from harness.options import Options as BaseOptions
from harness.options import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from defenses.deviation import Deviation
    from harness.core.contracts import Nets
    from harness.draws import Draws

Level = Annotated[int, Field(ge=1, le=N_STEPS)]
Count = Annotated[int, Field(ge=1)]


class DiffPure(Diffusion):
    """Forward noise to t*, then the reverse process with a noise-predicting U-Net; in rounds, if wanted."""

    version: ClassVar[int] = 2
    source: ClassVar[str] = "Nie et al., Diffusion Models for Adversarial Purification, ICML 2022"

    class Options(BaseOptions):
        """Noise levels are those of the training schedule, of 1000."""

        unet: Recipe = Field(description="recipe of the noise-predicting U-Net")
        t_star: Level | tuple[Level, ...] = Field(
            100, description="noise level, or that of each round; 100 for CIFAR-10 at Linf 8/255"
        )
        steps: Count | tuple[Count, ...] = Field(
            100,
            description="reverse steps from t* to 0, equally far apart, of all rounds or each; of a sampler that "
            "counts steps (ddpm, ddim) they divide t_star",
        )
        sampler: Sampler = Field(
            "sde", description="the stochastic equation (also by torchsde), the flow, ancestral or deterministic steps"
        )
        clock: Clock = Field("floor", description=CLOCK)
        clamp: bool = Field(True, description=CLAMP)
        variance: Variance = Field("posterior", description=VARIANCE)
        noised: Noised = Field("level", description=NOISED)
        votes: int = Field(1, ge=1, description="runs that are classified by majority")

        @model_validator(mode="after")
        def _possible(self) -> DiffPure.Options:
            if not self.rounds:
                raise ValueError("expected a noise level for at least one round, got none")
            for t_star, steps in self.rounds:
                reason = refuse_strides(t_star, steps, self.sampler, self.noised)
                if reason is not None:
                    raise ValueError(reason)
            return self

        @property
        def rounds(self) -> tuple[tuple[int, int], ...]:
            """Noise level and steps of each round.

            Raises:
                ValueError: if there are neither as many steps as levels nor one for all.
            """
            levels = (self.t_star,) if isinstance(self.t_star, int) else self.t_star
            steps = (self.steps,) * len(levels) if isinstance(self.steps, int) else self.steps
            if len(steps) != len(levels):
                raise ValueError(
                    f"expected steps for all rounds or one number for each, got {len(steps)} for {len(levels)} rounds"
                )
            return tuple(zip(levels, steps, strict=True))

    options: Options

    @property
    def traits(self) -> Traits:
        """Random through its noise; every step has a gradient."""
        return Traits(random=True, differentiable=True, votes=self.options.votes)

    def there_and_back(self, x: Tensor, nets: Nets, draws: Draws, deviation: Deviation | None = None) -> Tensor:
        """Return the images in [-1, 1], unclipped, after all rounds."""
        from defenses.reverse import diffused, restore

        options, rounds = self.options, self.options.rounds
        sampler = walked(options.sampler, deviation)
        image = 2.0 * x - 1.0
        for number, (t_star, steps) in enumerate(rounds):
            here = draws if len(rounds) == 1 else draws.at("round", number)
            noise = here.at("forward").normal(*x.shape[1:]).to(x.dtype)
            state = diffused(image, noise, t_star, sampler, noised=options.noised, clock=options.clock)
            image = restore(
                state,
                nets["unet"],
                here,
                t_star=t_star,
                steps=steps,
                sampler=sampler,
                clamp=options.clamp,
                variance=options.variance,
                clock=options.clock,
                seen=None if deviation is None else deviation.from_way(image, noise),
            )
        return image


class ADBM(DiffPure):
    """DiffPure with a network that was tuned to go back from noised adversarial images to clean ones.

    The bridge is in the weights alone: the recipe has the objective ``bridge``. Noise and way back are DiffPure's; in
    the paper, five deterministic steps from level 100, attacked by PGD through all of it. As in the authors' code the
    input is noised to the step above, predicted images are clamped, and ancestral steps, where wanted, have the larger
    variance. Where it departs from it: betas begin at 1e-4, not at 1e-6.
    """

    version: ClassVar[int] = 2
    source: ClassVar[str] = "Li et al., ADBM: Adversarial Diffusion Bridge Model, ICLR 2025"

    class Options(DiffPure.Options):
        """Those of DiffPure, with the paper's defaults."""

        unet: Recipe = Field(description="recipe of the U-Net that was tuned on bridges from adversarial images")
        steps: Count | tuple[Count, ...] = Field(
            5,
            description="reverse steps from t* to 0, equally far apart, of all rounds or each; of a sampler that "
            "counts steps (ddpm, ddim) they divide t_star",
        )
        sampler: Sampler = Field(
            "ddim", description="deterministic steps, ancestral ones, the stochastic equation (twice) or the flow"
        )
        variance: Variance = Field("beta", description=VARIANCE)
        noised: Noised = Field("above", description=NOISED)
