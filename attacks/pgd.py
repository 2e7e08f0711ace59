"""Projected gradient descent (Madry et al. 2018), with restarts and expectation over transformation (EOT)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from harness.options import Eps
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws


class PGD:
    """Projected gradient ascent on the cross-entropy, in Linf (sign steps) or L2 (normalised gradients)."""

    version: ClassVar[int] = 1
    by_example: ClassVar[bool] = True

    class Options(BaseOptions):
        """Every iterate is looked at, the last one included; the best one per example is proposed."""

        steps: int = Field(20, ge=1, description="gradient steps of a restart")
        step_size: Eps | None = Field(None, description="length of a step in the norm; default 2.5 eps / steps")
        restarts: int = Field(1, ge=1, description="fresh starts; the best proposal of all is kept")
        eot: int = Field(1, ge=1, description="fresh draws of a random defense that a gradient is averaged over")
        random_start: bool = Field(True, description="start at a random point of the ball, else at the image")

    def __init__(self, options: Options) -> None:
        self.options = options

    def refuses(self, setting: Setting) -> str | None:
        """Refuse nothing: both norms and every gradient mode will do."""
        return None

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return for each image the iterate that fools most draws, and among those the one of largest loss."""
        import torch

        from harness.bounds import project, random_point, steepest

        options = self.options
        step_size = options.step_size or 2.5 * threat.eps / options.steps
        best, best_score = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
        for restart in range(options.restarts):
            here = draws.at("restart", restart)
            x_adv = random_point(x, threat.eps, threat.norm, here.at("start")) if options.random_start else x.clone()
            for step in range(options.steps + 1):  # one more than steps: the last iterate is evaluated too
                last = step == options.steps
                score, gradient = self._look(victim, x_adv, y, here.at("step", step), with_gradient=not last)
                better = score > best_score
                best = torch.where(better.reshape(-1, 1, 1, 1), x_adv, best)
                best_score = torch.where(better, score, best_score)
                if not last:
                    x_adv = project(x_adv + step_size * steepest(gradient, threat.norm), x, threat.eps, threat.norm)
                done = restart * (options.steps + 1) + step + 1
                victim.progress(done / (options.restarts * (options.steps + 1)))
        return best

    def _look(
        self, victim: Victim, x_adv: Tensor, y: Tensor, draws: Draws, *, with_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the score ``(B,)`` of an iterate and the gradient of the loss averaged over draws.

        The score is the share of draws that are fooled, and below that the loss squeezed into (0, 1 / draws).
        """
        import torch
        from torch.nn import functional as F

        rounds = self.options.eot if victim.random else 1
        gradient = torch.zeros_like(x_adv)
        fooled, total = x_adv.new_zeros(len(x_adv)), x_adv.new_zeros(len(x_adv))
        for round_ in range(rounds):
            with torch.set_grad_enabled(with_gradient):
                at = x_adv.detach().requires_grad_(with_gradient)
                logits = victim.logits(at, draws.at("eot", round_))
                loss = F.cross_entropy(logits, y, reduction="none")
            if with_gradient:
                gradient += torch.autograd.grad(loss.sum(), at)[0]
            fooled += (logits.detach().argmax(1) != y).to(fooled.dtype)
            total += loss.detach()
        loss_part = 1.0 - torch.exp(-total / rounds)  # grows with the loss, stays below 1
        return (fooled + 0.999 * loss_part) / rounds, gradient / rounds
