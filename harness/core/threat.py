"""The threat model: what the attacker may change, how far, and what it knows of the defense."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Norm(StrEnum):
    """How an image may be changed, and what ``eps`` of a threat model measures.

    ``Linf``, ``L2``, ``L1``: the norm of a perturbation of pixels in [0, 1].
    ``flow``: no norm of pixels: how far each pixel may be moved along either axis, in pixels (Xiao et al. 2018). What
    is proposed are the moves; the judge measures them and renders the image.
    ``corruption``: no norm at all: a severity, 1 to 5, of common corruptions (Hendrycks and Dietterich 2019). Nothing
    about an image tells whether it is one of those, so the judge can check range and finiteness only.
    """

    LINF = "Linf"
    L2 = "L2"
    L1 = "L1"
    FLOW = "flow"
    CORRUPTION = "corruption"


def unbounded(norm: str | None, eps: float | None, pixels: int | None) -> bool:
    """Whether a budget allows to paint every image the same grey: half of the range in each of its ``pixels``."""
    if eps is None or norm == Norm.LINF:
        return eps is not None and eps >= 0.5
    if pixels is None or norm not in (Norm.L2, Norm.L1):
        return False
    return eps >= 0.5 * (math.sqrt(pixels) if norm == Norm.L2 else pixels)


#: the norms whose budget is a ball around the clean image, which ``harness.bounds`` measures and projects onto
BALLS = (Norm.LINF, Norm.L2, Norm.L1)


def diameter(norm: Norm, shape: tuple[int, int, int]) -> float:
    """Return how far an image can be from another: no budget says more than one of that size.

    Args:
        norm: what measures it: a ball's, in pixels of [0, 1]; the longest way within an image, in pixels, for a flow;
            the greatest severity, for a corruption.
        shape: channels, height and width of the images.
    """
    values = math.prod(shape)
    longest = float(max(shape[1:]) - 1) or 1.0
    return {Norm.LINF: 1.0, Norm.L2: math.sqrt(values), Norm.L1: float(values), Norm.FLOW: longest}.get(norm, 5.0)


class Knowledge(StrEnum):
    """What the attacker knows of the defense, which is the gradient mode of the victim.

    ``oblivious``: sees the classifier alone, the defense is not in its model of the world.
    ``bpda``: runs the defense forwards and takes its Jacobian for the identity (straight-through;
    Athalye et al. 2018, section 4.1).
    ``surrogate``: differentiates through a cheaper version of the defense, such as one of fewer steps, exactly; what
    the attacker runs and what the defender runs are both part of the cell (Lee and Kim 2023, section 4).
    ``full``: differentiates through the defense exactly, where that is possible.
    ``smooth``: likewise, but that each sign in the defense has a smooth function's derivative: its own is zero almost
    everywhere and would hide all that the defense does.
    """

    OBLIVIOUS = "oblivious"
    BPDA = "bpda"
    SURROGATE = "surrogate"
    FULL = "full"
    SMOOTH = "smooth"


@dataclass(frozen=True)
class Smoothing:
    """What takes the place of a sign in the backward pass; forwards the sign stays.

    Attributes:
        by: ``tanh``: of ``slope`` times the gradient over its mean absolute value in the image, which counts as a
            constant; ``normalised``: the gradient over that mean, with the derivative of the mean too. Nothing bounds
            that one, and it grows with every step of the defense: for defenses of a few.
        slope: of the tanh, above 0: the larger, the nearer to the sign, the fewer pixels have a derivative, and the
            more a gradient through many steps is noise. By default 0.3, which brought MAE-Pure down furthest: with 15
            steps on the digits the share of noise in a gradient averaged over 4 draws is a quarter without smooth
            signs, a half at 0.3, and four fifths at 1, where the attack is no stronger than without.
    """

    by: str = "tanh"
    slope: float = 0.3

    def as_dict(self) -> dict[str, str | float]:
        """Return the value in plain JSON types; a slope that nothing depends on takes no part."""
        return {"by": self.by, "slope": self.slope} if self.by == "tanh" else {"by": self.by}


@dataclass(frozen=True)
class ThreatModel:
    """A perturbation budget and a knowledge of the defense.

    Attributes:
        norm: what the budget measures.
        eps: how large that may be, greater than 0: the radius of a ball around the clean image, pixels in [0, 1];
            the largest move, in pixels; a severity, a whole number.
        knowledge: what the attacker sees of the defense.
        smoothing: what stands for the defense's signs; with ``smooth`` alone, which has the default unless told.
        fixed: whether the defense draws the same random numbers in every look of the attacker and of the judge, who
            both know them: how much of a defense is its randomness (Liu et al. 2025; Pintor et al. 2022). No such cell
            counts for the worst case, since nobody deploys such a defense.
    """

    norm: Norm
    eps: float
    knowledge: Knowledge
    smoothing: Smoothing | None = None
    fixed: bool = False

    def __post_init__(self) -> None:
        """Give a smooth attacker a smoothing where none is told, and nobody else one."""
        if self.knowledge is Knowledge.SMOOTH and self.smoothing is None:
            object.__setattr__(self, "smoothing", Smoothing())
        if self.knowledge is not Knowledge.SMOOTH and self.smoothing is not None:
            raise ValueError(f"expected a smoothing with the knowledge smooth alone, got one with {self.knowledge}")

    @property
    def adaptive(self) -> bool:
        """Whether the attacker takes the defense into account at all."""
        return self.knowledge is not Knowledge.OBLIVIOUS

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> ThreatModel:
        """Build the threat model whose ``as_dict`` this is."""
        smoothing = Smoothing(**told["smoothing"]) if "smoothing" in told else None
        return cls(Norm(told["norm"]), told["eps"], Knowledge(told["knowledge"]), smoothing, told.get("fixed", False))

    def as_dict(self) -> dict[str, Any]:
        """Return the value in plain JSON types, for identities and rows; what is not asked for takes no part."""
        plain: dict[str, Any] = {"norm": self.norm.value, "eps": self.eps, "knowledge": self.knowledge.value}
        if self.smoothing is not None:
            plain["smoothing"] = self.smoothing.as_dict()
        if self.fixed:
            plain["fixed"] = True
        return plain
