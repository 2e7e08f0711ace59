"""Random numbers are a function of their address, and of nothing else."""

import pytest
import torch

from harness.draws import Draws, philox

ONES = 0xFFFFFFFF


def draws(n=8, *words):
    return Draws(("test", *words), torch.arange(n))


# the known answers of Random123's kat_vectors
@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers(counter, key, answer):
    words = philox(tuple(torch.tensor([word]) for word in counter), key)
    assert tuple(int(word) for word in words) == answer


@pytest.mark.parametrize("method", ["uniform", "normal"])
def test_numbers_of_an_example_do_not_depend_on_its_batch_mates(method):
    together = getattr(draws(), method)(3, 5)
    assert together.shape == (8, 3, 5)
    for example in (0, 3, 7):
        alone = Draws(("test",), torch.tensor([example]))
        assert torch.equal(getattr(alone, method)(3, 5)[0], together[example])
    backwards = Draws(("test",), torch.arange(8).flip(0))
    assert torch.equal(getattr(backwards, method)(3, 5).flip(0), together)


def test_take_and_repeated_keep_each_examples_numbers():
    numbers = draws().uniform(4)
    assert torch.equal(draws().take(torch.tensor([5, 2])).uniform(4), numbers[[5, 2]])
    assert torch.equal(draws().take(slice(1, 3)).uniform(4), numbers[1:3])
    assert torch.equal(draws(3).repeated(2).uniform(4), numbers[[0, 0, 1, 1, 2, 2]])


def test_same_address_same_numbers():
    assert torch.equal(draws().at("a", 1).normal(9), draws(8, "a").at(1).normal(9))
    assert draws().seed() == draws().seed()


def test_addresses_examples_and_places_differ():
    base = Draws((), torch.tensor([0, 1, 2**31, 2**32 - 1]))
    addresses = [("a",), ("b",), ("a", 1), ("a", "1"), (1, "a"), ("a1",), ("a", 1, 1), ("a", 11)]
    rows = torch.cat([base.at(*address).uniform(64) for address in addresses])
    assert len(torch.unique(rows, dim=0)) == len(rows) == 32
    assert all(len(torch.unique(row)) == 64 for row in rows)
    seeds = {base.at(*address).seed() for address in addresses}
    assert len(seeds) == len(addresses)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_longer_draw_starts_like_a_shorter_uniform_one():
    assert torch.equal(draws().uniform(7)[:, :3], draws().uniform(3))


def test_uniform_is_in_the_half_open_interval_and_even():
    numbers = draws(16).uniform(4096)
    assert numbers.dtype == torch.float32
    assert float(numbers.min()) >= 0.0
    assert float(numbers.max()) < 1.0
    counts = torch.histc(numbers, 10, 0.0, 1.0) / numbers.numel()
    assert torch.allclose(counts, torch.full((10,), 0.1), atol=6 * (0.09 / numbers.numel()) ** 0.5)


def test_normal_has_the_moments_of_the_standard_normal():
    numbers = draws(16).normal(4097).double()  # odd: one of a pair is left over
    n = numbers.numel()
    for power, moment, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs(float((numbers**power).mean()) - moment) < 5 * (variance / n) ** 0.5
    pairs = (numbers[:, :2048] * numbers[:, 2048:4096]).mean()  # the two of a pair are uncorrelated
    assert abs(float(pairs)) < 5 / (16 * 2048) ** 0.5


def test_draws_without_a_shape_are_one_number_each():
    assert draws().uniform().shape == draws().normal().shape == (8,)


def test_permutation_is_one_and_every_place_is_as_likely():
    orders = draws(4000).permutation(5)
    assert torch.equal(orders.sort(1).values, torch.arange(5).expand(4000, 5))
    for item in range(5):
        share = (orders == item).double().mean(0)
        assert torch.allclose(share, torch.full((5,), 0.2, dtype=torch.float64), atol=0.035)


def test_the_global_generator_is_neither_read_nor_moved():
    before = torch.get_rng_state()
    first = draws().normal(4), draws().uniform(4), draws().permutation(4)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        again = draws().normal(4), draws().uniform(4), draws().permutation(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
