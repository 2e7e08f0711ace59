"""The shipped purifiers against their definitions."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from defenses.diffpure import DiffPure
from defenses.mae_pure import MAEPure
from harness.core.contracts import Setting
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.nets.mae import masked_loss
from harness.testing.nets import CARD, tiny_mae

DRAWS = Draws(("defenses",), torch.arange(4))


@pytest.fixture
def x():
    return (1.4 * DRAWS.at("x").uniform(1, 8, 8) - 0.2).clamp(0.0, 1.0)


def mae_pure(**options):
    return MAEPure(MAEPure.Options(mae="tiny", **options))


@pytest.mark.parametrize("options", [{}, {"halve_step": True}, {"masks": 3}, {"mask_mode": "fixed"}])
def test_mae_pure_never_leaves_its_ball_nor_the_box(x, options):
    kept = x.clone()
    for steps in (1, 3, 8):
        found = mae_pure(steps=steps, step_size=0.04, eps=0.1, **options).purify(x, {"mae": tiny_mae()}, DRAWS)
        assert float((found - x).abs().max()) <= 0.1 + 1e-6
        assert float(found.min()) >= 0.0
        assert float(found.max()) <= 1.0
    assert float((found - x).abs().max()) > 0.09  # and it went there
    assert torch.equal(x, kept)


@pytest.mark.parametrize("masks", [1, 3])
def test_a_step_goes_down_the_gradient_by_finite_differences(masks):
    x = 0.2 + 0.6 * DRAWS.at("x").uniform(1, 8, 8).double()
    mae = tiny_mae().double()
    step, ratio, width = 0.05, 0.5, 1e-5
    orders = [DRAWS.at("mask", 0, mask).permutation(16) for mask in range(masks)]

    def loss(images):
        found = [mae(images, order, ratio) for order in orders]
        return sum(masked_loss(item.patches, mae.patchify(images), item.hidden) for item in found)

    gradient = torch.zeros_like(x)
    with torch.no_grad():
        for row in range(8):
            for column in range(8):
                nudge = torch.zeros_like(x)
                nudge[:, :, row, column] = width
                gradient[:, 0, row, column] = (loss(x + nudge) - loss(x - nudge)) / (2 * width)
    assert float(gradient.abs().min()) > 1e-8  # no sign hangs on the error of the differences
    defense = mae_pure(steps=1, step_size=step, eps=0.2, mask_ratio=ratio, masks=masks)
    found = defense.purify(x, {"mae": mae}, DRAWS)
    assert torch.allclose(found, x - step * gradient.sign(), rtol=0.0, atol=1e-12)


def after(x, **options):
    """Return the images after some steps through one mask, with ball and box out of the way."""
    far = {"step_size": 0.01, "eps": 1.0, "mask_mode": "fixed"} | options
    return mae_pure(**far).purify(x, {"mae": tiny_mae()}, DRAWS)


def test_the_step_is_halved_after_half_of_the_steps():
    x = torch.full((4, 1, 8, 8), 0.5) + 0.1 * DRAWS.at("x").normal(1, 8, 8)
    half = after(x, steps=2, halve_step=True) - after(x, steps=1)
    full = after(x, steps=2) - after(x, steps=1)
    assert torch.allclose(half, full / 2, atol=1e-6)
    assert torch.allclose(full.abs(), torch.full_like(full, 0.01), atol=1e-6)


def test_masks_are_drawn_anew_or_once(x):
    def seen(mode):
        orders = []
        mae = tiny_mae()
        mae.register_forward_pre_hook(lambda module, inputs: orders.append(inputs[1]))
        mae_pure(steps=3, mask_mode=mode).purify(x, {"mae": mae}, DRAWS)
        return orders

    fresh, fixed = seen("fresh"), seen("fixed")
    assert torch.equal(fresh[0], fixed[0])
    assert torch.equal(fixed[1], fixed[0])
    assert not torch.equal(fresh[1], fresh[0])
    assert not torch.equal(fresh[2], fresh[1])


def test_mae_pure_refuses_the_exact_gradient_alone():
    for knowledge in Knowledge:
        setting = Setting(CARD, ThreatModel(Norm.LINF, 0.1, knowledge), mae_pure().traits)
        assert ("use knowledge: bpda" in (mae_pure().refuses(setting) or "")) is (knowledge is Knowledge.FULL)


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


@pytest.mark.parametrize("options", [{"steps": 0}, {"eps": 0}, {"mask_ratio": 1.0}, {"masks": 0}, {"step": 3}])
def test_mae_pure_checks_its_options(options):
    with pytest.raises(ValidationError):
        mae_pure(**options)
