"""The threat model: what the attacker may change, how far, and what it knows of the defense."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Norm(StrEnum):
    """The norm that measures a perturbation of pixels in [0, 1]."""

    LINF = "Linf"
    L2 = "L2"


class Knowledge(StrEnum):
    """What the attacker knows of the defense, which is the gradient mode of the victim.

    ``oblivious``: sees the classifier alone, the defense is not in its model of the world.
    ``bpda``: runs the defense forwards and takes its Jacobian for the identity (straight-through;
    Athalye et al. 2018, section 4.1).
    ``full``: differentiates through the defense exactly, where that is possible.
    """

    OBLIVIOUS = "oblivious"
    BPDA = "bpda"
    FULL = "full"


@dataclass(frozen=True)
class ThreatModel:
    """A perturbation budget and a knowledge of the defense.

    Attributes:
        norm: the norm of the budget.
        eps: radius of the ball around the clean image, pixels in [0, 1], greater than 0.
        knowledge: what the attacker sees of the defense.
    """

    norm: Norm
    eps: float
    knowledge: Knowledge

    @property
    def adaptive(self) -> bool:
        """Whether the attacker takes the defense into account at all."""
        return self.knowledge is not Knowledge.OBLIVIOUS

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> ThreatModel:
        """Build the threat model whose ``as_dict`` this is."""
        return cls(Norm(told["norm"]), told["eps"], Knowledge(told["knowledge"]))

    def as_dict(self) -> dict[str, str | float]:
        """Return the value in plain JSON types, for identities and rows."""
        return {"norm": self.norm.value, "eps": self.eps, "knowledge": self.knowledge.value}
