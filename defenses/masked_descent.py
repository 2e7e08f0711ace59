"""The signed descent of MAE-Pure's paper, on the loss of a masked network: what all of its methods share.

What the authors leave open is an option here, and the default says why:

- Whether masks are redrawn in each iteration: ``mask_mode``. The convergence theorem is over all masks, so ``fresh``.
- What the clipping threshold is, and how large: ``eps``, the radius of an Linf ball around the input, with pixels in
  [0, 1] besides. Its value is in no table, and with so many steps it decides much: the default, 0.2, is ours. The other
  reading, the range of pixels alone, is ``eps: 1``.
- The unit of the step, which the tables give as 1: one grey level, 1/255, is the only reading that fits 150 steps.
- Which path the gradient takes: ``gradient``. The loss is a function of the input through both.
- What the mask ratio counts: ``ratio_is``. The tables call it that; the text removes a share of 1 - ratio.

What the tables tell is the default: the row of CIFAR-10, or of the dataset that ``paper`` names. One iteration is one
gradient step; the loop as printed, s = 1 while s <= S, is read as S of them. One mask per iteration is the paper's;
more lower the variance of the sign and cost as many passes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from defenses.descent import SignedDescent, descend
from defenses.tables import EPS, PAPER, PaperDataset, with_row
from harness.core.contracts import Traits
from harness.core.roles import Role
from harness.options import Number, Pixels
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws


class MaskedDescent(SignedDescent):
    """Signed-gradient steps on the input that lower the loss of a masked network; ``lowered`` says which."""

    role: ClassVar[Role] = Role.RECONSTRUCTION
    traits = Traits(random=True, differentiable=False, optimises=True)

    class Options(BaseOptions):
        """Units: pixels in [0, 1]. The defaults are the paper's for CIFAR-10 (``defenses.tables``), but for ``eps``."""

        #: whose row of the tables is taken
        method: ClassVar[str]

        paper: PaperDataset = Field("cifar10", exclude=True, description=PAPER)
        steps: int = Field(ge=1, description="iterations")
        step_size: Pixels = Field(1 / 255, gt=0, description="length of a step in every pixel")
        halve_step: bool = Field(description="halve the step after half of the iterations (table 13, *)")
        eps: Pixels = Field(0.2, gt=0, description=EPS)
        mask_ratio: Number = Field(gt=0, lt=1, description="share of the patches that is removed")
        ratio_is: Literal["removed", "kept"] = Field(
            "removed",
            description="what mask_ratio is the share of; the paper's text removes 1 - ratio, its tables ratio",
        )
        masks: int = Field(
            1, ge=1, description="masks whose losses are averaged in a step, each with noise of its own, if any"
        )
        mask_mode: Literal["fresh", "fixed"] = Field(
            "fresh",
            description="draw masks and noise anew in each iteration, or once; the theorem of convergence is over all",
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

    options: Options

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return images within ``eps`` of ``x`` whose loss is lower."""
        options = self.options

        def loss(at: Tensor, still: Tensor, step: int) -> Tensor:
            return self.lowered(at, still, nets, draws, step)

        return descend(
            x,
            loss,
            steps=options.steps,
            step_size=options.step_size,
            eps=options.eps,
            halve_step=options.halve_step,
            smoothing=self.smoothing,
        )

    @abstractmethod
    def lowered(self, at: Tensor, still: Tensor, nets: Nets, draws: Draws, step: int) -> Tensor:
        """Return the loss that a step lowers, ``(B * masks,)``, the masks of an image side by side.

        Args:
            at: images ``(B, C, H, W)``.
            still: the same images, for the path that the gradient does not take.
            nets: the networks.
            draws: those of the images.
            step: its number, from 0.
        """

    def masks_at(self, draws: Draws, step: int) -> Draws:
        """Return the draws of the masks of a step."""
        return draws.at("mask", step if self.options.mask_mode == "fresh" else 0)

    def paths(self, x: Tensor, still: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what the network is shown and what it should predict, both ``(B * masks, C, H, W)``.

        Args:
            x: the images, whose gradient takes the path that the options say.
            still: the same for the other path; None: without a gradient.
        """
        options = self.options
        several, constant = (
            one.repeat_interleave(options.masks, 0) for one in (x, x.detach() if still is None else still)
        )
        seen = constant if options.gradient == "target" else several
        aim = constant if options.gradient == "visible" else several
        return seen, aim
