"""Auto-PGD (Croce and Hein 2020), in L1 as of Croce and Hein 2021: the authors' library, its claims compared anew."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from attacks.candidates import REEVALUATE, Candidates
from attacks.library import PACKAGE, Calls, quiet, seeded, unit_free
from attacks.losses import MEANING, few_targets, log_ce, margin, too_few
from harness.components import Attack
from harness.core.threat import Norm
from harness.options import Number
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws


class APGD(Attack):
    """PGD with momentum, whose step size is halved where it makes no progress; on one of four losses.

    Where each gradient is of one draw, cross-entropy is climbed by its logarithm: the same points in the same order, of
    which none is lost to rounding where the victim is sure of an image. Averages over draws are the library's own.
    """

    version: ClassVar[int] = 2
    library: ClassVar[str] = PACKAGE

    class Options(BaseOptions):
        """With steps 100 and one restart, what AutoAttack has of it; there eot is 20 in the version rand."""

        loss: Literal["ce", "dlr", "margin", "dlr-targeted"] = Field(
            "ce", description=MEANING + "; dlr-targeted: DLR towards one class after the other"
        )
        targets: int = Field(9, ge=1, description="classes that dlr-targeted aims at, the most probable ones first")
        steps: int = Field(100, ge=5, description="gradient steps of a restart")
        restarts: int = Field(1, ge=1, description="fresh starts, of what is not misclassified yet; for each target")
        eot: int = Field(1, ge=1, description="fresh draws of a random defense that a gradient is averaged over")
        rho: Number = Field(0.75, gt=0, lt=1, description="share of steps that must make progress, else it is halved")
        shrink: bool = Field(True, description="in L1 only: begin with budgets of 3 eps and 2 eps")
        reevaluate: int = Field(20, ge=1, description=REEVALUATE)

    options: Options

    def refuses(self, setting: Setting) -> str | None:
        """Refuse too few classes for the loss."""
        reason = too_few(self.options.loss, setting.data.n_classes)
        if reason is None and self.options.loss == "dlr-targeted":
            return few_targets("apgd", self.options.targets, setting)
        return reason

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return the best of what the library found, misclassified or not."""
        options = self.options
        targets = options.targets if options.loss == "dlr-targeted" else 1
        rounds = options.eot if victim.random else 1
        calls = Calls(victim, draws, expected=targets * options.restarts * ((options.steps + 1) * rounds + 1))
        kept = Candidates(victim, x, y, draws.at("candidates"), options.reevaluate)
        with seeded(draws.at("library")):
            climb(self._made(calls, threat, x, rounds), kept, x, y)
        victim.note("no_better", ((kept.best == x).flatten(1).all(1) & (kept.right > 0)).double())
        return kept.best

    def _made(self, calls: Calls, threat: ThreatModel, x: Tensor, rounds: int) -> Any:
        from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

        options = self.options
        common = {
            "n_iter": options.steps,
            "norm": threat.norm.value,
            "n_restarts": options.restarts,
            "eps": threat.eps,
            "eot_iter": rounds,
            "rho": options.rho,
            "device": x.device,
            "use_largereps": options.shrink and threat.norm is Norm.L1,
            "logger": quiet(),
        }
        if options.loss == "dlr-targeted":
            return unit_free(APGDAttack_targeted(calls, n_target_classes=options.targets, **common))
        # the library's two places for a loss are ce and dlr; its own are written as they are there
        mine = {"margin": margin} | ({"ce": _log_ce} if rounds == 1 else {})
        attack = APGDAttack(calls, loss="ce" if options.loss == "ce" and rounds > 1 else "dlr", **common)
        if options.loss in mine:
            attack.dlr_loss = mine[options.loss]
        return unit_free(attack)


def _log_ce(logits: Tensor, y: Tensor) -> Tensor:
    return log_ce(logits, y).to(logits.dtype)


def climb(attack: Any, kept: Candidates, x: Tensor, y: Tensor) -> None:
    """Run the library's APGD, with its restarts and targets, and offer the iterate that it claims and the strongest.

    Its own ``perturb`` would look at an image once and leave it alone if that single draw is misclassified.

    Args:
        attack: with its options.
        kept: what is offered to; images that no draw gets right are attacked no more.
        x: clean images ``(B, C, H, W)``.
        y: labels ``(B,)``.
    """
    attack.init_hyperparam(x)
    targeted = attack.loss == "dlr-targeted"
    for target in range(2, attack.n_target_classes + 2) if targeted else [None]:
        for _ in range(attack.n_restarts):
            rows = kept.standing
            if not len(rows):
                return
            clean, labels = x[rows].contiguous(), y[rows]  # it calls .view on gradients
            if target is not None:
                attack.y_target = attack.model(clean).sort(dim=1)[1][:, -target]
            if attack.use_largereps:
                found = attack.decr_eps_pgd(clean, labels, *_shrinking(attack.eps_orig, attack.n_iter_orig))
            else:
                found = attack.attack_single_run(clean, labels)
            strongest, _, _, claimed = found
            kept.offer(claimed.detach(), rows)
            kept.offer(strongest.detach(), rows)


def _shrinking(eps: float, steps: int) -> tuple[list[float], list[int]]:
    """Return the budgets and steps of the authors' schedule for L1: 3 eps and 2 eps for 30 % of the steps each."""
    early = math.ceil(0.3 * steps)
    return [3.0 * eps, 2.0 * eps, eps], [early, early, steps - 2 * early]
