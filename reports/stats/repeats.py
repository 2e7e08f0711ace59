"""A model of repeats: what a few of them, of several attacks, say of how likely each example is to be right.

An example has a level, and an attack a curve, whose intercept and slope say how likely an example of that level is
right under it, on the logit scale; what an example and an attack have of their own is normal around the curve. Levels
have any distribution (Laird 1978), and the EM algorithm fits all (Dempster, Laird and Rubin 1977).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.store.read.summaries import Numbers, Shares

#: the levels that examples may have, on the logit scale
LEVELS = np.arange(-6.0, 6.01, 0.75)

#: standard normal deviates of equal weight, of variance 1: what an example and an attack have of their own
DEVIATES = special.ndtri((np.arange(7) + 0.5) / 7)
DEVIATES = DEVIATES / DEVIATES.std()

#: steps of the EM algorithm at most, and the gain in log-likelihood below which it ends
_STEPS, _GAIN = 25, 0.01

#: parts of the examples, each of which is judged by curves of the others
_PARTS = 4

#: nothing is less likely than this
_TINY = 1e-300


# ---------------------------------------------------------------------- what was seen


class Slots:
    """Every number of right repeats that an attack can have, attack by attack: the rows of all tables."""

    def __init__(self, repeats: Sequence[int]) -> None:
        self.repeats = np.asarray(repeats, np.int64)
        self.attack = np.repeat(np.arange(len(self.repeats)), self.repeats + 1)
        self.right = np.concatenate([np.arange(number + 1) for number in self.repeats])
        self.of = self.repeats[self.attack]
        self.first = np.concatenate([[0], np.cumsum(self.repeats + 1)[:-1]])
        self.ways = special.gammaln(self.of + 1) - special.gammaln(self.right + 1)
        self.ways -= special.gammaln(self.of - self.right + 1)


class Examples(NamedTuple):
    """Examples of which the same was seen, taken together.

    Attributes:
        slots: of the attacks.
        slot: ``(attacks, kinds)``, the slot of each; -1 where an example was not attacked.
        hot: ``(kinds, slots)``, the same as ones among zeros.
        weights: ``(kinds,)``, how many examples are of a kind.
        part: ``(kinds,)``, the part of the examples that they are of: places take turns.
        pattern: ``(examples,)``, the kind of each.
    """

    slots: Slots
    slot: Numbers
    hot: Shares
    weights: Shares
    part: Numbers
    pattern: Numbers

    @classmethod
    def of(cls, counts: Numbers, repeats: Sequence[int]) -> Examples:
        """Gather examples; ``counts`` are right repeats, ``(attacks, examples)``, -1 where there are none."""
        slots = Slots(repeats)
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

    def some(self, chosen: Numbers) -> Examples:
        """Return the kinds that are chosen."""
        return self._replace(
            slot=self.slot[:, chosen], hot=self.hot[chosen], weights=self.weights[chosen], part=self.part[chosen]
        )


# ---------------------------------------------------------------------- the model


class Tables(NamedTuple):
    """What a model says of every level.

    Attributes:
        right: ``(attacks, levels, deviates)``, the probability of being right.
        joint: ``(slots, levels, deviates)``, the probability of a slot's number of right repeats and the deviate.
        slot: ``(slots, levels)``, the probability of the number alone.
    """

    right: Shares
    joint: Shares
    slot: Shares

    def mean(self, values: Shares, slots: Slots) -> Shares:
        """Return ``(slots, levels)``: what is expected of ``(attacks, levels, deviates)`` where a slot was seen."""
        found: Shares = (self.joint * values[slots.attack]).sum(2) / self.slot
        return found


class Model(NamedTuple):
    """A fitted model.

    Attributes:
        levels: ``(levels,)``, the share of examples of each.
        curves: ``(attacks, 2)``, intercept and slope on the logit scale.
        own: ``(attacks,)``, standard deviation of what examples have of their own under an attack.
    """

    levels: Shares
    curves: Shares
    own: Shares

    def tables(self, slots: Slots) -> Tables:
        """Return what it says."""
        intercept, slope = self.curves[:, 0, None, None], self.curves[:, 1, None, None]
        logits = intercept + slope * LEVELS[:, None] + self.own[:, None, None] * DEVIATES
        wrong = np.logaddexp(0.0, logits)  # minus the logarithm of the probability of being wrong
        number, right = slots.of[:, None, None], slots.right[:, None, None]
        logs = slots.ways[:, None, None] + right * logits[slots.attack] - number * wrong[slots.attack]
        joint = np.exp(logs) / len(DEVIATES)
        return Tables(special.expit(logits), joint, joint.sum(2) + _TINY)

    def posterior(self, logs: Shares) -> tuple[Shares, Shares]:
        """Return the probability of each level, ``(kinds, levels)``, and the log-likelihood of each kind."""
        together = logs + np.log(self.levels + _TINY)
        top = together.max(1, keepdims=True)
        odds = np.exp(together - top)
        total = odds.sum(1, keepdims=True)
        return odds / total, (np.log(total) + top)[:, 0]


def fitted(examples: Examples) -> Model:
    """Return the model of all examples; what is their own counts as far as it is shown."""
    slots, number = examples.slots, examples.hot.T @ examples.weights
    right, all_ = (np.add.reduceat(number * one, slots.first) for one in (slots.right, slots.of))
    easy = special.logit((right + 0.5) / (all_ + 1.0))
    flat = np.full(len(LEVELS), 1.0 / len(LEVELS))
    curves = np.stack([1.5 * (easy - easy.mean()), np.ones(len(easy))], 1)
    free, likelihood = _em(Model(flat, curves, np.full(len(easy), 0.4)), examples, _STEPS)
    bound, less = _em(free._replace(own=np.zeros(len(easy))), examples, _STEPS // 3)
    shown, chance = 2.0 * (likelihood - less), _by_chance(len(easy))
    return bound if shown <= chance else free._replace(own=free.own * math.sqrt(1.0 - chance / shown))


def _by_chance(attacks: int) -> float:
    """Return which gain in twice the log-likelihood chance seldom brings: three standard deviations above its mean.

    Each attack brings half a chi-square of one degree (Self and Liang 1987): mean 1/2, variance 5/4.
    """
    return attacks / 2.0 + 3.0 * math.sqrt(1.25 * attacks)


def _em(model: Model, examples: Examples, steps: int) -> tuple[Model, float]:
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
        move = newton(tables, examples.slots, examples.hot.T @ weighted, n, own=free)[0]
        own = np.abs(model.own + move[:, 2]) if free else model.own
        model = Model(weighted.sum(0) / n, model.curves + move[:, :2], own)
    return model, last


def newton(tables: Tables, slots: Slots, number: Shares, n: float, *, own: bool) -> tuple[Shares, Shares]:
    """Return a step of each attack's intercept, slope and, if wanted, ``own``; and their information."""
    slope, bend = _derivatives(tables, slots, number)
    levels, deviates = np.broadcast_arrays(LEVELS[:, None], DEVIATES)
    by = np.stack([np.ones_like(levels), levels, deviates][: 3 if own else 2])
    gradient = np.einsum("kad,iad->ki", slope, by)
    information = np.einsum("kad,iad,jad->kij", bend, by, by, optimize=True)
    information += 1e-3 * n * np.eye(len(by))  # so that it can be inverted
    return np.clip(np.linalg.solve(information, gradient[:, :, None])[:, :, 0], -0.5, 0.5), information


def _derivatives(tables: Tables, slots: Slots, number: Shares) -> tuple[Shares, Shares]:
    """Return first derivative and information of the log-likelihood by logit, ``(attacks, levels, deviates)`` each."""
    weights = (number / tables.slot)[:, :, None] * tables.joint
    seen = np.add.reduceat(weights, slots.first, axis=0) * slots.repeats[:, None, None]
    right = np.add.reduceat(weights * slots.right[:, None, None], slots.first, axis=0)
    return right - seen * tables.right, seen * tables.right * (1.0 - tables.right)
