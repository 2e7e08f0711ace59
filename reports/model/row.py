"""Row: a defense on a board, with all that its figure stands on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from harness.core.table import Note
from reports.flags.checks import FOLLOWED, flags_of
from reports.flags.evidence import Evidence, State
from reports.format import percent

if TYPE_CHECKING:
    from harness.core.minimum import Lack
    from reports.cell import Accuracy, Entry
    from reports.flags.evidence import Flag
    from reports.stats.worst_case import WorstCase


@dataclass(frozen=True)
class Attacked:
    """An attack under a threat model, by the suite's names: a column of a board."""

    attack: str
    threat_model: str
    knowledge: str | None

    def __str__(self) -> str:
        """Name both."""
        return f"{self.attack} {self.threat_model}"

    @property
    def known_as(self) -> str:
        """The threat model, with what the attacker knows where its name does not say so."""
        unsaid = self.knowledge and self.knowledge not in self.threat_model
        return f"{self.threat_model}, {self.knowledge}" if unsaid else self.threat_model


@dataclass(frozen=True)
class Worst:
    """The accuracy that is left when each example meets the attack that suits it worst; clean input is one of them.

    Attributes:
        accuracy: the mean over examples of what is left under the attack of ``cells`` that suits each worst, see
            ``reports.stats.worst_case``.
        smallest: the mean of the smallest verdicts that were seen: a lower bound, which luck lowers.
        cells: the ids of the cells it comes from.
        anchor: the fragment on the page where they are listed.
        case: example by example.
    """

    accuracy: Accuracy
    smallest: float
    cells: tuple[str, ...]
    anchor: str
    case: WorstCase = field(repr=False, compare=False)

    @property
    def floor(self) -> str:
        """The lower bound with its sign; nothing where it is the figure itself."""
        return f"\N{GREATER-THAN OR EQUAL TO} {percent(self.smallest)}" if self.case.estimated else ""


class Group(StrEnum):
    """Where a row stands on its board; in this order."""

    RANKED = "ranked"
    BELOW = "below the minimum"
    OTHER = "not ranked"
    REFERENCE = "reference"


