"""The threat model: what the attacker may change, how far, and what it knows of the defense."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Norm(StrEnum):
    """How an image may be changed, and what ``eps`` of a threat model measures.

    ``Linf``, ``L2``: the norm of a perturbation of pixels in [0, 1].
    ``flow``: no norm of pixels: how far each pixel may be moved along either axis, in pixels (Xiao et al. 2018). What
    is proposed are the moves; the judge measures them and renders the image.
    ``corruption``: no norm at all: a severity, 1 to 5, of common corruptions (Hendrycks and Dietterich 2019). Nothing
    about an image tells whether it is one of those, so the judge can check range and finiteness only.
    """

    LINF = "Linf"
    L2 = "L2"
    FLOW = "flow"
    CORRUPTION = "corruption"


#: the norms whose budget is a ball around the clean image, which ``harness.bounds`` measures and projects onto
BALLS = (Norm.LINF, Norm.L2)


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
        norm: what the budget measures.
        eps: how large that may be, greater than 0: the radius of a ball around the clean image, pixels in [0, 1];
            the largest move, in pixels; a severity, a whole number.
        knowledge: what the attacker sees of the defense.
    """

    norm: Norm
    eps: float
    knowledge: Knowledge

    @property
    def adaptive(self) -> bool:
        """Whether the attacker takes the defense into account at all."""
        return self.knowledge is not Knowledge.OBLIVIOUS

    def as_dict(self) -> dict[str, str | float]:
        """Return the value in plain JSON types, for identities and rows."""
        return {"norm": self.norm.value, "eps": self.eps, "knowledge": self.knowledge.value}
