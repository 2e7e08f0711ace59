"""MAE-Pure: purify by lowering the masked reconstruction loss of the input itself, by signed gradient steps.

Source: "MAE-Pure: Semantic-Preserving Adversarial Purification" (submission 21073 of NeurIPS 2025), algorithm 1 and
tables 13 and 14; its variant with a fine-tuned purifier follows AToP (Lin et al., ICLR 2024).

What the authors leave open is an option here, and the default says why:

- Whether masks are redrawn in each iteration: ``mask_mode``. The convergence theorem is over all masks, so ``fresh``.
- What the clipping threshold is, and how large: ``eps``, the radius of an Linf ball around the input, with pixels in
  [0, 1] besides. Its value is in no table, and with so many steps it decides much: the default, 0.2, is ours. The other
  reading, the range of pixels alone, is ``eps: 1``.
- The unit of the step, which the tables give as 1: one grey level, 1/255, is the only reading that fits 150 steps.
- Which path the gradient takes: ``gradient``. The loss is a function of the input through both.
- What the mask ratio counts: ``ratio_is``. The tables call it that; the text removes a share of 1 - ratio.
- Whether pixels are normalised by patch: ``units``. As the network was trained, unless told; which of the checkpoints
  for ImageNet was taken is not said. The loss of that code (He et al. 2022) is of standardised pixels, so that each
  channel counts by one over its variance: ``standardised``, the default with ``paper: imagenet``. Where the deviation
  is one for all channels, or targets are normalised by patch, that has the signs of ``own``; with ImageNet's three,
  signs differ in a few pixels of a thousand.

What the tables tell is the default: the row of CIFAR-10, or of the dataset that ``paper`` names. The network is another
matter. The authors' for 32 x 32 images is a ViT-Base with patches of 4 (12 blocks of 768, a decoder of 8 of 512) after
3,000 epochs, without public weights; for ImageNet it is a ViT-Large of He et al. The recipes that ship are hundreds
of times smaller, and no suite that ships has the paper's setting.

One iteration is one gradient step; the loop as printed, s = 1 while s <= S, is read as S of them. One mask per
iteration is the paper's; more lower the variance of the sign and cost as many passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from defenses.attention import orders, variation
from defenses.descent import descend, refuse_full
from defenses.inner import expect, looks
from defenses.tables import EPS, PAPER, PaperDataset, with_row
from harness.core.contracts import Setting, Traits
from harness.options import Number, Pixels, Recipe
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.core.threat import Smoothing
    from harness.draws import Draws


class MAEPure:
    """Signed-gradient steps on the input that lower a masked autoencoder's reconstruction loss."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "MAE-Pure, NeurIPS 2025 submission 21073, algorithm 1"
    name: ClassVar[str] = "mae-pure"
    inner: ClassVar[tuple[str, ...]] = ("reconstruction", "attention")

    class Options(BaseOptions):
        """Units: pixels in [0, 1]. The defaults are the paper's for CIFAR-10 (``defenses.tables``), but for ``eps``.

        On 8 x 8 digits, whose smallest step is 1/16, such small steps do little: there the suites that ship take 15 of
        0.04 within 0.3.
        """

        method: ClassVar[str] = "mae-pure"

        mae: Recipe = Field(description="recipe of the masked autoencoder")
        paper: PaperDataset = Field("cifar10", exclude=True, description=PAPER)
        steps: int = Field(150, ge=1, description="iterations")
        step_size: Pixels = Field(1 / 255, gt=0, description="length of a step in every pixel")
        halve_step: bool = Field(True, description="halve the step after half of the iterations (table 13, *)")
        eps: Pixels = Field(0.2, gt=0, description=EPS)
        mask_ratio: Number = Field(0.25, gt=0, lt=1, description="share of the patches that is removed")
        ratio_is: Literal["removed", "kept"] = Field(
            "removed",
            description="what mask_ratio is the share of; the paper's text removes 1 - ratio, its tables ratio",
        )
        masks: int = Field(1, ge=1, description="masks whose losses are averaged in a step; the paper has one")
        mask_mode: Literal["fresh", "fixed"] = Field(
            "fresh", description="draw masks anew in each iteration (the convergence theorem is over all masks) or once"
        )
        units: Literal["own", "raw", "normalised", "standardised"] = Field(
            "own",
            description="of the error: pixels, each true patch's deviation, or whichever of both the net was trained "
            "on; standardised: as in the code of MAE's authors, with pixels over their channel's deviation",
        )
        gradient: Literal["both", "visible", "target"] = Field(
            "both",
            description="path of the gradient: visible input, masked target (with its mean and variance), or both",
        )

        @model_validator(mode="before")
        @classmethod
        def _as_the_paper_has_it(cls, told: Any) -> Any:
            return with_row(cls.method, told)

        @property
        def removed(self) -> float:
            """The share of the patches that is removed."""
            return self.mask_ratio if self.ratio_is == "removed" else 1.0 - self.mask_ratio

    def __init__(self, options: Options, smoothing: Smoothing | None = None) -> None:
        self.options = options
        self.smoothing = smoothing

    def smoothed(self, smoothing: Smoothing) -> MAEPure:
        """Return the same defense, through whose signs a gradient can go."""
        return type(self)(self.options, smoothing)

    @property
    def traits(self) -> Traits:
        """Random through its masks; an exact Jacobian that is the identity says nothing of the defense."""
        return Traits(random=True, differentiable=False, optimises=True)

    def refuses(self, setting: Setting) -> str | None:
        """Refuse the exact gradient: it would only repeat BPDA under a stronger name."""
        return refuse_full(self.name, setting)

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return images within ``eps`` of ``x`` that the autoencoder reconstructs better."""
        options = self.options

        def loss(at: Tensor, still: Tensor, step: int) -> Tensor:
            return self.loss(at, nets, self._masks(draws, step), still)

        return descend(
            x,
            loss,
            steps=options.steps,
            step_size=options.step_size,
            eps=options.eps,
            halve_step=options.halve_step,
            smoothing=self.smoothing,
        )

    def _masks(self, draws: Draws, step: int) -> Draws:
        """Return the draws of the masks of a step."""
        return draws.at("mask", step if self.options.mask_mode == "fresh" else 0)

    def loss(self, x: Tensor, nets: Nets, draws: Draws, still: Tensor | None = None) -> Tensor:
        """Return the masked reconstruction loss ``(B * masks,)``, the masks of an image side by side.

        Its gradient in ``x`` takes the path that the options say. On the other one are the images ``still``: the same,
        and without a gradient unless told.
        """
        mae, options = nets["mae"], self.options
        order = orders(int(mae.n_patches), options.masks, draws)  # type: ignore[arg-type]
        several, constant = (
            one.repeat_interleave(options.masks, 0) for one in (x, x.detach() if still is None else still)
        )
        seen = constant if options.gradient == "target" else several
        aim = constant if options.gradient == "visible" else several
        loss: Tensor = mae.loss(mae(seen, order, options.removed), aim, units=options.units)  # type: ignore[operator]
        return loss

    def inner_loss(self, name: str, x: Tensor, clean: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return a loss within the method, ``(B,)``, averaged over the masks of some of its steps.

        ``reconstruction``: the loss itself, with all its paths. ``attention``: how far the decoder's attention is from
        that on the clean images (``defenses.attention``), all layers counted.
        """
        import torch

        expect(name, self.inner)
        options, mae = self.options, nets["mae"]
        found = []
        for step in looks(options.steps) if options.mask_mode == "fresh" else [0]:
            here = self._masks(draws, step)
            if name == "attention":
                order = orders(int(mae.n_patches), options.masks, here)  # type: ignore[arg-type]
                found.append(variation(mae, x, clean, order, options.removed, "all"))
            else:
                found.append(self.loss(x, nets, here, x))
        return torch.cat([one.reshape(len(x), -1) for one in found], 1).mean(1)


class RMAEPure(MAEPure):
    """MAE-Pure with a purifier that was fine-tuned against attacks on the whole system: the recipe says how.

    The algorithm at inference is MAE-Pure's. So is what the paper leaves open of the training, which follows AToP: see
    the objective ``purify-classify``. It trains through one masked pass, since the descent has no gradient to train
    through: the network is tuned for another purification than the one it does here.
    """

    version: ClassVar[int] = 1
    source: ClassVar[str] = "RMAE-Pure, NeurIPS 2025 submission 21073; fine-tuned as in AToP, Lin et al., ICLR 2024"
    name: ClassVar[str] = "rmae-pure"

    class Options(MAEPure.Options):
        """As of mae-pure, with the defaults of the paper's fine-tuned network on CIFAR-10, but for ``eps``."""

        method: ClassVar[str] = "rmae-pure"

        steps: int = Field(90, ge=1, description="iterations")
