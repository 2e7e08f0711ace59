"""Inner losses are what they are said to be, by hand, and exact in the images."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from defenses.contrastive import Contrastive
from defenses.coup import COUP
from defenses.deviation import Deviation
from defenses.diffpure import DiffPure
from defenses.gdmp import GDMP
from defenses.inner import LOOKS, expect, looks
from defenses.lm import LM
from defenses.mae_pure import MAEPure, RMAEPure
from defenses.maskdit_pure import MaskDiTPure, RMaskDiTPure
from defenses.reverse import END, kept, restore
from defenses.scoreopt import ScoreOpt
from defenses.soap import SOAP
from harness.draws import Draws
from harness.metrics.probe import Probe, variation
from harness.testing.nets import tiny_cnn, tiny_mae, tiny_maskdit, tiny_unet

N = 3
DRAWS = Draws(("inner",), torch.arange(N))
KEPT = np.cumprod(1.0 - np.linspace(1e-4, 2e-2, 1000))

GUIDED = {"unet": "tiny", "guide": "tiny", "t_star": 50, "steps": 5}
CASES = [
    (MAEPure(MAEPure.Options(mae="tiny", masks=2)), "reconstruction"),
    (MAEPure(MAEPure.Options(mae="tiny", mask_mode="fixed", units="normalised")), "reconstruction"),
    (MAEPure(MAEPure.Options(mae="tiny", gradient="visible")), "reconstruction"),
    (MAEPure(MAEPure.Options(mae="tiny", gradient="target")), "reconstruction"),
    (MAEPure(MAEPure.Options(mae="tiny", masks=2, mask_ratio=0.5)), "attention"),
    (RMAEPure(RMAEPure.Options(mae="tiny", steps=2)), "attention"),
    (MaskDiTPure(MaskDiTPure.Options(maskdit="tiny", sigma=(0.3, 0.1), masks=2)), "reconstruction"),
    (MaskDiTPure(MaskDiTPure.Options(maskdit="tiny", gradient="visible", noise="none")), "reconstruction"),
    (RMaskDiTPure(RMaskDiTPure.Options(maskdit="tiny", gradient="target")), "reconstruction"),
    (DiffPure(DiffPure.Options(unet="tiny", t_star=(20, 50), steps=5)), "deviation"),
    (DiffPure(DiffPure.Options(unet="tiny", t_star=50, steps=5, sampler="ddim")), "deviation"),
    (DiffPure(DiffPure.Options(unet="tiny", t_star=50, steps=4, sampler="torchsde")), "deviation"),
    (DiffPure(DiffPure.Options(unet="tiny", t_star=50, steps=4, sampler="ode")), "deviation"),
    (GDMP(GDMP.Options(unet="tiny", t_star=20, steps=4, rounds=2, guide_scale=125_000, eps=0.2)), "deviation"),
    (
        GDMP(GDMP.Options(unet="tiny", t_star=20, steps=2, rounds=1, guide="ssim", guide_scale=5000, eps=0.2)),
        "deviation",
    ),
    (GDMP(GDMP.Options(unet="tiny", t_star=20, steps=2, rounds=2, eps=0.2, path="detached")), "deviation"),
    (COUP(COUP.Options(**GUIDED)), "deviation"),
    (COUP(COUP.Options(**GUIDED, path="detached")), "deviation"),
    (Contrastive(Contrastive.Options(**GUIDED, mates="alone", path="detached", memory="kept")), "deviation"),
    (COUP(COUP.Options(**GUIDED, forward_noise=True, sampler="torchsde")), "deviation"),
    (Contrastive(Contrastive.Options(**GUIDED, multiplier=20, mates="alone")), "deviation"),
    (ScoreOpt(ScoreOpt.Options(unet="tiny")), "reconstruction"),
    (ScoreOpt(ScoreOpt.Options(unet="tiny", optimised="noise")), "reconstruction"),
    (LM(LM.Options(unet="tiny")), "reconstruction"),
    (SOAP(SOAP.Options(net="tiny", mask_ratio=0.5)), "reconstruction"),
]
NAMES = [f"{type(defense).__name__}-{name}-{number}" for number, (defense, name) in enumerate(CASES)]


def nets(dtype=torch.float64):
    made = {"unet": tiny_unet(), "guide": tiny_cnn(), "mae": tiny_mae(), "maskdit": tiny_maskdit(), "net": tiny_mae()}
    return {role: net.to(dtype) for role, net in made.items()}


def images(dtype=torch.float64):
    clean = 0.2 + 0.6 * DRAWS.at("x").uniform(1, 8, 8)
    other = clean + 0.1 * DRAWS.at("attack").normal(1, 8, 8).sign()
    return other.to(dtype), clean.to(dtype)


@pytest.mark.parametrize(("defense", "name"), CASES, ids=NAMES)
def test_the_gradient_is_exact(defense, name):
    """Whatever the purifier's own gradient leaves out."""
    (x, clean), made, width = images(), nets(), 1e-6
    at = x.clone().requires_grad_(True)
    loss = defense.inner_loss(name, at, clean, made, DRAWS)
    assert loss.shape == (N,)
    assert bool((loss > 0).all())
    (gradient,) = torch.autograd.grad(loss.sum(), at)
    for direction in range(2):
        along = DRAWS.at("along", direction).normal(1, 8, 8).double()
        with torch.no_grad():
            ends = [defense.inner_loss(name, x + sign * width * along, clean, made, DRAWS) for sign in (1.0, -1.0)]
        slope = (ends[0] - ends[1]) / (2 * width)
        size = gradient.flatten(1).norm(dim=1).max()
        assert torch.allclose((gradient * along).sum((1, 2, 3)), slope, rtol=1e-4, atol=1e-5 * float(size))
        assert float(size) > 1e-6


