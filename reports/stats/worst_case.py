"""The worst case of a random defense: what is left where each example meets the attack that suits it worst.

Wanted is the mean over examples of the smallest probability, over the attacks, of being right. Known are a few repeats
of each. The smallest of their shares is too small, since the luckiest attack is taken for the strongest, and the more
so the more attacks there are. The share under an attack that other repeats have chosen is too large, since they choose
the wrong one now and then, and the more so the more weak attacks there are. So a model of the repeats puts it right:

- an example has a level and an attack a curve, and what an example and an attack have of their own is normal around it
  (``reports.stats.repeats``);
- attacks whose curves are not told apart are drawn together, by the distribution of curves that explains them best
  (Kiefer and Wolfowitz 1956); what an example has of its own counts as far as the repeats show that there is any;
- the figure is the smallest probability that the model expects after the repeats were seen. To it is added by how much
  the chosen attack left more or less than the model expects, judged by what had no part in choosing it: an example's
  attack is chosen by the curves of other examples and by its other repeats (augmented inverse probability weighting,
  Robins, Rotnitzky and Zhao 1994). So what is wrong with the model counts to second order only;
- where attacks complement each other, one that is strong on all examples and the strongest on none may be taken
  for the strongest: the figure is never above that without the attack which is the strongest on average.

A benchmark on boards whose truth is known says how well it does: ``tests/benchmarks/test_worst_case.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from harness.store.read.frames import wilson
from harness.store.read.summaries import decide
from reports.cell import Accuracy
from reports.stats.repeats import LEVELS, Examples, Slots, fitted, newton

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.store.read.summaries import Numbers, Shares
    from reports.stats.repeats import Model, Tables

#: fewer repeats than this say too little of an example to choose its attack and to judge it too
ENOUGH = 5

#: what is advised instead: the fewest that the benchmark holds to its limits for several attacks
ADVISED = 10

#: how many times its variance a curve may lie from another to be drawn to it as if by chance alone
_DRAWN = 2.0

#: differences of mean accuracy, in standard errors of one, within which attacks share being chosen
_BLUR = 0.7

#: how uncertain the figure is beyond its examples, by boards of known truth: so many times the variance of which attack
#: is the strongest, and so many times that of a mean over examples which are as uncertain as what luck took is large
_UNSURE, _TAKEN = 2.0, 1.5

#: levels of a smaller probability are left out where the smallest is computed
_RARE = 1e-3


@dataclass(frozen=True)
class WorstCase:
    """What is left of a row's examples in the worst case.

    Attributes:
        verdicts: ``(examples,)``; their mean is the figure. One of them is no probability and may lie beyond 0 or 1.
        smallest: ``(examples,)``, the smallest verdict that was seen, in [0, 1]: its mean is too small, if anything.
        shared: variance of the figure that all examples share: it is not certain which attack is the strongest.
        estimated: whether the model had a part in it; else the smallest verdicts are taken as they are.
    """

    verdicts: Shares
    smallest: Shares
    shared: float = 0.0
    estimated: bool = False

    @property
    def accuracy(self) -> Accuracy:
        """The figure with its 95 % Wilson interval.

        The interval is that of so many examples as have the variance of the figure; never of more than there are.
        """
        n = len(self.verdicts)
        share = min(1.0, max(0.0, round(float(self.verdicts.sum()), 9) / n))
        alike = float(n)
        if self.estimated:
            near = (n * share + 2.0) / (n + 4.0)  # no share of some examples is certain to be 0 or 1
            spread = float(self.verdicts.var()) + n * self.shared
            alike = max(1.0, n * min(1.0, near * (1.0 - near) / spread)) if spread else alike
        _, low, high = (float(bound) for bound in wilson(share * alike, alike))
        return Accuracy(share, low, high, n)


class _Part(NamedTuple):
    """Some examples, and the curves of the attacks by all the others.

    Attributes:
        mine: ``(kinds,)``, which kinds they are of.
        curves: as they were found.
        pulled: drawn together.
        doubt: variance of the lowest mean accuracy of an attack.
    """

    mine: Numbers
    curves: Shares
    pulled: Shares
    doubt: float


class WorstCases:
    """What is left in the worst case over some attacks, under each rule; one of them is no attack: clean input.

    Where fewer than two of the attacks have ``ENOUGH`` repeats, the smallest verdicts are taken as they are; a defense
    without randomness needs one repeat. What no rule changes is computed once.

    Args:
        shares: of repeats that were right, ``(attacks, examples)``; not a number where an example was not attacked.
            Each example was attacked by one of them.
        repeats: of each attack.
    """

    def __init__(self, shares: Shares, repeats: Sequence[int]) -> None:
        self.shares, self.repeats = np.asarray(shares, float), list(repeats)
        self._known: dict[str, WorstCase] = {}

    def under(self, decision: str) -> WorstCase:
        """Return it under what makes a verdict of the repeats, see ``harness.store.read.summaries.decide``."""
        if decision not in self._known:
            self._known[decision] = self._under(decision)
        return self._known[decision]

    def _under(self, decision: str) -> WorstCase:
        found, fewer = self._estimate(decision), self._without_strongest
        if not found.estimated or fewer is None:
            return found
        other = fewer._estimate(decision)
        if not other.estimated or other.verdicts.mean() >= found.verdicts.mean():
            return found
        return replace(found, verdicts=other.verdicts, shared=max(found.shared, other.shared))

    @cached_property
    def _without_strongest(self) -> WorstCases | None:
        """What is left without the attack of the lowest mean share; None where that leaves too little."""
        if len(self.repeats) < 3:
            return None
        rest = np.arange(len(self.repeats)) != np.nanmean(self.shares, 1).argmin()
        if np.isnan(self.shares[rest]).all(0).any():
            return None
        return WorstCases(self.shares[rest], [number for number, kept in zip(self.repeats, rest, strict=True) if kept])

    def _estimate(self, decision: str) -> WorstCase:
        """Return it over all attacks alike."""
        seen = ~np.isnan(self.shares)
        smallest = np.where(seen, decide(np.where(seen, self.shares, 0.0), decision), np.inf).min(0)
        if sum(number >= ENOUGH for number in self.repeats) < 2:
            return WorstCase(smallest, smallest)
        examples, model, parts = self._fitted
        rule, found = _RULES[decision](examples.slots.repeats), np.zeros(len(examples.weights))
        for one in parts:
            mine = examples.some(one.mine)
            found[one.mine] = _expected(model, mine, one.pulled, one.curves, rule, len(smallest))
        figures = found[examples.pattern]
        taken = float(figures.mean() - smallest.mean())
        unsure = _UNSURE * float(np.mean([one.doubt for one in parts])) + _TAKEN * taken**2 / len(figures)
        return WorstCase(figures, smallest, unsure, estimated=True)

    @cached_property
    def _fitted(self) -> tuple[Examples, Model, list[_Part]]:
        seen = ~np.isnan(self.shares)
        counts = np.rint(np.where(seen, self.shares, 0.0) * np.asarray(self.repeats)[:, None]).astype(np.int64)
        examples = Examples.of(np.where(seen, counts, -1), self.repeats)
        model, parts = fitted(examples), []
        for part in range(examples.parts):
            mine = examples.part == part
            curves, information = _curves(model, examples.some(~mine if examples.parts > 1 else mine))
            pulled, likely = _drawn_together(curves, information)
            parts.append(_Part(mine, curves, pulled, _doubt(model, curves, likely)))
        return examples, model, parts


def worst_case(shares: Shares, repeats: Sequence[int], decision: str = "mean") -> WorstCase:
    """Return what is left in the worst case under one rule: see ``WorstCases``."""
    return WorstCases(shares, repeats).under(decision)


# ---------------------------------------------------------------------- which attack is the strongest


def _curves(model: Model, examples: Examples) -> tuple[Shares, Shares]:
    """Return the curves by some examples alone, and their information; all else is the model's."""
    slots, n = examples.slots, float(examples.weights.sum())
    for _ in range(3):
        tables = model.tables(slots)
        found, _ = model.posterior(examples.hot @ np.log(tables.slot))
        number = examples.hot.T @ (found * examples.weights[:, None])
        move, information = newton(tables, slots, number, n, own=False)
        model = model._replace(curves=model.curves + move)
    return model.curves, information


