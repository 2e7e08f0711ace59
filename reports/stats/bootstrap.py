"""How two measured quantities go together: rank correlations and their like, with intervals that resample examples.

An example meets several attacks, so its rows are not independent: what is drawn again is the example with all its
rows. A resample is a row of weights, how often each example was drawn; every statistic takes all resamples at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Numbers = np.ndarray[Any, np.dtype[np.float64]]
    Places = np.ndarray[Any, np.dtype[np.int64]]

    #: weights ``(T, n)`` of n rows in T resamples -> the statistic of each, ``(T,)``, or several, ``(T, k)``
    Statistic = Callable[[Numbers], Numbers]

#: resamples of an interval, and the examples that one takes at least
TIMES, LEAST = 500, 5

#: weights that are made at a time
_BLOCK = 2_000_000


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, of the percentile bootstrap over examples unless told.

    Attributes:
        low: not a number, as is ``high``, where an interval would mean nothing.
        n: how many examples it comes from.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval lies on that side of zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def bounded(self) -> bool:
        """Whether it has an interval."""
        return math.isfinite(self.low)


def bare(found: Estimate | None) -> Estimate | None:
    """Return a number without its interval."""
    return None if found is None else replace(found, low=math.nan, high=math.nan)


class Resamples:
    """Bootstrap samples of examples; all numbers that come from the same ones are paired.

    Args:
        seed: any text; the same text gives the same samples.
        times: how many; with none there are no intervals.
    """

    def __init__(self, seed: str, times: int = TIMES) -> None:
        self.times = times
        self._seed = list(seed.encode())
        self._known: dict[bytes, Numbers] = {}

    def _counts(self, present: Places) -> Numbers:
        """Return how often each of the places that are ``present`` was drawn; the first row is once each."""
        key = present.tobytes()
        if key not in self._known:
            draw = np.random.default_rng([*self._seed, len(present)])
            counts = draw.multinomial(len(present), np.full(len(present), 1 / len(present)), self.times)
            self._known[key] = np.concatenate([np.ones((1, len(present))), counts])
        return self._known[key]

    def estimates(self, place: Places, statistic: Statistic, count: int) -> list[Estimate | None]:
        """Return the numbers that a statistic has of rows, each with its interval.

        None stands for one that has no value, such as the correlation of a constant, in the rows or in more than half
        of the resamples; all are None where there are fewer than ``LEAST`` examples.

        Args:
            place: the example of each row, ``(n,)``.
            statistic: gives so many numbers per resample.
            count: how many.
        """
        present, at = np.unique(place, return_inverse=True)
        if len(present) < LEAST:
            return [None] * count
        counts = self._counts(present)
        block = max(1, _BLOCK // len(at))
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = [statistic(counts[start : start + block][:, at]) for start in range(0, len(counts), block)]
        found = np.concatenate(parts).reshape(len(counts), count)
        return [_estimate(column, len(present)) for column in found.T]

    def estimate(self, place: Places, statistic: Statistic) -> Estimate | None:
        """Return the one number of a statistic; see ``estimates``."""
        (found,) = self.estimates(place, statistic, 1)
        return found


def _estimate(column: Numbers, n: int) -> Estimate | None:
    finite = column[1:][np.isfinite(column[1:])]
    if not np.isfinite(column[0]) or len(finite) < len(column[1:]) / 2:
        return None
    if len(column) == 1:
        return Estimate(float(column[0]), math.nan, math.nan, n)
    low, high = np.percentile(finite, [2.5, 97.5])
    return Estimate(float(column[0]), float(low), float(high), n)


def ranks(x: Numbers, weights: Numbers) -> Numbers:
    """Return the midranks ``(T, n)`` of ``x`` in samples that have its rows so often; equals share their mean rank."""
    order = np.argsort(x, kind="stable")
    ahead = np.cumsum(weights[:, order], axis=1)
    last = np.flatnonzero(np.append(np.diff(x[order]) != 0, True))  # of each group of equals
    end = ahead[:, last]
    begin = np.concatenate([np.zeros((len(weights), 1)), end[:, :-1]], axis=1)
    group = np.searchsorted(last, np.arange(len(x)))
    found = np.empty_like(weights)
    found[:, order] = ((begin + end + 1) / 2)[:, group]
    return found


def _correlation(x: Numbers, y: Numbers, weights: Numbers) -> Numbers:
    """Return Pearson's correlation ``(T,)`` of columns ``(T, n)``."""
    total = weights.sum(1, keepdims=True)
    x = x - (weights * x).sum(1, keepdims=True) / total
    y = y - (weights * y).sum(1, keepdims=True) / total
    over = np.sqrt((weights * x * x).sum(1) * (weights * y * y).sum(1))
    small = 1e-12 * np.maximum(total[:, 0], 1)
    return np.where(over > small, (weights * x * y).sum(1) / np.where(over > small, over, 1), np.nan)


