"""What numbers of examples can tell: paired tests of rows, places with ties, intervals, smallest differences.

Verdicts are shares in [0, 1], one per example; rows that are compared were judged on the same examples, in the same
order. The uncertainty meant is that of the choice of examples, as with the Wilson interval; with another choice an
example's repeats would be others too. Nothing is drawn but in bootstraps, and their draws follow from the numbers
themselves: the same numbers give the same page.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, special, stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.store.read.summaries import Numbers, Shares
    from reports.stats.worst_case import WorstCase

#: how often a difference may be shown where there is none
ALPHA = 0.05

#: how often a smallest difference is shown where it is there
POWER = 0.8

#: resamples of a bootstrap; their noise is well below what an interval is read to
RESAMPLES = 9999

#: numbers that a bootstrap of a mean draws: of many values there are fewer resamples, though never below 999
_DRAWN = 10_000_000

#: values beyond which a mean is as good as normal, so that correcting its bootstrap is of no use
_MANY = 1000

#: a verdict is a mean of so many repeats at most
_REPEATS = 10_000

#: a verdict is a whole number of these parts at most: repeats, or their common multiple where rows differ in them
_PARTS = 1_000_000

#: standard deviations beyond which a sum of signed differences is not followed: 2 exp(-50), by Hoeffding's inequality
_FAR = 10.0

#: a p-value is known to this; what would be smaller is given as this
TINY = 1e-15


@dataclass(frozen=True)
class Paired:
    """Two rows on the same examples.

    Attributes:
        n: how many examples.
        difference: mean verdict of the second row less that of the first.
        low: lower end of its 95 % interval.
        high: upper end.
        p: of the null hypothesis that the rows do not differ, see ``p_values``.
        discordance: mean square of the differences of verdicts; of verdicts 0 and 1 the share of examples on which
            the rows disagree.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    discordance: float


@dataclass(frozen=True)
class Place:
    """Where a row stands among others.

    Attributes:
        rank: 1 and one more for every row above its group.
        tied: the rows, by number, that share the place.
        p: corrected, of the comparison that put it there: with the first of its group, or of the group above where it
            is the first itself; None for the first of all.
    """

    rank: int
    tied: tuple[int, ...]
    p: float | None


# ---------------------------------------------------------------------- paired tests


def p_values(verdicts: Shares) -> Shares:
    """Return the two-sided p-value of every pair of rows: a symmetric matrix with ones on its diagonal.

    The null hypothesis is that for each example it is a matter of luck which of the two rows got which verdict; the
    statistic is the sum of the differences, and its distribution over all ways to exchange them is computed, not
    sampled (the sign-flip test of Fisher 1935). Where verdicts are 0 and 1 that is McNemar's exact test. Verdicts in
    between, means over repeats, are exchanged as a whole: repeats of an example are no examples of their own.

    Args:
        verdicts: ``(rows, examples)``, whole multiples of one fraction, as 1 / repeats is.

    Raises:
        ValueError: if they are not shares, or no multiples of a fraction that is not too small.
    """
    counts, parts = _whole(verdicts)
    if parts == 1:
        return _mcnemar(counts)
    found = np.ones((len(counts), len(counts)))
    for one in range(len(counts)):
        for other in range(one):
            found[one, other] = found[other, one] = _sign_flip(counts[one] - counts[other])
    return found


def _whole(verdicts: Shares) -> tuple[Numbers, int]:
    """Return verdicts as whole numbers of equal parts of 1, and how many parts."""
    verdicts = np.asarray(verdicts, float)
    if verdicts.size and not (verdicts.min() >= 0 and verdicts.max() <= 1):
        raise ValueError(f"expected verdicts between 0 and 1, got {verdicts.min()} to {verdicts.max()}")
    parts = 1
    if not ((verdicts == 0) | (verdicts == 1)).all():
        parts = math.lcm(*(Fraction(value).limit_denominator(_REPEATS).denominator for value in np.unique(verdicts)))
    counts = np.rint(verdicts * parts)
    if parts > _PARTS or np.abs(counts / parts - verdicts).max(initial=0.0) > 1e-12:
        raise ValueError("expected verdicts that are means of at most 10,000 repeats, got others")
    return counts.astype(np.int64), parts


