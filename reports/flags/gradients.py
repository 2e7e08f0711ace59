"""Gradients: whether those that attacks were given could be followed, as flags by what was noted of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports import format as numbers
from reports.flags.evidence import Flag, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from reports.cell import Entry
    from reports.flags.evidence import Evidence

#: share of looks in which a gradient may be infinite or not a number somewhere
NOT_FINITE = 0.01

#: share of looks whose loss may have lost its slope to rounding, or weigh all classes alike
OUT_OF_SCALE = 0.1

#: share of images for which an attack may propose nothing better than what it began with
NO_BETTER = 0.25

#: cosine between the gradients of two draws below which they share no direction: the twenty draws that the field
#: averages over have as much noise as gradient then
DIRECTION = 0.05

_NO_WHITE = "there is no finished adaptive attack that follows gradients: add pgd with knowledge full, smooth or bpda"
_NOT_NOTED = "the attacks were made before this was looked at: measure them anew, in a new database"


def _noted(entry: Entry, *names: str) -> float | None:
    """Return the largest of some notes of an attack, None where it has none of them."""
    found = [(entry.notes or {})[name][0] for name in names if name in (entry.notes or {})]
    return max(found) if found else None


def _most(evidence: Evidence, *names: str) -> tuple[float, Entry] | None:
    """Return the largest note of the adaptive attacks that follow gradients, and whose it is."""
    found = [(value, entry) for entry in evidence.white if (value := _noted(entry, *names)) is not None]
    return max(found, key=lambda pair: pair[0]) if found else None


def _share(
    name: str, most: float, found: tuple[float, Entry] | None, evidence: Evidence, sentence: Callable[[str, str], str]
) -> Flag:
    """Return a flag that fires where a share is above what is allowed."""
    if found is None:
        return Flag(name, State.UNTESTED, _NOT_NOTED if evidence.white else _NO_WHITE)
    share, entry = found
    state, figure = State.FIRED if share > most else State.CLEAR, f"{numbers.percent(share)} %"
    return Flag(name, state, sentence(figure, entry.title), share, figure, (entry,))


def not_finite_gradient(evidence: Evidence) -> Flag:
    """Fire where a gradient was not finite in some pixel in more than ``NOT_FINITE`` of the looks of an attack."""
    return _share(
        "not-finite-gradient",
        NOT_FINITE,
        _most(evidence, "not_finite", "inner_not_finite"),
        evidence,
        lambda share, title: (
            f"the gradient was infinite or not a number in some pixels in {share} of the looks of {title}, the most of "
            "the row's attacks, which went on with the rest of it"
        ),
    )


def loss_out_of_scale(evidence: Evidence) -> Flag:
    """Fire where the loss of the strongest attack had lost its slope, or weighed all classes alike, too often."""
    noted = [entry for entry in evidence.white if _noted(entry, "saturated", "flat") is not None]
    found = None
    if noted:
        entry = min(noted, key=evidence.accuracy)
        found = (_noted(entry, "saturated", "flat") or 0.0, entry)
    return _share(
        "loss-out-of-scale",
        OUT_OF_SCALE,
        found,
        evidence,
        lambda share, title: (
            f"the cross-entropy had lost the true class's slope to rounding, or weighed all other classes alike, in "
            f"{share} of the looks of {title}, the strongest attack that was looked at; add pgd with the loss margin"
        ),
    )


def no_better_than_start(evidence: Evidence) -> Flag:
    """Fire where an attack ended no better than it had begun on more than ``NO_BETTER`` of the images."""
    return _share(
        "no-better-than-start",
        NO_BETTER,
        _most(evidence, "no_better"),
        evidence,
        lambda share, title: (
            f"{title} found nothing better than what it began with for {share} of the images, the most of the row's "
            "attacks: its gradients led nowhere"
        ),
    )


def unshared_direction(evidence: Evidence) -> Flag:
    """Fire where two draws' gradients have less than ``DIRECTION`` of their direction in common."""
    name = "unshared-direction"
    if evidence.random is False:
        return Flag(name, State.CLEAR, "the defense draws no random numbers, so its gradients have one direction")
    noted = [(value, one) for one in evidence.white if (value := _noted(one, "shared_direction")) is not None]
    if not noted:
        return Flag(
            name, State.UNTESTED, "no adaptive attack averaged gradients over draws: give one an eot of 2 or more"
        )
    cosine, entry = min(noted, key=lambda pair: pair[0])
    sentence = (
        f"the cosine between the gradients of two draws at the same images was {cosine:.2f} on average in "
        f"{entry.title}, the least of the row's attacks; 1 is one direction, 0 none in common"
    )
    state = State.FIRED if cosine < DIRECTION else State.CLEAR
    return Flag(name, state, sentence, cosine, f"{cosine:.2f}", (entry,))
