"""The ways back against closed forms, where the data are Gaussian and the score is known exactly."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import nn

from defenses.reverse import END, diffused, kept, rate, refuse_strides, restore
from harness.draws import Draws

BETAS = np.linspace(1e-4, 2e-2, 1000)  # Ho et al. 2020, section 4
KEPT = np.cumprod(1.0 - BETAS)

MEAN = torch.tensor([0.3, -0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.25, 0.12], [0.12, 0.16]], dtype=torch.float64)


class Gaussian(nn.Module):
    """The exact noise prediction of data N(MEAN, COVARIANCE), as images of 1 x 1 x 2 pixels.

    eps = sqrt(1 - abar) (abar S + (1 - abar) I)^-1 (x_t - sqrt(abar) m), by either clock.
    """

    def __init__(self, by_time):
        super().__init__()
        self.by_time = by_time
        self.states = []

    def share(self, step):
        if self.by_time:
            time = (float(step[0]) + 1.0) / 1000.0
            return math.exp(-(0.1 * time + 9.95 * time**2))
        return float(KEPT[int(step[0])])

    def forward(self, state, step):
        self.states.append(state)
        share = self.share(step)
        precision = torch.linalg.inv(share * COVARIANCE + (1 - share) * torch.eye(2, dtype=torch.float64))
        return math.sqrt(1 - share) * (state - math.sqrt(share) * MEAN) @ precision


def numbers(n, name="data"):
    return Draws((name,), torch.arange(n)).normal(1, 1, 2).double()


def draws(n):
    return Draws(("way",), torch.arange(n))


# ---------------------------------------------------------------------- the clocks


@pytest.mark.parametrize("time", [1e-5, 0.01, 0.1, 0.5, 1.0])
def test_what_is_kept_is_the_exponential_of_what_came_in(time):
    came, _ = integrate.quad(rate, 0.0, time)
    assert kept(time) == pytest.approx(math.exp(-came), rel=1e-12)


def test_the_rate_rises_linearly_from_a_tenth_to_twenty():
    assert [rate(time) for time in (0.0, 0.5, 1.0)] == pytest.approx([0.1, 10.05, 20.0])


@pytest.mark.parametrize("t_star", [1, 100, 1000])
@pytest.mark.parametrize(("sampler", "share"), [("ddpm", lambda t: KEPT[t - 1]), ("sde", lambda t: kept(t / 1000))])
def test_diffused_states_have_the_marginals_of_the_diffusion(t_star, sampler, share):
    image, noise = numbers(3), numbers(3, "noise")
    wanted = math.sqrt(share(t_star)) * image + math.sqrt(1 - share(t_star)) * noise
    assert torch.allclose(diffused(image, noise, t_star, sampler), wanted, atol=1e-6)


@pytest.mark.parametrize("t_star", [1, 100, 999])
def test_inputs_can_be_noised_to_the_step_above_and_by_the_discrete_schedule(t_star):
    image, noise = numbers(3), numbers(3, "noise")
    for found, share in (
        (diffused(image, noise, t_star, "ddpm", noised="above"), KEPT[t_star]),
        (diffused(image, noise, t_star, "sde", clock="floor"), KEPT[t_star - 1]),
    ):
        assert torch.allclose(found, math.sqrt(share) * image + math.sqrt(1 - share) * noise, atol=1e-6)


def test_the_two_clocks_agree_to_a_per_cent():
    assert [kept(t / 1000) for t in (50, 100, 200)] == pytest.approx([KEPT[t - 1] for t in (50, 100, 200)], rel=0.01)


@pytest.mark.parametrize(("t_star", "steps", "sampler"), [(100, 7, "ddpm"), (700, 1, "ddim")])
def test_only_steps_that_are_counted_have_to_fit(t_star, steps, sampler):
    assert refuse_strides(t_star, steps, sampler) is not None
    assert refuse_strides(t_star, steps, "sde") is None


@pytest.mark.parametrize("sampler", ["sde", "torchsde", "ode"])
def test_steps_by_time_are_longer_than_the_end_that_the_last_one_stops_at(sampler):
    assert "longer than 1e-05" in refuse_strides(1, 100, sampler)
    assert refuse_strides(1, 99, sampler) is None


def test_there_is_no_step_above_the_last():
    assert "noised: level" in refuse_strides(1000, 10, "ddim", "above")
    assert refuse_strides(1000, 10, "ddim") is refuse_strides(999, 999, "ddpm", "above") is None


# ---------------------------------------------------------------------- single steps


@pytest.mark.parametrize(("t_star", "stride"), [(100, 10), (1000, 50), (4, 2), (5, 1)])
def test_an_ancestral_step_has_the_posteriors_mean_and_variance(t_star, stride):
    """Ho et al. 2020, equation 7, of q(x_s | x_t, x_0) with s = t - stride, where x_0 is known exactly."""
    here, there = KEPT[t_star - 1], KEPT[t_star - stride - 1]
    alpha = here / there
    image = numbers(20_000) * 0 + 0.4

    class Point(nn.Module):
        def __init__(self):
            super().__init__()
            self.states = []

        def forward(self, state, step):
            self.states.append(state)
            share = KEPT[int(step[0])]
            return (state - math.sqrt(share) * 0.4) / math.sqrt(1 - share)

    net = Point()
    state = torch.full_like(image, 0.9)
    restore(state, net, draws(20_000), t_star=t_star, steps=t_star // stride, sampler="ddpm")
    found = net.states[1]
    mean = math.sqrt(there) * (1 - alpha) / (1 - here) * 0.4 + math.sqrt(alpha) * (1 - there) / (1 - here) * 0.9
    variance = (1 - there) / (1 - here) * (1 - alpha)
    assert float(found.mean()) == pytest.approx(mean, abs=5 * math.sqrt(variance / 40_000))
    assert float(found.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / 40_000))


@pytest.mark.parametrize(("sampler", "weight", "noisy"), [("sde", 1.0, 1.0), ("ode", 0.5, 0.0)])
def test_a_step_by_time_is_eulers_of_the_equation(sampler, weight, noisy):
    """dx = (-beta x / 2 - w beta score) dt + sqrt(beta) dW, back from 0.2 by half the way."""
    state, net = numbers(5, "state"), Gaussian(True)
    restore(state, net, draws(5), t_star=200, steps=2, sampler=sampler)
    length, beta, share = 0.1, 0.1 + 19.9 * 0.2, math.exp(-(0.1 * 0.2 + 9.95 * 0.2**2))
    marginal = share * COVARIANCE + (1 - share) * torch.eye(2, dtype=torch.float64)
    score = -(state - math.sqrt(share) * MEAN) @ torch.linalg.inv(marginal)
    noise = draws(5).at("reverse", 0).normal(1, 1, 2).double()
    wanted = state + length * beta * (state / 2 + weight * score) + noisy * math.sqrt(length * beta) * noise
    assert torch.allclose(net.states[1], wanted, rtol=1e-9, atol=1e-12)


class Told(nn.Module):
    """Finds no noise; keeps what it was told of the level."""

    def __init__(self):
        super().__init__()
        self.levels = []

    def forward(self, state, level):
        self.levels.append(float(level[0]))
        return torch.zeros_like(state)


@pytest.mark.parametrize("sampler", ["sde", "torchsde", "ode"])
def test_the_default_grid_of_the_authors_has_99_steps_of_a_thousandth_and_one_of_99_hundred_thousandths(sampler):
    """Walked here by a loop of its own; with no noise found a step is x + h beta x / 2, and the path's noise."""
    state, net = numbers(4, "state"), Told()
    found = restore(state, net, draws(4), t_star=100, steps=100, sampler=sampler, clock="floor")
    lengths = [0.001] * 99 + [0.00099]
    at, time = state, 0.1
    for step, length in enumerate(lengths):
        beta = 0.1 + 19.9 * time
        noise = draws(4).at("reverse", step).normal(1, 1, 2).double()
        at = at + length * beta * at / 2 + (sampler != "ode") * math.sqrt(beta * length) * noise
        time -= length
    assert time == pytest.approx(1e-5)
    assert torch.allclose(found, at, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sampler", ["sde", "torchsde", "ode"])
@pytest.mark.parametrize(
    ("t_star", "steps", "floor"),
    [(100, 100, range(100, 0, -1)), (75, 75, range(75, 0, -1)), (100, 8, [100, 87, 75, 62, 50, 37, 25, 12])],
)
def test_the_network_is_told_the_time_rounded_down_or_its_own_noise(sampler, t_star, steps, floor):
    for clock, wanted in (
        ("floor", list(floor)),
        ("exact", [t_star * (steps - step) / steps - 1 for step in range(steps)]),
    ):
        net = Told()
        restore(numbers(1), net, draws(1), t_star=t_star, steps=steps, sampler=sampler, clock=clock)
        assert net.levels[-steps:] == pytest.approx(wanted)  # the library asks for the first one twice


def test_no_network_is_told_a_step_that_there_is_not():
    net = Told()
    restore(numbers(1), net, draws(1), t_star=1000, steps=4, sampler="ode", clock="floor")
    assert net.levels == [999, 750, 500, 250]


class Far(nn.Module):
    """A prediction whose image is often beyond [-1, 1]."""

    def forward(self, state, step):
        return torch.sin(3.0 * state) - 0.4


def ancestral(state, t_star, stride, clamp, variance):
    """Ho et al. 2020, algorithm 2 in the form of equation 7, step by step; the last one has no noise."""
    for step in range(t_star - 1, -1, -stride):
        here, there = KEPT[step], KEPT[step - stride] if step >= stride else 1.0
        alpha = here / there
        image = (state - math.sqrt(1 - here) * Far()(state, step)) / math.sqrt(here)
        if clamp:
            image = image.clamp(-1, 1)
        mean = math.sqrt(there) * (1 - alpha) / (1 - here) * image + math.sqrt(alpha) * (1 - there) / (1 - here) * state
        spread = (1 - alpha) if variance == "beta" else (1 - there) / (1 - here) * (1 - alpha)
        noise = draws(len(state)).at("reverse", step).normal(1, 1, 2).double()
        state = mean + (step >= stride) * math.sqrt(spread) * noise
    return state


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("variance", ["posterior", "beta"])
@pytest.mark.parametrize(("t_star", "stride"), [(36, 1), (100, 20)])
def test_ancestral_steps_are_those_of_the_paper_with_or_without_a_clamp_and_by_either_variance(
    clamp, variance, t_star, stride
):
    state = 2 * numbers(50, "state")
    how = {"t_star": t_star, "steps": t_star // stride, "sampler": "ddpm"}
    found = restore(state, Far(), draws(50), **how, clamp=clamp, variance=variance)
    assert torch.allclose(found, ancestral(state, t_star, stride, clamp, variance), atol=1e-5)
    other = restore(state, Far(), draws(50), **how, clamp=not clamp, variance=variance)
    assert float((found - other).abs().max()) > 0.1
    narrow = restore(state, Far(), draws(50), **how, clamp=clamp, variance="posterior")
    assert (float((found - narrow).abs().max()) > 1e-3) is (variance == "beta")


@pytest.mark.parametrize("clamp", [True, False])
def test_deterministic_steps_are_taken_from_the_clamped_image_and_the_noise_that_was_found(clamp):
    """Song et al. 2021, equation 12 with eta = 0."""
    state = wanted = 2 * numbers(20, "state")
    found = restore(state, Far(), draws(20), t_star=40, steps=4, sampler="ddim", clamp=clamp)
    for step in (39, 29, 19, 9):
        here, there = KEPT[step], KEPT[step - 10] if step >= 10 else 1.0
        noise = Far()(wanted, step)
        image = (wanted - math.sqrt(1 - here) * noise) / math.sqrt(here)
        image = image.clamp(-1, 1) if clamp else image
        wanted = math.sqrt(there) * image + math.sqrt(1 - there) * noise
    assert torch.allclose(found, wanted, atol=1e-5)
    assert (float(found.abs().max()) > 1 + 1e-6) is not clamp


def test_by_the_larger_variance_a_shift_of_the_last_step_is_told_the_posteriors_of_the_one_before():
    """As fixed large has it: its list of variances begins with the posterior's second."""
    told = []

    def shift(state, step, share, variance):
        told.append(variance)
        return torch.zeros_like(state)

    restore(numbers(2), Far(), draws(2), t_star=3, steps=3, sampler="ddpm", variance="beta", shift=shift)
    assert told == pytest.approx([BETAS[2], BETAS[1], (1 - KEPT[0]) / (1 - KEPT[1]) * BETAS[1]], rel=1e-3)


def test_a_shift_is_added_to_the_mean_of_a_step_and_told_its_variance():
    told = []

    def shift(state, step, share, variance):
        told.append((step, variance))
        assert share == pytest.approx(KEPT[step], rel=1e-5)
        return torch.full_like(state, 0.25)

    state, plain, moved = numbers(4, "state"), Gaussian(False), Gaussian(False)
    restore(state, plain, draws(4), t_star=20, steps=2, sampler="ddpm")
    restore(state, moved, draws(4), t_star=20, steps=2, sampler="ddpm", shift=shift)
    assert torch.allclose(moved.states[1], plain.states[1] + 0.25)
    variance = (1 - KEPT[9]) / (1 - KEPT[19]) * (1 - KEPT[19] / KEPT[9])
    assert [step for step, _ in told] == [19, 9]
    assert told[0][1] == pytest.approx(variance, rel=1e-4)
    assert told[1][1] == pytest.approx(0.0, abs=1e-9)


def test_a_shift_needs_steps_that_have_a_variance():
    with pytest.raises(ValueError, match="expected the sampler ddpm with a shift"):
        restore(numbers(1), Gaussian(False), draws(1), t_star=10, steps=1, sampler="ddim", shift=lambda *_: 0.0)


# ---------------------------------------------------------------------- whole paths


def flow(state, share):
    """The exact end of the probability flow: the whitened state, coloured like the data."""
    before = share * COVARIANCE + (1 - share) * torch.eye(2, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(COVARIANCE)  # the same vectors as before's
    gain = (values / torch.diagonal(vectors.T @ before @ vectors)).sqrt()
    return MEAN + ((state - math.sqrt(share) * MEAN) @ vectors * gain) @ vectors.T


def test_the_flow_ends_where_it_has_to():
    state = numbers(50, "state")
    found = restore(state, Gaussian(True), draws(50), t_star=300, steps=3000, sampler="ode")
    assert torch.allclose(found, flow(state, kept(0.3)), atol=2e-3)


def test_ddim_is_the_flow_at_small_steps():
    state = numbers(50, "state")
    exact = flow(state, float(KEPT[299]))
    apart = [
        float((restore(state, Gaussian(False), draws(50), t_star=300, steps=n, sampler="ddim") - exact).abs().max())
        for n in (3, 30, 300)
    ]
    assert apart[2] < 1e-2
    assert apart[0] > 5 * apart[1] > 5 * apart[2]


def test_ddim_and_the_flow_by_time_agree_to_what_their_clocks_differ_by():
    state = numbers(50, "state")
    one = restore(state, Gaussian(False), draws(50), t_star=200, steps=200, sampler="ddim")
    other = restore(state, Gaussian(True), draws(50), t_star=200, steps=2000, sampler="ode")
    assert torch.allclose(one, other, atol=1e-2)


def test_the_library_and_our_own_loop_walk_the_same_path():
    state = numbers(10, "state")
    for steps in (7, 100):
        own = restore(state, Gaussian(True), draws(10), t_star=100, steps=steps, sampler="sde")
        theirs = restore(state, Gaussian(True), draws(10), t_star=100, steps=steps, sampler="torchsde")
        assert torch.allclose(own, theirs, atol=1e-9)
        told = [
            restore(state, Far(), draws(10), t_star=100, steps=steps, sampler=sampler, clock="floor")
            for sampler in ("sde", "torchsde")
        ]
        assert torch.allclose(*told, atol=1e-9)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "sde", "ode"])
def test_states_on_the_way_have_the_marginals_of_their_levels(sampler):
    """From diffused data: N(sqrt(abar) m, abar S + (1 - abar) I) at every level; errors as below."""
    n = 20_000
    net = Gaussian(sampler not in ("ddpm", "ddim"))
    data = MEAN + numbers(n) @ torch.linalg.cholesky(COVARIANCE).T
    state = diffused(data, numbers(n, "noise"), 500, sampler)
    restore(state, net, draws(n), t_star=500, steps=500, sampler=sampler)
    for step in (0, 125, 250, 375, 490):
        time = 0.5 - step * 0.5 / 500
        share = kept(time) if net.by_time else float(KEPT[499 - step])
        found, wanted = net.states[step].reshape(n, 2), share * COVARIANCE + (1 - share) * torch.eye(2).double()
        variances = torch.diagonal(wanted)
        error = 5 * (variances / n).sqrt() + 0.015 * variances.sqrt()
        assert bool(((found.mean(0) - math.sqrt(share) * MEAN).abs() < error).all())
        spread = ((variances[:, None] * variances + wanted**2) / n).sqrt()
        assert bool(((found.T.cov() - wanted).abs() < 5 * spread + 0.015 * variances.max()).all())


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "sde", "torchsde", "ode"])
def test_the_data_come_back_from_pure_noise(sampler):
    """Mean and covariance within five standard errors of 20,000 samples, and 1.5 % for the finite steps."""
    n = 20_000
    steps = 1000 if sampler in ("sde", "torchsde", "ode") else 500
    net = Gaussian(sampler not in ("ddpm", "ddim"))
    found = restore(numbers(n, "noise"), net, draws(n), t_star=1000, steps=steps, sampler=sampler).reshape(n, 2)
    variances = torch.diagonal(COVARIANCE)
    error = 5 * (variances / n).sqrt() + 0.015 * variances.sqrt()
    assert bool(((found.mean(0) - MEAN).abs() < error).all())
    spread = ((variances[:, None] * variances + COVARIANCE**2) / n).sqrt()
    assert bool(((found.T.cov() - COVARIANCE).abs() < 5 * spread + 0.015 * variances.max()).all())


