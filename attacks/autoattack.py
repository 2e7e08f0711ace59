"""AutoAttack (Croce and Hein 2020): the authors' library; against a random defense its verdicts are taken anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from attacks.apgd import climb
from attacks.candidates import Candidates
from attacks.fab import approach, common_unit
from attacks.library import PACKAGE, Calls, in_units, quiet, sealed, seeded, unit_free
from attacks.losses import too_few
from attacks.square import search, too_small
from harness.components import Attack
from harness.core.minimum import Effort
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws

Member = Literal["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]

#: what each version runs, in the library's order
MEMBERS: dict[str, tuple[Member, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}

#: classes that targeted members aim at
TARGETS = 9


class AutoAttack(Attack):
    """The ensemble as its authors fixed it; on random defenses its candidates are compared over fresh draws.

    The library narrows its batch by its own claims: a single draw decides that an image is broken. Against a random
    defense an image that was misclassified once, by luck, is attacked no more. So each of the attacks is run again, on
    whatever some of ``reevaluate`` draws still get right, and the candidate that is right least often is proposed. What
    the library claimed is shown beside the verdict as ``claimed_robust``.

    Steps of APGD do not shrink with the gradient, and FAB sees logits in a unit of their own; the losses are the
    library's, so that APGD-CE loses its way where the victim is sure of an image, and the gauge says how often.
    """

    version: ClassVar[int] = 3
    library: ClassVar[str] = PACKAGE

    class Options(BaseOptions):
        """Which of the authors' versions."""

        version: Literal["standard", "rand", "plus", "custom"] = Field(
            "standard",
            description="standard: APGD-CE, targeted APGD-DLR and FAB, Square; rand: APGD-CE and APGD-DLR with EOT 20; "
            "plus: more restarts, and untargeted forms besides; custom: those under attacks, with 5 restarts",
        )
        attacks: tuple[Member, ...] = Field((), description="what the version custom runs, in this order")
        reevaluate: int = Field(
            20,
            ge=0,
            description="fresh draws of a random defense by which candidates are compared, for about twice the cost; "
            "0: the library's own verdict, which a single draw decides",
        )

        @model_validator(mode="after")
        def _attacks_of_custom(self) -> AutoAttack.Options:
            if (self.version == "custom") != bool(self.attacks):
                raise ValueError(
                    f"expected a list of attacks for the version custom, and for no other, got {len(self.attacks)} "
                    f"for {self.version}"
                )
            if len(set(self.attacks)) < len(self.attacks):
                raise ValueError(f"expected each attack once, got {', '.join(self.attacks)}")
            return self

    options: Options

    @property
    def members(self) -> tuple[Member, ...]:
        """The attacks of the ensemble."""
        return self.options.attacks or MEMBERS[self.options.version]

    @property
    def effort(self) -> Effort:
        """What the authors give its members: 100 steps to APGD and FAB, 20 draws in rand, 5,000 queries to Square."""
        follows = set(self.members) - {"square"}
        return Effort(
            steps=100 if follows else 0,
            eot=20 if self.options.version == "rand" else 1,
            queries=5000 if "square" in self.members else 0,
        )

    def refuses(self, setting: Setting) -> str | None:
        """Refuse too few classes or pixels for one of the attacks."""
        called, n_classes = f"autoattack {self.options.version}", setting.data.n_classes
        reason = too_few("dlr", n_classes) if "apgd-dlr" in self.members else None
        if reason is None and {"apgd-t", "fab-t"} & set(self.members) and n_classes < TARGETS + 1:
            reason = (
                f"{called} needs at least {TARGETS + 1} classes for {TARGETS} targets, and the dataset has {n_classes}"
            )
            reason += "; use pgd"
        if reason is None and "square" in self.members:
            reason = too_small(setting)
        return reason

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return the library's proposals, or against a random defense the best candidate of each image.

        The shard is the library's batch, and its seed comes from the shard's address.
        """
        library = self._made(Calls(victim, draws), threat, draws, x)
        if {"fab", "fab-t"} & set(self.members):
            library.fab.predict = sealed(in_units(library.fab.predict, common_unit(victim, x, draws)))
        with seeded(draws.at("library")):  # the library seeds torch's global generator besides
            # it calls .view on gradients: contiguous NCHW, or it is slow and then crashes
            proposed, predicted = library.run_standard_evaluation(x.contiguous(), y, batch_size=len(x))
        victim.note("claimed_robust", predicted == y)
        result: Tensor = proposed.detach()
        if not (victim.random and self.options.reevaluate):
            return result
        import torch

        kept = Candidates(victim, x, y, draws.at("candidates"), self.options.reevaluate)
        kept.offer(result, torch.arange(len(x), device=x.device))
        for member in self.members:
            with seeded(draws.at("again", member)):
                self._again(member, library, kept, x, y, threat)
        return kept.best

    def _made(self, calls: Calls, threat: ThreatModel, draws: Draws, x: Tensor) -> Any:
        from pyautoattack import AutoAttack as Library

        quiet()
        library = Library(
            calls,
            norm=threat.norm.value,
            eps=threat.eps,
            seed=draws.at("library").seed() % 2**31,  # from the clock unless told
            version=self.options.version,
            attacks=list(self.options.attacks) or None,
            device=x.device,
        )
        for member in (library.apgd, library.apgd_targeted):
            unit_free(member)
        return library

    def _again(self, member: Member, library: Any, kept: Candidates, x: Tensor, y: Tensor, threat: ThreatModel) -> None:
        """Run one of the attacks with the options that the library gave it."""
        match member:
            case "apgd-ce" | "apgd-dlr":
                library.apgd.loss = member.removeprefix("apgd-")
                climb(library.apgd, kept, x, y)
            case "apgd-t":
                climb(library.apgd_targeted, kept, x, y)
            case "fab":
                library.fab.targeted = False
                approach(library.fab, kept, x, y, threat)
            case "fab-t":
                library.fab.targeted, library.fab.n_restarts = True, 1
                approach(library.fab, kept, x, y, threat)
            case "square":
                search(library.square, kept, x, y)
