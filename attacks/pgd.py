"""Projected gradient descent (Madry et al. 2018), with restarts and expectation over transformation (EOT)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from attacks.ascent import AscentOptions, ascend
from attacks.gradients import Look, look
from attacks.losses import MEANING, Loss, too_few
from harness.components import Attack

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws


class PGD(Attack):
    """Projected gradient ascent: sign in Linf, normalised gradient in L2, largest components in L1.

    In L1, steps that are best for a linear function change few pixels at a time; APGD, which widens them, is stronger.
    """

    version: ClassVar[int] = 2
    by_example: ClassVar[bool] = True

    class Options(AscentOptions):
        """Those of an ascent, and the loss."""

        loss: Loss = Field("ce", description=MEANING)

    options: Options

    def refuses(self, setting: Setting) -> str | None:
        """Refuse too few classes for the loss; every gradient mode will do."""
        return too_few(self.options.loss, setting.data.n_classes)

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return for each image the iterate that fools most draws, and among those the one of largest loss."""
        options = self.options

        def seen(point: Tensor, draws: Draws, with_gradient: bool) -> Look:
            return look(victim, point, y, options.loss, options.eot, draws, with_gradient=with_gradient)

        return ascend(seen, victim, x, y, threat, draws, options)