@pytest.mark.parametrize(("defense", "name"), CASES, ids=NAMES)
def test_other_names_are_refused(defense, name):
    x, clean = images()
    assert name in defense.inner
    with pytest.raises(ValueError, match=f"expected one of the inner losses .*{name}.*, got 'nonsense'"):
        defense.inner_loss("nonsense", x, clean, nets(), DRAWS)


def test_the_steps_that_are_looked_through():
    assert looks(1) == [0]
    assert looks(3) == [0, 1, 2]
    assert looks(15) == [0, 3, 7, 11]
    assert all(len(set(looks(steps))) == min(steps, LOOKS) and looks(steps)[-1] < steps for steps in range(1, 99))
    expect("a", ["a", "b"])


# ---------------------------------------------------------------------- by hand


def test_mae_pures_reconstruction_is_the_loss_through_the_masks_that_it_will_draw():
    """The very masks: those that a hook sees while it purifies with the same draws."""
    (x, clean), made, seen = images(torch.float32), nets(torch.float32), []
    defense = MAEPure(MAEPure.Options(mae="tiny", steps=8, masks=2, mask_ratio=0.5))
    handle = made["mae"].register_forward_hook(lambda module, inputs, found: seen.append(inputs[1]))
    defense.purify(x, made, DRAWS)
    handle.remove()
    assert len(seen) == 8
    wanted = torch.zeros(N)
    for step in (0, 2, 4, 6):
        for image in range(N):
            for mask in range(2):
                order = seen[step][2 * image + mask][None]
                one = x[image : image + 1]
                wanted[image] += float(made["mae"].loss(made["mae"](one, order, 0.5), one)) / 8
    assert torch.allclose(defense.inner_loss("reconstruction", x, clean, made, DRAWS), wanted, rtol=1e-5)


def test_mae_pures_attention_is_the_metric_of_the_reports():
    (x, clean), made = images(torch.float32), nets(torch.float32)
    defense = MAEPure(MAEPure.Options(mae="tiny", steps=1, masks=3, mask_ratio=0.5, mask_mode="fixed"))

    class Same:
        """Draws whose probe has the addresses of the purifier."""

        def at(self, _, mask):
            return DRAWS.at("mask", 0).at(mask)

    probe = Probe(made["mae"], mask_ratio=0.5, masks=3)
    wanted = variation(*(probe.look(one, Same()) for one in (x, clean))).mean((1, 2))
    assert torch.allclose(defense.inner_loss("attention", x, clean, made, DRAWS), wanted, rtol=1e-5)
    assert not defense.inner_loss("attention", clean, clean, made, DRAWS).any()


def test_maskdit_pures_reconstruction_goes_through_its_levels():
    (x, clean), made, told = images(torch.float32), nets(torch.float32), []
    made["maskdit"].register_forward_hook(lambda module, inputs, found: told.append(float(inputs[1][0])))
    defense = MaskDiTPure(MaskDiTPure.Options(maskdit="tiny", steps=10, sigma=(0.4, 0.2)))
    found = defense.inner_loss("reconstruction", x, clean, made, DRAWS)
    assert told == pytest.approx([0.4, 0.4, 0.2, 0.2])
    here = [defense.loss(x, made, DRAWS.at("mask", step), told[i]) for i, step in enumerate((0, 2, 5, 7))]
    assert torch.allclose(found, torch.stack(here).mean(0), rtol=1e-6)


class Still(nn.Module):
    """Says that there is no noise."""

    def forward(self, state, level):
        return torch.zeros_like(state)


