"""Tests of rows against sums on paper, against scipy and statsmodels, and against rows that are known not to differ."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from reports.stats.paired import (
    TINY,
    Place,
    detectable,
    holm,
    mean_interval,
    neighbours,
    p_values,
    paired,
    paired_worst,
    places,
    worst_case_p_values,
)
from reports.stats.worst_case import WorstCase, worst_case


def row(text):
    """Verdicts of 0 and 1 from digits."""
    return np.array([float(digit) for digit in text])


def seen(*rows):
    """Worst cases that are the smallest verdicts that were seen."""
    return [WorstCase(np.asarray(one, float), np.asarray(one, float)) for one in rows]


def p_of(first, second):
    return p_values(np.stack([first, second]))[0, 1]


# ---------------------------------------------------------------------- paired tests


def test_mcnemar_by_hand():
    # six examples that the first wins and none that it loses: 2 / 2^6
    assert p_of(row("1111110011"), row("0000000011")) == pytest.approx(2 / 64)
    # five to one: 2 (1 + 6) / 2^6
    assert p_of(row("1111100"), row("0000010")) == pytest.approx(14 / 64)
    assert p_of(row("1100"), row("0011")) == 1.0
    assert p_of(row("1010"), row("1010")) == 1.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_verdicts_of_0_and_1_are_tested_as_statsmodels_does(pairs):
    first, second = np.array(pairs, float).T
    ours, theirs = int(((first == 1) & (second == 0)).sum()), int(((first == 0) & (second == 1)).sum())
    if ours + theirs:
        expected = mcnemar([[0, ours], [theirs, 0]], exact=True).pvalue
        assert p_of(first, second) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=9))
def test_fractions_are_tested_as_by_trying_all_signs(pairs):
    first, second = np.array(pairs, float).T / 3
    differences = np.rint(3 * (first - second)).astype(int)
    signs = np.array(list(itertools.product((1, -1), repeat=len(pairs))))
    expected = np.mean(np.abs(signs @ differences) >= abs(differences.sum()))
    assert p_of(first, second) == pytest.approx(expected, abs=1e-12)


def test_the_sign_flip_test_of_single_repeats_is_mcnemars():
    draw = np.random.default_rng(1)
    first, second = draw.integers(0, 2, (2, 300)).astype(float)
    # a third row of halves makes all of them be tested as fractions
    together = p_values(np.stack([first, second, np.full(300, 0.5)]))
    assert together[0, 1] == pytest.approx(p_of(first, second), abs=1e-12)


def test_the_sign_flip_test_agrees_with_scipys_sampled_one():
    draw = np.random.default_rng(2)
    first, second = draw.binomial(5, 0.6, 200) / 5, draw.binomial(5, 0.57, 200) / 5
    sampled = stats.permutation_test(
        (first - second,),
        np.mean,
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        axis=0,
        rng=np.random.default_rng(3),
    )
    assert 0.001 < sampled.pvalue < 0.2
    assert p_of(first, second) == pytest.approx(sampled.pvalue, rel=0.1)


def test_rows_of_other_numbers_of_repeats_are_compared_in_common_parts():
    # thirds against halves are sixths: 1/6, 1/6 and -1/3 add up to 0, from which every sum is as far or farther
    assert p_of(np.array([0.5, 0.5, 0.0]), np.array([1 / 3, 1 / 3, 1 / 3])) == pytest.approx(1.0)
    # 1/6, 1/6, 1/3: of the 8 sums two are as far out as all of it
    assert p_of(np.array([0.5, 0.5, 0.5]), np.array([1 / 3, 1 / 3, 1 / 6])) == pytest.approx(2 / 8)


def test_a_sum_beyond_all_followed_ones_is_tiny_and_never_zero():
    assert p_of(np.full(10_000, 1.0), np.full(10_000, 0.3)) == TINY
    assert p_of(np.ones(10_000), np.zeros(10_000)) == TINY
    # just within reach: the normal tail at eight standard deviations
    first = np.full(10_000, 0.5)
    second = np.where(np.arange(10_000) < 5_400, 0.0, 1.0)
    assert TINY <= p_of(first, second) <= 1e-14


@pytest.mark.parametrize("verdicts", [[[0.5, 1.2], [0, 0]], [[math.pi / 4, 0.1], [0, 1]]])
def test_what_is_no_verdict_is_refused(verdicts):
    with pytest.raises(ValueError, match="expected verdicts"):
        p_values(np.array(verdicts))


@pytest.mark.parametrize("repeats", [1, 3])
def test_rows_that_do_not_differ_are_called_different_seldom_enough(repeats):
    draw, called = np.random.default_rng(4), 0
    for _ in range(1000):
        share = draw.beta(2, 1, 80)  # examples are easy or hard for both
        called += p_of(*(draw.binomial(repeats, share, (2, 80)) / repeats)) <= 0.05
    # 1000 tries at 0.05: 64 is two standard deviations above
    assert 15 < called <= 64


def test_some_of_many_equal_rows_are_called_different_seldom_enough():
    draw, called = np.random.default_rng(5), 0
    for _ in range(400):
        rows = draw.binomial(1, draw.beta(2, 1, 100), (6, 100)).astype(float)
        rows = rows[np.argsort(-rows.mean(1), kind="stable")]
        called += any(place.rank > 1 for place in places(seen(*rows)))
    assert called <= 0.05 * 400 + 2 * math.sqrt(400 * 0.05 * 0.95)


def test_a_difference_comes_with_an_interval_that_covers_it():
    draw, covered = np.random.default_rng(6), 0
    for _ in range(300):
        first = draw.binomial(1, 0.7, 150).astype(float)
        second = np.where(draw.random(150) < 0.2, draw.binomial(1, 0.4, 150), first)  # differs by -0.2 * 0.3
        found = paired(first, second)
        assert found.low <= found.difference <= found.high
        covered += found.low <= -0.06 <= found.high
    assert covered >= 0.95 * 300 - 2 * math.sqrt(300 * 0.05 * 0.95)


def test_the_interval_is_scipys_bootstrap():
    draw = np.random.default_rng(7)
    first, second = draw.binomial(3, 0.6, (2, 120)) / 3
    expected = stats.bootstrap(
        (second - first,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(8)
    ).confidence_interval
    found = paired(first, second)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert found.difference == pytest.approx((second - first).mean())
    assert paired(first, second) == found  # nothing is left to chance


def test_rows_that_agree_everywhere_may_still_differ_a_little():
    found = paired(row("1" * 50), row("1" * 50))
    # 1 - 0.025^(1/50)
    assert (found.difference, found.p, found.discordance) == (0.0, 1.0, 0.0)
    assert (found.low, found.high) == pytest.approx((-0.07112, 0.07112), abs=1e-5)


def test_rows_on_other_examples_are_no_pairs():
    with pytest.raises(ValueError, match="on the same examples"):
        paired(row("11"), row("111"))
    with pytest.raises(ValueError, match="on the same examples"):
        paired(row(""), row(""))


def test_holm_by_hand_and_as_statsmodels_does():
    # smallest times 3, next times 2, never falling
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]).tolist() == []
    p = np.random.default_rng(9).random(20) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


# ---------------------------------------------------------------------- places


def test_a_row_shares_a_place_unless_it_is_worse_than_the_groups_first():
    best = row("1" * 90 + "0" * 10)
    near = row("1" * 86 + "0" * 14)  # 4 to 0: 2 / 2^4, not significant
    far = row("1" * 76 + "0" * 24)  # 14 to 0 against the first, 10 to 0 against the second
    last = row("1" * 20 + "0" * 80)
    found = places(seen(best, near, far, last))
    assert [place.rank for place in found] == [1, 1, 3, 4]
    assert [place.tied for place in found] == [(1,), (0,), (), ()]
    # six pairs: 2 / 16 is the largest p-value and stays; 2 / 2^10 is the next, times 2; 2 / 2^14 the next, times 3
    assert found[0].p is None
    assert found[1].p == pytest.approx(2 / 16)
    assert found[2].p == pytest.approx(3 * 2 / 2**14)
    assert found[3].p is not None
    assert found[3].p < 1e-10


def test_a_group_is_measured_by_its_first_row_not_by_its_last():
    # each loses five examples more: neighbours are not told apart, the first and the third are
    rows = [row("1" * number + "0" * (100 - number)) for number in (90, 85, 78)]
    assert [place.rank for place in places(seen(*rows))] == [1, 1, 3]


def test_equal_rows_share_one_place():
    assert places(seen(row("1100")) * 3) == [Place(1, (1, 2), None), Place(1, (0, 2), 1.0), Place(1, (0, 1), 1.0)]


def test_one_row_and_none_have_places_too():
    assert places(seen(row("10"))) == [Place(1, (), None)]
    assert places([]) == []


def test_rows_that_cannot_be_ranked_are_refused():
    with pytest.raises(ValueError, match="on the same examples"):
        places(seen(row("11"), row("1")))
    with pytest.raises(ValueError, match="falling order"):
        places(seen(row("10"), row("11")))


# ---------------------------------------------------------------------- smallest differences


def test_six_examples_show_that_all_differ_and_five_show_nothing():
    assert detectable(5) is None
    # all six must go the same way: P(6 of 6) = 0.8 at a difference of 0.8^(1/6)
    assert detectable(6, 0.0) == pytest.approx(0.8 ** (1 / 6), abs=1e-4)


def test_a_difference_that_is_found_is_shown_as_often_as_promised():
    draw = np.random.default_rng(10)
    n, discordance = 144, 0.2
    difference = detectable(n, discordance)
    lose, win = (discordance - difference) / 2, (discordance + difference) / 2
    shown = 0
    for _ in range(2000):
        fate = draw.choice(3, n, p=[lose, win, 1 - lose - win])
        shown += p_of((fate == 0).astype(float), (fate == 1).astype(float)) <= 0.05
    assert shown / 2000 == pytest.approx(0.8, abs=2.5 * math.sqrt(0.8 * 0.2 / 2000))


@pytest.mark.parametrize("discordance", [0.05, 0.2, 0.5])
def test_with_many_examples_it_is_connors_formula(discordance):
    # Connor 1987, Sample size for testing differences in proportions for the paired-sample design, equation 5
    n, difference = 20_000, detectable(20_000, discordance)
    a, b = stats.norm.ppf(0.975), stats.norm.ppf(0.8)
    needed = (a * math.sqrt(discordance) + b * math.sqrt(discordance - difference**2)) ** 2 / difference**2
    assert needed == pytest.approx(n, rel=0.05)


def test_rows_that_know_nothing_of_each_other_are_the_bound():
    unknown = detectable(144)
    for discordance in np.linspace(0, 0.5, 6):
        assert detectable(144, float(discordance)) < unknown
    # two proportions near one half, each with its own examples: (1.96 + 0.84) sqrt(2 / 4 / n)
    assert detectable(20_000) == pytest.approx(2.8016 * math.sqrt(0.5 / 20_000), rel=0.03)


def test_more_examples_show_smaller_differences():
    found = [detectable(n, 0.2) for n in (50, 100, 200, 400, 10_000)]
    assert found == sorted(found, reverse=True)


def test_neighbours_disagree_on_average():
    assert neighbours(seen(row("1111"), row("1101"), row("1001"))) == 0.25
    assert neighbours(seen(row("11"))) is None


# ---------------------------------------------------------------------- means


def test_a_mean_has_the_interval_of_scipys_bootstrap():
    values = np.random.default_rng(11).exponential(1.0, 80)
    expected = stats.bootstrap((values,), np.mean, n_resamples=9999, rng=np.random.default_rng(12)).confidence_interval
    low, high = mean_interval(values)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert mean_interval(values) == (low, high)


def test_a_slice_of_twice_the_images_counts_twice():
    values, weights = np.array([1.0, 2.0, 3.0, 5.0, 8.0]), np.array([2, 1, 1, 1, 4])
    low, high = mean_interval(values, weights)
    mean = float(values @ weights / weights.sum())
    assert low < mean < high
    assert mean_interval(values, np.full(5, 7.0)) == pytest.approx(mean_interval(values), abs=0.5)


def test_intervals_of_means_cover_them():
    draw, covered = np.random.default_rng(13), 0
    for _ in range(100):
        low, high = mean_interval(draw.exponential(1.0, 60))
        covered += low <= 1.0 <= high
    assert covered >= 88


def test_many_values_have_the_interval_of_a_normal_mean():
    values = np.random.default_rng(14).normal(3.0, 2.0, 4000)
    half = 1.96 * values.std() / math.sqrt(4000)
    assert mean_interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_too_few_values_have_no_interval_and_equal_ones_a_point():
    assert mean_interval([1.0]) is None
    assert mean_interval([]) is None
    assert mean_interval([0.2, 0.2]) == (0.2, 0.2)
    with pytest.raises(ValueError, match="a weight per value"):
        mean_interval([1.0, 2.0], [1.0])


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6))
def test_the_ends_are_always_numbers_among_the_values(values):
    low, high = mean_interval(values)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


# ---------------------------------------------------------------------- worst cases


def several(seed, examples=400, attacks=4, repeats=10):
    """Attacks that leave the same of every example, and one row more: an attack alone that leaves the same too."""
    draw = np.random.default_rng(seed)
    right = draw.beta(0.7, 0.7, examples)
    shares = draw.binomial(repeats, np.tile(right, (attacks, 1))) / repeats
    alone = draw.binomial(repeats, right) / repeats
    return worst_case(shares, [repeats] * attacks), *seen(alone)


def test_worst_cases_that_were_seen_are_tested_exactly():
    rows = seen(row("1111110011"), row("0000000011"), row("1111100011"))
    assert worst_case_p_values(rows).tolist() == p_values(np.stack([one.verdicts for one in rows])).tolist()
    assert paired_worst(*rows[:2]) == paired(rows[0].verdicts, rows[1].verdicts)


def test_an_estimated_worst_case_is_tested_with_what_its_examples_share():
    estimated, alone = several(0)
    p = worst_case_p_values([estimated, alone])[0, 1]
    differences = estimated.verdicts - alone.verdicts
    assert p == pytest.approx(stats.ttest_1samp(differences, 0.0).pvalue, rel=0.3)  # attacks alike share little
    unsure = WorstCase(estimated.verdicts, estimated.smallest, shared=0.02**2, estimated=True)
    spread = math.sqrt(differences.var(ddof=1) / len(differences) + 0.02**2)
    wanted = 2 * stats.t.sf(abs(differences.mean()) / spread, len(differences) - 1)
    assert worst_case_p_values([unsure, alone])[0, 1] == pytest.approx(wanted)
    found = paired_worst(alone, unsure)
    assert (found.low, found.high) == pytest.approx(
        differences.mean() + np.array([-1, 1]) * stats.t.ppf(0.975, len(differences) - 1) * spread
    )
    assert found.p == pytest.approx(wanted)
    assert neighbours([unsure, alone]) == pytest.approx((differences**2).mean() + len(differences) * 0.02**2)


def test_equally_robust_rows_under_one_attack_and_several_share_a_place():
    """Of thirty boards about one or two are split by chance; by the smallest shares all would be."""
    split = 0
    for seed in range(30):
        rows = sorted(several(seed), key=lambda one: -one.verdicts.mean())
        split += places(rows)[1].rank > 1
    assert split <= 6


def test_an_estimated_row_and_itself_are_no_different():
    estimated, _ = several(1)
    assert worst_case_p_values([estimated, estimated])[0, 1] == 1.0
    assert paired_worst(estimated, estimated).difference == 0.0


def test_worst_cases_on_other_examples_are_not_compared():
    (first, _), (second, _) = several(2), several(3, examples=300)
    with pytest.raises(ValueError, match="on the same examples"):
        paired_worst(first, second)
