"""Evidence: all that is known of a row's attacks, for who judges how far the row can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.core.result import EXCHANGED, REPLACED
from harness.store.read.summaries import decide
from reports.stats.paired import p_values
from reports.stats.worst_case import ADVISED, ENOUGH, WorstCase, WorstCases

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.store.read.summaries import Shares
    from reports.cell import Entry

    Places = np.ndarray[Any, np.dtype[np.bool_]]

#: below this probability a difference is not taken for chance: a row is compared in some five ways, so that fewer than
#: one row in twenty is flagged by chance
SIGNIFICANT = 0.01


class State(StrEnum):
    """What became of a flag: it says something, it was looked at and says nothing, or nobody could look."""

    FIRED = "fired"
    CLEAR = "clear"
    UNTESTED = "untested"


@dataclass(frozen=True)
class Flag:
    """One thing that a reader should know of a row before believing its figure.

    Attributes:
        name: short, as tables have it.
        state: whether it fired.
        sentence: what was seen, with its figures; where nobody could look, what to add to the suite.
        value: the figure as a number, if there is one.
        figure: the same as people read it, or nothing.
        cells: where it was seen.
        trait: whether it says what the defense is, rather than that something is wrong with an attack on it.
        low: whether it says that the figure may be too low, rather than too high.
    """

    name: str
    state: State
    sentence: str
    value: float | None = None
    figure: str = ""
    cells: tuple[Entry, ...] = field(default=(), compare=False)
    trait: bool = False
    low: bool = False

    @property
    def fired(self) -> bool:
        """Whether it says something."""
        return self.state is State.FIRED

    @property
    def text(self) -> str:
        """Name and figure, as a table has it."""
        return f"{self.name} {self.figure}" if self.figure else self.name


@dataclass(frozen=True)
class Contrast:
    """Two attacks on the same examples, example by example.

    Attributes:
        chance: how probable as large a fall from the second to the first or a larger one is if luck alone says which
            attack got which verdict: half the two-sided probability of ``reports.stats.paired.p_values``, an exact
            test, which of verdicts 0 and 1 is McNemar's. 1 where the first leaves no less.
        first: accuracy that the first leaves, in [0, 1], over the examples that both have.
        second: likewise, the second.
        lower: examples that the first leaves less right than the second does.
        higher: the other way round.
        n: examples that both have.
    """

    chance: float
    first: float
    second: float
    lower: int
    higher: int
    n: int

    @classmethod
    def of(cls, first: Shares, second: Shares) -> Contrast:
        """Compare verdicts per place; not a number where one was not measured."""
        both = ~(np.isnan(first) | np.isnan(second))
        one, other = first[both], second[both]
        means = (float(one.mean()), float(other.mean())) if len(one) else (0.0, 0.0)
        chance = float(p_values(np.stack([one, other]))[0, 1]) / 2 if means[0] < means[1] else 1.0
        return cls(chance, *means, int((one < other).sum()), int((one > other).sum()), len(one))

    @property
    def significant(self) -> bool:
        """Whether the first attack leaves less right by more than chance."""
        return self.chance < SIGNIFICANT


@dataclass(frozen=True)
class Evidence:
    """A row's cells, of the suite that is shown and of others, and their verdicts.

    Attributes:
        reference: whether nothing defends; whoever knows the classifier then knows all.
        decision: how repeats become verdicts.
        shares: of each cell, by its key: the share of repeats that were correct, per place.
        clean: the cell on clean input, if it is finished.
        attacks: what meets the row directly within the board's budget and has verdicts.
        transfers: likewise, crafted on something else.
        checks: cells of fixed randomness within that budget, and of budgets without a bound.
        plurality: of cells with repeats, by key: whether the label has the most votes of all repeats, 0 or 1 per place.
    """

    reference: bool
    decision: str
    shares: Mapping[tuple[str, ...], Shares]
    clean: Entry | None
    attacks: tuple[Entry, ...]
    transfers: tuple[Entry, ...]
    checks: tuple[Entry, ...]
    plurality: Mapping[tuple[str, ...], Shares] = field(default_factory=dict)

    def verdicts(self, entry: Entry, decision: str | None = None) -> Shares:
        """Return a cell's verdict per place, 0 to 1; not a number where it was not measured."""
        share, rule = self.shares[entry.key], decision or self.decision
        return share if rule == "mean" else np.where(np.isnan(share), np.nan, decide(share, rule))

    def accuracy(self, entry: Entry) -> float:
        """Return the mean of a cell's verdicts."""
        return float(np.nanmean(self.verdicts(entry)))

    def worst(self, entries: Iterable[Entry], decision: str | None = None) -> Shares:
        """Return the smallest verdict of some cells per place; at least one of them."""
        least: Shares = np.fmin.reduce([self.verdicts(entry, decision) for entry in entries])
        return least

    @property
    def too_few(self) -> str:
        """Why the repeats do not carry a rank, or nothing: the strongest attack cannot be told from the luckiest."""
        enough = sum(entry.repeats >= ENOUGH for entry in self.counted)
        if self.random is False or enough > 1:
            return ""
        seen = "once" if self.repeats == 1 else f"by {self.repeats} repeats"
        return f"judged {seen}, too few to rank a random defense by; raise `repeats` to {ADVISED}"

    def worst_case(self, decision: str | None = None) -> WorstCase:
        """Return what is left over clean input and all attacks; at least one of them."""
        return self._worst_cases.under(decision or self.decision)

    @cached_property
    def _worst_cases(self) -> WorstCases:
        """The same under every rule.

        A defense that draws no random numbers has the same verdict each time, so the smallest is no matter of luck.
        """
        shares = np.stack([self.shares[entry.key] for entry in self.counted])
        return WorstCases(shares, [1 if self.random is False else one.repeats for one in self.counted])

    @cached_property
    def repeats(self) -> int:
        """The fewest repeats that judged an attack or clean input; of a defense without randomness one is enough."""
        return min((entry.repeats for entry in self.counted), default=0)

    def contrast(self, first: Entry, second: Entry) -> Contrast:
        """Compare two cells example by example."""
        return Contrast.of(self.verdicts(first), self.verdicts(second))

    @cached_property
    def counted(self) -> tuple[Entry, ...]:
        """What the worst case is over."""
        return (*((self.clean,) if self.clean else ()), *self.attacks, *self.transfers)

    @cached_property
    def knowing(self) -> tuple[Entry, ...]:
        """The attacks that know all there is to know of: the defense, or that there is none."""
        return tuple(entry for entry in self.attacks if self.knows(entry))

    @cached_property
    def white(self) -> tuple[Entry, ...]:
        """Those of them that follow gradients."""
        return tuple(entry for entry in self.knowing if not self.blind(entry))

    def knows(self, entry: Entry) -> bool:
        """Whether an attacker knows all there is to know of."""
        return entry.adaptive or (self.reference and not entry.transferred)

    def blind(self, entry: Entry) -> bool:
        """Whether an attack followed no gradient.

        None came by as it was made; where nobody looked, no pass went backwards. A defense that optimises makes passes
        of its own, which are counted with the attack's.
        """
        if "zero_gradient" in (entry.notes or {}):
            return False
        own = bool(self.clean and self.clean.defense_cost.backwards)
        return entry.attack_cost.backwards == 0 or (entry.notes is not None and own)

    @cached_property
    def fault(self) -> str:
        """Why the row cannot be ranked for its faults, or nothing.

        A class that was not chosen counts as wrong, and nothing can stand in its place. Where the clean image was
        judged in place of what an adaptive attack proposed, another one that proposed something for the same example
        makes that good: so an attack that fails neither raises a row to a rank nor takes it away.
        """
        lost = max(self.counted, key=lambda entry: entry.lost, default=None)
        exchanged = [name for entry in self.counted for name in entry.notes or {} if name.startswith(EXCHANGED)]
        if exchanged:
            names = ", ".join(dict.fromkeys(name.removeprefix(EXCHANGED) for name in exchanged))
            return f"measuring it exchanged functions that it was measured with: {names}"
        if lost is not None and lost.lost:
            number, told = lost.n * lost.repeats, round(lost.lost * lost.n * lost.repeats)
            return f"{told} of {number} outcomes of {lost.title} had no class: something was not finite"
        adaptive = [entry for entry in self.attacks if entry.adaptive]
        if not any(entry.replaced for entry in adaptive):
            return ""
        spared = np.logical_and.reduce([self._spared(entry) for entry in adaptive])
        if not spared.any():
            return ""
        return f"{int(spared.sum())} of {len(spared)} examples met no adaptive attack: what it proposed was replaced"

    def _spared(self, entry: Entry) -> Places:
        """Return where an attack may have proposed nothing; of a file that lacks some examples, which is not known."""
        spared = np.isnan(self.shares[entry.key])
        for fault in REPLACED:
            if fault in entry.broken:
                spared = spared | (entry.broken[fault] > 0)
        return spared | (entry.absent > 0)

    @cached_property
    def traits(self) -> Mapping[str, Any] | None:
        """What the defense is by its own account; None where that was not recorded."""
        entries = (*self.counted, *self.checks)
        return next((entry.facts.traits for entry in entries if entry.facts and entry.facts.traits), None)

    @cached_property
    def random(self) -> bool | None:
        """Whether the defense draws random numbers; None where no cell tells."""
        known = [entry.random for entry in (*self.counted, *self.checks) if not entry.fixed]
        return any(known) if known else None
