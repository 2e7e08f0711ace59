"""Minimum: which attacks a row has to have met before it is ranked, by name and version.

A worst case says something beside another one only where both were attacked in earnest: a purifier that nobody
differentiated stands above one that somebody did. So a row is ranked when it met, each in its own right, a gradient
attack with the strongest knowledge that its defense allows, and an attack without gradients that asks the defense
itself. What is met beyond that lowers the row and asks nothing of any other.

A minimum never changes. Where the field learns better there is a new one, under the next number, and a suite that
names the old one says what it said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.core.threat import BALLS, Knowledge, Norm

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: what an attacker knows whose every look is one at the defense itself
ASKS_THE_DEFENSE = (Knowledge.BPDA, Knowledge.FULL, Knowledge.SMOOTH)


@dataclass(frozen=True)
class Effort:
    """What an attack spends on an image, by its own account.

    Attributes:
        steps: gradient steps of a restart; 0: it follows no gradient.
        eot: fresh draws of a random defense behind each gradient.
        queries: how often it asks without a gradient, at most; 0: it does not search in that way.
    """

    steps: int = 0
    eot: int = 1
    queries: int = 0

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Effort:
        """Read the options ``steps``, ``eot`` and ``n_queries`` of an attack, as far as it has them."""

        def number(name: str, otherwise: int) -> int:
            value = params.get(name)
            return value if isinstance(value, int) and not isinstance(value, bool) else otherwise

        return cls(number("steps", 0), number("eot", 1), number("n_queries", 0))

    @classmethod
    def recorded(cls, traits: Mapping[str, Any] | None, params: Mapping[str, Any]) -> Effort:
        """Read what was recorded with a cell; where nothing was, the options of its attack."""
        told = (traits or {}).get("effort")
        return cls(**told) if told else cls.of(params)


@dataclass(frozen=True)
class Met:
    """An attack that a row has met: what it is called, what it knew of the defense, what it spent."""

    title: str
    knowledge: str
    effort: Effort


@dataclass(frozen=True)
class Lack:
    """One thing that a row has not met.

    Attributes:
        kind: ``gradient``: an attack that follows one; ``search``: one that follows none; ``any``: one that knows of
            the defense; ``account``: no attack, but what the defense says of itself.
        sentence: what is asked, and what there is of it.
        effort: what an attack that is to be added has to spend.
        knowledge: what it may know, the best first.
    """

    kind: Literal["gradient", "search", "any", "account"]
    sentence: str
    effort: Effort = Effort()
    knowledge: tuple[str, ...] = ()


@dataclass(frozen=True)
class Minimum:
    """What a row has to have met.

    Attributes:
        name: as a suite names it, with its version.
        steps: gradient steps of one restart, at least.
        eot: draws of a random defense that each gradient is averaged over, at least; of others none are asked.
        queries: how often the attack without gradients may ask, at least.
    """

    name: str
    steps: int
    eot: int
    queries: int

    @property
    def sentence(self) -> str:
        """What it asks, in a sentence."""
        return (
            f"{self.name} asks for a gradient attack with the strongest knowledge that the defense allows (full; "
            f"smooth where it moves by signs; bpda where nothing can be followed) of {self.steps} steps or more, each "
            f"averaged over {self.eot} draws or more where the defense is random, and for an attack without gradients "
            f"that may ask the defense itself {self.queries} times or more"
        )

    def lacks(
        self, norm: str, *, random: bool, follows: Sequence[str] | None, attacks: Iterable[Met]
    ) -> tuple[Lack, ...]:
        """Return what a row has not met; nothing where it may be ranked.

        Args:
            norm: of the board. No search is known for flows, and for corruptions no gradient: there any attack will
                do that knows of the defense and looks at it.
            random: whether the defense draws random numbers.
            follows: what an attacker can follow through the defense by its own account, of ``full`` and ``smooth``;
                None where that was not recorded.
            attacks: what the row has met, made on the row itself and with fresh randomness.
        """
        met = [one for one in attacks if one.knowledge in ASKS_THE_DEFENSE]
        if norm == Norm.CORRUPTION:
            looked = any(one.effort.steps or one.effort.queries for one in met)
            knowing = (*(follows or ()), Knowledge.BPDA.value)
            return () if looked else (Lack("any", "an attack that knows of the defense", knowledge=knowing),)
        found = [self._gradient(random, follows, met), self._search(met) if norm in BALLS else None]
        return tuple(one for one in found if one)

    def _gradient(self, random: bool, follows: Sequence[str] | None, met: Sequence[Met]) -> Lack | None:
        known = tuple(follows) if follows is not None else (Knowledge.FULL.value, Knowledge.SMOOTH.value)
        wanted = known or (Knowledge.BPDA.value,)
        tried = [one for one in met if one.knowledge in wanted and one.effort.steps]
        if any(one.effort.steps >= self.steps and (one.effort.eot >= self.eot or not random) for one in tried):
            return None
        if follows is None and not tried:
            return Lack(
                "account", "what an attacker can follow through it, which was not recorded: run the suite again"
            )
        sizes = _sizes(self.steps, self.eot, random)
        sentence = f"a gradient attack with knowledge {' or '.join(wanted)} of {sizes} or more"
        if tried:
            best = max(tried, key=lambda one: (one.effort.steps * one.effort.eot, one.effort.steps))
            sentence += f" ({best.title} has {_sizes(best.effort.steps, best.effort.eot, random)})"
        return Lack("gradient", sentence, Effort(steps=self.steps, eot=self.eot), wanted)

    def _search(self, met: Sequence[Met]) -> Lack | None:
        tried = [one for one in met if one.effort.queries]
        most = max(tried, key=lambda one: one.effort.queries, default=None)
        if most and most.effort.queries >= self.queries:
            return None
        sentence = f"an attack without gradients that asks the defense itself {self.queries} times or more"
        if most:
            sentence += f" ({most.title} asks {most.effort.queries} times)"
        return Lack("search", sentence, Effort(queries=self.queries), tuple(one.value for one in ASKS_THE_DEFENSE))


def _sizes(steps: int, eot: int, random: bool) -> str:
    said = f"{steps} step{'' if steps == 1 else 's'}"
    return f"{said} with {eot} draw{'' if eot == 1 else 's'} each" if random else said


#: By name. ``purifier-1`` is what a suite of small networks can give in minutes on two cores: its 4 draws are the
#: fewest at which the averaged gradients of the purifiers of the digits are less than half noise (.27 of MAE-Pure's
#: squared length, .41 of DiffPure's, .37 of a denoiser's; with 2 draws it would be up to .58), its 10 steps cross the
#: ball from side to side, and its 100 queries find out a defense that hides its gradient, not one that is hard to
#: search. ``field-1`` is the least that recent evaluations of purifiers take for an attack: PGD of 200 steps with 20
#: draws (Lee and Kim 2023), and the 5,000 queries that AutoAttack gives Square (Croce and Hein 2020).
MINIMA = {one.name: one for one in (Minimum("purifier-1", 10, 4, 100), Minimum("field-1", 200, 20, 5000))}

#: what a suite asks that names none
USUAL = "purifier-1"
