"""The fast adaptive boundary attack, FAB (Croce and Hein 2020): the smallest perturbation; the authors' library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from attacks.candidates import REEVALUATE, Candidates
from attacks.library import PACKAGE, Calls, in_units, sealed, seeded
from attacks.losses import few_targets, unit
from harness.components import Attack
from harness.options import Number
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws


class FAB(Attack):
    """Projections onto the linearised decision boundary, of which the smallest perturbation that fools is kept.

    The library leaves slopes below 1e-8 out, so it is shown logits in a unit of their own.
    """

    version: ClassVar[int] = 2
    library: ClassVar[str] = PACKAGE

    class Options(BaseOptions):
        """As AutoAttack has it, unless told."""

        targeted: bool = Field(
            True, description="towards one class after the other; else the nearest boundary, by a gradient per class"
        )
        targets: int = Field(
            9, ge=1, description="classes that the targeted form aims at, the most probable ones first"
        )
        steps: int = Field(100, ge=1, description="projections of a restart")
        restarts: int = Field(
            1, ge=1, description="starts of what is not misclassified yet: the image, then random ones"
        )
        eot: int = Field(1, ge=1, description="fresh draws of a random defense whose logits are averaged")
        alpha_max: Number = Field(0.1, ge=0, le=1, description="largest share of the projection from the clean image")
        eta: Number = Field(1.05, ge=1, description="how far beyond the boundary a projection goes")
        beta: Number = Field(0.9, gt=0, lt=1, description="how far a point that fools is drawn back to the clean image")
        reevaluate: int = Field(20, ge=1, description=REEVALUATE)

    options: Options

    def refuses(self, setting: Setting) -> str | None:
        """Refuse too few classes for the targets."""
        return few_targets("fab", self.options.targets, setting) if self.options.targeted else None

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return the smallest perturbation that fools, the clean image where none within the budget does.

        Of a random defense a point on the boundary is a coin toss, so there the whole budget is used in its direction,
        where that is better.
        """
        from pyautoattack.fab_pt import FABAttack_PT

        options = self.options
        runs = options.restarts * (options.targets if options.targeted else 1)
        calls = Calls(victim, draws, options.eot, expected=runs * (2 * options.steps + 2))
        attack = FABAttack_PT(
            sealed(in_units(calls, common_unit(victim, x, draws))),
            norm=threat.norm.value,
            n_restarts=options.restarts,
            n_iter=options.steps,
            eps=threat.eps,
            alpha_max=options.alpha_max,
            eta=options.eta,
            beta=options.beta,
            targeted=options.targeted,
            device=x.device,
            n_target_classes=options.targets,
        )
        kept = Candidates(victim, x, y, draws.at("candidates"), options.reevaluate)
        with seeded(draws.at("library")):
            approach(attack, kept, x, y, threat)
        return kept.best


def common_unit(victim: Victim, x: Tensor, draws: Draws) -> float:
    """Return the median unit of the logits of clean images; the library drops some and does not say which."""
    import torch

    with torch.no_grad():
        return float(unit(victim.logits(x, draws.at("unit"))).median())


def approach(attack: Any, kept: Candidates, x: Tensor, y: Tensor, threat: ThreatModel) -> None:
    """Run the library's FAB, with its restarts and targets, and offer what is within the budget.

    Args:
        attack: with its options.
        kept: what is offered to; images that no draw gets right are attacked no more.
        x: clean images ``(B, C, H, W)``.
        y: labels ``(B,)``.
        threat: the budget.
    """
    from harness.bounds import project, size

    for target in range(2, attack.n_target_classes + 2) if attack.targeted else [None]:
        attack.target_class = target
        for restart in range(attack.n_restarts):
            rows = kept.standing
            if not len(rows):
                return
            clean = x[rows].contiguous()
            found = attack.attack_single_run(
                clean, y[rows], use_rand_start=restart > 0, is_targeted=target is not None
            ).detach()
            length = size(found - clean, threat.norm)
            inside = length <= threat.eps
            kept.offer(found[inside], rows[inside])
            if kept.victim.random:
                further = (threat.eps / length.clamp_min(1e-12)).clamp_min(1.0).reshape(-1, 1, 1, 1)
                stretched = clean + further * (found - clean)
                kept.offer(project(stretched, clean, threat.eps, threat.norm), rows)