def _drawn_together(curves: Shares, information: Shares) -> tuple[Shares, Shares]:
    """Return curves drawn to those that they are not told from, and how likely each is which: ``(attacks, attacks)``.

    Each is a mean of the curves that were found, by the probability that it is one of them. How many attacks have each
    is what makes all of them most likely (Kiefer and Wolfowitz 1956).
    """
    apart = curves[:, None] - curves[None]
    likely = np.exp(-0.5 * np.einsum("kji,kil,kjl->kj", apart, information / _DRAWN, apart))
    kinds = np.full(len(curves), 1.0 / len(curves))
    for _ in range(100):
        origin = likely * kinds
        origin = origin / origin.sum(1, keepdims=True)
        kinds = origin.mean(0)
    return origin @ curves, likely


def _doubt(model: Model, curves: Shares, likely: Shares) -> float:
    """Return the variance of the lowest mean accuracy of an attack, where each has any of the curves by likelihood."""
    origin = likely / likely.sum(1, keepdims=True)
    means = model._replace(curves=curves).tables(Slots([1] * len(curves))).right.mean(2) @ model.levels
    order = np.argsort(means)
    above = np.prod(np.clip(1.0 - np.cumsum(origin[:, order], 1), 0.0, 1.0), 0)  # that all lie above the first, ...
    chance = -np.diff(above, prepend=1.0)
    chance = chance / chance.sum()
    level = means[order]
    return float(chance @ (level - chance @ level) ** 2)


# ---------------------------------------------------------------------- the figure


class _Rule(NamedTuple):
    """What a decision makes of a probability of being right: the expected verdict, and its derivative.

    Attributes:
        verdict: of ``(attacks, ...)``.
        slope: of an attack's number and its probabilities.
    """

    verdict: Callable[[Shares], Shares]
    slope: Callable[[int, Shares], Shares]