def spearman(x: Numbers, y: Numbers, given: Numbers, strata: Places) -> Statistic:
    """Return Spearman's correlation of two columns; the partial one given a third; the same within strata: ``(T, 3)``.

    The partial one is ``(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2))`` of the rank correlations: what is left
    of the first when both ranks are freed of what the third says of them by a straight line. Where the third is a noisy
    measure of what raises both from one stratum to the next, some of that is left too. So the last one takes ranks
    within each stratum, from their mean, as shares of its size.

    Args:
        x: of each row.
        y: of each row.
        given: of each row.
        strata: the group of each row.
    """
    groups = [np.flatnonzero(strata == one) for one in np.unique(strata)]

    def statistic(weights: Numbers) -> Numbers:
        plain, partial = _partial(weights, *(ranks(column, weights) for column in (x, y, given)))
        if len(groups) == 1:
            return np.stack([plain, partial, partial], 1)
        _, within = _partial(weights, *(_ranks_within(column, groups, weights) for column in (x, y, given)))
        return np.stack([plain, partial, within], 1)

    return statistic


def _partial(weights: Numbers, a: Numbers, b: Numbers, c: Numbers) -> tuple[Numbers, Numbers]:
    ab, ac, bc = _correlation(a, b, weights), _correlation(a, c, weights), _correlation(b, c, weights)
    free = (1 - ac**2) * (1 - bc**2)
    return ab, np.where(free > 1e-12, (ab - ac * bc) / np.sqrt(np.where(free > 1e-12, free, 1)), np.nan)


def _ranks_within(x: Numbers, groups: Sequence[Places], weights: Numbers) -> Numbers:
    found = np.zeros_like(weights)
    for group in groups:
        mine = weights[:, group]
        total = np.maximum(mine.sum(1, keepdims=True), 1)  # nothing is drawn of a group in some resamples
        rank = ranks(x[group], mine)
        found[:, group] = (rank - (mine * rank).sum(1, keepdims=True) / total) / total
    return found


def auc(score: Numbers, right: Numbers) -> Statistic:
    """Return the chance that a row that is right has a higher score than one that is wrong, equals counting half.

    Args:
        score: of each row.
        right: how far it is right, 0 to 1: so much of the row is among the right ones and the rest among the wrong. A
            row is not compared with itself.
    """
    order = np.argsort(score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    group = np.searchsorted(last, np.arange(len(score)))

    def statistic(weights: Numbers) -> Numbers:
        good, bad = (weights * right)[:, order], (weights * (1 - right))[:, order]
        below = np.cumsum(bad, axis=1)[:, last]
        before = np.concatenate([np.zeros((len(weights), 1)), below[:, :-1]], axis=1)
        wins = (good * ((before + below) / 2)[:, group]).sum(1)
        own = (weights**2 * right * (1 - right)).sum(1)
        pairs = good.sum(1) * bad.sum(1) - own
        found: Numbers = np.where(pairs > 1e-12, (wins - own / 2) / np.where(pairs > 1e-12, pairs, 1), np.nan)
        return found

    return statistic


def mean(x: Numbers) -> Statistic:
    """Return the mean."""
    return lambda weights: (weights @ x) / weights.sum(1)


def ratio(x: Numbers, y: Numbers) -> Statistic:
    """Return the ratio of the means; not a number where the second is zero."""

    def statistic(weights: Numbers) -> Numbers:
        below = weights @ y
        found: Numbers = np.where(np.abs(below) > 1e-12, (weights @ x) / np.where(below == 0, 1, below), np.nan)
        return found

    return statistic


def line(x: Numbers, y: Numbers) -> Statistic:
    """Return slope and R^2 of the least-squares line of ``y`` over ``x``: ``(T, 2)``."""

    def statistic(weights: Numbers) -> Numbers:
        total = weights.sum(1, keepdims=True)
        a = x - (weights @ x)[:, None] / total
        b = y - (weights @ y)[:, None] / total
        spread, common = (weights * a * a).sum(1), (weights * a * b).sum(1)
        slope = np.where(spread > 1e-24, common / np.where(spread > 1e-24, spread, 1), np.nan)
        return np.stack([slope, _correlation(np.broadcast_to(x, weights.shape), y, weights) ** 2], 1)

    return statistic


def largest_factor(x: Numbers, y: Numbers, spared: float) -> Statistic:
    """Return the largest K for which ``y >= K x`` holds for all rows but a share ``spared`` of them.

    Args:
        x: 0 or more. A row with ``x = 0`` holds for every K where ``y >= 0``, else for none.
        y: of each row.
        spared: the share that may break it, rounded down to whole rows.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(x > 0, y / np.where(x > 0, x, 1), np.where(y >= 0, np.inf, -np.inf))
    order = np.argsort(factor, kind="stable")

    def statistic(weights: Numbers) -> Numbers:
        ahead = np.cumsum(weights[:, order], axis=1)
        broken = np.floor(spared * ahead[:, -1:] + 1e-9)
        found: Numbers = factor[order][np.argmax(ahead > broken, axis=1)]
        return found

    return statistic
