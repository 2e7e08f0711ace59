"""Projected gradient descent (Madry et al. 2018), with restarts and expectation over transformation (EOT)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from attacks.ascent import ascend, score
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

        def look(point: Tensor, draws: Draws, with_gradient: bool) -> tuple[Tensor, Tensor]:
            return self._look(victim, point, y, draws, with_gradient=with_gradient)

        options = self.options
        return ascend(
            look,
            x,
            threat,
            draws,
            steps=options.steps,
            step_size=options.step_size,
            restarts=options.restarts,
            random_start=options.random_start,
            progress=victim.progress,
        )

    def _look(
        self, victim: Victim, x_adv: Tensor, y: Tensor, draws: Draws, *, with_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the score ``(B,)`` of an iterate and the gradient of the loss averaged over draws."""
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
        return score(fooled, total / rounds, rounds), gradient / rounds
