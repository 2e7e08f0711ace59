"""Inner losses: what is lost within a purifier, for attackers who know the method (``Defense.inner_loss``).

Each is per image and exact in the images: where a purifier's own gradient leaves a path out, its loss has all of them.
Masks and noise have the addresses of the purifier's own, so an attacker who knows the draws asks about the very masks
that will be drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: steps of a purifier whose masks and noise an inner loss is averaged over, where it has so many
LOOKS = 4


def looks(steps: int) -> list[int]:
    """Return the numbers of the steps that an inner loss looks through: the first, and others equally far apart."""
    number = min(steps, LOOKS)
    return [step * steps // number for step in range(number)]


def expect(name: str, known: Iterable[str]) -> None:
    """Hold that an inner loss is one that the defense has.

    Raises:
        ValueError: if it is not.
    """
    if name not in known:
        raise ValueError(f"expected one of the inner losses {', '.join(known)}, got {name!r}")