def test_the_exact_guide_of_a_linear_classifier_shifts_the_mean_by_the_covariance_times_its_weights():
    """Data tilted by exp(w x_0) are N(m + S w, S); the tilt's score at x_t is known too."""
    n, weights = 20_000, torch.tensor([0.8, -0.6], dtype=torch.float64)

    def guide(state, share, predicted):
        marginal = share * COVARIANCE + (1 - share) * torch.eye(2, dtype=torch.float64)
        score = math.sqrt(share) * torch.linalg.solve(marginal, COVARIANCE @ weights)
        return predicted - math.sqrt(1 - share) * score

    found = restore(
        numbers(n, "noise"), Gaussian(False), draws(n), t_star=1000, steps=500, sampler="ddpm", guide=guide
    ).reshape(n, 2)
    wanted = MEAN + COVARIANCE @ weights
    assert float((found.mean(0) - wanted).abs().max()) < 5 * math.sqrt(0.25 / n) + 0.01
    assert float((wanted - MEAN).abs().max()) > 0.1  # far more than the tolerance


def test_a_constant_guide_shifts_the_mean_as_the_equation_says():
    """With the score s(x) + w, the mean obeys a linear equation of its own, solved here by scipy."""
    n, weights = 20_000, np.array([0.8, -0.6])

    def guide(state, share, predicted):
        return predicted - math.sqrt(1 - share) * torch.from_numpy(weights)

    start = torch.tensor([0.2, 0.1], dtype=torch.float64).expand(n, 1, 1, 2)
    found = restore(start, Gaussian(True), draws(n), t_star=100, steps=1000, sampler="sde", guide=guide)

    def moves(left, mean):
        time = 0.1 - left
        share = kept(time)
        marginal = share * COVARIANCE.numpy() + (1 - share) * np.eye(2)
        score = -np.linalg.solve(marginal, mean - math.sqrt(share) * MEAN.numpy()) + weights
        return rate(time) * (0.5 * mean + score)

    wanted = integrate.solve_ivp(moves, (0.0, 0.1 - END), start[0, 0, 0].numpy(), rtol=1e-8, atol=1e-10).y[:, -1]
    assert found.reshape(n, 2).mean(0).numpy() == pytest.approx(wanted, abs=5 * math.sqrt(0.11 / n) + 2e-3)


# ---------------------------------------------------------------------- gradients


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "sde", "torchsde", "ode"])
def test_gradients_agree_with_finite_differences(sampler):
    class Bent(nn.Module):
        """Not linear, so that a wrong place of evaluation would show."""

        def forward(self, state, level):
            return torch.tanh(1.3 * state) * (1.0 + 1e-3 * level.to(state.dtype).reshape(-1, 1, 1, 1))

    state = numbers(2, "state").requires_grad_(True)

    def of(at):
        return restore(at, Bent(), draws(2), t_star=50, steps=5, sampler=sampler)

    assert torch.autograd.gradcheck(of, (state,), eps=1e-6, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_a_clamp_has_the_gradient_of_finite_differences(sampler):
    """Where it holds none passes through the prediction, and the state's own part remains."""
    state = (2 * numbers(3, "state")).requires_grad_(True)

    def of(at):
        return restore(at, Far(), draws(3), t_star=40, steps=4, sampler=sampler, clamp=True, variance="beta")

    assert torch.autograd.gradcheck(of, (state,), eps=1e-6, atol=1e-6, rtol=1e-4)
