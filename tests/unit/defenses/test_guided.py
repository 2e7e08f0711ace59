"""Guided ways back: what pulls, how far, and that an attacker's gradient goes through it."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import integrate
from torch import nn

from defenses.coup import COUP, confidence
from defenses.gdmp import C1, C2, GDMP, similarity
from defenses.guidance import gradient
from defenses.reverse import END, kept, rate
from harness.draws import Draws

KEPT = np.cumprod(1.0 - np.linspace(1e-4, 2e-2, 1000))


def draws(n):
    return Draws(("guided",), torch.arange(n))


def images(n, *shape):
    return (0.2 + 0.6 * draws(n).at("x").uniform(*shape)).double()


class Bent(nn.Module):
    """A noise prediction that is not linear in the state."""

    def forward(self, state, level):
        return torch.tanh(1.3 * state) * (1.0 + 1e-3 * level.to(state.dtype).reshape(-1, 1, 1, 1))


class Still(nn.Module):
    """Says that there is no noise; keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.states = []

    def forward(self, state, level):
        self.states.append(state)
        return torch.zeros_like(state)


class Judge(nn.Module):
    """A classifier of three classes, smooth and not linear."""

    def forward(self, x):
        flat = x.flatten(1)
        return torch.stack([flat.sum(1), (flat**2).sum(1), 1.5 - flat.prod(1)], 1)


# ---------------------------------------------------------------------- the gradient itself


def test_a_guidance_gradient_is_the_same_with_gradients_on_or_off():
    at = images(3, 1, 2, 2)
    with torch.no_grad():
        off = gradient(lambda x: (x**3).flatten(1).sum(1), at, "attached")
    on = gradient(lambda x: (x**3).flatten(1).sum(1), at.clone().requires_grad_(True), "attached")
    assert torch.allclose(off, 3 * at**2)
    assert torch.equal(off, on)
    assert not off.requires_grad


@pytest.mark.parametrize(("path", "second"), [("attached", True), ("detached", False)])
def test_only_an_attached_guidance_has_a_derivative(path, second):
    at = images(3, 1, 2, 2).requires_grad_(True)
    found = gradient(lambda x: (x**3).flatten(1).sum(1), at * 1.0, path)
    assert found.requires_grad == second
    if second:
        (again,) = torch.autograd.grad(found.sum(), at)
        assert torch.allclose(again, 6 * at)


# ---------------------------------------------------------------------- GDMP


#: how GDMP's steps are worked out where a test does so by hand: without a clamp, by the posterior, each image alone
PLAIN = {"unet": "tiny", "clamp": False, "variance": "posterior", "noised": "level", "guide_batch": 1, "votes": 1}


def test_by_default_it_is_the_authors_for_cifar10():
    options = GDMP.Options(unet="tiny")
    assert (options.t_star, options.steps, options.rounds, options.votes) == (36, 36, 4, 10)
    assert (options.guide, options.guide_scale, options.guide_batch) == ("mse", 60_000, 100)
    assert (options.clamp, options.variance, options.noised) == (True, "beta", "above")
    assert GDMP.Options(unet="tiny", guide="ssim").guide_scale == 70_000
    assert GDMP.Options(unet="tiny", guide="ssim", guide_scale=1000).guide_scale == 1000
    assert GDMP(options).traits.votes == 10


