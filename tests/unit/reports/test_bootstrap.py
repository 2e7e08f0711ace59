"""Rank correlations, their like and their intervals, against sums by hand, scipy and resamples written out."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from reports.stats.bootstrap import (
    Estimate,
    Resamples,
    auc,
    bare,
    largest_factor,
    line,
    mean,
    ranks,
    ratio,
    spearman,
)

ONE = np.zeros(6, np.int64)
ONCE = np.ones((1, 6))
X = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
Y = np.array([2.0, 7.0, 1.0, 8.0, 2.0, 8.0])
Z = np.array([0.5, 0.1, 0.3, 0.4, 0.4, 0.2])
#: samples that have the six rows so often
DRAWN = np.array([[1.0, 1, 1, 1, 1, 1], [2, 0, 1, 3, 0, 0], [0, 1, 1, 1, 1, 2]])


def repeated(column, weights):
    return np.repeat(column, weights.astype(int))


def test_equals_share_their_mean_rank():
    assert ranks(X, ONCE).tolist() == [[3.0, 1.5, 4.0, 1.5, 5.0, 6.0]]


def test_weighted_ranks_are_those_of_a_sample_written_out():
    for weights, row in zip(DRAWN, ranks(X, DRAWN), strict=True):
        written_out = stats.rankdata(repeated(X, weights))
        assert repeated(row, weights).tolist() == written_out.tolist()


def test_spearman_by_hand():
    x, y = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 4, 3, 5])
    # ranks differ by 1, 1, 1, 1, 0: 1 - 6 * 4 / (5 * 24)
    assert spearman(x, y, x[::-1], np.zeros(5))(np.ones((1, 5)))[0, 0] == pytest.approx(0.8)


def test_spearman_of_resamples_is_that_of_the_sample_written_out():
    found = spearman(X, Y, Z, ONE)(DRAWN)[:, 0]
    expected = [stats.spearmanr(repeated(X, w), repeated(Y, w)).statistic for w in DRAWN]
    assert found == pytest.approx(expected)


def test_the_partial_correlation_is_that_of_what_a_line_through_the_third_leaves():
    draw = np.random.default_rng(3)
    size = draw.normal(size=80)
    x, y = size + 0.7 * draw.normal(size=80), np.exp(size + 0.7 * draw.normal(size=80))
    plain, partial, within = spearman(x, y, size, np.zeros(80))(np.ones((1, 80)))[0]
    columns = [stats.rankdata(column) for column in (x, y, size)]
    design = np.stack([np.ones(80), columns[2]], 1)
    left = [column - design @ np.linalg.lstsq(design, column, rcond=None)[0] for column in columns[:2]]
    assert partial == pytest.approx(np.corrcoef(*left)[0, 1])
    assert within == pytest.approx(partial, rel=1e-9)  # there is one stratum
    assert plain > 0.5
    assert abs(partial) < 0.25  # nothing but size was in common


def test_within_strata_what_differs_between_them_is_nothing():
    x, y = np.array([1.0, 2, 3, 11, 12, 13]), np.array([2.0, 3, 1, 13, 11, 12])
    strata = np.array([0, 0, 0, 1, 1, 1])
    plain, _, within = spearman(x, y, Z, strata)(ONCE)[0]
    # from their mean, ranks of x are -1 0 1 -1 0 1, of y 0 1 -1 1 -1 0, of Z 1 -1 0 .5 .5 -1; all over 3
    ab, ac, bc = -2 / 4, (-1 - 1.5) / math.sqrt(4 * 3.5), (-1 + 0.5 - 0.5) / math.sqrt(4 * 3.5)
    assert plain > 0.5
    assert within == pytest.approx((ab - ac * bc) / math.sqrt((1 - ac**2) * (1 - bc**2)))


def test_strata_that_a_resample_lacks_do_not_spoil_it():
    strata = np.array([0, 1, 0, 1, 0, 1])
    weights = np.array([[2.0, 0, 2, 0, 2, 0]])
    alone = spearman(X[::2], Y[::2], Z[::2], np.zeros(3))(np.full((1, 3), 2.0))
    assert spearman(X, Y, Z, strata)(weights)[0, 2] == pytest.approx(alone[0, 2], nan_ok=True)


def test_a_constant_has_no_correlation():
    found = spearman(X, np.ones(6), Z, ONE)(ONCE)
    assert np.isnan(found).all()
    assert math.isnan(spearman(X, Y, np.ones(6), ONE)(ONCE)[0, 1])  # nothing is known of size


def test_auc_by_hand():
    # right ones have 3 and 1, wrong ones 1 and 2: 3 beats both, 1 ties once and loses once
    found = auc(np.array([3.0, 1.0, 1.0, 2.0]), np.array([1.0, 1.0, 0.0, 0.0]))(np.ones((1, 4)))
    assert found.tolist() == [pytest.approx(2.5 / 4)]


def test_auc_counts_pairs_of_different_rows_by_how_far_they_are_right():
    score, right = X, np.array([1.0, 0.5, 0.0, 1.0, 0.25, 0.0])
    for weights, found in zip(DRAWN, auc(score, right)(DRAWN), strict=True):
        wins = pairs = 0.0
        for one, other in itertools.permutations(range(6), 2):
            share = weights[one] * weights[other] * right[one] * (1 - right[other])
            wins += share * (float(score[one] > score[other]) + 0.5 * float(score[one] == score[other]))
            pairs += share
        assert found == pytest.approx(wins / pairs)


def test_auc_needs_right_ones_and_wrong_ones():
    assert np.isnan(auc(X, np.ones(6))(ONCE)).all()


def test_mean_and_ratio_of_resamples():
    assert mean(X)(DRAWN) == pytest.approx([repeated(X, w).mean() for w in DRAWN])
    assert ratio(X, Y)(DRAWN) == pytest.approx([repeated(X, w).mean() / repeated(Y, w).mean() for w in DRAWN])
    assert np.isnan(ratio(X, np.zeros(6))(ONCE)).all()


def test_the_line_is_the_one_of_least_squares():
    for weights, (slope, explained) in zip(DRAWN, line(X, Y)(DRAWN), strict=True):
        expected = stats.linregress(repeated(X, weights), repeated(Y, weights))
        assert slope == pytest.approx(expected.slope)
        assert explained == pytest.approx(expected.rvalue**2)


def test_the_largest_factor_by_hand():
    amv = np.array([1.0, 2.0, 4.0, 0.5])
    loss = np.array([3.0, 2.0, -4.0, 2.0])  # 3, 1, -1, 4
    one = np.ones((1, 4))
    assert largest_factor(amv, loss, 0.0)(one).tolist() == [-1.0]
    assert largest_factor(amv, loss, 0.25)(one).tolist() == [1.0]  # one of four is spared
    assert largest_factor(amv, loss, 0.24)(one).tolist() == [-1.0]
    assert largest_factor(amv, loss, 0.5)(one).tolist() == [3.0]


def test_an_image_without_variation_keeps_every_factor_or_none():
    one = np.ones((1, 2))
    assert largest_factor(np.array([0.0, 1.0]), np.array([0.0, 2.0]), 0.0)(one).tolist() == [2.0]
    assert largest_factor(np.array([0.0, 1.0]), np.array([-0.1, 2.0]), 0.0)(one).tolist() == [-np.inf]


def test_an_interval_is_about_that_of_the_normal_distribution():
    x = np.random.default_rng(0).normal(size=400)
    found = Resamples("seed", times=2000).estimate(np.arange(400), mean(x))
    half = 1.96 * x.std() / 20
    assert found.value == pytest.approx(x.mean())
    assert (found.low, found.high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.12 * half)
    assert found.n == 400


def test_rows_of_an_example_are_drawn_together():
    x = np.random.default_rng(0).normal(size=50)
    once = Resamples("seed").estimate(np.arange(50), mean(x))
    four = Resamples("seed").estimate(np.tile(np.arange(50), 4), mean(np.tile(x, 4)))
    # four copies of each example know no more than one, however their numbers are added up
    assert (four.value, four.low, four.high) == pytest.approx((once.value, once.low, once.high), rel=1e-9)
    apart = Resamples("seed").estimate(np.arange(200), mean(np.tile(x, 4)))
    assert apart.high - apart.low < 0.7 * (once.high - once.low)


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not():
    places = np.arange(6)
    assert Resamples("a").estimate(places, mean(X)) == Resamples("a").estimate(places, mean(X))
    draws = [Resamples(seed).estimate(np.arange(6), mean(np.exp(X))) for seed in ("a", "b", "c", "d")]
    assert len({draw.low for draw in draws}) > 1


def test_many_rows_are_taken_in_blocks_and_give_the_same(monkeypatch):
    places, x = np.arange(6), X
    whole = Resamples("a").estimate(places, mean(x))
    monkeypatch.setattr("reports.stats.bootstrap._BLOCK", 60)
    found = Resamples("a").estimate(places, mean(x))
    assert (found.value, found.low, found.high) == pytest.approx((whole.value, whole.low, whole.high), rel=1e-12)


def test_what_has_no_value_is_none():
    draw = Resamples("a")
    assert draw.estimate(np.arange(4), mean(X[:4])) is None  # too few
    assert draw.estimate(np.zeros(6, np.int64), mean(X)) is None  # one example only
    assert draw.estimate(np.zeros(0, np.int64), mean(np.zeros(0))) is None
    assert draw.estimates(np.arange(6), spearman(X, np.ones(6), Z, ONE), 3) == [None] * 3
    assert draw.estimates(np.arange(4), spearman(X[:4], Y[:4], Z[:4], ONE[:4]), 3) == [None] * 3


def test_without_resamples_there_is_no_interval():
    found = Resamples("a", times=0).estimate(np.arange(6), mean(X))
    assert found.value == pytest.approx(X.mean())
    assert not found.bounded


@pytest.mark.parametrize(("low", "high", "sign"), [(0.1, 0.3, 1), (-0.1, 0.3, 0), (-0.3, -0.1, -1), (0.0, 0.3, 0)])
def test_a_sign_is_one_that_the_whole_interval_has(low, high, sign):
    assert Estimate(0.1, low, high, 9).sign == sign
    assert not bare(Estimate(0.1, low, high, 9)).bounded
