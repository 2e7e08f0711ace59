"""AToP as a defense: the transforms of its training, one pass, exact gradients."""

import pytest
import torch
from pydantic import ValidationError

from defenses.atop import AToP
from defenses.dmae import DMAE
from harness.draws import Draws
from harness.nets.transforms import completed
from harness.testing.nets import tiny_mae

DRAWS = Draws(("atop",), torch.arange(3))


def images(n=3):
    return 0.3 + 0.4 * DRAWS.at("x").uniform(1, 8, 8)[:n]


def atop(**options):
    return AToP(AToP.Options(generator="tiny", **options))


@pytest.mark.parametrize("transform", ["RT1", "RT2", "RT3"])
def test_it_clips_what_the_generator_makes_of_the_transform_of_its_training(transform):
    net, x = tiny_mae(), images()
    net.predict.weight.mul_(30.0)  # so that some leave the range
    _, image = completed(net, x, DRAWS, transform=transform, mask_ratio=0.5, sigma=0.1, patch=4)
    found = atop(transform=transform, mask_ratio=0.5, sigma=0.1, patch=4).purify(x, {"generator": net}, DRAWS)
    assert float(image.max()) > 1.0
    assert torch.equal(found, image.clamp(0.0, 1.0))


def test_untuned_and_with_noise_and_one_mask_it_is_dmae():
    net, x = tiny_mae(), images()
    dmae = DMAE(DMAE.Options(dmae="tiny", sigma=0.25, mask_ratio=0.25)).purify(x, {"dmae": net}, DRAWS)
    assert torch.equal(atop().purify(x, {"generator": net}, DRAWS), dmae)


@pytest.mark.parametrize("transform", ["RT1", "RT2", "RT3"])
@pytest.mark.parametrize("targets", ["raw", "normalised"])
def test_its_gradient_is_exact_at_frozen_draws(transform, targets):
    net = tiny_mae(targets=targets).double()
    x = images(1).double()
    defense, draws = atop(transform=transform, sigma=0.05), DRAWS.take(slice(0, 1))

    def value(at):
        return defense.purify(at, {"generator": net}, draws)

    found = value(x)
    inside = (found > 1e-3) & (found < 1 - 1e-3)  # a pixel at an end has a kink
    assert float(inside.double().mean()) > 0.5
    x.requires_grad_(True)
    # along one direction: every pixel by itself is seen to in test_gradients
    assert torch.autograd.gradcheck(lambda at: value(at)[inside], x, eps=1e-5, atol=1e-8, rtol=1e-5, fast_mode=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "RT4"}, "'RT1', 'RT2' or 'RT3'"),
        ({"mask_ratio": 0}, "greater than 0"),
        ({"mask_ratio": 1}, "less than 1"),
        ({"sigma": -1}, "greater than or equal to 0"),
        ({"patch": 0}, "greater than or equal to 1"),
    ],
)
def test_it_checks_its_options(options, message):
    with pytest.raises(ValidationError, match=message):
        atop(**options)
