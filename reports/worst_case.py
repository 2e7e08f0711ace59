"""The worst case of a random defense: what is left where each example meets the attack that suits it worst.

Wanted is the mean over examples of the smallest probability, over the attacks, of being right. Known are a few repeats
of each. The smallest of their shares is too small, since the luckiest attack is taken for the strongest, and the more
so the more attacks there are. The share under an attack that other repeats have chosen is too large, since they choose
the wrong one now and then, and the more so the more weak attacks there are. So a model of the repeats puts it right:

- an example has a level, and an attack a curve, whose intercept and slope say how likely an example of that level is
  right under it (on the logit scale); what an example and an attack have of their own is normal around the curve.
  Levels have any distribution (Laird 1978); the EM algorithm fits all (Dempster, Laird and Rubin 1977);
- attacks whose curves are not told apart are drawn together, by the distribution of curves that explains them best
  (Kiefer and Wolfowitz 1956); what an example has of its own counts as far as the repeats show that there is any;
- the figure is the smallest probability that the model expects after the repeats were seen. To it is added by how much
  the chosen attack left more or less than the model expects, judged by what had no part in choosing it: an example's
  attack is chosen by the curves of other examples and by its other repeats (augmented inverse probability weighting,
  Robins, Rotnitzky and Zhao 1994). So what is wrong with the model counts to second order only.

A benchmark on boards whose truth is known says how well it does: ``tests/benchmarks/test_worst_case.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from harness.store.frames import wilson
from harness.store.tallies import decide
from reports.entry import Accuracy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.store.tallies import Numbers, Shares

#: fewer repeats than this say too little of an example to choose its attack and to judge it too
ENOUGH = 5

#: with so many the figure is right to a point and ties hold, by the benchmark
ADVISED = 10

#: the levels that examples may have, on the logit scale
_LEVELS = np.arange(-6.0, 6.01, 0.75)

#: standard normal deviates of equal weight, of variance 1: what an example and an attack have of their own
_DEVIATES = special.ndtri((np.arange(7) + 0.5) / 7)
_DEVIATES = _DEVIATES / _DEVIATES.std()

#: steps of the EM algorithm at most, and the gain in log-likelihood below which it ends
_STEPS, _GAIN = 25, 0.01

#: how many times its variance a curve may lie from another to be drawn to it as if by chance alone
_DRAWN = 2.0

#: parts of the examples, each of which is judged by curves of the others
_PARTS = 4

#: differences of mean accuracy, in standard errors of one, within which attacks share being chosen
_BLUR = 0.7

#: how uncertain the figure is beyond its examples, by boards of known truth: so many times the variance of which attack
#: is the strongest, and so many times that of a mean over examples which are as uncertain as what luck took is large
_UNSURE, _TAKEN = 2.0, 1.5

#: levels of a smaller probability are left out where the smallest is computed
_RARE = 1e-3

#: nothing is less likely than this
_TINY = 1e-300


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


def worst_case(shares: Shares, repeats: Sequence[int], decision: str = "mean") -> WorstCase:
    """Return what is left in the worst case over some attacks, one of which is no attack at all: clean input.

    Where fewer than two of the attacks have ``ENOUGH`` repeats, the smallest verdicts are taken as they are; a defense
    without randomness needs one repeat.

    Args:
        shares: of repeats that were right, ``(attacks, examples)``; not a number where an example was not attacked.
            Each example was attacked by one of them.
        repeats: of each attack.
        decision: what makes a verdict of the repeats, see ``harness.store.tallies.decide``.
    """
    shares = np.asarray(shares, float)
    seen = ~np.isnan(shares)
    verdicts = np.where(seen, decide(np.where(seen, shares, 0.0), decision), np.inf)
    smallest = verdicts.min(0)
    if sum(number >= ENOUGH for number in repeats) < 2:
        return WorstCase(smallest, smallest)
    counts = np.rint(np.where(seen, shares, 0.0) * np.asarray(repeats)[:, None]).astype(np.int64)
    examples = _Examples.of(np.where(seen, counts, -1), repeats)
    model = _fitted(examples)
    rule = _RULES[decision](examples.slots.repeats)
    found, shared = np.zeros(len(examples.weights)), []
    for part in range(examples.parts):
        mine = examples.part == part
        curves, information = _curves(model, examples.some(~mine if examples.parts > 1 else mine))
        pulled, likely = _drawn_together(curves, information)
        shared.append(_doubt(model, curves, likely))
        found[mine] = _expected(model, examples.some(mine), pulled, curves, rule, len(smallest))
    figures = found[examples.pattern]
    taken = float(figures.mean() - smallest.mean())
    unsure = _UNSURE * float(np.mean(shared)) + _TAKEN * taken**2 / len(figures)
    return WorstCase(figures, smallest, unsure, estimated=True)


# ---------------------------------------------------------------------- what was seen


class _Slots:
    """Every number of right repeats that an attack can have, attack by attack: the rows of all tables."""

    def __init__(self, repeats: Sequence[int]) -> None:
        self.repeats = np.asarray(repeats, np.int64)
        self.attack = np.repeat(np.arange(len(self.repeats)), self.repeats + 1)
        self.right = np.concatenate([np.arange(number + 1) for number in self.repeats])
        self.of = self.repeats[self.attack]
        self.first = np.concatenate([[0], np.cumsum(self.repeats + 1)[:-1]])
        self.ways = special.gammaln(self.of + 1) - special.gammaln(self.right + 1)
        self.ways -= special.gammaln(self.of - self.right + 1)


class _Examples(NamedTuple):
    """Examples of which the same was seen, taken together.

    Attributes:
        slots: of the attacks.
        slot: ``(attacks, kinds)``, the slot of each; -1 where an example was not attacked.
        hot: ``(kinds, slots)``, the same as ones among zeros.
        weights: ``(kinds,)``, how many examples are of a kind.
        part: ``(kinds,)``, the part of the examples that they are of: places take turns.
        pattern: ``(examples,)``, the kind of each.
    """

    slots: _Slots
    slot: Numbers
    hot: Shares
    weights: Shares
    part: Numbers
    pattern: Numbers

    @classmethod
    def of(cls, counts: Numbers, repeats: Sequence[int]) -> _Examples:
        """Gather examples; ``counts`` are right repeats, ``(attacks, examples)``, -1 where there are none."""
        slots = _Slots(repeats)
        slot = np.where(counts >= 0, counts + slots.first[:, None], -1)
        turns = np.arange(slot.shape[1]) % _PARTS
        kinds, pattern = np.unique(np.vstack([slot, turns]), axis=1, return_inverse=True)
        slot, part, pattern = kinds[:-1], kinds[-1], pattern.reshape(-1)
        hot = np.zeros((len(part), len(slots.attack)))
        for row in slot:
            there = np.flatnonzero(row >= 0)
            hot[there, row[there]] = 1.0
        return cls(slots, slot, hot, np.bincount(pattern).astype(float), part, pattern)

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return int(self.part.max()) + 1

    def some(self, chosen: Numbers) -> _Examples:
        """Return the kinds that are chosen."""
        return self._replace(
            slot=self.slot[:, chosen], hot=self.hot[chosen], weights=self.weights[chosen], part=self.part[chosen]
        )


# ---------------------------------------------------------------------- the model


class _Tables(NamedTuple):
    """What a model says of every level.

    Attributes:
        right: ``(attacks, levels, deviates)``, the probability of being right.
        joint: ``(slots, levels, deviates)``, the probability of a slot's number of right repeats and the deviate.
        slot: ``(slots, levels)``, the probability of the number alone.
    """

    right: Shares
    joint: Shares
    slot: Shares

    def mean(self, values: Shares, slots: _Slots) -> Shares:
        """Return ``(slots, levels)``: what is expected of ``(attacks, levels, deviates)`` where a slot was seen."""
        found: Shares = (self.joint * values[slots.attack]).sum(2) / self.slot
        return found


class _Model(NamedTuple):
    """A fitted model.

    Attributes:
        levels: ``(levels,)``, the share of examples of each.
        curves: ``(attacks, 2)``, intercept and slope on the logit scale.
        own: ``(attacks,)``, standard deviation of what examples have of their own under an attack.
    """

    levels: Shares
    curves: Shares
    own: Shares

    def tables(self, slots: _Slots) -> _Tables:
        """Return what it says."""
        intercept, slope = self.curves[:, 0, None, None], self.curves[:, 1, None, None]
        logits = intercept + slope * _LEVELS[:, None] + self.own[:, None, None] * _DEVIATES
        wrong = np.logaddexp(0.0, logits)  # minus the logarithm of the probability of being wrong
        number, right = slots.of[:, None, None], slots.right[:, None, None]
        logs = slots.ways[:, None, None] + right * logits[slots.attack] - number * wrong[slots.attack]
        joint = np.exp(logs) / len(_DEVIATES)
        return _Tables(special.expit(logits), joint, joint.sum(2) + _TINY)

    def posterior(self, logs: Shares) -> tuple[Shares, Shares]:
        """Return the probability of each level, ``(kinds, levels)``, and the log-likelihood of each kind."""
        together = logs + np.log(self.levels + _TINY)
        top = together.max(1, keepdims=True)
        odds = np.exp(together - top)
        total = odds.sum(1, keepdims=True)
        return odds / total, (np.log(total) + top)[:, 0]


def _fitted(examples: _Examples) -> _Model:
    """Return the model of all examples; what is their own counts as far as it is shown."""
    slots, number = examples.slots, examples.hot.T @ examples.weights
    right, all_ = (np.add.reduceat(number * one, slots.first) for one in (slots.right, slots.of))
    easy = special.logit((right + 0.5) / (all_ + 1.0))
    flat = np.full(len(_LEVELS), 1.0 / len(_LEVELS))
    curves = np.stack([1.5 * (easy - easy.mean()), np.ones(len(easy))], 1)
    free, likelihood = _em(_Model(flat, curves, np.full(len(easy), 0.4)), examples, _STEPS)
    bound, less = _em(free._replace(own=np.zeros(len(easy))), examples, _STEPS // 3)
    shown, chance = 2.0 * (likelihood - less), _by_chance(len(easy))
    return bound if shown <= chance else free._replace(own=free.own * math.sqrt(1.0 - chance / shown))


def _by_chance(attacks: int) -> float:
    """Return which gain in twice the log-likelihood chance seldom brings: three standard deviations above its mean.

    Each attack brings half a chi-square of one degree (Self and Liang 1987): mean 1/2, variance 5/4.
    """
    return attacks / 2.0 + 3.0 * math.sqrt(1.25 * attacks)


def _em(model: _Model, examples: _Examples, steps: int) -> tuple[_Model, float]:
    """Fit a model by so many steps at most; where nothing is an example's own, that stays so."""
    n, last, free = float(examples.weights.sum()), -math.inf, bool(model.own.any())
    for step in range(steps):
        tables = model.tables(examples.slots)
        found, logs = model.posterior(examples.hot @ np.log(tables.slot))
        likelihood = float(logs @ examples.weights)
        if likelihood - last < _GAIN and step > 3:
            break
        last = likelihood
        weighted = found * examples.weights[:, None]
        move = _newton(tables, examples.slots, examples.hot.T @ weighted, n, own=free)[0]
        own = np.abs(model.own + move[:, 2]) if free else model.own
        model = _Model(weighted.sum(0) / n, model.curves + move[:, :2], own)
    return model, last


