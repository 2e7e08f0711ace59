"""DiffPure against diffusions whose exact noise prediction is known."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from defenses.diffpure import DiffPure
from harness.draws import Draws

DRAWS = Draws(("defenses",), torch.arange(4))


@pytest.fixture
def x():
    return (1.4 * DRAWS.at("x").uniform(1, 8, 8) - 0.2).clamp(0.0, 1.0)


class Oracle(nn.Module):
    """The exact noise prediction where all images are one: (x_t - sqrt(abar) c) / sqrt(1 - abar)."""

    def __init__(self, image):
        super().__init__()
        self.point = 2.0 * image - 1.0
        self.kept = torch.cumprod(1.0 - torch.linspace(1e-4, 2e-2, 1000), 0)  # Ho et al. 2020, section 4
        self.steps = []

    def forward(self, state, step):
        self.steps.append(int(step[0]))
        kept = self.kept[step].reshape(-1, 1, 1, 1)
        return (state - kept.sqrt() * self.point) / (1.0 - kept).sqrt()


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize(("t_star", "steps"), [(100, 10), (100, 100), (40, 1), (1000, 20)])
def test_diffpure_returns_the_one_image_that_there_is(x, sampler, t_star, steps):
    image = Draws(("image",), torch.arange(1)).uniform(1, 8, 8)
    oracle = Oracle(image)
    defense = DiffPure(DiffPure.Options(unet="tiny", t_star=t_star, steps=steps, sampler=sampler))
    found = defense.purify(x, {"unet": oracle}, DRAWS)
    assert torch.allclose(found, image.expand_as(x), atol=2e-3)
    assert oracle.steps == list(range(t_star - 1, -1, -(t_star // steps)))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_diffpure_keeps_the_marginals_of_the_diffusion(sampler):
    """With the exact score, every state x_t of the way back has the noise level of its step."""
    states = []
    oracle = Oracle(torch.full((1, 1, 8, 8), 0.5))
    oracle.register_forward_pre_hook(lambda module, inputs: states.append(inputs))
    many = Draws(("many",), torch.arange(200))
    options = DiffPure.Options(unet="tiny", t_star=500, steps=5, sampler=sampler)
    DiffPure(options).purify(torch.full((200, 1, 8, 8), 0.5), {"unet": oracle}, many)
    assert len(states) == 5
    for state, step in states:
        assert float(state.var()) == pytest.approx(1.0 - float(oracle.kept[step[0]]), rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t_star": 100, "steps": 7}, "steps that divide t_star"),
        ({"t_star": 10, "steps": 20}, "steps that divide t_star"),
        ({"t_star": 700, "steps": 1}, "a divisor of 1000"),
        ({"t_star": 0}, "greater than or equal to 1"),
        ({"t_star": 1001, "steps": 1}, "less than or equal to 1000"),
        ({"sampler": "euler"}, "'ddpm' or 'ddim'"),
    ],
)
def test_diffpure_checks_its_options(options, message):
    with pytest.raises(ValidationError, match=message):
        DiffPure.Options(unet="tiny", **options)
