"""Projected gradient descent (Madry et al. 2018), with restarts and expectation over transformation (EOT)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from attacks.gradients import look
from attacks.losses import MEANING, Loss, squeezed, too_few
from attacks.refusals import no_ball
from harness.options import Eps
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws


class PGD:
    """Projected gradient ascent: sign in Linf, normalised gradient in L2, largest components in L1.

    In L1, steps that are best for a linear function change few pixels at a time; APGD, which widens them, is stronger.
    """

    version: ClassVar[int] = 1
    by_example: ClassVar[bool] = True

    class Options(BaseOptions):
        """Every iterate is looked at, the last one included; the best one per example is proposed."""

        steps: int = Field(20, ge=1, description="gradient steps of a restart")
        step_size: Eps | None = Field(None, description="length of a step in the norm; default 2.5 eps / steps")
        restarts: int = Field(1, ge=1, description="fresh starts; the best proposal of all is kept")
        eot: int = Field(1, ge=1, description="fresh draws of a random defense that a gradient is averaged over")
        random_start: bool = Field(True, description="start at a random point of the ball, else at the image")
        loss: Loss = Field("ce", description=MEANING)

    def __init__(self, options: Options) -> None:
        self.options = options

    def refuses(self, setting: Setting) -> str | None:
        """Refuse budgets that are no ball of a norm, and too few classes for the loss; every gradient mode will do."""
        return no_ball("pgd", setting) or too_few(self.options.loss, setting.data.n_classes)

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return for each image the iterate that fools most draws, and among those the one of largest loss."""
        import torch

        from harness.bounds import project, random_point, step

        options = self.options
        step_size = options.step_size or 2.5 * threat.eps / options.steps
        best, best_score = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
        for restart in range(options.restarts):
            here = draws.at("restart", restart)
            x_adv = random_point(x, threat.eps, threat.norm, here.at("start")) if options.random_start else x.clone()
            for number in range(options.steps + 1):  # one more than steps: the last iterate is evaluated too
                last = number == options.steps
                at = here.at("step", number)
                seen = look(victim, x_adv, y, options.loss, options.eot, at, with_gradient=not last)
                # the share of draws that are fooled, and below that the loss squeezed into (0, 1 / draws)
                score = (seen.fooled + 0.999 * squeezed(options.loss, seen.loss)) / seen.draws
                better = score > best_score
                best = torch.where(better.reshape(-1, 1, 1, 1), x_adv, best)
                best_score = torch.where(better, score, best_score)
                if not last:
                    x_adv = project(step(x_adv, seen.gradient, step_size, threat.norm), x, threat.eps, threat.norm)
                done = restart * (options.steps + 1) + number + 1
                victim.progress(done / (options.restarts * (options.steps + 1)))
        return best
