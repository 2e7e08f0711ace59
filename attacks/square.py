"""Square Attack (Andriushchenko et al. 2020), in L1 as of Croce and Hein 2021: black box, the authors' library.

The library never puts a square where it would touch the last row or column (its ``random_int`` leaves the upper end
out), so in Linf these keep the stripes of the first pattern. On other pixels of a linear victim it finds the optimum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from attacks.candidates import REEVALUATE, Candidates
from attacks.library import PACKAGE, Calls, seeded
from attacks.losses import log_ce, margin
from harness.components import Attack
from harness.core.threat import Norm
from harness.options import Number
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws

#: pixels of the shorter side below which the library's first pattern for L2 and L1 is empty
SMALLEST = 5


class Square(Attack):
    """Random search by squares of pixels that asks for logits alone; a change is kept where it lowers the margin."""

    version: ClassVar[int] = 2
    library: ClassVar[str] = PACKAGE

    class Options(BaseOptions):
        """As AutoAttack has it, unless told."""

        n_queries: int = Field(5000, ge=1, description="most queries of an image, of each restart")
        restarts: int = Field(1, ge=1, description="fresh starts, of what is not misclassified yet")
        eot: int = Field(1, ge=1, description="draws of a random defense whose logits answer a query, averaged")
        p_init: Number = Field(0.8, gt=0, le=1, description="share of the pixels that the first squares cover")
        rescale: bool = Field(False, description="shrink the squares by the share of the queries, not by their number")
        loss: Literal["margin", "ce"] = Field("margin", description="what is lowered: margin, or raised: cross-entropy")
        reevaluate: int = Field(20, ge=1, description=REEVALUATE)

    options: Options

    def refuses(self, setting: Setting) -> str | None:
        """Refuse images too small for the first pattern of L2 and L1."""
        return too_small(setting)

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return the images of smallest margin that were met; no gradient is asked for."""
        import torch
        from pyautoattack.square import SquareAttack

        options = self.options
        calls = Calls(victim, draws, options.eot, expected=options.restarts * (options.n_queries + 1))
        attack = SquareAttack(
            calls,
            norm=threat.norm.value,
            n_queries=options.n_queries,
            eps=threat.eps,
            p_init=options.p_init,
            n_restarts=options.restarts,
            loss=options.loss,
            resc_schedule=options.rescale,
            device=x.device,
        )
        with torch.no_grad():
            kept = Candidates(victim, x, y, draws.at("candidates"), options.reevaluate)
            with seeded(draws.at("library")):
                search(attack, kept, x, y)
        return kept.best


def search(attack: Any, kept: Candidates, x: Tensor, y: Tensor) -> None:
    """Run the library's Square Attack, with its restarts, and offer what it ends with.

    Args:
        attack: with its options.
        kept: what is offered to; images that no draw gets right are attacked no more.
        x: clean images ``(B, C, H, W)``.
        y: labels ``(B,)``.
    """
    attack.init_hyperparam(x)
    if attack.loss == "ce":
        _never_saturated(attack)
    if kept.victim.random:
        _never_satisfied(attack)
    for _ in range(attack.n_restarts):
        rows = kept.standing
        if not len(rows):
            return
        _, found = attack.attack_single_run(x[rows].contiguous(), y[rows])
        kept.offer(found, rows)


def _never_saturated(attack: Any) -> None:
    """Let the library compare logarithms of cross-entropies, which tell apart what the victim is sure of."""

    def compared(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = attack.predict(x)
        return -margin(logits, y), -log_ce(logits, y).to(logits.dtype)

    attack.margin_and_loss = compared


def _never_satisfied(attack: Any) -> None:
    """Let the library go on to its last query: against a random defense a query that fooled it was perhaps luck."""
    import torch

    ask = attack.margin_and_loss

    def undecided(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        margin, loss = ask(x, y)
        return torch.ones_like(margin), loss

    attack.margin_and_loss = undecided


def too_small(setting: Setting) -> str | None:
    """Return why images are too small for the first pattern in this norm, or None."""
    side = min(setting.data.shape[1:])
    if side >= SMALLEST or setting.threat.norm is Norm.LINF:
        return None
    return (
        f"square in {setting.threat.norm.value} needs images of {SMALLEST} pixels a side or more, and the dataset's "
        f"have {side}; use a gradient attack"
    )
