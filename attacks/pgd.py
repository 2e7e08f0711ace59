"""Projected gradient descent (Madry et al. 2018), with restarts and expectation over transformation (EOT)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from attacks.ascent import REEVALUATE, Seen, ascend
from attacks.gradients import Look, look
from attacks.losses import MEANING, Loss, too_few
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

    version: ClassVar[int] = 2
    by_example: ClassVar[bool] = True

    class Options(BaseOptions):
        """Every iterate is looked at, the last one included; the best one per example is proposed.

        Of a random defense a few draws do not say which is the best: see ``reevaluate``.
        """

        steps: int = Field(20, ge=1, description="gradient steps of a restart")
        step_size: Eps | None = Field(None, description="length of a step in the norm; default 2.5 eps / steps")
        restarts: int = Field(1, ge=1, description="fresh starts; the best proposal of all is kept")
        eot: int = Field(1, ge=1, description="fresh draws of a random defense that a gradient is averaged over")
        random_start: bool = Field(True, description="start at a random point of the ball, else at the image")
        loss: Loss = Field("ce", description=MEANING)
        reevaluate: int = Field(10, ge=0, description=REEVALUATE)

    def __init__(self, options: Options) -> None:
        self.options = options

    def refuses(self, setting: Setting) -> str | None:
        """Refuse too few classes for the loss; every gradient mode will do."""
        return too_few(self.options.loss, setting.data.n_classes)

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return for each image the iterate that fools most draws, and among those the one of largest loss."""
        options = self.options

        def seen(point: Tensor, draws: Draws, with_gradient: bool) -> Look:
            return look(victim, point, y, options.loss, options.eot, draws, with_gradient=with_gradient)

        return ascend(
            seen,
            x,
            threat,
            draws,
            Seen(victim, x, y, draws.at("candidates"), options.reevaluate),
            steps=options.steps,
            step_size=options.step_size,
            restarts=options.restarts,
            random_start=options.random_start,
            progress=victim.progress,
        )