def _mcnemar(right: Numbers) -> Shares:
    """Return the p-values of McNemar's exact test of every pair of rows of 0 and 1."""
    ours = right.astype(float) @ (1.0 - right).T  # on how many examples the row is right and the column is wrong
    fewer, discordant = np.minimum(ours, ours.T), ours + ours.T
    p: Shares = np.clip(2 * special.bdtr(fewer, discordant.astype(np.int64), 0.5), TINY, 1.0)
    return p


def _sign_flip(differences: Numbers) -> float:
    """Return the p-value of whole differences: how often random signs give a sum as far from 0 as theirs.

    A sum of independent signs times sizes has the characteristic function of the product of their cosines, and the
    distribution of a sum of whole numbers is its Fourier transform.
    """
    sizes, numbers = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    seen = abs(int(differences.sum()))
    reach = min(int(sizes @ numbers), math.ceil(_FAR * math.sqrt(float(sizes**2 @ numbers))))
    if seen > reach:
        return TINY
    angles = 2 * np.pi * np.arange(reach + 1) / (2 * reach + 1)
    product = np.prod(np.cos(np.outer(sizes, angles)) ** numbers[:, None], axis=0)
    mass = np.fft.irfft(product, 2 * reach + 1)  # of the sums 0 to reach, then -reach to -1
    outside = 1.0 if seen == 0 else float(mass[seen : 2 * reach + 2 - seen].sum())
    return min(1.0, max(outside, TINY))


def paired(first: Shares, second: Shares) -> Paired:
    """Compare two rows on the examples that they share, in the same order.

    The interval is a percentile bootstrap over examples. Where no example differs a bootstrap knows no spread: the
    ends are then those within which the share of examples that do must lie (Clopper and Pearson 1934).

    Raises:
        ValueError: if the rows differ in length, or are empty.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"expected two rows on the same examples, got {first.shape} and {second.shape}")
    n, differences = len(first), second - first
    if np.abs(differences).max() < 1e-9:
        high = 1 - (ALPHA / 2) ** (1 / n)
        return Paired(n, 0.0, -high, high, 1.0, 0.0)
    sizes, numbers = np.unique(differences.round(9), return_counts=True)
    drawn = _generator(first, second).multinomial(n, numbers / n, RESAMPLES) @ sizes / n
    low, high = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2]).tolist()
    p = float(p_values(np.stack([first, second]))[0, 1])
    return Paired(n, float(differences.mean()), low, high, p, float((differences**2).mean()))


def paired_worst(first: WorstCase, second: WorstCase) -> Paired:
    """Compare the worst cases of two rows on the examples that they share, in the same order.

    Smallest verdicts that were seen are compared like any others. Of estimated ones the interval and the p-value are
    Student's, with the variance that all examples share added to that of the mean; the discordance counts it too.

    Raises:
        ValueError: if the rows differ in length, or are empty.
    """
    if not (first.estimated or second.estimated):
        return paired(first.verdicts, second.verdicts)
    if first.verdicts.shape != second.verdicts.shape or not len(first.verdicts):
        raise ValueError(f"expected two rows on the same examples, got {first.verdicts.shape}, {second.verdicts.shape}")
    differences = second.verdicts - first.verdicts
    n, difference, shared = len(differences), float(differences.mean()), first.shared + second.shared
    reach = float(stats.t.ppf(1 - ALPHA / 2, max(1, n - 1))) * math.sqrt(_variance(differences) + shared)
    p = float(worst_case_p_values([first, second])[0, 1])
    return Paired(n, difference, difference - reach, difference + reach, p, _discordance(first, second))


def worst_case_p_values(rows: Sequence[WorstCase]) -> Shares:
    """Return the two-sided p-value of every pair of worst cases: a symmetric matrix with ones on its diagonal.

    Two rows whose smallest verdicts were seen are compared by ``p_values``. If one was estimated, the test is Student's
    of the differences of the examples, with the variance that all examples share added to that of the mean.

    Raises:
        ValueError: if the rows are not on as many examples.
    """
    verdicts = np.stack([row.verdicts for row in rows])
    found = np.ones((len(rows), len(rows)))
    exact = [place for place, row in enumerate(rows) if not row.estimated]
    if exact:
        found[np.ix_(exact, exact)] = p_values(verdicts[exact])
    for one, other in combinations(range(len(rows)), 2):
        if rows[one].estimated or rows[other].estimated:
            differences = verdicts[one] - verdicts[other]
            spread = math.sqrt(_variance(differences) + rows[one].shared + rows[other].shared)
            size = abs(float(differences.mean()))
            distance = size / spread if spread else (math.inf if size > 1e-9 else 0.0)
            p = 2 * float(stats.t.sf(distance, max(1, len(differences) - 1)))
            found[one, other] = found[other, one] = max(p, TINY)
    return found


def _variance(values: Shares) -> float:
    """Return the variance of the mean of some values; of a single one nothing is known, and it is taken for 1."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 1.0