def _newton(tables: _Tables, slots: _Slots, number: Shares, n: float, *, own: bool) -> tuple[Shares, Shares]:
    """Return a step of each attack's intercept, slope and, if wanted, ``own``; and their information."""
    slope, bend = _derivatives(tables, slots, number)
    levels, deviates = np.broadcast_arrays(_LEVELS[:, None], _DEVIATES)
    by = np.stack([np.ones_like(levels), levels, deviates][: 3 if own else 2])
    gradient = np.einsum("kad,iad->ki", slope, by)
    information = np.einsum("kad,iad,jad->kij", bend, by, by, optimize=True)
    information += 1e-3 * n * np.eye(len(by))  # so that it can be inverted
    return np.clip(np.linalg.solve(information, gradient[:, :, None])[:, :, 0], -0.5, 0.5), information


def _derivatives(tables: _Tables, slots: _Slots, number: Shares) -> tuple[Shares, Shares]:
    """Return first derivative and information of the log-likelihood by logit, ``(attacks, levels, deviates)`` each."""
    weights = (number / tables.slot)[:, :, None] * tables.joint
    seen = np.add.reduceat(weights, slots.first, axis=0) * slots.repeats[:, None, None]
    right = np.add.reduceat(weights * slots.right[:, None, None], slots.first, axis=0)
    return right - seen * tables.right, seen * tables.right * (1.0 - tables.right)


