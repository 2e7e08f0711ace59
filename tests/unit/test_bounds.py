"""Balls, boxes and directions: what every attack, defense and the judge stand on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from harness import bounds
from harness.core.threat import BALLS, Norm
from harness.draws import Draws

norms = pytest.mark.parametrize("norm", BALLS)
seeds = st.integers(0, 10_000)
radii = st.floats(1e-3, 3.0)


def images(seed, n=3):
    draws = Draws(("images", seed), torch.arange(n))
    return bounds.clip(1.4 * draws.uniform(2, 4, 4) - 0.2)  # some pixels at the ends


def anywhere(seed, n=3):
    return 2.0 * Draws(("anywhere", seed), torch.arange(n)).normal(2, 4, 4)


@norms
@given(seed=seeds, eps=radii)
def test_a_projection_is_in_the_ball_and_in_range(norm, seed, eps):
    x = images(seed)
    found = bounds.project(anywhere(seed), x, eps, norm)
    assert bool((bounds.size(found - x, norm) <= eps + bounds.tolerance(eps)).all())
    assert float(found.min()) >= 0.0
    assert float(found.max()) <= 1.0


@norms
@given(seed=seeds, eps=radii)
def test_projecting_twice_changes_nothing_more(norm, seed, eps):
    x = images(seed)
    once = bounds.project(anywhere(seed), x, eps, norm)
    assert torch.allclose(bounds.project(once, x, eps, norm), once, atol=1e-6)


@norms
@given(seed=seeds, eps=radii)
def test_points_inside_are_left_where_they_are(norm, seed, eps):
    x = images(seed)
    inside = bounds.random_point(x, 0.9 * eps, norm, Draws(("inside", seed), torch.arange(3)))
    assert torch.allclose(bounds.project(inside, x, eps, norm), inside, atol=1e-6)


@given(seed=seeds, eps=radii)
def test_the_linf_projection_is_the_nearest_point_of_ball_and_box(seed, eps):
    x, wild = images(seed), anywhere(seed)
    nearest = wild.clamp((x - eps).clamp_min(0.0), (x + eps).clamp_max(1.0))
    assert torch.allclose(bounds.project(wild, x, eps, Norm.LINF), nearest, atol=1e-6)


@given(seed=seeds, eps=st.floats(1e-3, 0.1))
def test_the_l2_projection_keeps_the_direction_away_from_the_box(seed, eps):
    x = 0.4 + 0.2 * images(seed)
    delta = 0.3 * anywhere(seed)
    found = bounds.project(x + delta, x, eps, Norm.L2) - x
    expected = eps * delta / delta.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    outside = delta.flatten(1).norm(dim=1) > eps
    assert torch.allclose(found[outside], expected[outside], atol=1e-5)


def test_the_image_itself_is_projected_onto_itself():
    x = images(0)
    for norm in BALLS:
        assert torch.equal(bounds.project(x.clone(), x, 0.1, norm), x)


@norms
@given(seed=seeds)
def test_no_direction_of_unit_size_rises_faster_than_the_steepest(norm, seed):
    gradient = anywhere(seed)
    best = bounds.steepest(gradient, norm)
    assert torch.allclose(bounds.size(best, norm), torch.ones(3), atol=1e-5)
    rise = (gradient * best).flatten(1).sum(1)
    for other in range(5):
        direction = Draws(("direction", seed, other), torch.arange(3)).normal(2, 4, 4)
        direction = direction / bounds.size(direction, norm).reshape(-1, 1, 1, 1)
        assert bool(((gradient * direction).flatten(1).sum(1) <= rise + 1e-4).all())
    flat = gradient.flatten(1)
    dual = {Norm.LINF: flat.abs().sum(1), Norm.L2: flat.norm(dim=1), Norm.L1: flat.abs().amax(1)}[norm]
    assert torch.allclose(rise, dual, rtol=1e-5)


@norms
def test_a_gradient_of_zero_has_no_direction(norm):
    assert not bounds.steepest(torch.zeros(2, 1, 3, 3), norm).any()


@norms
@given(seed=seeds, eps=radii)
def test_a_random_point_is_in_the_ball_and_in_range(norm, seed, eps):
    x = images(seed)
    point = bounds.random_point(x, eps, norm, Draws(("start", seed), torch.arange(3)))
    assert bool((bounds.size(point - x, norm) <= eps + bounds.tolerance(eps)).all())
    assert float(point.min()) >= 0.0
    assert float(point.max()) <= 1.0
    assert point.dtype == x.dtype


@norms
def test_random_points_fill_the_ball_evenly(norm):
    x = torch.full((4000, 1, 1, 2), 0.5)
    delta = bounds.random_point(x, 0.3, norm, Draws(("fill",), torch.arange(4000))) - x
    share = float((bounds.size(delta, norm) < 0.15).float().mean())
    assert abs(share - 0.25) < 0.03  # half the radius in two dimensions: a quarter of the points
    assert float(delta.mean((0, 1, 2)).abs().max()) < 0.01


def test_the_l1_projection_is_the_nearest_point_of_ball_and_box():
    """By what tells a nearest point of a convex set: from it, no point of the set lies on the side of what is wanted.

    With f the point found, w what is wanted and z any point of the set, (f - w) (z - f) is nowhere below zero; by how
    much it is bounds the square of f's distance to the nearest point. A solver of linear programmes finds the worst z,
    a perturbation as the difference of two that are not negative.
    """
    for seed in range(25):
        x, wild, eps = images(seed, 1).double(), anywhere(seed, 1).double(), 0.2 + 0.3 * (seed % 7)
        found = (bounds.project(wild, x, eps, Norm.L1) - x).flatten().numpy()
        start, away = x.flatten().numpy(), found - (wild - x).flatten().numpy()
        room = np.concatenate([1 - start, start])
        worst = linprog(np.concatenate([away, -away]), np.ones((1, len(room))), [eps], bounds=[(0, r) for r in room])
        assert np.abs(found).sum() <= eps + 1e-6
        assert float(away @ found) - worst.fun < 1e-4**2


@given(seed=seeds, eps=radii)
def test_the_l1_projection_uses_the_budget_where_there_is_room(seed, eps):
    x, wild = images(seed), anywhere(seed)
    found = bounds.project(wild, x, eps, Norm.L1) - x
    reach = bounds.size(bounds.clip(wild) - x, Norm.L1)  # what the range alone leaves
    assert torch.allclose(bounds.size(found, Norm.L1), reach.clamp_max(eps), atol=1e-5)


@given(seed=seeds, length=st.floats(1e-3, 5.0))
def test_no_l1_step_within_the_range_rises_further(seed, length):
    """Against a solver of linear programmes."""
    x, gradient = images(seed, 1), anywhere(seed, 1)
    moved = bounds.step(x, gradient, length, Norm.L1)
    assert float(bounds.size(moved - x, Norm.L1)) <= length + bounds.tolerance(length)
    assert 0.0 <= float(moved.min()) <= float(moved.max()) <= 1.0 + 1e-6
    start, slope = x.flatten().double().numpy(), gradient.flatten().double().numpy()
    room = np.concatenate([1 - start, start])
    best = linprog(np.concatenate([-slope, slope]), np.ones((1, len(room))), [length], bounds=[(0, r) for r in room])
    assert float((gradient * (moved - x)).sum()) == pytest.approx(-best.fun, rel=1e-4, abs=1e-6)


def test_an_l1_step_is_sparse():
    x, gradient = torch.full((1, 1, 1, 4), 0.4), torch.tensor([[[[1.0, -3.0, 0.0, 2.0]]]])
    assert bounds.step(x, gradient, 0.3, Norm.L1).flatten().tolist() == pytest.approx([0.4, 0.1, 0.4, 0.4])
    assert bounds.step(x, gradient, 0.7, Norm.L1).flatten().tolist() == pytest.approx([0.4, 0.0, 0.4, 0.7])
    assert bounds.step(x, gradient, 9.0, Norm.L1).flatten().tolist() == pytest.approx([1.0, 0.0, 0.4, 1.0])


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
def test_other_steps_are_the_direction_times_the_length(norm):
    x, gradient = images(1), anywhere(1)
    assert torch.equal(bounds.step(x, gradient, 0.3, norm), x + 0.3 * bounds.steepest(gradient, norm))


def test_what_is_no_ball_is_refused():
    x, draws = images(0), Draws(("none",), torch.arange(3))
    for ask in (
        lambda: bounds.size(x, "corruption"),
        lambda: bounds.project(x, x, 0.1, "flow"),
        lambda: bounds.steepest(x, "flow"),
        lambda: bounds.step(x, x, 0.1, "flow"),
        lambda: bounds.random_point(x, 0.1, "flow", draws),
    ):
        with pytest.raises(ValueError, match=r"expected a budget in one of the norms Linf, L2, L1, got (flow|corr)"):
            ask()


def test_sizes_are_those_of_the_definition():
    delta = torch.tensor([[[[3.0, -4.0]]], [[[0.0, 0.5]]]])
    assert bounds.size(delta, Norm.L1).tolist() == [7.0, 0.5]
    assert bounds.size(delta, Norm.LINF).tolist() == [4.0, 0.5]
    assert bounds.size(delta, Norm.L2).tolist() == [5.0, 0.5]


def test_clipping_lets_the_gradient_pass_at_the_ends_and_not_beyond():
    x = torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5], requires_grad=True)
    clipped = bounds.clip(x)
    assert clipped.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0] == bounds.clip(x.detach()).tolist()
    (gradient,) = torch.autograd.grad(clipped.sum(), x)
    assert gradient.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
