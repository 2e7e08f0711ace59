"""The controls: a change of the full budget that knows nothing, and noise that nobody takes away."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from defenses.controls import Noise, RandomSign
from harness.bounds import tolerance
from harness.draws import Draws

DRAWS = Draws(("controls",), torch.arange(64))


def random_sign(x, eps, draws=DRAWS):
    return RandomSign(RandomSign.Options(eps=eps)).purify(x, {}, draws)


@settings(deadline=None)
@given(eps=st.floats(1e-3, 0.49), seed=st.integers(0, 1000))
def test_away_from_the_ends_the_change_has_exactly_the_size_of_the_budget(eps, seed):
    draws = Draws(("sign", seed), torch.arange(3))
    x = eps + (1.0 - 2.0 * eps) * draws.at("x").uniform(2, 5, 5).double()
    change = random_sign(x, eps, draws) - x
    assert torch.allclose(change.abs(), torch.full_like(x, eps), rtol=0.0, atol=1e-14)


@settings(deadline=None)
@given(eps=st.floats(1e-3, 1.0), seed=st.integers(0, 1000))
def test_the_change_never_exceeds_the_budget_nor_leaves_the_range(eps, seed):
    draws = Draws(("sign", seed), torch.arange(3))
    x = (1.4 * draws.at("x").uniform(2, 5, 5) - 0.2).clamp(0.0, 1.0)
    found = random_sign(x, eps, draws)
    assert float((found - x).abs().max()) <= eps + tolerance(eps)
    assert float(found.min()) >= 0.0
    assert float(found.max()) <= 1.0


def test_both_signs_are_as_likely_in_every_pixel_and_image():
    up = random_sign(torch.full((64, 1, 8, 8), 0.5), 0.1) > 0.5
    assert abs(float(up.float().mean()) - 0.5) < 4 * 0.5 / (64 * 64) ** 0.5
    assert not torch.equal(up[0], up[1])


def test_noise_has_its_standard_deviation():
    x = torch.full((64, 1, 8, 8), 0.5)
    change = Noise(Noise.Options(sigma=0.05)).purify(x, {}, DRAWS) - x
    assert float(change.std()) == pytest.approx(0.05, rel=0.05)
    assert abs(float(change.mean())) < 4 * 0.05 / 64


@pytest.mark.parametrize(("control", "options"), [(RandomSign, {"eps": 0}), (Noise, {"sigma": 0}), (Noise, {"eps": 1})])
def test_the_controls_check_their_options(control, options):
    with pytest.raises(ValidationError):
        control.Options(**options)
