"""ADBM as a defense: DiffPure's way with the paper's defaults, exact gradients."""

import pytest
import torch

from defenses.diffpure import ADBM, DiffPure
from harness.draws import Draws
from harness.testing.nets import tiny_unet

DRAWS = Draws(("adbm",), torch.arange(2))
X = 0.3 + 0.4 * DRAWS.at("x").uniform(1, 8, 8)


def test_it_goes_diffpures_way_by_five_deterministic_steps_from_level_100():
    adbm, diffpure = ADBM.Options(unet="tiny"), DiffPure.Options(unet="tiny")
    assert adbm.rounds == ((100, 5),)
    assert (adbm.sampler, adbm.votes) == ("ddim", 1)
    assert list(adbm.model_dump()) == list(diffpure.model_dump())
    assert (adbm.clamp, adbm.variance, adbm.noised) == (True, "beta", "above")  # the authors' scheduler, and its index
    same = DiffPure.Options(unet="tiny", t_star=100, steps=5, sampler="ddim", variance="beta", noised="above")
    nets = {"unet": tiny_unet()}
    assert torch.equal(ADBM(adbm).purify(X, nets, DRAWS), DiffPure(same).purify(X, nets, DRAWS))


def test_it_checks_its_options_as_diffpure_does():
    with pytest.raises(ValueError, match="steps that divide t_star"):
        ADBM.Options(unet="tiny", t_star=99)
    with pytest.raises(ValueError, match="noised: level"):
        ADBM.Options(unet="tiny", t_star=1000, steps=10)


@pytest.mark.parametrize("options", [{}, {"sampler": "ddpm", "t_star": 40, "steps": 4}])
def test_its_gradient_is_exact_at_frozen_draws(options):
    net, x = tiny_unet().double(), X[:1].double()
    defense, draws = ADBM(ADBM.Options(unet="tiny", **options)), DRAWS.take(slice(0, 1))

    def value(at):
        return defense.purify(at, {"unet": net}, draws)

    found = value(x)
    inside = (found > 1e-3) & (found < 1 - 1e-3)  # a pixel at an end has a kink
    assert float(inside.double().mean()) > 0.5
    x.requires_grad_(True)
    # along one direction: every pixel by itself is seen to in test_gradients
    assert torch.autograd.gradcheck(lambda at: value(at)[inside], x, eps=1e-5, atol=1e-8, rtol=1e-5, fast_mode=True)