def reference(x, number, n, scale, batch, rounds):
    """The authors' way through all rounds, for a network that is ``Bent``, written from the formulas of their code.

    Fixed large: its list of log-variances begins with the posterior's second. The guide is a mean over a batch.
    """
    betas = np.linspace(1e-4, 2e-2, 1000)
    before = np.append(1.0, KEPT[:-1])
    posterior = betas * (1 - before) / (1 - KEPT)
    large = np.append(posterior[1], betas[1:])
    given = image = 2 * x - 1
    for at in range(rounds):
        here = draws(number).at("round", at)
        state = math.sqrt(KEPT[n]) * image + math.sqrt(1 - KEPT[n]) * here.at("forward").normal(*x.shape[1:]).double()
        for step in range(n - 1, -1, -1):
            found = Bent()(state, torch.full((number,), step))
            clean = (state / math.sqrt(KEPT[step]) - math.sqrt(1 / KEPT[step] - 1) * found).clamp(-1, 1)
            first = betas[step] * math.sqrt(before[step]) / (1 - KEPT[step])
            second = (1 - before[step]) * math.sqrt(1 - betas[step]) / (1 - KEPT[step])
            noise = here.at("guide", step).normal(*x.shape[1:]).double()
            target = math.sqrt(KEPT[step]) * given + math.sqrt(1 - KEPT[step]) * noise
            pull = -2 * (state - target) / (batch * x[0].numel())
            strength = math.sqrt(1 - KEPT[step]) / (8 * 2 / 255 / 3 / scale * math.sqrt(KEPT[step]))
            mean = first * clean + second * state + large[step] * strength * pull
            spread = math.sqrt(large[step]) if step else 0.0
            state = mean + spread * here.at("reverse", step).normal(*x.shape[1:]).double()
        image = state
    return ((image + 1) / 2).clamp(0, 1)


def test_by_default_it_goes_the_authors_way():
    """Both sides in double precision; the schedule that steps are taken by has float32."""
    x = images(3, 3, 4, 4)
    found = GDMP(GDMP.Options(unet="tiny", rounds=2)).purify(x, {"unet": Bent()}, draws(3))
    assert torch.allclose(found, reference(x, 3, 36, 60_000, 100, 2), atol=1e-4)
    assert float((found - reference(x, 3, 36, 600, 100, 2)).abs().max()) > 1e-2  # of a weaker guide


@pytest.mark.parametrize("guide", ["mse", "ssim"])
def test_the_guide_is_a_mean_over_the_batch_that_it_was_tuned_in(guide):
    """Theirs is over 100 images; the pull on one of them is a hundredth of the gradient of its own mean."""
    state, target = images(100, 1, 4, 4), images(100, 1, 4, 4).flip(0)
    found = GDMP(GDMP.Options(unet="tiny", guide=guide)).pull(state, target)
    at = state.clone().requires_grad_(True)
    value = -((at - target) ** 2).mean() if guide == "mse" else similarity(at, target).mean()
    (wanted,) = torch.autograd.grad(value, at)
    assert torch.allclose(found, wanted)


@pytest.mark.parametrize(("batch", "survives"), [(100, 0.974), (1, 0.062)])
def test_most_of_the_state_survives_a_round_as_the_authors_have_it(batch, survives):
    """At 60,000 on 3 x 32 x 32: the product over a round's steps of what the pull leaves of the distance."""
    defense = GDMP(GDMP.Options(unet="tiny", guide_batch=batch))
    left = 1.0
    one = torch.ones(1, 3, 32, 32, dtype=torch.float64)
    for step in range(35, -1, -1):
        variance = 1 - KEPT[step] / KEPT[step - 1] if step else (1 - KEPT[0]) / (1 - KEPT[1]) * (1 - KEPT[1] / KEPT[0])
        left *= 1 + variance * defense.strength(KEPT[step]) * float(defense.pull(one, 0 * one)[0, 0, 0, 0])
    assert left == pytest.approx(survives, abs=1e-3)


def test_the_last_step_is_guided_where_its_variance_is_the_larger_one():
    x = images(2, 1, 3, 3)
    for variance, guided in (("beta", True), ("posterior", False)):
        ends = [
            GDMP(
                GDMP.Options(**(PLAIN | {"variance": variance, "t_star": 1, "steps": 1, "rounds": 1}), guide_scale=one)
            ).purify(x, {"unet": Bent()}, draws(2))
            for one in (0, 20_000)
        ]
        assert torch.equal(*ends) is not guided


