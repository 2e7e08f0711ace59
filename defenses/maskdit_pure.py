"""MaskDiT-Pure: MAE-Pure's descent on the input, on the training loss of a masked diffusion transformer.

Source: "MAE-Pure: Semantic-Preserving Adversarial Purification" (submission 21073 of NeurIPS 2025), algorithm 1 and
tables 13 and 14; the network and its loss: MaskDiT (Zheng et al., TMLR 2024). The variant with a fine-tuned purifier
follows AToP (Lin et al., ICLR 2024).

The authors say "MaskDiT's reconstruction loss" and no more; each reading of it is an option:

- Which loss: ``denoising_weight`` of the visible patches, ``reconstruction_weight`` of the removed ones. By default 1
  and 0.1, the loss that the network was trained on. The sign forgets the scale of either: removed pixels move by the
  reconstruction alone, whatever its weight. 0 leaves a term out; reconstruction alone is the letter of the paper.
- At which noise: ``sigma``, one level or several, which the iterations go through in order, in equal shares (their
  "time steps" may mean either).
- Whether noise is added before each step: ``noise``. The network was never shown an image without its noise, and the
  denoising term asks nothing of one, so ``added``.
- What it shares with MAE-Pure is told in ``defenses.masked_descent``; noise is drawn anew where masks are.

The paper's network for 32 x 32 images has the size of the recipe ``cifar10-maskdit-small``, and was trained for longer
by far.

Removed patches are compared with the noisy image, as in training; the network was trained in units of its own
(``targets`` of its size), so there is no other choice of units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from defenses.attention import orders
from defenses.inner import expect, looks
from defenses.masked_descent import MaskedDescent
from harness.options import Number, Range, Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws

#: up to EDM's largest; above the pixels' range little is left of an image
LEVELS = Range(40.0, "pixels are in [0, 1] and EDM's noise ends at 40", levels=1.0, usual=1 / 40)

Level = Annotated[Number, Field(gt=0), AfterValidator(LEVELS.keep), LEVELS]


class MaskDiTPure(MaskedDescent):
    """Signed-gradient steps on the input that lower a masked diffusion transformer's training loss."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "MaskDiT-Pure, NeurIPS 2025 submission 21073; network: Zheng et al., MaskDiT, TMLR 2024"
    name: ClassVar[str] = "maskdit-pure"
    inner: ClassVar[tuple[str, ...]] = ("reconstruction",)

    class Options(MaskedDescent.Options):
        """Units: pixels in [0, 1], sigma's too: half of EDM's.

        The defaults are the paper's for CIFAR-10 (``defenses.tables``), but for ``eps`` and what it leaves open. On 8 x
        8 digits, whose smallest step is 1/16, such small steps do little: suites that ship take 10 of 0.04 within 0.3.
        """

        method: ClassVar[str] = "maskdit-pure"

        maskdit: Recipe = Field(description="recipe of the masked diffusion transformer")
        steps: int = Field(25, ge=1, description="iterations")
        halve_step: bool = Field(False, description="halve the step after half of the iterations (table 13, *)")
        mask_ratio: Number = Field(0.5, gt=0, lt=1, description="share of the patches that is removed")
        sigma: Level | tuple[Level, ...] = Field(
            0.2,
            description="standard deviation of the noise, not told by the paper; several are gone through in order, in "
            "equal shares",
        )
        noise: Literal["added", "none"] = Field(
            "added", description="add noise of that level before each step, or only tell the network of it"
        )
        denoising_weight: Number = Field(1.0, ge=0, description="weight of the denoising of visible patches")
        reconstruction_weight: Number = Field(0.1, ge=0, description="weight of the reconstruction of removed patches")

        @property
        def levels(self) -> tuple[float, ...]:
            """The noise levels, in their order."""
            return self.sigma if isinstance(self.sigma, tuple) else (self.sigma,)

        @model_validator(mode="after")
        def _has_something_to_lower(self) -> MaskDiTPure.Options:
            if not self.denoising_weight and not self.reconstruction_weight:
                raise ValueError("expected a weight above 0 of denoising or of reconstruction, got none")
            if not 1 <= len(self.levels) <= self.steps:
                raise ValueError(
                    f"expected a noise level or several, no more than the {self.steps} steps, got {len(self.levels)}"
                )
            return self

    options: Options

    def lowered(self, at: Tensor, still: Tensor, nets: Nets, draws: Draws, step: int) -> Tensor:
        """Return the training loss at the noise level of a step, ``(B * masks,)``."""
        return self.loss(at, nets, *self._look(draws, step), still)

    def _look(self, draws: Draws, step: int) -> tuple[Draws, float]:
        """Return the draws of masks and noise of a step, and its noise level."""
        levels = self.options.levels
        return self.masks_at(draws, step), levels[step * len(levels) // self.options.steps]

    def loss(self, x: Tensor, nets: Nets, draws: Draws, sigma: float, still: Tensor | None = None) -> Tensor:
        """Return the loss at a noise level ``(B * masks,)``, the masks of an image side by side.

        Its gradient in ``x`` takes the path that the options say; the noise is no function of ``x``. On the other path
        are the images ``still``: the same, and without a gradient unless told.
        """
        import torch

        net, options = nets["maskdit"], self.options
        each = range(options.masks)
        order = orders(int(net.n_patches), options.masks, draws)  # type: ignore[arg-type]
        seen, aim = self.paths(x, still)
        noise: Tensor | float = 0.0
        if options.noise == "added":
            drawn = torch.stack([draws.at(mask, "noise").normal(*x.shape[1:]) for mask in each], 1).flatten(0, 1)
            noise = sigma * drawn.to(x.dtype)
        level = torch.full((len(seen),), sigma, dtype=x.dtype, device=x.device)
        found = net(seen + noise, level, order, options.removed)
        denoising, reconstruction = net.losses(found, aim, aim + noise, level)  # type: ignore[operator]
        loss: Tensor = options.denoising_weight * denoising + options.reconstruction_weight * reconstruction
        return loss

    def inner_loss(self, name: str, x: Tensor, clean: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return a loss within the method, ``(B,)``, averaged over masks, noise and levels of some of its steps.

        ``reconstruction``: the loss itself, with all its paths.
        """
        import torch

        expect(name, self.inner)
        found = [self.loss(x, nets, *self._look(draws, step), x) for step in looks(self.options.steps)]
        return torch.cat([one.reshape(len(x), -1) for one in found], 1).mean(1)


class RMaskDiTPure(MaskDiTPure):
    """MaskDiT-Pure with a purifier that was fine-tuned against attacks on the whole system: the recipe says how.

    The algorithm at inference is MaskDiT-Pure's. What the paper leaves open of the training follows AToP: see the
    objective ``purify-classify``, which trains through one masked pass and not through the descent.
    """

    version: ClassVar[int] = 1
    source: ClassVar[str] = "RMaskDiT-Pure, NeurIPS 2025 submission 21073; fine-tuned as in AToP, Lin et al., ICLR 2024"
    name: ClassVar[str] = "rmaskdit-pure"

    class Options(MaskDiTPure.Options):
        """As of maskdit-pure, with the defaults of the paper's fine-tuned network on CIFAR-10, but for ``eps``."""

        method: ClassVar[str] = "rmaskdit-pure"

        steps: int = Field(15, ge=1, description="iterations")