# ---------------------------------------------------------------------- which attack is the strongest


def _curves(model: _Model, examples: _Examples) -> tuple[Shares, Shares]:
    """Return the curves by some examples alone, and their information; all else is the model's."""
    slots, n = examples.slots, float(examples.weights.sum())
    for _ in range(3):
        tables = model.tables(slots)
        found, _ = model.posterior(examples.hot @ np.log(tables.slot))
        number = examples.hot.T @ (found * examples.weights[:, None])
        move, information = _newton(tables, slots, number, n, own=False)
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


def _doubt(model: _Model, curves: Shares, likely: Shares) -> float:
    """Return the variance of the lowest mean accuracy of an attack, where each has any of the curves by likelihood."""
    origin = likely / likely.sum(1, keepdims=True)
    means = model._replace(curves=curves).tables(_Slots([1] * len(curves))).right.mean(2) @ model.levels
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


def _expected(model: _Model, examples: _Examples, pulled: Shares, raw: Shares, rule: _Rule, n: int) -> Shares:
    """Return what each kind of example adds to the figure: see the module."""
    slots = examples.slots
    ours, choosing = model._replace(curves=pulled), model._replace(curves=raw)
    tables, fewer = ours.tables(slots), _Slots((slots.repeats - 1).tolist())
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