def test_the_squared_error_pulls_each_step_by_its_variance_and_strength():
    """Worked out from the paper's formula, with a network that finds no noise."""
    x, net = images(4, 1, 3, 3), Still()
    options = GDMP.Options(**PLAIN, t_star=20, steps=2, rounds=1, guide_scale=500.0, eps=0.2)
    GDMP(options).purify(x, {"unet": net}, draws(4))
    here, there = KEPT[19], KEPT[9]
    variance = (1 - there) / (1 - here) * (1 - here / there)
    strength = math.sqrt(1 - here) / (2 * 0.2 / 3 / 500.0 * math.sqrt(here))
    first = net.states[0]
    noised = draws(4).at("round", 0).at("guide", 19).normal(1, 3, 3).double()
    target = math.sqrt(here) * (2 * x - 1) + math.sqrt(1 - here) * noised
    pulled = variance * strength * -2 * (first - target) / 9
    image = first / math.sqrt(here)
    mean = math.sqrt(there) * image + math.sqrt(1 - there - variance) * 0.0
    noise = draws(4).at("round", 0).at("reverse", 19).normal(1, 3, 3).double()
    assert torch.allclose(net.states[1], mean + math.sqrt(variance) * noise + pulled, atol=1e-6)
    assert float(pulled.abs().max()) > 1e-3


def test_the_pull_of_the_squared_error_is_its_gradient():
    state, target = images(2, 3, 4, 4), images(2, 3, 4, 4).flip(0)
    found = GDMP(GDMP.Options(unet="tiny", guide_batch=1)).pull(state, target)
    wanted = gradient(lambda at: -((at - target) ** 2).flatten(1).mean(1), state, "detached")
    assert torch.allclose(found, wanted)


