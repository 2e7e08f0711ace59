"""Likelihood maximisation: a few steps on the input that make a diffusion find it likelier.

Source: Chen et al., "Robust Classification via a Single Diffusion Model", ICML 2024: the diffusion's own loss, the mean
squared difference between an image and what is denoised of it plus noise, bounds its negative log-likelihood. Adam
lowers it by 5 steps of 0.1 on images in [-1, 1], the noise's deviation uniform from 0.4 to 0.6 in each.

Where it departs from their code: the deviation and the noise have addresses of their own and are drawn afresh, where
theirs begin with the same seed at each call; there is no L2 ball around the input (theirs has a radius of 100, which no
step reaches); an attacker's gradient goes through all steps (``path: attached``), as in their variant for adaptive
attacks, whose steps are half as long. Adam's moments are corrected for their start once (Kingma and Ba 2015, algorithm
1), as in torch, which the authors use; a public implementation of the method corrects them twice, so its steps are
others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from defenses.guidance import Path, refuse_detached
from defenses.inner import expect, looks
from harness.components import Purifier
from harness.core.contracts import Setting, Traits
from harness.options import Options as BaseOptions
from harness.options import Recipe, SignedPixels

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws


class LM(Purifier):
    """Adam's steps on the input that lower a diffusion's loss, a bound of how unlikely it is."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Chen et al., Robust Classification via a Single Diffusion Model, ICML 2024"
    inner: ClassVar[tuple[str, ...]] = ("reconstruction",)

    class Options(BaseOptions):
        """Units: images in [-1, 1]."""

        unet: Recipe = Field(description="recipe of the noise-predicting U-Net")
        steps: int = Field(5, ge=1, description="of Adam")
        lr: SignedPixels = Field(0.1, gt=0, description="of Adam")
        sigma_min: SignedPixels = Field(0.4, gt=0, description="least deviation of the noise")
        sigma_max: SignedPixels = Field(0.6, gt=0, description="greatest deviation of the noise")
        path: Path = Field("attached", description="an attacker's gradient goes through the steps, or stops")

        @model_validator(mode="after")
        def _rising(self) -> LM.Options:
            if self.sigma_min > self.sigma_max:
                raise ValueError(f"expected sigma_min up to sigma_max, got {self.sigma_min} and {self.sigma_max}")
            return self

    options: Options

    @property
    def traits(self) -> Traits:
        """Random through its noise; exact gradients unless they are cut off."""
        return Traits(random=True, differentiable=self.options.path == "attached", optimises=True)

    def refuses(self, setting: Setting) -> str | None:
        """Refuse the exact gradient where it is cut off."""
        return refuse_detached("lm", self.options.path, setting)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the likelier images; differentiable in ``x`` when gradients are on."""
        from defenses.adam import minimised
        from harness.bounds import clip

        options = self.options
        start = 2.0 * x - 1.0
        if options.path == "detached":
            start = start.detach()

        def loss(at: Tensor, step: int) -> Tensor:
            return self.loss(at, step, nets, draws)

        found = minimised(start, loss, steps=options.steps, lr=options.lr, path=options.path)
        return clip((found + 1.0) / 2.0).to(x.dtype)

    def loss(self, at: Tensor, step: int, nets: Nets, draws: Draws) -> Tensor:
        """Return the diffusion's loss at images in [-1, 1] with the noise of a step, ``(B,)``."""
        from defenses.denoiser import denoised

        options, here = self.options, draws.at("step", step)
        share = here.at("sigma").uniform(1)[:, 0].to(at.dtype)
        sigma = options.sigma_min + (options.sigma_max - options.sigma_min) * share
        noise = here.at("noise").normal(*at.shape[1:]).to(at.dtype)
        found = denoised(nets["unet"], at + sigma.reshape(-1, 1, 1, 1) * noise, sigma)
        return ((found - at) ** 2).flatten(1).mean(1)

    def inner_loss(self, name: str, x: Tensor, clean: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return what the steps lower, ``(B,)``, averaged over the noise of some of them."""
        import torch

        expect(name, self.inner)
        found = [self.loss(2.0 * x - 1.0, step, nets, draws) for step in looks(self.options.steps)]
        return torch.stack(found).mean(0)