def _blur(slots: _Slots, examples: _Examples, n: int) -> float:
    """Return within which difference of mean accuracy attacks share being chosen."""
    number, share = examples.hot.T @ examples.weights, slots.right / slots.of
    noise = float(number @ (share * (1.0 - share)) / number.sum())
    return max(_BLUR * math.sqrt(noise / (n * float(slots.repeats.mean()))), 1e-6)


def _chosen(means: Shares, blur: float) -> Shares:
    """Return how much of an example's choice each attack has, ``(attacks, kinds)``: the lowest mean has the most."""
    odds = np.exp(-(means - means.min(0)) / blur)
    found: Shares = odds / odds.sum(0)
    return found


def _smallest(tables: _Tables, slots: _Slots, levels: Shares, slot: Numbers, verdicts: Shares) -> Shares:
    """Return the smallest verdict over the attacks that is expected of each kind of example.

    At a level the attacks are independent, so the probability that all leave more than some verdict is a product.
    """
    found, kept = np.zeros(len(levels)), np.zeros(len(levels))
    above = np.log(np.clip(1.0 - np.cumsum(tables.joint / tables.slot[:, :, None], axis=2), 1e-9, 1.0))
    falls = np.concatenate([np.diff(above, axis=2, prepend=0.0), np.zeros((1, *above.shape[1:]))])  # -1: not attacked
    for level in range(len(_LEVELS)):
        rows = np.flatnonzero(levels[:, level] > _RARE)
        values = verdicts[:, level].ravel()
        order = np.argsort(values, kind="stable")
        logs = falls[slot[:, rows], level].transpose(1, 0, 2).reshape(len(rows), len(order))[:, order]
        left = np.exp(np.cumsum(logs, axis=1))
        values = values[order]
        found[rows] += levels[rows, level] * (values[0] + left[:, :-1] @ np.diff(values))
        kept[rows] += levels[rows, level]
    return found / kept
