"""Steps that are run again in the backward pass give the gradient that a stored graph gives, to rounding."""

import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import nn

from defenses.contrastive import Contrastive
from defenses.coup import COUP
from defenses.diffpure import DiffPure
from defenses.gdmp import GDMP
from defenses.lm import LM
from defenses.scoreopt import ScoreOpt
from harness.draws import Draws
from harness.replay import stored_graph
from harness.testing.nets import tiny_cnn, tiny_unet

DRAWS = Draws(("exact",), torch.arange(2))

CASES = {
    "diffpure": DiffPure(DiffPure.Options(unet="tiny", t_star=100, steps=100, sampler="ddpm")),
    "diffpure by sde": DiffPure(DiffPure.Options(unet="tiny", t_star=100, steps=10, sampler="sde")),
    "diffpure by torchsde": DiffPure(DiffPure.Options(unet="tiny", t_star=100, steps=5, sampler="torchsde")),
    "diffpure in rounds": DiffPure(DiffPure.Options(unet="tiny", t_star=(20, 50), steps=5)),
    "gdmp": GDMP(GDMP.Options(unet="tiny", t_star=20, steps=5, rounds=3, guide_scale=125_000, eps=0.2)),
    "gdmp by similarity": GDMP(
        GDMP.Options(unet="tiny", t_star=20, steps=4, rounds=2, guide="ssim", guide_scale=5000, eps=0.2)
    ),
    "coup": COUP(COUP.Options(unet="tiny", guide="tiny", t_star=50, steps=20)),
    "contrastive": Contrastive(
        Contrastive.Options(unet="tiny", guide="tiny", t_star=50, steps=5, sampler="ddpm", multiplier=20)
    ),
    "scoreopt of the image": ScoreOpt(ScoreOpt.Options(unet="tiny", steps=5, lr=0.03)),
    "scoreopt of the noise": ScoreOpt(ScoreOpt.Options(unet="tiny", optimised="noise", steps=5, lr=0.03)),
    "lm": LM(LM.Options(unet="tiny")),
}


def gradient_of(purify, x):
    at = x.clone().requires_grad_(True)
    return torch.autograd.grad((purify(at) * DRAWS.at("up").normal(*x.shape[1:])).sum(), at)[0]


@pytest.mark.parametrize("name", CASES)
def test_replayed_steps_have_the_stored_graphs_gradient(name):
    x = 0.2 + 0.6 * DRAWS.at("x").uniform(1, 8, 8).double()
    nets = {"unet": tiny_unet().double(), "guide": tiny_cnn().double()}

    def purify(at):
        return CASES[name].purify(at, nets, DRAWS)

    with stored_graph():
        wanted = gradient_of(purify, x)
    found = gradient_of(purify, x)
    assert float(wanted.norm()) > 1e-3
    assert float((found - wanted).norm() / wanted.norm()) < 1e-6


class Attending(nn.Module):
    """A noise-predicting U-Net with self-attention, as the published ones have."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = UNet2DModel(
                sample_size=8,
                in_channels=1,
                out_channels=1,
                block_out_channels=(8, 16),
                layers_per_block=1,
                norm_num_groups=4,
                down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "UpBlock2D"),
                add_attention=True,
            )
        self.eval().requires_grad_(False)

    def forward(self, state, step):
        return self.net(state, step).sample


@pytest.mark.parametrize("name", ["diffpure by sde", "coup", "scoreopt of the image", "scoreopt of the noise", "lm"])
def test_a_net_with_attention_has_an_exact_gradient_too(name):
    """Torch's fused attention has no second derivative, which the optimising purifiers need."""
    x, width = 0.2 + 0.6 * DRAWS.at("x").uniform(1, 8, 8).double(), 1e-6
    nets = {"unet": Attending().double(), "guide": tiny_cnn().double()}
    gradient = gradient_of(lambda at: CASES[name].purify(at, nets, DRAWS), x)
    up = DRAWS.at("up").normal(1, 8, 8)
    for direction in range(2):
        along = DRAWS.at("along", direction).normal(1, 8, 8).double()
        with torch.no_grad():
            ends = [CASES[name].purify(x + sign * width * along, nets, DRAWS) for sign in (1.0, -1.0)]
        slope = float(((ends[0] - ends[1]) * up).sum() / (2 * width))
        assert float((gradient * along).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-5 * float(gradient.norm()))
