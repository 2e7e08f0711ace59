"""The diffusion as a denoiser, and the purifiers that ask it, where the best denoiser is known."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from defenses.denoiser import denoised, step_of
from defenses.lm import LM
from defenses.scoreopt import ScoreOpt
from harness.draws import Draws

KEPT = np.cumprod(1.0 - np.linspace(1e-4, 2e-2, 1000))
MEAN, VARIANCE = 0.2, 0.09


def draws(n):
    return Draws(("denoiser",), torch.arange(n))


class Gaussian(nn.Module):
    """The exact noise prediction of pixels N(MEAN, VARIANCE) in [-1, 1]; between two steps log abar is linear."""

    def forward(self, state, step):
        log = np.interp(step.detach().double().numpy(), np.arange(1000), np.log(KEPT))
        kept = torch.from_numpy(np.exp(log)).to(state.dtype).reshape(-1, 1, 1, 1)
        return (1 - kept).sqrt() * (state - kept.sqrt() * MEAN) / (kept * VARIANCE + 1 - kept)


class Bent(nn.Module):
    def forward(self, state, step):
        return torch.tanh(1.3 * state)


def images(n):
    return (0.5 + 0.15 * draws(n).at("x").normal(1, 2, 3)).clamp(0.05, 0.95).double()


@pytest.mark.parametrize("step", [0, 1, 99, 500, 999])
def test_a_whole_step_is_found_by_its_noise(step):
    sigma = torch.tensor([math.sqrt(1 / KEPT[step] - 1)], dtype=torch.float64)
    assert float(step_of(sigma)) == pytest.approx(step, abs=0.01)


def test_a_deviation_beyond_the_schedule_counts_as_its_end():
    found = step_of(torch.tensor([1e-4, 1e4], dtype=torch.float64))
    assert found.tolist() == [0.0, 999.0]


@pytest.mark.parametrize("sigma", [0.05, 0.25, 0.5, 3.0])
def test_the_denoised_image_is_the_posteriors_mean(sigma):
    """Of N(m, s^2) plus noise of deviation sigma: (s^2 y + sigma^2 m) / (s^2 + sigma^2)."""
    noisy = 2 * images(3) - 1 + sigma
    found = denoised(Gaussian(), noisy, torch.full((3,), sigma, dtype=torch.float64))
    wanted = (VARIANCE * noisy + sigma**2 * MEAN) / (VARIANCE + sigma**2)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_maximising_the_likelihood_goes_to_the_most_likely_image():
    """Of a Gaussian that is its mean."""
    x = images(6)
    found = 2 * LM(LM.Options(unet="u", steps=200, lr=0.02)).purify(x, {"unet": Gaussian()}, draws(6)) - 1
    before, after = (2 * x - 1 - MEAN).abs().mean(), (found - MEAN).abs().mean()
    assert float(after) < 0.35 * float(before)


def test_the_optimised_image_goes_to_where_the_denoiser_agrees():
    x = images(6)
    defense = ScoreOpt(ScoreOpt.Options(unet="u", steps=200, lr=0.02))
    found = 2 * defense.purify(x, {"unet": Gaussian()}, draws(6)) - 1
    assert float((found - MEAN).abs().mean()) < 0.35 * float((2 * x - 1 - MEAN).abs().mean())


def test_optimising_the_noise_ends_with_the_noise_that_was_drawn():
    """Worked out: eps(y) = sigma (y - m) / (s^2 + sigma^2) is n at one y, whose denoised image is y - sigma n."""
    x, sigma = images(4), 0.5
    defense = ScoreOpt(ScoreOpt.Options(unet="u", optimised="noise", sigma=sigma, steps=800, lr=0.02))
    found = 2 * defense.purify(x, {"unet": Gaussian()}, draws(4)) - 1
    noise = draws(4).at("noise").normal(1, 2, 3).double()
    image = MEAN + noise * (VARIANCE + sigma**2) / sigma - sigma * noise
    assert torch.allclose(found, image.clamp(-1, 1), atol=0.03)


def test_the_first_step_has_the_length_of_the_rate_against_the_gradients_sign():
    """Adam's first step; the loss's gradient by finite differences."""
    x = images(2)
    defense = LM(LM.Options(unet="u", steps=1, lr=0.01, sigma_min=0.5, sigma_max=0.5))
    moved = 2 * (defense.purify(x, {"unet": Bent()}, draws(2)) - x)
    noise = draws(2).at("step", 0).at("noise").normal(1, 2, 3).double()
    sigma = torch.full((2,), 0.5, dtype=torch.float64)

    def loss(at):
        return float(((denoised(Bent(), at + 0.5 * noise, sigma) - at) ** 2).sum())

    at, wanted = 2 * x - 1, torch.zeros_like(x)
    for place in np.ndindex(*x.shape):
        step = torch.zeros_like(x)
        step[place] = 1e-6
        wanted[place] = -math.copysign(0.01, loss(at + step) - loss(at - step))
    assert torch.allclose(moved, wanted, atol=1e-5)


@pytest.mark.parametrize(
    "defense",
    [
        ScoreOpt(ScoreOpt.Options(unet="u", steps=3, lr=0.02)),
        ScoreOpt(ScoreOpt.Options(unet="u", optimised="noise", steps=3, lr=0.02)),
        LM(LM.Options(unet="u", steps=3, lr=0.02)),
    ],
)
def test_the_gradient_agrees_with_finite_differences(defense):
    x = images(2).requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda at: defense.purify(at, {"unet": Bent()}, draws(2)), (x,), eps=1e-7, atol=1e-6, rtol=1e-5
    )


def test_without_a_path_no_gradient_comes_and_the_images_are_the_same():
    x = images(2).requires_grad_(True)
    for build in (ScoreOpt, LM):
        found = build(build.Options(unet="u", path="detached")).purify(x, {"unet": Bent()}, draws(2))
        wanted = build(build.Options(unet="u")).purify(x, {"unet": Bent()}, draws(2))
        assert not found.requires_grad
        assert torch.allclose(found, wanted)


def test_the_defaults_are_the_authors():
    """ScoreOpt's against transferred attacks, of either variant; LM's of its only script."""
    for optimised, steps, lr in (("image", 20, 0.01), ("noise", 5, 0.1)):
        options = ScoreOpt.Options(unet="u", optimised=optimised)
        assert (options.sigma, options.steps, options.lr) == (0.25, steps, lr)
        assert ScoreOpt.Options(unet="u", optimised=optimised, steps=7).steps == 7
    options = LM.Options(unet="u")
    assert (options.steps, options.lr, options.sigma_min, options.sigma_max) == (5, 0.1, 0.4, 0.6)


def test_deviations_that_fall_are_refused():
    with pytest.raises(ValidationError, match=r"expected sigma_min up to sigma_max, got 0\.7 and 0\.6"):
        LM.Options(unet="u", sigma_min=0.7)