def test_the_deviation_of_a_net_that_finds_no_noise_is_that_of_the_closed_form():
    """Going back by ddim without any noise found, a state is only scaled: x'_t = x_T sqrt(abar_t / abar_T)."""
    x, clean = images()
    defense = DiffPure(DiffPure.Options(unet="tiny", t_star=60, steps=3, sampler="ddim", clamp=False))
    noise = DRAWS.at("forward").normal(1, 8, 8).double()
    start = math.sqrt(KEPT[59]) * (2 * x - 1) + math.sqrt(1 - KEPT[59]) * noise
    wanted = torch.zeros(N).double()
    for share in (KEPT[39], KEPT[19], 1.0):  # of the states before steps 39 and 19, and of the image
        there = math.sqrt(share) * (2 * x - 1) + math.sqrt(1 - share) * noise
        wanted += ((start * math.sqrt(share / KEPT[59]) - there) ** 2).mean((1, 2, 3)) / 3
    found = defense.inner_loss("deviation", x, clean, {"unet": Still()}, DRAWS)
    assert torch.allclose(found, wanted, rtol=1e-5)


def test_a_perfect_denoiser_never_strays():
    """Where the net finds the very noise, ddim walks the way there backwards, and the deviation is zero."""
    x, clean = images()
    noise = DRAWS.at("forward").normal(1, 8, 8).double()

    class Knowing(nn.Module):
        def forward(self, state, level):
            return noise

    defense = DiffPure(DiffPure.Options(unet="tiny", t_star=60, steps=3, sampler="ddim", clamp=False))
    assert float(defense.inner_loss("deviation", x, clean, {"unet": Knowing()}, DRAWS).max()) < 1e-10


def test_coups_states_are_compared_with_the_input_where_it_gets_no_noise():
    """Without guidance and noise found, the flow only grows a state, by beta / 2 per unit of time."""
    x, clean = images()
    defense = COUP(COUP.Options(unet="tiny", guide="tiny", t_star=100, steps=2, sampler="ode", weight=0))
    image = 2 * x - 1
    grown, wanted = 1.0, 0.0
    for time, length in ((0.1, 0.05), (0.05, 0.05 - END)):
        grown *= 1 + length * 0.5 * (0.1 + time * 19.9)
        wanted = wanted + (((grown - 1) * image) ** 2).mean((1, 2, 3)) / 2
    found = defense.inner_loss("deviation", x, clean, {"unet": Still(), "guide": None}, DRAWS)
    assert torch.allclose(found, wanted, rtol=1e-6)


def test_the_deviation_shows_the_states_of_the_purification_itself():
    """The last state of each round is where the next begins, and that of the last is the purified image."""
    (x, _), made, shown = images(), nets(), []
    defense = DiffPure(DiffPure.Options(unet="tiny", t_star=(20, 50), steps=5, sampler="sde"))

    class Watching(Deviation):
        def from_way(self, image, noise):
            shown.append((image, noise, []))
            return lambda state, share: shown[-1][2].append((state, share))

    end = defense.there_and_back(x, made, DRAWS, Watching())
    assert torch.equal(end, shown[1][2][-1][0])
    assert torch.equal(shown[1][0], shown[0][2][-1][0])
    assert torch.allclose(((end + 1) / 2).clamp(0, 1), defense.purify(x, made, DRAWS))
    lengths = [t / 5 for t in (0.02, 0.05)]
    for (_, noise, states), t, length, number in zip(shown, (0.02, 0.05), lengths, range(2), strict=True):
        assert [share for _, share in states] == pytest.approx([kept(t - step * length) for step in range(1, 5)] + [1])
        assert torch.equal(noise, DRAWS.at("round", number).at("forward").normal(1, 8, 8).double())


def test_torchsde_shows_no_states():
    with pytest.raises(ValueError, match="expected a sampler that shows its states, got torchsde"):
        restore(images()[0], tiny_unet(), DRAWS, t_star=10, steps=1, sampler="torchsde", seen=lambda *_: None)


def test_scoreopt_and_lm_show_the_loss_that_their_first_step_goes_down():
    """Of one step there is one look: its gradient is the direction that Adam's first step takes, by its sign."""
    (x, clean), made = images(), nets()
    for defense in (
        ScoreOpt(ScoreOpt.Options(unet="tiny", steps=1, lr=1e-3)),
        LM(LM.Options(unet="tiny", steps=1, lr=1e-3)),
    ):
        at = x.clone().requires_grad_(True)
        (up,) = torch.autograd.grad(defense.inner_loss("reconstruction", at, clean, made, DRAWS).sum(), at)
        moved = defense.purify(x, made, DRAWS) - x
        plain = up.abs() > 1e-5  # where Adam's own eps does not count
        assert float(plain.double().mean()) > 0.9
        assert torch.allclose(moved[plain], -0.5e-3 * up.sign()[plain], rtol=1e-2)


def test_soaps_is_its_auxiliary_loss():
    (x, clean), made = images(), nets()
    defense = SOAP(SOAP.Options(net="tiny"))
    order = torch.arange(16).expand(N, -1)
    wanted = made["net"].loss(made["net"](x, order, 0.0), x, "all")
    assert torch.allclose(defense.inner_loss("reconstruction", x, clean, made, DRAWS), wanted)
