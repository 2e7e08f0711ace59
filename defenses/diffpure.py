"""DiffPure: noise the input to a step t* of a diffusion, then run the reverse process back to an image.

Source: Nie et al., "Diffusion Models for Adversarial Purification", ICML 2022, equations 4 and 6 in their
discrete (DDPM) form; the reverse steps are DDIM's (Song et al. 2021, equation 12), ancestral with eta = 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from harness.core.contracts import Setting, Traits
from harness.options import Options as BaseOptions
from harness.options import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws

_SCHEDULE = 1000


class DiffPure:
    """Forward noise to t*, reverse by DDPM or DDIM with a noise-predicting U-Net."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Nie et al., Diffusion Models for Adversarial Purification, ICML 2022"

    class Options(BaseOptions):
        """Steps are those of the training schedule, of 1000."""

        unet: Recipe = Field(description="recipe of the noise-predicting U-Net")
        t_star: int = Field(100, ge=1, le=_SCHEDULE, description="noise level; 100 for CIFAR-10 at Linf 8/255")
        steps: int = Field(10, ge=1, description="reverse steps from t* to 0, equally far apart; divides t_star")
        sampler: Literal["ddpm", "ddim"] = Field("ddpm", description="ancestral steps, or deterministic ones")

        @model_validator(mode="after")
        def _strides(self) -> DiffPure.Options:
            if self.t_star % self.steps:
                raise ValueError(f"expected steps that divide t_star, got {self.steps} steps for {self.t_star}")
            stride = self.t_star // self.steps
            if _SCHEDULE // (_SCHEDULE // stride) != stride:
                raise ValueError(
                    f"expected a stride t_star / steps that the {_SCHEDULE}-step schedule can hold, got {stride}; "
                    "take a divisor of 1000"
                )
            return self

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def traits(self) -> Traits:
        """Random through its noise; every step has a gradient."""
        return Traits(random=True, differentiable=True)

    def refuses(self, setting: Setting) -> str | None:
        """Refuse nothing."""
        return None

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the images after noising and denoising; differentiable in ``x`` when gradients are on."""
        from harness.bounds import clip
        from harness.nets.unet import add_noise, schedule, steps_like

        unet, options = nets["unet"], self.options
        stride = options.t_star // options.steps
        scheduler = schedule()
        scheduler.num_inference_steps = _SCHEDULE // stride  # tells its step how far apart steps are
        shape = tuple(x.shape[1:])
        state = add_noise(2.0 * x - 1.0, draws.at("forward").normal(*shape), steps_like(x, options.t_star - 1))
        for step in range(options.t_star - 1, -1, -stride):
            predicted = unet(state, steps_like(x, step))
            if options.sampler == "ddim":
                state = scheduler.step(predicted, step, state, eta=0.0).prev_sample
            else:
                noise = draws.at("reverse", step).normal(*shape)
                state = scheduler.step(predicted, step, state, eta=1.0, variance_noise=noise).prev_sample
        return clip((state + 1.0) / 2.0).to(x.dtype)
