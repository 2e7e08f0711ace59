"""ScoreOpt: optimise the image, or its noisy version, until a diffusion's denoiser agrees with it.

Source: Zhang, Luo and Zhang, "Enhancing Adversarial Robustness via Score-Based Optimization", NeurIPS 2023. Images are
in [-1, 1], Adam's steps likewise.

- ``image`` (ScoreOpt-O): lowers the mean squared difference between the image and its denoised self, with noise drawn
  anew in each step, of a deviation uniform within 0.1 of ``sigma``.
- ``noise`` (ScoreOpt-N): noises the image once with deviation ``sigma``, optimises the noisy image until the noise
  found in it is the noise that was drawn, and returns it denoised.

The authors take 20 steps of 0.01 at sigma 0.25 (5 of 0.1 for ``noise``) against transferred attacks, which are the
defaults of either, and 5 of 0.1 at 0.5 against BPDA.

Where it departs from their code: the deviation is drawn for each image, theirs for a batch; an attacker's gradient goes
through all of Adam's steps (``path: attached``), where theirs stops at the optimised image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from defenses.guidance import Path, refuse_detached
from defenses.inner import expect, looks
from harness.components import Purifier
from harness.core.contracts import Setting, Traits
from harness.options import Options as BaseOptions
from harness.options import Recipe, SignedPixels

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from harness.core.contracts import Nets
    from harness.draws import Draws

#: how far a drawn deviation may be from sigma
SPREAD = 0.1

#: the least deviation that is drawn: without noise there is nothing to denoise
LEAST = 1e-2


class ScoreOpt(Purifier):
    """Adam's steps on the image, or its noisy version, until a diffusion's denoiser agrees with it."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Zhang et al., Enhancing Adversarial Robustness via Score-Based Optimization, NeurIPS 2023"
    inner: ClassVar[tuple[str, ...]] = ("reconstruction",)

    class Options(BaseOptions):
        """Units: images in [-1, 1]."""

        unet: Recipe = Field(description="recipe of the noise-predicting U-Net")
        optimised: Literal["image", "noise"] = Field("image", description="ScoreOpt-O, or ScoreOpt-N")
        sigma: SignedPixels = Field(0.25, gt=0, description="deviation of the noise")
        steps: int = Field(20, ge=1, description="of Adam; default of the noise 5")
        lr: SignedPixels = Field(0.01, gt=0, description="of Adam; default of the noise 0.1")
        path: Path = Field(
            "attached", description="an attacker's gradient goes through the steps, or stops as in the authors' code"
        )

        @model_validator(mode="before")
        @classmethod
        def _as_the_authors_have_it(cls, given: Any) -> Any:
            """Give the noise steps of its own where none are named, so that they stand in the spec."""
            if isinstance(given, dict) and given.get("optimised") == "noise":
                return {"steps": 5, "lr": 0.1} | given
            return given

    options: Options

    @property
    def traits(self) -> Traits:
        """Random through its noise; exact gradients unless they are cut off."""
        return Traits(random=True, differentiable=self.options.path == "attached", optimises=True)

    def refuses(self, setting: Setting) -> str | None:
        """Refuse the exact gradient where it is cut off."""
        return refuse_detached("scoreopt", self.options.path, setting)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return the optimised images; differentiable in ``x`` when gradients are on."""
        from harness.bounds import clip

        start = 2.0 * x - 1.0
        if self.options.path == "detached":
            start = start.detach()
        found = (self._image if self.options.optimised == "image" else self._noise)(start, nets["unet"], draws)
        return clip((found + 1.0) / 2.0).to(x.dtype)

    def inner_loss(self, name: str, x: Tensor, clean: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return what the steps lower, ``(B,)``, at the images, or at the images with the noise that is drawn once.

        Where each step has noise of its own, averaged over that of some of them.
        """
        import torch

        expect(name, self.inner)
        start, net = 2.0 * x - 1.0, nets["unet"]
        if self.options.optimised == "noise":
            noise = self._drawn(start, draws)
            return self._noise_loss(start + self.options.sigma * noise, noise, net)
        return torch.stack([self._image_loss(start, step, net, draws) for step in looks(self.options.steps)]).mean(0)

    def _image(self, start: Tensor, net: nn.Module, draws: Draws) -> Tensor:
        return self._lowered(start, lambda at, step: self._image_loss(at, step, net, draws))

    def _image_loss(self, at: Tensor, step: int, net: nn.Module, draws: Draws) -> Tensor:
        from defenses.denoiser import denoised

        here = draws.at("step", step)
        sigma = self.options.sigma + SPREAD * (2.0 * here.at("sigma").uniform(1)[:, 0] - 1.0)
        sigma = sigma.clamp_min(LEAST).to(at.dtype)
        noise = here.at("noise").normal(*at.shape[1:]).to(at.dtype)
        agreed = denoised(net, at + sigma.reshape(-1, 1, 1, 1) * noise, sigma)
        return ((agreed - at) ** 2).flatten(1).mean(1)

    def _noise(self, start: Tensor, net: nn.Module, draws: Draws) -> Tensor:
        from defenses.denoiser import denoised

        noise, sigma = self._drawn(start, draws), self.options.sigma
        found = self._lowered(start + sigma * noise, lambda at, step: self._noise_loss(at, noise, net))
        return denoised(net, found, start.new_full((len(start),), sigma))

    def _noise_loss(self, at: Tensor, noise: Tensor, net: nn.Module) -> Tensor:
        from defenses.denoiser import denoised

        found = (at - denoised(net, at, at.new_full((len(at),), self.options.sigma))) / self.options.sigma
        return ((found - noise) ** 2).flatten(1).mean(1)

    def _drawn(self, like: Tensor, draws: Draws) -> Tensor:
        return draws.at("noise").normal(*like.shape[1:]).to(like.dtype)

    def _lowered(self, value: Tensor, loss: Callable[[Tensor, int], Tensor]) -> Tensor:
        from defenses.adam import minimised

        return minimised(value, loss, steps=self.options.steps, lr=self.options.lr, path=self.options.path)
