"""Random numbers are functions of their address; and they are random."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from harness.draws import Draws, philox


def draws(*words, n=4, first=0):
    return Draws(("test", *words), torch.arange(first, first + n))


# Known answers of the authors' library Random123, file kat_vectors, philox4x32 with 10 rounds
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_authors_known_answers(counter, key, answer):
    words = tuple(torch.tensor(int(word, 16)) for word in counter.split())
    first, second = (int(word, 16) for word in key.split())
    assert " ".join(f"{int(word):08x}" for word in philox(words, (first, second))) == answer


@pytest.mark.parametrize("draw", [lambda d: d.uniform(3, 5), lambda d: d.normal(7), lambda d: d.permutation(16)])
class TestAddressing:
    def test_an_example_draws_the_same_in_any_batch(self, draw):
        all_of_them = draw(draws(n=6))
        rows = torch.tensor([4, 1])
        assert torch.equal(draw(draws(n=6).take(rows)), all_of_them[rows])
        assert torch.equal(draw(draws(n=2, first=3)), all_of_them[3:5])
        assert torch.equal(draw(draws(n=3).repeated(2)), all_of_them[:3].repeat_interleave(2, 0))

    def test_the_same_address_gives_the_same_numbers_whatever_was_drawn_between(self, draw):
        one = draws("a")
        before = draw(one)
        torch.rand(10), one.uniform(100)
        assert torch.equal(draw(one), before)

    def test_other_addresses_and_other_examples_give_other_numbers(self, draw):
        found = [
            draw(d)
            for d in (draws(), draws(1), draws("1"), draws("1", 1), draws(11), draws("a"), draws("b"), draws(first=4))
        ]
        for index, one in enumerate(found):
            for other in found[index + 1 :]:
                assert not torch.equal(one, other)
        assert all(not torch.equal(a, b) for a, b in zip(found[0], found[0][1:], strict=False))

    def test_no_global_generator_is_touched(self, draw):
        before = torch.random.get_rng_state()
        draw(draws())
        assert torch.equal(torch.random.get_rng_state(), before)


def test_more_numbers_begin_with_the_same_ones():
    assert torch.equal(draws().uniform(50)[:, :7], draws().uniform(7))


def test_examples_beyond_32_bits_are_apart():
    pair = Draws(("x",), torch.tensor([5, 5 + 2**32]))
    assert not torch.equal(*pair.uniform(4))


def test_the_seed_of_a_library_depends_on_the_address_alone():
    assert draws("a").seed() == draws("a", n=1).seed() != draws("b").seed()
    assert all(0 <= draws(i).seed() < 2**63 for i in range(100))


def test_uniform_numbers_are_uniform_and_below_one():
    found = draws(n=200).uniform(500)
    assert found.dtype == torch.float32
    assert float(found.min()) >= 0.0
    assert float(found.max()) < 1.0
    assert stats.kstest(found.flatten().numpy(), "uniform").pvalue > 1e-3


def test_normal_numbers_are_normal():
    found = draws(n=200).normal(500).flatten().double()
    assert bool(torch.isfinite(found).all())
    n = len(found)
    assert abs(float(found.mean())) < 4 / math.sqrt(n)
    assert abs(float(found.var()) - 1) < 4 * math.sqrt(2 / n)
    assert stats.kstest(found.numpy(), "norm").pvalue > 1e-3


def test_positions_and_examples_are_uncorrelated():
    found = draws(n=1000).normal(8).double()
    assert float((torch.corrcoef(found.T) - torch.eye(8)).abs().max()) < 4 / math.sqrt(1000)
    across = torch.corrcoef(draws(n=8).normal(1000).double())
    assert float((across - torch.eye(8)).abs().max()) < 4 / math.sqrt(1000)


def test_an_odd_count_of_normal_numbers_has_the_right_shape():
    assert draws(n=3).normal(1, 3, 3).shape == (3, 1, 3, 3)
    assert draws(n=3).uniform().shape == (3,)


def test_permutations_hold_every_number_once():
    found = draws(n=50).permutation(16)
    assert torch.equal(found.sort(1).values, torch.arange(16).expand(50, -1))


def test_all_permutations_are_equally_likely():
    found = draws(n=6000).permutation(4)
    codes = (found * torch.tensor([64, 16, 4, 1])).sum(1)
    _, counts = codes.unique(return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


# ---------------------------------------------------------------------- copies


@pytest.mark.parametrize("draw", [lambda d: d.uniform(3, 5), lambda d: d.normal(7), lambda d: d.permutation(16)])
def test_a_copy_draws_the_same_whichever_copies_it_shares_a_batch_with(draw):
    whole = draw(draws(n=3).copied(0, 6)).reshape(6, 3, -1)
    parts = [draw(draws(n=3).copied(first, stop)) for first, stop in ((0, 1), (1, 4), (4, 6))]
    assert torch.equal(torch.cat(parts).reshape(6, 3, -1), whole)
    alone = draw(draws(n=1, first=2).copied(4, 5))
    assert torch.equal(alone.reshape(-1), whole[4, 2])
    assert torch.equal(draw(draws(n=3).copied(0, 6).take(slice(9, 12))).reshape(3, -1), whole[3])
    assert torch.equal(draw(draws(n=3).copied(2, 3).at("a")), draw(draws("a", n=3).copied(2, 3)))


def test_copies_are_apart_from_each_other_and_from_no_copy():
    rows = torch.cat([draws(n=3).uniform(8), draws(n=3).copied(0, 4).uniform(8)])
    assert len(rows.unique(dim=0)) == 15
    found = draws(n=20).copied(0, 500).normal(4).double()
    assert abs(float(found.mean())) < 4 / math.sqrt(found.numel())
    across = torch.corrcoef(found.reshape(500, 80).T)
    assert float((across - torch.eye(80)).abs().max()) < 5 / math.sqrt(500)


def test_copies_repeated_are_equal():
    found = draws(n=2).copied(0, 2).repeated(2).uniform(3)
    assert torch.equal(found, draws(n=2).copied(0, 2).uniform(3).repeat_interleave(2, 0))


def test_a_seed_tells_copies_apart_and_is_refused_to_several():
    seeds = {draws("a").seed(), *(draws("a").copied(copy, copy + 1).seed() for copy in range(5))}
    assert len(seeds) == 6
    with pytest.raises(ValueError, match="expected a single copy of the images where a library is given a seed"):
        draws("a").copied(0, 2).seed()
