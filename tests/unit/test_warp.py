"""Moving pixels: what is proposed under a threat model of flows, and what the judge makes of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from harness import bounds
from harness.core.threat import Norm
from harness.draws import Draws

seeds = st.integers(0, 10_000)


def images(seed=0, shape=(2, 7, 5), n=3):
    return Draws(("images", seed), torch.arange(n)).uniform(*shape)


def flows(seed=0, shape=(7, 5), n=3, scale=1.0):
    return scale * (2.0 * Draws(("flows", seed), torch.arange(n)).uniform(2, *shape) - 1.0)


def whole(down, right, shape=(7, 5), n=3):
    flow = torch.tensor([float(down), float(right)])
    return flow.reshape(1, 2, 1, 1).expand(n, 2, *shape)


@pytest.mark.parametrize("shape", [(2, 7, 5), (3, 32, 32), (1, 1, 4), (1, 4, 1), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flow_of_zero_changes_no_bit(shape, dtype):
    x = images(shape=shape).to(dtype)
    assert torch.equal(bounds.warp(x, torch.zeros(3, 2, *shape[1:], dtype=dtype)), x)


@pytest.mark.parametrize(("down", "right"), [(0, 1), (1, 0), (2, -1), (-3, 2), (6, 4), (-6, -4)])
def test_a_move_of_whole_pixels_is_that_of_the_array(down, right):
    x = images()
    mirrored = F.pad(x, (4, 4, 6, 6), mode="reflect")
    moved = mirrored[:, :, 6 + down : 13 + down, 4 + right : 9 + right]
    assert torch.equal(bounds.warp(x, whole(down, right)), moved)


def test_the_mirror_goes_on_beyond_the_far_edge():
    x = images()
    assert torch.equal(bounds.warp(x, whole(12, 0)), x)  # there and back: 2 (7 - 1) pixels
    assert torch.equal(bounds.warp(x, whole(0, -16)), x)


@given(seed=seeds)
def test_between_pixels_it_is_what_torch_samples(seed):
    x, flow = images(seed), flows(seed, scale=5.0)
    rows = (torch.arange(7.0)[:, None] + flow[:, 0]) * 2 / 6 - 1
    columns = (torch.arange(5.0)[None, :] + flow[:, 1]) * 2 / 4 - 1
    grid = torch.stack([columns, rows], 3)
    sampled = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    assert torch.allclose(bounds.warp(x, flow), sampled, atol=2e-5)


@given(seed=seeds)
def test_pixels_stay_in_the_range_of_the_image(seed):
    x = images(seed)
    found = bounds.warp(x, flows(seed, scale=20.0))
    assert float(found.min()) >= float(x.min()) - 1e-6
    assert float(found.max()) <= float(x.max()) + 1e-6


def test_a_pixel_that_is_moved_nowhere_in_particular_is_not_a_number():
    flow = torch.zeros(3, 2, 7, 5)
    flow[0, 0, 2, 3], flow[1, 1, 0, 0] = torch.nan, torch.inf
    found = bounds.warp(images(), flow)
    lost = found.isnan().any(1)
    assert lost.nonzero().tolist() == [[0, 2, 3], [1, 0, 0]]


def test_both_gradients_are_those_of_finite_differences():
    x = images(shape=(2, 4, 5), n=2).double().requires_grad_(True)
    flow = (0.1 + 0.8 * flows(shape=(4, 5), n=2, scale=0.5).abs()).double()  # no move of whole pixels, where it bends
    flow = torch.cat([flow[:1], -flow[1:]]).requires_grad_(True)
    assert torch.autograd.gradcheck(bounds.warp, (x, flow))


def test_no_pixel_is_without_a_gradient_at_rest():
    x = torch.arange(35.0).reshape(1, 1, 7, 5)
    flow = torch.zeros(1, 2, 7, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(bounds.warp(x, flow).sum(), flow)
    assert torch.equal(gradient[0, 0], torch.full((7, 5), 5.0))
    assert torch.equal(gradient[0, 1], torch.full((7, 5), 1.0))


def test_a_flow_is_as_long_as_its_longest_move_and_can_be_shortened():
    flow = torch.zeros(2, 2, 3, 3)
    flow[0, 1, 2, 0], flow[1, 0, 0, 0] = -2.5, 0.25
    assert bounds.size(flow, Norm.FLOW).tolist() == [2.5, 0.25]
    assert bounds.size(bounds.shorten(flow, 0.5), Norm.FLOW).tolist() == [0.5, 0.25]
