"""The fast gradient sign method (Goodfellow et al. 2015), and its form with a random start (Wong et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from attacks.gradients import look
from attacks.losses import MEANING, Loss, too_few
from harness.components import Attack
from harness.core.minimum import Effort
from harness.options import Eps
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws


class FGSM(Attack):
    """One gradient step of length eps: sign in Linf, normalised gradient in L2, largest components in L1."""

    version: ClassVar[int] = 2
    by_example: ClassVar[bool] = True

    class Options(BaseOptions):
        """A random start and a longer step make it the attack of fast adversarial training."""

        step_size: Eps | None = Field(None, description="length of the step in the norm; default eps")
        random_start: bool = Field(False, description="start at a random point of the ball, else at the image")
        eot: int = Field(1, ge=1, description="fresh draws of a random defense that the gradient is averaged over")
        loss: Loss = Field("ce", description=MEANING)

    options: Options

    @property
    def effort(self) -> Effort:
        """One step."""
        return Effort(steps=1, eot=self.options.eot)

    def refuses(self, setting: Setting) -> str | None:
        """Refuse too few classes for the loss; every gradient mode will do."""
        return too_few(self.options.loss, setting.data.n_classes)

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return the images after the step, within the budget."""
        from harness.bounds import project, random_point, step

        options, norm = self.options, threat.norm
        start = random_point(x, threat.eps, norm, draws.at("start")) if options.random_start else x
        seen = look(victim, start, y, options.loss, options.eot, draws.at("step"))
        victim.progress(1.0)
        return project(step(start, seen.gradient, options.step_size or threat.eps, norm), x, threat.eps, norm)
