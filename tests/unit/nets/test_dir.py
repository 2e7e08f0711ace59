"""DIR's purifier against its definition."""

import pytest
import torch

from harness.core.contracts import DataCard
from harness.nets.dir import DIR
from harness.nets.sizes import DIRSize

CARD = DataCard((3, 6, 8), 10, 1, "0" * 64)
SIZE = DIRSize(use="dir", patch=2, dim=24, depth=1, heads=2, decoder_depth=1)


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DIR(SIZE, CARD).eval().requires_grad_(False)


@pytest.fixture
def x():
    return torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def order():
    return torch.rand(2, 12, generator=torch.Generator().manual_seed(2)).argsort(1)


def test_the_head_is_a_sum_over_patches_and_a_window_of_averaged_features(net, x, order):
    first, second = (net.trunk.features(x, half)[0] for half in order.chunk(2, 1))
    averaged = (first + second) / 2.0
    patches = net.trunk.patchify(2.0 * net(x, order) - 1.0)
    weight, bias = net.head.weight, net.head.bias  # (12, 12, 2), (12,)
    for place, value in ((0, 0), (5, 7), (11, 11)):
        total = bias[place] + sum(
            weight[place, patch, step] * averaged[:, patch, 2 * value + step] for patch in range(12) for step in (0, 1)
        )
        assert torch.allclose(patches[:, place, value], total, atol=1e-5)


def test_each_half_stands_at_its_own_places(net, x, order):
    """What is encoded of one half does not depend on the other half's pixels."""
    half = order[:, 6:]
    patches = net.trunk.patchify(x)
    other = patches.scatter(1, order[:, :6, None].expand(-1, -1, 12), 0.123)
    assert torch.equal(
        net.trunk.features(net.trunk.unpatchify(other), half)[0],
        net.trunk.features(x, half)[0],
    )
    assert not torch.allclose(net(net.trunk.unpatchify(other), order), net(x, order), atol=1e-4)


def test_which_half_comes_first_does_not_matter(net, x, order):
    assert torch.allclose(net(x, order.roll(6, 1)), net(x, order), atol=1e-5)
    assert not torch.allclose(net(x, order.roll(3, 1)), net(x, order), atol=1e-5)


def test_a_gradient_reaches_every_pixel(net, x, order):
    at = x.clone().requires_grad_(True)
    net(at, order).square().sum().backward()
    assert bool((at.grad != 0).all())


def test_an_odd_number_of_patches_is_cut_in_unequal_halves():
    odd = DIR(SIZE, DataCard((3, 6, 6), 10, 1, "0" * 64)).eval()
    images = odd(torch.zeros(1, 3, 6, 6), torch.randperm(9)[None])
    assert images.shape == (1, 3, 6, 6)


def test_the_authors_size_has_sixteen_features_for_every_value_of_a_patch():
    with torch.device("meta"):
        net = DIR(DIRSize(use="dir"), DataCard((3, 32, 32), 10, 1, "0" * 64))
    assert tuple(net.head.weight.shape) == (256, 256, 16)
    assert (len(net.trunk.encoder), len(net.trunk.decoder)) == (8, 2)


def test_a_width_that_no_window_fits_is_refused():
    with pytest.raises(ValueError, match="expected a width that is a multiple of the 12 values of a patch, got 32"):
        DIR(SIZE.model_copy(update={"dim": 32}), CARD)


def test_a_single_patch_has_no_halves():
    with pytest.raises(ValueError, match="expected a patch that leaves two patches at least, got 2"):
        DIR(SIZE, DataCard((3, 2, 2), 10, 1, "0" * 64))
