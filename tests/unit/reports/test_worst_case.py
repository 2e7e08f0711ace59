"""The worst case over attacks whose truth is known; the boards of many worlds are a benchmark."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.stats.worst_case import ENOUGH, worst_case


def drawn(right, repeats, seed=0):
    """Shares of repeats that were right, ``(attacks, examples)``; ``repeats`` of each attack."""
    draw = np.random.default_rng(seed)
    return np.stack([draw.binomial(number, one) / number for number, one in zip(repeats, right, strict=True)])


def levels(examples, seed=1):
    """Probabilities of being right that are low, high and between."""
    return np.random.default_rng(seed).beta(0.6, 0.6, examples)


def share(right, repeats, decision="mean", seed=0):
    return float(worst_case(drawn(right, repeats, seed), repeats, decision).verdicts.mean())


#: a mean over so many examples is off by the luck of their repeats, at most three standard errors in a thousand tries
EXAMPLES = 3000
OFF = 0.01


def test_attacks_that_are_alike_do_not_lower_each_other():
    right = levels(EXAMPLES)
    shares = drawn([right] * 8, [10] * 8)
    found = worst_case(shares, [10] * 8)
    assert found.smallest.mean() < right.mean() - 0.08  # the smallest of eight shares has luck in it
    assert found.verdicts.mean() == pytest.approx(right.mean(), abs=OFF)
    assert found.estimated


@pytest.mark.parametrize("power", [0.5, 0.8])
def test_weaker_attacks_take_nothing_and_give_nothing(power):
    right = levels(EXAMPLES)
    assert share([right, *[right**power] * 7], [10] * 8) == pytest.approx(right.mean(), abs=OFF)


def test_what_each_attack_alone_can_take_of_an_example_is_taken():
    """Each example falls to one attack of four and is right under the others."""
    right = levels(EXAMPLES)
    found = np.full((4, EXAMPLES), 0.95)
    found[np.arange(EXAMPLES) % 4, np.arange(EXAMPLES)] = np.minimum(right, 0.95)
    truth = found.min(0).mean()
    assert share(found, [10] * 4) == pytest.approx(truth, abs=OFF)


def test_an_attack_more_that_takes_nothing_moves_the_figure_by_less_than_half_a_point():
    right = levels(EXAMPLES)
    shares = drawn([right, right**0.7, right**0.5], [10] * 3)
    without = worst_case(shares[:2], [10] * 2).verdicts.mean()
    assert worst_case(shares, [10] * 3).verdicts.mean() == pytest.approx(without, abs=0.005)


@pytest.mark.parametrize("seed", range(3))
def test_one_that_is_strong_on_all_and_the_strongest_on_none_is_not_taken_for_the_strongest(seed):
    """Each example has one attack of eight that takes most; the ninth comes near to that on every example."""
    rng, n = np.random.default_rng(seed), 512
    right = levels(n, seed)
    found = 1 - (1 - right) * rng.beta(2, 2, (8, n))
    found[rng.integers(0, 8, n), np.arange(n)] = right
    shares = drawn([*found, right**0.5], [10] * 9, seed)
    assert shares[8].mean() == shares.mean(1).min()
    without, whole = (worst_case(some, [10] * len(some)).verdicts.mean() for some in (shares[:8], shares))
    assert whole <= without
    assert whole == pytest.approx(right.mean(), abs=0.03)  # three standard errors of 512 examples with ten repeats


def test_an_attack_that_takes_something_lowers_the_figure_by_that():
    right = levels(EXAMPLES)
    found = share([right, right * 0.8], [10, 10])
    assert found == pytest.approx(0.8 * right.mean(), abs=OFF)


@pytest.mark.parametrize(("decision", "kept"), [("any", lambda p: p**9), ("majority", None)])
def test_every_rule_is_that_of_the_strongest_attack(decision, kept):
    right = levels(EXAMPLES)
    if kept is None:

        def kept(p):
            return sum(math.comb(9, k) * p**k * (1 - p) ** (9 - k) for k in range(5, 10))

    assert share([right] * 6, [9] * 6, decision) == pytest.approx(kept(right).mean(), abs=0.02)
    assert share([right, *[right**0.5] * 5], [9] * 6, decision) == pytest.approx(kept(right).mean(), abs=0.02)


def test_attacks_may_have_other_numbers_of_repeats_and_miss_examples():
    right = levels(EXAMPLES)
    shares = drawn([right, right, right**0.5], [20, 6, 10])
    shares[1, ::2] = math.nan
    assert worst_case(shares, [20, 6, 10]).verdicts.mean() == pytest.approx(right.mean(), abs=OFF)


def test_one_attack_alone_is_what_it_leaves():
    shares = drawn([levels(50)], [10])
    found = worst_case(shares, [10])
    assert (found.estimated, found.verdicts.tolist()) == (False, shares[0].tolist())


def test_without_repeats_the_smallest_verdict_stands():
    shares = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, math.nan]])
    found = worst_case(shares, [1, 1])
    assert (found.estimated, found.verdicts.tolist()) == (False, [1.0, 0.0, 0.0, 0.0])


def test_too_few_repeats_are_not_made_more_of_than_they_are():
    right = levels(200)
    found = worst_case(drawn([right] * 4, [ENOUGH - 1] * 4), [ENOUGH - 1] * 4)
    assert not found.estimated
    assert found.verdicts.tolist() == found.smallest.tolist()


def test_the_same_shares_have_the_same_worst_case_whatever_the_order_of_attacks():
    right = levels(150)
    shares = drawn([right, right**0.5, right**0.8], [10] * 3)
    found, again = worst_case(shares, [10] * 3), worst_case(shares, [10] * 3)
    assert found.verdicts.tolist() == again.verdicts.tolist()
    # sums in another order differ in their last digits, and what is fitted step by step in a few more
    turned = worst_case(shares[::-1], [10] * 3)
    assert turned.verdicts == pytest.approx(found.verdicts, abs=1e-4)


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_what_is_always_the_same_stays_so(right):
    """Nothing is left where every repeat fails, and all where none does; the interval is not a point."""
    found = worst_case(np.full((3, 100), right), [10] * 3)
    assert found.verdicts == pytest.approx(np.full(100, right), abs=0.01)
    assert found.accuracy.high - found.accuracy.low > 0.01


def test_few_examples_and_one_are_no_error():
    for examples in (1, 2, 5):
        found = worst_case(drawn([levels(examples)] * 3, [10] * 3), [10] * 3)
        assert np.isfinite(found.verdicts).all()
        assert 0.0 <= found.accuracy.low <= found.accuracy.share <= found.accuracy.high <= 1.0


def test_the_interval_is_wilsons_and_wider_where_the_strongest_attack_is_not_certain():
    right = levels(400)
    sure = worst_case(drawn([right, right**0.5], [10, 10]), [10, 10])
    n, share = 400, sure.accuracy.share
    assert sure.accuracy.n == n
    # never narrower than that of as many single verdicts
    assert sure.accuracy.high - sure.accuracy.low >= 2 * 1.9 * math.sqrt(share * (1 - share) / (n + 4))
    unsure = type(sure)(sure.verdicts, sure.smallest, 0.05**2, estimated=True)
    assert unsure.accuracy.high - unsure.accuracy.low > 1.5 * (sure.accuracy.high - sure.accuracy.low)
