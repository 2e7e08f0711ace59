"""Spatially transformed adversarial examples (stAdv, Xiao et al. 2018): pixels are moved, none gets another colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from attacks.ascent import AscentOptions, Seen, climb
from attacks.gradients import Look, Mean
from attacks.losses import margin, unit
from harness.components import Attack
from harness.core.threat import Norm
from harness.options import Eps, Number

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws


class StAdv(Attack):
    """Gradient ascent on a flow of pixels: margin less tau times roughness (equations 2 to 4), by sign steps.

    The authors bound no move: roughness alone keeps their images natural, and L-BFGS minimises both. Here eps bounds
    every move, so the steps are those of PGD in that box, and tau only steers. Their neighbours are four, each pair
    counted from both ends, as here. The margin is counted in the power of 2 in which the logits of the image span from
    8 to 16 at the start, so that tau weighs as much whatever their unit. The judge renders the flows that are proposed.
    """

    version: ClassVar[int] = 2
    by_example: ClassVar[bool] = True
    norms: ClassVar[tuple[Norm, ...]] = (Norm.FLOW,)

    class Options(AscentOptions):
        """Those of an ascent, with moves for points, and how smooth they should be."""

        steps: int = Field(50, ge=1, description="gradient steps of a restart")
        step_size: Eps | None = Field(
            None, description="length of a step along an axis, in pixels; default 2.5 eps / steps"
        )
        random_start: bool = Field(True, description="start at random moves, else at none")
        tau: Number = Field(0.05, ge=0, description="weight of the roughness, a sum over neighbours, beside the margin")

    options: Options

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return for each image the flow ``(2, H, W)`` that fools most draws, and among those of the largest margin."""
        from harness.bounds import clip, shorten, warp

        options, eps = self.options, threat.eps
        step_size = options.step_size or 2.5 * eps / options.steps
        still = x.new_zeros(len(x), 2, *x.shape[2:])
        units: list[Tensor] = []

        def start(here: Draws) -> Tensor:
            if not options.random_start:
                return still
            return eps * (2.0 * here.uniform(*still.shape[1:]) - 1.0).to(x.dtype)

        def move(flow: Tensor, gradient: Tensor) -> Tensor:
            return shorten(flow + step_size * gradient.sign(), eps)

        def look(flow: Tensor, draws: Draws, with_gradient: bool) -> Look:
            return self._look(victim, x, flow, y, units, draws, with_gradient=with_gradient)

        def shown(flow: Tensor, rows: Tensor | slice) -> Tensor:
            return clip(warp(x[rows], flow))

        seen = Seen(victim, still, y, draws.at("candidates"), options.reevaluate, shown)
        return climb(look, start, move, draws, seen, options)

    def _look(
        self,
        victim: Victim,
        x: Tensor,
        flow: Tensor,
        y: Tensor,
        units: list[Tensor],
        draws: Draws,
        *,
        with_gradient: bool,
    ) -> Look:
        """Look at flows; the gradient is that of the objective, averaged over draws, the loss the margin alone.

        Args:
            victim: what is looked at.
            x: the images.
            flow: how their pixels are moved.
            y: their labels.
            units: of the logits of each image; the first look puts them there.
            draws: of the look.
            with_gradient: whether one is wanted.
        """
        import torch

        from harness.bounds import clip, warp

        rounds = self.options.eot if victim.random else 1
        mean = Mean("margin", flow)
        fooled = x.new_zeros(len(x))
        for round_ in range(rounds):
            with torch.set_grad_enabled(with_gradient):
                at = flow.detach().requires_grad_(with_gradient)
                logits = victim.logits(clip(warp(x, at)), draws.at("eot", round_))
                if not units:
                    units.append(unit(logits))
                raised = margin(logits, y) / units[0]
                objective = raised - self.options.tau * roughness(at)
            mean.add(raised.detach(), torch.autograd.grad(objective.sum(), at)[0] if with_gradient else None)
            fooled += (logits.detach().argmax(1) != y).to(fooled.dtype)
        return Look(fooled, mean.loss, mean.gradient / rounds, mean.scale, rounds)


def roughness(flow: Tensor) -> Tensor:
    """Return how much moves differ from those of their four neighbours, ``(B,)`` (Xiao et al. 2018, equation 4).

    The sum over all pixels p and their neighbours q of the length of flow(p) - flow(q), so each pair counts twice.
    """
    down = flow[:, :, 1:] - flow[:, :, :-1]
    right = flow[:, :, :, 1:] - flow[:, :, :, :-1]
    # the root has no derivative at 0; a trifle inside gives it that of a minimum
    lengths = [(one.square().sum(1) + 1e-12).sqrt().flatten(1).sum(1) for one in (down, right)]
    return 2.0 * (lengths[0] + lengths[1])