@dataclass(frozen=True)
class Row:
    """A defense on a board.

    Attributes:
        reference: whether it is the classifier without a defense, which is compared with and not ranked.
        clean: the cell on clean input.
        attacked: an entry per column of the board; None where the suite has no such cell.
        worst: None until clean input and at least one attack are measured. While cells are unfinished it is an
            upper bound: another attack can only lower it.
        rank: place by worst case, from 1, see ``reports.stats.paired.places``; None where the row cannot be ranked.
        unranked: why not.
        lacks: what it has not met of the minimum that its suite asks for, once the suite's own cells are finished.
        tied: the defenses that share the place: the numbers cannot tell their group's first from them.
        p: of the comparison that gave the row its place, corrected; None without one.
        transferred: cells whose examples were crafted on something else; they count for the worst case.
        elsewhere: attacks on the same row that other suites have; they count for it too.
        checks: cells that count for no worst case: of fixed randomness, or without a bound.
        stale: attacks that other suites have and that count for nothing, since the weights were others, or since they
            were computed elsewhere alone.
        flags_anchor: the fragment on the page where its flags are listed.
        evidence: what the flags are judged by.
    """

    defense: str
    reference: bool
    clean: Entry | None
    attacked: tuple[Entry | None, ...]
    worst: Worst | None
    rank: int | None
    unranked: str
    lacks: tuple[Lack, ...] = ()
    tied: tuple[str, ...] = ()
    p: float | None = None
    transferred: tuple[Entry, ...] = ()
    elsewhere: tuple[Entry, ...] = ()
    checks: tuple[Entry, ...] = ()
    stale: tuple[Entry, ...] = ()
    flags_anchor: str = field(default="", compare=False)
    evidence: Evidence = field(kw_only=True, compare=False, repr=False)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All cells that the suite has of the row, clean input first, checks last."""
        return (*self.wanted, *(entry for entry in self.checks if not entry.elsewhere))

    @property
    def wanted(self) -> tuple[Entry, ...]:
        """Those of them that the worst case waits for."""
        return tuple(entry for entry in (self.clean, *self.attacked, *self.transferred) if entry)

    @property
    def foreign(self) -> str:
        """Which databases its figures were computed in, where that is elsewhere and nobody did so again here."""
        return ", ".join(dict.fromkeys(entry.computed_in for entry in self.entries if entry.foreign))

    @property
    def unfinished(self) -> int:
        """How many of those can be measured and have not been, or not wholly."""
        return sum(entry.unfinished for entry in self.wanted)

    @property
    def group(self) -> Group:
        """Where it stands: among the ranked, those attacked less than is asked, those that cannot be ranked."""
        if self.reference:
            return Group.REFERENCE
        if not self.unranked:
            return Group.RANKED
        return Group.BELOW if self.lacks else Group.OTHER

    @property
    def missing(self) -> str:
        """What it has not met of the minimum, in words; or nothing."""
        return "; ".join(lack.sentence for lack in self.lacks)

    @cached_property
    def flags(self) -> tuple[Flag, ...]:
        """What to know of the row before believing its figure, fired or not."""
        return flags_of(self.evidence)

    def flagged(self, state: str = State.FIRED) -> tuple[Flag, ...]:
        """Return the flags in a state."""
        return tuple(flag for flag in self.flags if flag.state == state)

    @property
    def warning(self) -> str:
        """Name the flags that fired, each with its figure; or nothing."""
        return ", ".join(flag.text for flag in self.flagged())

    @property
    def sources(self) -> str:
        """Which attacks of other suites the worst case is over as well, with what each leaves; or nothing."""
        told = [f"{one.title} ({percent(one.accuracy.share)})" for one in self.elsewhere if one.accuracy]
        left_out = [one.title for one in self.stale if not one.foreign]
        theirs = [f"{one.title} ({one.computed_in})" for one in self.stale if one.foreign]
        said = [f"also counts {', '.join(told)}"] if told else []
        said += [f"does not count {', '.join(left_out)}, measured with other weights"] if left_out else []
        said += [f"does not count {', '.join(theirs)}, computed elsewhere and not again here"] if theirs else []
        return "; ".join(said)

    @property
    def bound(self) -> str:
        """What stands before the worst case: a sign where it is an upper bound only, else nothing."""
        return "\N{LESS-THAN OR EQUAL TO} " if self.unfinished else ""

    @property
    def caveat(self) -> str:
        """Why the row was attacked less than others that are ranked, or nothing: a refused attack lowers no number.

        One that knows no more than another that is finished is not missed: a defense without signs has none to smooth.
        What is not ranked says what it lacks.
        """
        best = max((FOLLOWED.get(str(entry.knowledge), 0) for entry in self.evidence.knowing), default=0)
        refused = sorted(
            {str(one.knowledge) for one in self.attacked if one and one.status == "skipped" and _more(one, best)}
        )
        return f"not attacked in {', '.join(refused)}: refused" if refused and self.group is Group.RANKED else ""

    @property
    def remark(self) -> str:
        """What sets the row apart from the others, or nothing: it may not stand on the board's classifier."""
        own = any(entry.own_classifier for entry in self.entries)
        return "brings a classifier of its own; oblivious attackers see the board's" if own else ""

    @property
    def remarks(self) -> tuple[Note, ...]:
        """What a page says below its name."""
        said = [Note("no defense: the reference")] if self.reference else []
        if self.unranked and not self.reference and (self.unfinished or not self.lacks):
            said.append(Note(f"not ranked: {self.unranked}"))
        said += [Note(one) for one in (self.remark, self.sources) if one]
        return (*said, Note(f"* {self.caveat}", warn=True)) if self.caveat else tuple(said)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The same in sentences, with what it lacks, where there is no room below its name."""
        said = [f"{self.defense} {one}" for one in (self.remark, self.sources) if one]
        if self.unranked and not self.reference:
            missing = f"; it lacks {self.missing}" if self.missing else ""
            said.insert(0, f"{self.defense} is not ranked: {self.unranked}{missing}")
        if self.caveat:
            said.append(f"* {self.defense}: {self.caveat}; rows beside it may have been attacked harder")
        return tuple(said)

    @property
    def place(self) -> str:
        """The rank, with ``=`` where others share it and a star where there is a caveat; empty where there is none."""
        return f"{self.rank}{'=' if self.tied else ''}{'*' if self.caveat else ''}" if self.rank else ""

    @property
    def standing(self) -> str:
        """The rank, or why there is none."""
        return self.place or self.unranked


def _more(entry: Entry, best: int) -> bool:
    """Whether an attack would have followed more of the defense than the best that did; who knows no name, might."""
    return FOLLOWED.get(str(entry.knowledge), len(FOLLOWED)) > best