def _generator(*numbers: Shares) -> np.random.Generator:
    """Return a generator that follows from some numbers."""
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(one, "<f8").tobytes() for one in numbers)).digest()
    return np.random.default_rng(list(digest))


def holm(p: Sequence[float] | Shares) -> Shares:
    """Return p-values corrected for being several: each that is below alpha holds, and all of these at once.

    Holm 1979: the smallest counts as often as there are any, the next once less, and none less than one before it.
    (``statsmodels`` has the rule too, but collects the garbage of the whole process at every call.)
    """
    values = np.asarray(p, float)
    order = np.argsort(values)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return corrected


# ---------------------------------------------------------------------- places


def places(rows: Sequence[WorstCase]) -> list[Place]:
    """Return where rows stand that come in falling order of their worst case.

    Every pair of rows is compared on the same examples, and the p-values are corrected by Holm's rule over all
    pairs. Then from the top down: a row shares the place of the group above it unless it is significantly worse than
    that group's first row, and begins a group of its own otherwise. So a group holds what cannot be told from its
    best; two of its rows, or the last of a group and the first of the next, may or may not differ.

    Raises:
        ValueError: if the rows are not on as many examples, or out of order.
    """
    if not len(rows):
        return []
    if len({len(one.verdicts) for one in rows}) > 1:
        raise ValueError(f"expected rows on the same examples, got {[len(one.verdicts) for one in rows]}")
    means = np.array([one.verdicts.mean() for one in rows])
    if (np.diff(means) > 1e-9).any():
        raise ValueError(f"expected rows in falling order of their worst case, got {means.tolist()}")
    pairs = np.triu_indices(len(rows), 1)
    corrected = np.ones((len(rows), len(rows)))
    corrected[pairs] = holm(worst_case_p_values(rows)[pairs])
    starts = [0]
    for row in range(1, len(rows)):
        if corrected[starts[-1], row] <= ALPHA:
            starts.append(row)
    found: list[Place] = []
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(rows)], strict=True)):
        for row in range(start, stop):
            tied = tuple(other for other in range(start, stop) if other != row)
            against = start if row > start else starts[number - 1] if number else None
            found.append(Place(start + 1, tied, None if against is None else float(corrected[against, row])))
    return found


def neighbours(rows: Sequence[WorstCase]) -> float | None:
    """Return the mean discordance of each row with the next; None with fewer than two."""
    if len(rows) < 2:
        return None
    return float(np.mean([_discordance(*pair) for pair in pairwise(rows)]))


def _discordance(first: WorstCase, second: WorstCase) -> float:
    """Return the mean square of the differences, with what the examples share: see ``paired_worst``."""
    seen = float(((first.verdicts - second.verdicts) ** 2).mean())
    return min(1.0, seen + len(first.verdicts) * (first.shared + second.shared))


# ---------------------------------------------------------------------- smallest differences


