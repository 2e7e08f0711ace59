"""Faults: what was wrong with a row's outcomes and with the classifier behind them, as flags with their shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scipy import stats

from reports.flags.evidence import SIGNIFICANT, Flag, State
from reports.format import percent

if TYPE_CHECKING:
    from collections.abc import Callable

    from reports.cell import Entry
    from reports.flags.evidence import Evidence

#: why nobody could look, where no attack is finished
_NO_ATTACK = "no attack is finished: run the suite"


def _told(name: str, evidence: Evidence, share: Callable[[Entry], float], says: str, fine: str, *, low: bool) -> Flag:
    """Return a flag that fires where a share is above 0 in any cell; it has the largest share, and all such cells."""
    entries = (*evidence.counted, *evidence.checks)
    cells = tuple(sorted((entry for entry in entries if share(entry)), key=lambda entry: -share(entry)))
    if cells:
        value = share(cells[0])
        figure = f"{percent(value)} %" if value >= 0.0005 else "< 0.1 %"
        return Flag(name, State.FIRED, f"{says}: {figure} in {cells[0].title}", value, figure, cells, low=low)
    if not evidence.attacks:
        return Flag(name, State.UNTESTED, _NO_ATTACK)
    return Flag(name, State.CLEAR, fine)


def not_finite(evidence: Evidence) -> Flag:
    """Fire where the defended classifier chose no class, since logits or a purified image were not finite."""
    says = "logits or purified images were not finite, so that no class was chosen and the outcomes count as wrong"
    fine = "all logits and purified images that were judged were finite"
    return _told("not-finite", evidence, lambda entry: entry.lost, says, fine, low=True)


def proposals_replaced(evidence: Evidence) -> Flag:
    """Fire where the clean image was judged, since an attack proposed nothing, or nothing finite."""
    says = "the attack proposed nothing, or nothing finite, and the clean image was judged in its place"
    fine = "every attack proposed something for each example"
    return _told("proposals-replaced", evidence, lambda entry: entry.replaced, says, fine, low=False)


def proposals_repaired(evidence: Evidence) -> Flag:
    """Fire where an attack proposed what is out of range or over budget, and that was brought back."""
    says = "the attack proposed what is out of range or over budget, and that was brought back and judged"
    fine = "every proposal kept range and budget"
    return _told("proposals-repaired", evidence, lambda entry: entry.repaired, says, fine, low=False)


def at_chance(evidence: Evidence) -> Flag:
    """Fire where as many clean images would be right by guessing, with a probability of ``SIGNIFICANT`` or more."""
    name, clean, classes = "at-chance", evidence.clean, (evidence.traits or {}).get("classes")
    if clean is None or clean.accuracy is None:
        return Flag(name, State.UNTESTED, "clean input is not finished: run the suite")
    if classes is None:
        return Flag(
            name, State.UNTESTED, "the number of classes was not recorded: run the suite again, which records it"
        )
    share, n = clean.accuracy.share, clean.accuracy.n
    chance = float(stats.binom.sf(int(share * n + 1e-9) - 1, n, 1.0 / classes))
    figure = f"{percent(share)} %"
    sentence = (
        f"{figure} of {n} clean images are right, and guessing among {classes} classes makes {percent(1 / classes)} %"
    )
    fired = chance >= SIGNIFICANT
    return Flag(name, State.FIRED if fired else State.CLEAR, sentence, share, figure, (clean,))


def probabilities(evidence: Evidence) -> Flag:
    """Fire where the classifier hands over probabilities, of which a loss takes the softmax once more."""
    name = "probabilities"
    cells = tuple(entry for entry in evidence.counted if (entry.notes or {}).get(name, (0.0, 0.0))[0])
    if cells:
        sentence = "the classifier hands over probabilities: return what goes into the softmax, or their logarithm"
        return Flag(name, State.FIRED, sentence, None, "", cells)
    if not evidence.attacks:
        return Flag(name, State.UNTESTED, _NO_ATTACK)
    return Flag(name, State.CLEAR, "no look at the classifier found probabilities in place of logits")


#: in the order of the tables
FAULTS: tuple[Callable[[Evidence], Flag], ...] = (
    *(not_finite, proposals_replaced, proposals_repaired),
    *(at_chance, probabilities),
)
