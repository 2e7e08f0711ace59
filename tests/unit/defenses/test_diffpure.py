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


class ByTime(Oracle):
    """The same on the continuous schedule: abar(t) = exp(-(0.1 t + 9.95 t^2)), t = (step + 1) / 1000."""

    def forward(self, state, step):
        time = (step.double() + 1.0) / 1000.0
        kept = torch.exp(-(0.1 * time + 9.95 * time**2)).to(state.dtype).reshape(-1, 1, 1, 1)
        return (state - kept.sqrt() * self.point) / (1.0 - kept).sqrt()


def test_by_default_it_is_the_authors_for_cifar10():
    options = DiffPure.Options(unet="tiny")
    assert options.rounds == ((100, 100),)
    assert (options.sampler, options.clock, options.votes) == ("sde", "floor", 1)
    assert (options.clamp, options.noised) == (True, "level")  # theirs by ddpm


def test_by_default_it_noises_by_the_discrete_schedule_and_goes_through_every_step(x):
    told, states = [], []

    class Told(nn.Module):
        def forward(self, state, step):
            told.append(int(step[0]))
            states.append(state)
            return torch.zeros_like(state)

    DiffPure(DiffPure.Options(unet="tiny")).purify(x, {"unet": Told()}, DRAWS)
    assert told == list(range(100, 0, -1))
    kept = Oracle(x).kept[99]
    noise = DRAWS.at("forward").normal(1, 8, 8)
    assert torch.allclose(states[0], kept.sqrt() * (2 * x - 1) + (1 - kept).sqrt() * noise, atol=1e-6)


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
    options = DiffPure.Options(unet="tiny", t_star=500, steps=5, sampler=sampler, clamp=False)
    DiffPure(options).purify(torch.full((200, 1, 8, 8), 0.5), {"unet": oracle}, many)
    assert len(states) == 5
    for state, step in states:
        assert float(state.var()) == pytest.approx(1.0 - float(oracle.kept[step[0]]), rel=0.05)


@pytest.mark.parametrize("sampler", ["sde", "torchsde", "ode"])
def test_diffpure_by_time_returns_the_one_image_that_there_is(x, sampler):
    """The score pulls ever harder towards it, so that a hundred steps end within a few of their own lengths."""
    image = 0.1 + 0.8 * Draws(("image",), torch.arange(1)).uniform(1, 8, 8)
    defense = DiffPure(DiffPure.Options(unet="tiny", t_star=100, steps=100, sampler=sampler, clock="exact"))
    found = defense.purify(x, {"unet": ByTime(image)}, DRAWS)
    assert torch.allclose(found, image.expand_as(x), atol=0.05)


def test_rounds_go_one_after_the_other_each_with_noise_of_its_own(x):
    oracle = Oracle(Draws(("image",), torch.arange(1)).uniform(1, 8, 8))
    defense = DiffPure(DiffPure.Options(unet="tiny", t_star=[30, 30, 50], steps=[3, 1, 2], sampler="ddpm"))
    defense.purify(x, {"unet": oracle}, DRAWS)
    assert oracle.steps == [29, 19, 9, 29, 49, 24]

    class Still(nn.Module):
        """Says that there is no noise, so that what a round adds can be seen."""

        def forward(self, state, step):
            states.append(state)
            return torch.zeros_like(state)

    states = []
    DiffPure(DiffPure.Options(unet="tiny", t_star=[10, 10], steps=1, sampler="ddim", clamp=False)).purify(
        x, {"unet": Still()}, DRAWS
    )
    kept = oracle.kept[9]
    first = (states[0] - kept.sqrt() * (2 * x - 1)) / (1 - kept).sqrt()
    second = (states[1] - kept.sqrt() * (states[0] / kept.sqrt())) / (1 - kept).sqrt()
    assert float(first.std()) == pytest.approx(1.0, abs=0.15)
    assert float(second.std()) == pytest.approx(1.0, abs=0.15)
    assert float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t_star": 100, "steps": 7, "sampler": "ddpm"}, "steps that divide t_star"),
        ({"t_star": 10, "steps": 20, "sampler": "ddim"}, "steps that divide t_star"),
        ({"t_star": 700, "steps": 1, "sampler": "ddpm"}, "a divisor of 1000"),
        ({"t_star": 1, "steps": 1000}, "longer than 1e-05"),
        ({"t_star": 1000, "sampler": "ddpm", "noised": "above"}, "noised: level"),
        ({"variance": "learned"}, "'posterior' or 'beta'"),
        ({"clock": "wall"}, "'floor' or 'exact'"),
        ({"t_star": 0}, "greater than or equal to 1"),
        ({"t_star": 1001, "steps": 1}, "less than or equal to 1000"),
        ({"sampler": "euler"}, "'torchsde' or 'ode'"),
        ({"t_star": [30, 50], "steps": [30]}, "got 1 for 2 rounds"),
        ({"t_star": [30, 50], "steps": [30, 7], "sampler": "ddpm"}, "got 7 steps for 50"),
        ({"t_star": []}, "at least one round"),
        ({"votes": 0}, "greater than or equal to 1"),
    ],
)
def test_diffpure_checks_its_options(options, message):
    with pytest.raises(ValidationError, match=message):
        DiffPure.Options(unet="tiny", **options)
