"""Spatially transformed adversarial examples (stAdv, Xiao et al. 2018): pixels are moved, none gets another colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from attacks.losses import margin, squeezed
from harness.core.threat import Norm
from harness.options import Eps, Number
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws


class StAdv:
    """Gradient ascent on a flow of pixels: margin less tau times roughness (equations 2 to 4), by sign steps.

    The authors bound no move: roughness alone keeps their images natural, and L-BFGS minimises both. Here eps bounds
    every move, so the steps are those of PGD in that box, and tau only steers. Their neighbours are four, each pair
    counted from both ends, as here. The judge renders the flows that are proposed.
    """

    version: ClassVar[int] = 1
    by_example: ClassVar[bool] = True
    norms: ClassVar[tuple[Norm, ...]] = (Norm.FLOW,)

    class Options(BaseOptions):
        """Every iterate is looked at, the last one included; the best one per example is proposed."""

        steps: int = Field(50, ge=1, description="gradient steps of a restart")
        step_size: Eps | None = Field(
            None, description="length of a step along an axis, in pixels; default 2.5 eps / steps"
        )
        restarts: int = Field(1, ge=1, description="fresh starts; the best proposal of all is kept")
        eot: int = Field(1, ge=1, description="fresh draws of a random defense that a gradient is averaged over")
        random_start: bool = Field(True, description="start at random moves, else at none")
        tau: Number = Field(0.05, ge=0, description="weight of the roughness, a sum over neighbours, beside the margin")

    def __init__(self, options: Options) -> None:
        self.options = options

    def refuses(self, setting: Setting) -> str | None:
        """Refuse nothing."""
        return None

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return for each image the flow ``(2, H, W)`` that fools most draws, and among those of the largest margin."""
        import torch

        from harness.bounds import shorten

        options, eps = self.options, threat.eps
        step_size = options.step_size or 2.5 * eps / options.steps
        shape = (2, *x.shape[2:])
        best = x.new_zeros(len(x), *shape)
        best_score = x.new_full((len(x),), -torch.inf)
        for restart in range(options.restarts):
            here = draws.at("restart", restart)
            start = 2.0 * here.at("start").uniform(*shape) - 1.0
            flow = eps * start.to(x.dtype) if options.random_start else torch.zeros_like(best)
            for step in range(options.steps + 1):  # one more than steps: the last iterate is evaluated too
                last = step == options.steps
                score, gradient = self._look(victim, x, flow, y, here.at("step", step), with_gradient=not last)
                better = score > best_score
                best = torch.where(better.reshape(-1, 1, 1, 1), flow, best)
                best_score = torch.where(better, score, best_score)
                if not last:
                    flow = shorten(flow + step_size * gradient.sign(), eps)
                done = restart * (options.steps + 1) + step + 1
                victim.progress(done / (options.restarts * (options.steps + 1)))
        return best

    def _look(
        self, victim: Victim, x: Tensor, flow: Tensor, y: Tensor, draws: Draws, *, with_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the score ``(B,)`` of flows and the gradient of the objective averaged over draws.

        The score is the share of draws that are fooled, and below that the margin squeezed into (0, 1 / draws).
        """
        import torch

        from harness.bounds import clip, warp

        rounds = self.options.eot if victim.random else 1
        gradient = torch.zeros_like(flow)
        fooled, total = x.new_zeros(len(x)), x.new_zeros(len(x))
        for round_ in range(rounds):
            with torch.set_grad_enabled(with_gradient):
                at = flow.detach().requires_grad_(with_gradient)
                logits = victim.logits(clip(warp(x, at)), draws.at("eot", round_))
                raised = margin(logits, y)
                objective = raised - self.options.tau * roughness(at)
            if with_gradient:
                gradient += torch.autograd.grad(objective.sum(), at)[0]
            fooled += (logits.detach().argmax(1) != y).to(fooled.dtype)
            total += raised.detach()
        return (fooled + 0.999 * squeezed("margin", total / rounds)) / rounds, gradient / rounds


def roughness(flow: Tensor) -> Tensor:
    """Return how much moves differ from those of their four neighbours, ``(B,)`` (Xiao et al. 2018, equation 4).

    The sum over all pixels p and their neighbours q of the length of flow(p) - flow(q), so each pair counts twice.
    """
    down = flow[:, :, 1:] - flow[:, :, :-1]
    right = flow[:, :, :, 1:] - flow[:, :, :, :-1]
    # the root has no derivative at 0; a trifle inside gives it that of a minimum
    lengths = [(one.square().sum(1) + 1e-12).sqrt().flatten(1).sum(1) for one in (down, right)]
    return 2.0 * (lengths[0] + lengths[1])