def detectable(n: int, discordance: float | None = None) -> float | None:
    """Return the smallest difference of two rows that ``n`` shared examples show with power 0.8 at the level 0.05.

    The power is that of McNemar's exact test: of n examples a binomial number is discordant, and of those one row
    wins (discordance + difference) / (2 discordance) on average. Rows of fractional verdicts are taken for such as
    disagree on as many examples as the mean square of their differences, which has the same spread.

    Args:
        n: examples.
        discordance: the share of examples on which the rows disagree; a larger difference than that lets them
            disagree on just as many. If None, the bound of rows that know nothing of each other: independent, near
            one half, where the spread is largest. Rows whose verdicts go together, as verdicts do, need less.

    Returns:
        A difference in [0, 1]; None where not even a difference of 1 is shown, as with fewer than six examples.
    """
    if n < 1 or not (discordance is None or 0 <= discordance <= 1):
        raise ValueError(f"expected examples and a discordance in [0, 1], got {n} and {discordance}")
    return _detectable(n, discordance)


@functools.lru_cache(maxsize=1024)
def _detectable(n: int, discordance: float | None) -> float | None:
    def lacking(difference: float) -> float:
        return _power(n, difference, discordance) - POWER

    if lacking(1.0) < 0:
        return None
    return float(optimize.brentq(lacking, 1e-9, 1.0, xtol=5e-5))


@functools.lru_cache(maxsize=8)
def _critical(n: int) -> Shares:
    """Return how often the loser may win at most for the test to reject, by the number of discordant examples to n."""
    found: Shares = stats.binom.ppf(ALPHA / 2, np.arange(n + 1), 0.5) - 1
    return found


def _power(n: int, difference: float, discordance: float | None) -> float:
    """Return how often McNemar's exact test tells two rows apart that differ by so much."""
    # independent rows at 1/2 + difference/2 and 1/2 - difference/2 disagree on (1 + difference^2) / 2
    share = (1 + difference**2) / 2 if discordance is None else max(discordance, difference)
    spread = 8 * math.sqrt(n * share * (1 - share)) + 8
    number = np.arange(max(0, math.floor(n * share - spread)), min(n, math.ceil(n * share + spread)) + 1)
    win, edge = min(1.0, (share + difference) / (2 * share)), _critical(n)[number]
    # bdtr is not a number for fewer than no wins
    reject = np.where(edge < 0, 0.0, special.bdtr(np.maximum(edge, 0), number, 1 - win))
    reject += np.where(edge < 0, 0.0, special.bdtr(np.maximum(edge, 0), number, win))
    return float(stats.binom.pmf(number, n, share) @ reject)


# ---------------------------------------------------------------------- means of metrics and costs


def mean_interval(
    values: Sequence[float] | Shares, weights: Sequence[float] | Shares | None = None
) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval of a mean, ``(low, high)``.

    It is bias-corrected and accelerated (Efron 1987); that of more than 1000 values is a plain percentile interval.

    Args:
        values: one per example, as of AMV; or one per measured slice, as a cost per image.
        weights: what each counts, as the images of a slice; all the same if None.

    Returns:
        The ends, or None for fewer than two values, which have no spread. Equal values have ends like themselves.

    Raises:
        ValueError: if there is a weight for some only, or none is above zero.
    """
    values = np.asarray(values, float)
    counts = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    if counts.shape != values.shape or (len(counts) and not (counts.min() >= 0 and counts.max() > 0)):
        raise ValueError("expected a weight per value, none below and some above zero")
    if len(values) < 2:
        return None
    least, spread = float(values.min()), float(np.ptp(values))
    if spread == 0:
        return least, least

    def mean(sample: Shares, count: Shares, axis: int) -> Shares:
        found: Shares = (sample * count).sum(axis) / count.sum(axis)
        return found

    found = stats.bootstrap(
        ((values - least) / spread, counts),
        mean,
        paired=True,
        vectorized=True,
        n_resamples=max(999, min(RESAMPLES, _DRAWN // len(values))),
        batch=max(1, 1_000_000 // len(values)),
        confidence_level=1 - ALPHA,
        method="BCa" if len(values) <= _MANY else "percentile",
        rng=_generator(values, counts),
    ).confidence_interval
    return least + spread * float(found.low), least + spread * float(found.high)