def _mean(repeats: Numbers) -> _Rule:
    return _Rule(lambda right: right, lambda _, right: np.ones_like(right))


def _any(repeats: Numbers) -> _Rule:
    number = repeats[:, None, None]
    return _Rule(lambda right: right**number, lambda one, right: repeats[one] * right ** (repeats[one] - 1))


def _majority(repeats: Numbers) -> _Rule:
    number, most = repeats[:, None, None], repeats // 2

    def slope(one: int, right: Shares) -> Shares:
        # of the probability that more than half are right
        n, k = int(repeats[one]), int(most[one])
        found: Shares = n * special.binom(n - 1, k) * right**k * (1.0 - right) ** (n - 1 - k)
        return found

    # that more than k of n are right is a regularised incomplete beta function
    return _Rule(lambda right: special.betainc(most[:, None, None] + 1.0, number - most[:, None, None], right), slope)


_RULES: dict[str, Callable[[Numbers], _Rule]] = {"mean": _mean, "any": _any, "majority": _majority}


def _expected(model: Model, examples: Examples, pulled: Shares, raw: Shares, rule: _Rule, n: int) -> Shares:
    """Return what each kind of example adds to the figure: see the module."""
    slots = examples.slots
    ours, choosing = model._replace(curves=pulled), model._replace(curves=raw)
    tables, fewer = ours.tables(slots), Slots((slots.repeats - 1).tolist())
    logs = np.log(tables.slot)
    seen = examples.hot @ logs
    found = _smallest(tables, slots, ours.posterior(seen)[0], examples.slot, rule.verdict(tables.right))

    # what is expected of each attack where all repeats are known, and where one is put aside
    full = choosing.tables(slots)
    by_all = _by_kind(full.mean(full.right, slots), examples.slot)
    left, left_choosing = ours.tables(fewer), choosing.tables(fewer)
    expected, choice = left.mean(left.right, fewer), left_choosing.mean(left_choosing.right, fewer)
    left_logs, blur = np.log(left.slot), _blur(slots, examples, n)
    for one in range(len(pulled)):
        there = examples.slot[one] >= 0
        right = np.where(there, slots.right[examples.slot[one]], 0)
        share, rest = right / slots.repeats[one], seen - np.where(there[:, None], logs[examples.slot[one]], 0.0)
        for aside, weight in ((1, share), (0, 1.0 - share)):
            slot = fewer.first[one] + np.clip(right - aside, 0, slots.repeats[one] - 1)
            levels, _ = ours.posterior(rest + left_logs[slot])
            means = np.einsum("ua,jua->ju", levels, by_all)
            means[examples.slot < 0] = np.inf
            means[one] = np.where(there, (levels * choice[slot]).sum(1), np.inf)
            mean = (levels * expected[slot]).sum(1)
            gain = _chosen(means, blur)[one] * rule.slope(one, mean) * (aside - mean)
            found += np.where(there, weight * gain, 0.0)
    return found


def _by_kind(means: Shares, slot: Numbers) -> Shares:
    """Return ``(attacks, kinds, levels)`` of ``(slots, levels)``; 0 where an example was not attacked."""
    return np.where(slot[:, :, None] >= 0, means[slot], 0.0)


def _blur(slots: Slots, examples: Examples, n: int) -> float:
    """Return within which difference of mean accuracy attacks share being chosen."""
    number, share = examples.hot.T @ examples.weights, slots.right / slots.of
    noise = float(number @ (share * (1.0 - share)) / number.sum())
    return max(_BLUR * math.sqrt(noise / (n * float(slots.repeats.mean()))), 1e-6)


def _chosen(means: Shares, blur: float) -> Shares:
    """Return how much of an example's choice each attack has, ``(attacks, kinds)``: the lowest mean has the most."""
    odds = np.exp(-(means - means.min(0)) / blur)
    found: Shares = odds / odds.sum(0)
    return found


def _smallest(tables: Tables, slots: Slots, levels: Shares, slot: Numbers, verdicts: Shares) -> Shares:
    """Return the smallest verdict over the attacks that is expected of each kind of example.

    At a level the attacks are independent, so the probability that all leave more than some verdict is a product.
    """
    found, kept = np.zeros(len(levels)), np.zeros(len(levels))
    above = np.log(np.clip(1.0 - np.cumsum(tables.joint / tables.slot[:, :, None], axis=2), 1e-9, 1.0))
    falls = np.concatenate([np.diff(above, axis=2, prepend=0.0), np.zeros((1, *above.shape[1:]))])  # -1: not attacked
    for level in range(len(LEVELS)):
        rows = np.flatnonzero(levels[:, level] > _RARE)
        values = verdicts[:, level].ravel()
        order = np.argsort(values, kind="stable")
        logs = falls[slot[:, rows], level].transpose(1, 0, 2).reshape(len(rows), len(order))[:, order]
        left = np.exp(np.cumsum(logs, axis=1))
        values = values[order]
        found[rows] += levels[rows, level] * (values[0] + left[:, :-1] @ np.diff(values))
        kept[rows] += levels[rows, level]
    return found / kept
