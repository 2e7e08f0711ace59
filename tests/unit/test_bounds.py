"""Balls, boxes and steepest directions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bounds import project, random_point, size, steepest, tolerance
from harness.core.threat import Norm
from harness.draws import Draws

NORMS = st.sampled_from([Norm.LINF, Norm.L2])
EPS = st.floats(1e-3, 2.0)
SEEDS = st.integers(0, 2**32 - 1)
quick = settings(max_examples=60, deadline=None, derandomize=True)


def images(seed, scale=1.0):
    """Return four images in the box, some pixels on its faces, and a perturbation of about a scale."""
    here = Draws(("bounds", seed), torch.arange(4))
    x = (1.4 * here.at("x").uniform(1, 3, 3) - 0.2).clamp(0.0, 1.0)
    return x, scale * here.at("delta").normal(1, 3, 3)


@quick
@given(SEEDS, NORMS, EPS, st.floats(0.0, 100.0))
def test_projection_is_inside_ball_and_box_and_idempotent(seed, norm, eps, scale):
    x, delta = images(seed, scale)
    inside = project(x + delta, x, eps, norm)
    assert float(inside.min()) >= 0.0
    assert float(inside.max()) <= 1.0
    assert (size(inside - x, norm) <= eps + tolerance(eps)).all()
    assert torch.allclose(project(inside, x, eps, norm), inside, rtol=0.0, atol=tolerance(eps))


@quick
@given(SEEDS, NORMS, EPS, st.floats(0.0, 0.99))
def test_projection_leaves_points_inside_alone(seed, norm, eps, share):
    x, delta = images(seed)
    delta = share * eps * delta / size(delta, norm).reshape(-1, 1, 1, 1)
    point = (x + delta).clamp(0.0, 1.0)
    assert torch.allclose(project(point, x, eps, norm), point, rtol=0.0, atol=1e-6)


@quick
@given(SEEDS, NORMS, st.floats(1e-3, 0.4))
def test_projection_to_the_ball_is_the_nearest_point(seed, norm, eps):
    _, delta = images(seed, 2.0)
    x = torch.full_like(delta, 0.5)  # the box is not in the way
    away = x + delta
    nearest = size(away - project(away, x, eps, norm), Norm.L2)
    for other in range(5):
        rival = random_point(x, eps, norm, Draws(("rival", other), torch.arange(4)))
        assert (nearest <= size(away - rival, Norm.L2) + 1e-4).all()


@quick
@given(SEEDS, NORMS)
def test_steepest_has_unit_size_and_maximises_the_inner_product(seed, norm):
    _, gradient = images(seed)
    best = steepest(gradient, norm)
    assert torch.allclose(size(best, norm), torch.ones(4), atol=1e-5)
    gain = (gradient * best).flatten(1).sum(1)
    dual = gradient.flatten(1).abs().sum(1) if norm is Norm.LINF else size(gradient, Norm.L2)
    assert torch.allclose(gain, dual, rtol=1e-4)
    for other in range(5):
        rival = Draws(("rival", other), torch.arange(4)).normal(1, 3, 3)
        rival = rival / size(rival, norm).reshape(-1, 1, 1, 1)
        assert ((gradient * rival).flatten(1).sum(1) <= gain + 1e-4).all()


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
def test_steepest_of_a_zero_gradient_is_zero(norm):
    assert not steepest(torch.zeros(2, 1, 3, 3), norm).any()


@quick
@given(SEEDS, NORMS, EPS)
def test_random_point_is_inside_ball_and_box(seed, norm, eps):
    x, _ = images(seed)
    point = random_point(x, eps, norm, Draws(("point", seed), torch.arange(4)))
    assert float(point.min()) >= 0.0
    assert float(point.max()) <= 1.0
    assert (size(point - x, norm) <= eps + tolerance(eps)).all()


def test_random_points_fill_the_l2_ball_evenly():
    x = torch.full((4000, 1, 2, 2), 0.5)
    point = random_point(x, 0.4, Norm.L2, Draws(("even",), torch.arange(4000)))
    share = (size(point - x, Norm.L2) / 0.4) ** 4  # uniform, for a ball in four dimensions
    counts = torch.histc(share, 8, 0.0, 1.0) / 4000
    assert torch.allclose(counts, torch.full((8,), 0.125), atol=0.027)


def test_sizes_by_hand():
    delta = torch.tensor([[[[3.0, -4.0]]], [[[0.0, 0.5]]]])
    assert size(delta, Norm.LINF).tolist() == [4.0, 0.5]
    assert size(delta, Norm.L2).tolist() == [5.0, 0.5]
