"""MAE-Pure: purify by lowering the masked reconstruction loss of the input itself, by signed gradient steps.

Source: "MAE-Pure: Semantic-Preserving Adversarial Purification" (submission 21073 of NeurIPS 2025), algorithm 1. The
authors leave open whether masks are redrawn in each iteration, what the clipping threshold is (here the radius of a
ball around the input, with pixels in [0, 1] besides) and which path the gradient takes (here both, through the visible
input and through the masked target).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.core.contracts import Setting, Traits
from harness.core.threat import Knowledge, Norm
from harness.options import Eps, Number, Recipe
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Nets
    from harness.draws import Draws


class MAEPure:
    """Signed-gradient steps on the input that lower a masked autoencoder's reconstruction loss."""

    version: ClassVar[int] = 1

    class Options(BaseOptions):
        """Units: pixels in [0, 1]."""

        mae: Recipe = Field(description="recipe of the masked autoencoder")
        steps: int = Field(10, ge=1, description="iterations")
        step_size: Eps = Field(0.04, description="length of a step in every pixel")
        halve_step: bool = Field(False, description="halve the step after half of the iterations (table 13, *)")
        eps: Eps = Field(0.2, description="radius of the Linf ball around the input that the result stays in")
        mask_ratio: Number = Field(0.25, gt=0, lt=1, description="share of the patches that is removed")
        masks: int = Field(1, ge=1, description="masks whose losses are averaged in a step; the paper has one")
        mask_mode: Literal["fresh", "fixed"] = Field(
            "fresh", description="draw masks anew in each iteration (the convergence theorem is over all masks) or once"
        )

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def traits(self) -> Traits:
        """Random through its masks; an exact Jacobian that is the identity says nothing of the defense."""
        return Traits(random=True, differentiable=False, optimises=True)

    def refuses(self, setting: Setting) -> str | None:
        """Refuse the exact gradient: it would only repeat BPDA under a stronger name."""
        if setting.threat.knowledge is Knowledge.FULL:
            return (
                "mae-pure moves by sign(gradient), whose derivative is zero almost everywhere, so the exact Jacobian "
                "of the defense is the identity (but for clipping) and `full` would only repeat `bpda`; "
                "use knowledge: bpda"
            )
        return None

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return images within ``eps`` of ``x`` that the autoencoder reconstructs better."""
        import torch

        from harness.bounds import project, steepest
        from harness.nets.mae import masked_loss

        mae, options = nets["mae"], self.options
        mask_size = int(mae.n_patches)  # type: ignore[arg-type]
        purified, step_size = x.detach(), options.step_size
        with torch.enable_grad():
            for step in range(options.steps):
                drawn = step if options.mask_mode == "fresh" else 0
                order = torch.stack(
                    [draws.at("mask", drawn, mask).permutation(mask_size) for mask in range(options.masks)], 1
                ).flatten(0, 1)  # (B * masks, N), the masks of an image side by side
                at = purified.detach().requires_grad_(True)
                several = at.repeat_interleave(options.masks, 0)
                found = mae(several, order, options.mask_ratio)
                # the gradient reaches the visible input and the masked target alike
                loss = masked_loss(found.patches, mae.patchify(several), found.hidden)  # type: ignore[operator]
                (gradient,) = torch.autograd.grad(loss.sum(), at)
                if options.halve_step and step == (options.steps + 1) // 2:
                    step_size /= 2
                purified = project(purified - step_size * steepest(gradient, Norm.LINF), x, options.eps, Norm.LINF)
        return purified.detach()
