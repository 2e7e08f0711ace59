"""Traits: what kind of a defense a row is of, by its own account, as flags with what was counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.core.result import CHANGED, EXCHANGED, UNTRUE
from reports import format as numbers
from reports.flags.evidence import Flag, State

if TYPE_CHECKING:
    from reports.cell import Entry
    from reports.flags.evidence import Evidence


_NOTHING = "nothing of the kind was seen"


def _trait(
    name: str,
    holds: bool | None,
    sentence: str,
    value: float | None = None,
    figure: str = "",
    cells: tuple[Entry, ...] = (),
    clear: str = "no, by its own account",
) -> Flag:
    if holds is None:
        sentence = "the traits of the defense were not recorded: run the suite again, which records them"
        return Flag(name, State.UNTESTED, sentence, trait=True)
    if not holds:
        return Flag(name, State.CLEAR, clear, trait=True)
    return Flag(name, State.FIRED, sentence, value, figure, cells, trait=True)


def random(evidence: Evidence) -> Flag:
    """Fire where the defense draws random numbers; the figure is how many clean verdicts they change."""
    sentence, value, figure = "the same image may be purified otherwise the next time", None, ""
    if evidence.random and evidence.clean and evidence.clean.repeats > 1:
        share = evidence.shares[evidence.clean.key]
        value = float(np.mean((share > 0) & (share < 1)))
        figure = f"{numbers.percent(value)} %"
        sentence += f"; {figure} of clean examples are right in some of {evidence.clean.repeats} repeats only"
    return _trait("random", evidence.random, sentence, value, figure)


def optimises(evidence: Evidence) -> Flag:
    """Fire where the defense runs an optimisation as it purifies; the figure is its backward passes."""
    passes = evidence.clean.defense_cost.backwards if evidence.clean else None
    holds = evidence.traits["optimises"] if evidence.traits else (None if passes is None else passes > 0)
    sentence = "it runs an optimisation at inference, which hides gradients and costs time"
    if passes:
        sentence += f": {numbers.count(passes)} backward passes for a clean image"
    return _trait("optimises", holds, sentence, passes, f"{numbers.count(passes)} backwards" if passes else "")


def batch_mates(evidence: Evidence) -> Flag:
    """Fire where what becomes of an image depends on the others of its batch."""
    holds = evidence.traits["batchwise"] if evidence.traits else None
    return _trait("batch-mates", holds, "what becomes of an image depends on which others are purified with it")


def oracle(evidence: Evidence) -> Flag:
    """Fire where the defense is shown the clean image."""
    holds = evidence.traits["oracle"] if evidence.traits else any(entry.oracle for entry in evidence.counted) or None
    return _trait("oracle", holds, "it is shown the clean image, so this is an analysis and no defense")


def own_classifier(evidence: Evidence) -> Flag:
    """Fire where the defense brings a classifier in place of the board's."""
    known = any(entry.own_classifier for entry in evidence.counted) if evidence.counted else None
    return _trait("own-classifier", known, "it brings a classifier that was trained with it, in place of the board's")


def votes(evidence: Evidence) -> Flag:
    """Fire where several purified copies vote; the figure is their number."""
    number = int(evidence.traits["votes"]) if evidence.traits else None
    sentence = "an image is purified several times and classified by majority, so its price and gradient are of all"
    return _trait("votes", None if number is None else number > 1, sentence, float(number or 0), str(number or ""))


def untrue_traits(evidence: Evidence) -> Flag:
    """Fire where a few images, purified in several ways, showed that a trait is not as the defense says."""
    noted = [(name, entry) for entry in evidence.counted if entry.clean for name in entry.notes or {}]
    told = [(name.removeprefix(UNTRUE), entry) for name, entry in noted if name.startswith(UNTRUE)]
    names, cells = ", ".join(name for name, _ in told), tuple(entry for _, entry in told)
    sentence = f"images that were purified twice, alone or by other draws show that it is not as it says: {names}"
    return _trait("untrue-traits", bool(told), sentence, None, names, cells, _NOTHING)


def surroundings(evidence: Evidence) -> Flag:
    """Fire where measuring the row changed what its process computes with; the figure is how many things."""
    noted = [entry for entry in (*evidence.counted, *evidence.checks) if entry.notes is not None]
    told = {name: entry for entry in noted for name in left_by(entry)}
    if not noted:
        return Flag("surroundings", State.UNTESTED, "nobody looked: run the suite again in a new database", trait=True)
    sentence = f"measuring it changed what others would be measured with, and was put back: {', '.join(sorted(told))}"
    return _trait(
        "surroundings", bool(told), sentence, float(len(told)), str(len(told)), tuple(told.values()), _NOTHING
    )


def left_by(entry: Entry) -> tuple[str, ...]:
    """Return what measuring a cell changed in its process, as it was noted."""
    return tuple(name for name in entry.notes or {} if name.startswith((CHANGED, EXCHANGED)))


def unclipped(evidence: Evidence) -> Flag:
    """Fire where purified pixels may lie beyond [0, 1]."""
    holds = evidence.traits.get("unclipped", False) if evidence.traits else None
    return _trait("unclipped", holds, "its purified pixels may lie beyond [0, 1], where no image is")