def test_the_similarity_is_what_a_loop_over_windows_gives():
    one, other = images(1, 1, 13, 12), images(1, 1, 12, 13).transpose(2, 3) * 0.9
    padded = [np.pad(image[0, 0].numpy(), 5) for image in (one, other)]
    places = np.arange(11) - 5
    window = np.exp(-(places[:, None] ** 2 + places[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for row in range(13):
        for column in range(12):
            a, b = (image[row : row + 11, column : column + 11] for image in padded)
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * a**2).sum() - mean_a**2, (window * b**2).sum() - mean_b**2
            joint = (window * a * b).sum() - mean_a * mean_b
            top = (2 * mean_a * mean_b + C1) * (2 * joint + C2)
            values.append(top / ((mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2)))
    assert float(similarity(one, other)) == pytest.approx(np.mean(values), rel=1e-9)
    assert float(similarity(one, one)) == pytest.approx(1.0)


def test_all_rounds_are_pulled_towards_the_input():
    x, net = images(8, 1, 4, 4), Still()
    strong = GDMP(GDMP.Options(**PLAIN, t_star=20, steps=20, rounds=3, guide_scale=3000.0, eps=0.2))
    weak = GDMP(GDMP.Options(**PLAIN, t_star=20, steps=20, rounds=3, guide_scale=0.0, eps=0.2))
    near, far = (one.purify(x, {"unet": net}, draws(8)) for one in (strong, weak))
    assert float((near - x).abs().mean()) < 0.7 * float((far - x).abs().mean())


def test_the_pull_moves_mean_and_covariance_as_worked_out():
    """Of Gaussian data with the exact noise prediction every step is affine, so both moments are carried along here."""
    n, mean, identity = 20_000, np.array([0.25, -0.2]), np.eye(2)
    covariance = np.array([[0.03, 0.012], [0.012, 0.02]])
    given = np.array([-0.15, 0.1])

    class Exact(nn.Module):
        def forward(self, state, level):
            share = float(KEPT[int(level[0])])
            precision = torch.from_numpy(np.linalg.inv(share * covariance + (1 - share) * identity))
            return math.sqrt(1 - share) * (state - math.sqrt(share) * torch.from_numpy(mean)) @ precision

    def moments(scale):
        at, spread = given, 0 * identity
        for _ in range(2):
            here = KEPT[59]
            at, spread = math.sqrt(here) * at, here * spread + (1 - here) * identity
            for step in range(59, -1, -4):
                here, there = KEPT[step], KEPT[step - 4] if step >= 4 else 1.0
                alpha, precision = here / there, np.linalg.inv(here * covariance + (1 - here) * identity)
                variance = (1 - there) / (1 - here) * (1 - alpha)
                strength = math.sqrt(1 - here) / (2 * 0.1 / 3 / scale * math.sqrt(here)) if scale else 0.0
                pulled = 2 * variance * strength / 2  # of a mean over two pixels
                by_image = math.sqrt(there) * (1 - alpha) / (1 - here)
                by_state = math.sqrt(alpha) * (1 - there) / (1 - here)
                gain = by_image * (identity - (1 - here) * precision) / math.sqrt(here) + (by_state - pulled) * identity
                added = by_image * (1 - here) * precision @ mean + pulled * math.sqrt(here) * given
                at = gain @ at + added
                spread = gain @ spread @ gain.T + (variance + pulled**2 * (1 - here)) * identity
        return at, spread

    x = torch.from_numpy((given + 1) / 2).expand(n, 1, 1, 2)
    options = GDMP.Options(**PLAIN, t_star=60, steps=15, rounds=2, guide_scale=8.0, eps=0.1)
    found = 2 * GDMP(options).purify(x, {"unet": Exact()}, draws(n)).reshape(n, 2).numpy() - 1
    at, spread = moments(8.0)
    variances = np.diagonal(spread)
    assert (abs(found.mean(0) - at) < 5 * np.sqrt(variances / n) + 1e-4).all()
    error = np.sqrt((np.outer(variances, variances) + spread**2) / n)
    assert (abs(np.cov(found.T) - spread) < 5 * error + 1e-5).all()
    unguided, wider = moments(0.0)
    assert (abs(at - unguided) > 0.02).all()
    assert (variances < 0.8 * np.diagonal(wider)).all()


@pytest.mark.parametrize("guide", ["mse", "ssim"])
def test_gdmp_has_the_gradient_of_finite_differences(guide):
    options = GDMP.Options(unet="tiny", t_star=6, steps=3, rounds=2, guide=guide, guide_scale=40_000.0, eps=0.2)
    x = images(2, 1, 2, 3).requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda at: GDMP(options).purify(at, {"unet": Bent()}, draws(2)), (x,), eps=1e-6, atol=1e-7, rtol=1e-5
    )


def test_a_detached_guidance_hides_a_part_of_the_gradient():
    x = images(2, 1, 2, 3).requires_grad_(True)
    found = []
    for path in ("attached", "detached"):
        options = GDMP.Options(unet="tiny", t_star=60, steps=6, rounds=1, guide_scale=40_000.0, eps=0.2, path=path)
        purified = GDMP(options).purify(x, {"unet": Bent()}, draws(2))
        found.append((purified.detach(), torch.autograd.grad(purified.sum(), x)[0]))
    assert torch.equal(found[0][0], found[1][0])
    assert float((found[0][1] - found[1][1]).abs().max()) > 0.01


# ---------------------------------------------------------------------- COUP


def test_confidence_is_the_log_of_the_largest_probability():
    state = 2 * images(3, 1, 2, 2) - 1
    wanted = Judge()((state + 1) / 2).softmax(1).max(1).values.log()
    assert torch.allclose(confidence(Judge(), state), wanted)


def test_coup_without_a_guide_starts_at_the_input_and_adds_no_noise_before():
    net = Still()
    x = images(3, 1, 2, 2)
    COUP(COUP.Options(unet="tiny", guide="cnn", weight=0, t_star=10, steps=1)).purify(x, {"unet": net}, draws(3))
    assert torch.allclose(net.states[0], 2 * x - 1)
    noisy = COUP(COUP.Options(unet="tiny", guide="cnn", weight=0, t_star=10, steps=1, forward_noise=True))
    noisy.purify(x, {"unet": net}, draws(3))
    assert float((net.states[1] - math.sqrt(kept(0.01)) * (2 * x - 1)).abs().min()) > 0


def test_a_linear_classifier_shifts_the_mean_as_the_equation_says():
    """Two classes with p = exp(a + w x), 1 - p: the log of the larger is linear, so the mean's equation is known."""
    n, weights, offset = 20_000, np.array([0.6, -0.5]), -0.25
    mean, variance = np.array([0.1, -0.1]), 0.04

    class Linear(nn.Module):
        def forward(self, pixels):
            value = offset + (2 * pixels.flatten(1) - 1) @ torch.from_numpy(weights) * 0.25
            value = value.clamp(-0.6, -0.02)
            return torch.stack([value, torch.log1p(-value.exp())], 1)

    class Exact(nn.Module):
        def forward(self, state, level):
            share = kept((float(level[0]) + 1) / 1000)
            spread = share * variance + 1 - share
            return math.sqrt(1 - share) * (state - math.sqrt(share) * torch.from_numpy(mean)) / spread

    x = torch.from_numpy((np.array([0.15, 0.0]) + 1) / 2).expand(n, 1, 1, 2)
    nets = {"unet": Exact(), "guide": Linear()}
    found = 2 * COUP(COUP.Options(unet="u", guide="g", weight=8.0, t_star=50, steps=200)).purify(x, nets, draws(n)) - 1

    def moves(left, at):
        time = 0.05 - left
        share = kept(time)
        score = -(at - math.sqrt(share) * mean) / (share * variance + 1 - share) + 8.0 * 0.25 * weights
        return rate(time) * (0.5 * at + score)

    wanted = integrate.solve_ivp(moves, (0.0, 0.05 - END), np.array([0.15, 0.0]), rtol=1e-8, atol=1e-10).y[:, -1]
    unguided = integrate.solve_ivp(
        lambda left, at: moves(left, at) - rate(0.05 - left) * 2.0 * weights, (0.0, 0.05 - END), [0.15, 0.0]
    ).y[:, -1]
    reached = found.reshape(n, 2).mean(0).numpy()
    assert reached == pytest.approx(wanted, abs=5 * math.sqrt(0.03 / n) + 1e-3)
    assert abs(wanted - unguided).min() > 0.02


@pytest.mark.parametrize("sampler", ["sde", "ddim"])
def test_coup_has_the_gradient_of_finite_differences(sampler):
    options = COUP.Options(unet="tiny", guide="cnn", t_star=20, steps=4, weight=1.5, sampler=sampler)
    x = images(2, 1, 2, 2).requires_grad_(True)
    nets = {"unet": Bent(), "guide": Judge()}
    assert torch.autograd.gradcheck(
        lambda at: COUP(options).purify(at, nets, draws(2)), (x,), eps=1e-6, atol=1e-7, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (GDMP, {"unet": "u", "t_star": 36, "steps": 7}, "steps that divide t_star"),
        (GDMP, {"unet": "u", "guide": "l1"}, "'mse' or 'ssim'"),
        (GDMP, {"unet": "u", "guide_batch": 0}, "greater than or equal to 1"),
        (GDMP, {"unet": "u", "t_star": 1000, "steps": 1000}, "noised: level"),
        (COUP, {"unet": "u"}, "guide"),
        (COUP, {"unet": "u", "guide": "g", "path": "cut"}, "'attached' or 'detached'"),
    ],
)
def test_options_are_checked(build, options, message):
    with pytest.raises(ValidationError, match=message):
        build.Options(**options)
