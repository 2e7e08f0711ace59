"""The purifiers of one pass: MAEP, NIM-MAE, DIR and DMAE against what their network says."""

import pytest
import torch
from torch import nn

from defenses.dir import DIR
from defenses.dmae import DMAE
from defenses.maep import MAEP
from defenses.nim_mae import NIMMAE
from harness.draws import Draws
from harness.testing.nets import tiny_dir, tiny_mae

DRAWS = Draws(("single pass",), torch.arange(4))


@pytest.fixture
def x():
    return (1.4 * DRAWS.at("x").uniform(1, 8, 8) - 0.2).clamp(0.0, 1.0)


class Copy(nn.Module):
    """An autoencoder of normalised targets that predicts what it sees."""

    n_patches = 16

    def __init__(self):
        super().__init__()
        self.mae = tiny_mae(targets="normalised")
        self.seen = []

    def forward(self, x, order, mask_ratio):
        self.seen.append((x, order, mask_ratio))
        found = self.mae(x, order, mask_ratio)
        return found._replace(patches=self.mae.target(x))

    def pixels(self, patches, like):
        return self.mae.pixels(patches, like)


def test_maep_shows_its_net_the_image_as_it_is_and_removes_nothing(x):
    mae = tiny_mae()
    found = MAEP(MAEP.Options(maep="tiny")).purify(x, {"maep": mae}, DRAWS)
    order = torch.arange(16).expand(4, -1)
    assert torch.equal(found, mae.unpatchify(mae(x, order, 0.0).patches).clamp(0.0, 1.0))
    assert torch.equal(found, DMAE(DMAE.Options(dmae="tiny", sigma=0)).purify(x, {"dmae": mae}, DRAWS))


def test_nim_mae_shows_its_net_the_noisy_image_whole(x):
    net = Copy()
    NIMMAE(NIMMAE.Options(nim="tiny", sigma=0.1)).purify(x, {"nim": net}, DRAWS)
    ((seen, order, mask_ratio),) = net.seen
    assert float((seen - x).std()) == pytest.approx(0.1, rel=0.2)
    assert torch.equal(order, torch.arange(16).expand(4, -1))
    assert mask_ratio == 0.0


def test_statistics_come_from_the_input_or_from_what_the_net_was_shown(x):
    """A net that predicts what it sees gives the noisy image back, or one with the input's mean in every patch."""
    mae = tiny_mae()
    x = 0.4 + 0.2 * x

    def pair(statistics):
        net = Copy()
        found = NIMMAE(NIMMAE.Options(nim="tiny", sigma=0.02, statistics=statistics)).purify(x, {"nim": net}, DRAWS)
        return found, net.seen[0][0]

    found, noisy = pair("noisy")
    assert torch.allclose(found, noisy, atol=1e-5)
    found, noisy = pair("input")
    assert torch.allclose(mae.patchify(found).mean(2), mae.patchify(x).mean(2), atol=1e-5)
    assert torch.allclose(mae.patchify(found).std(2), mae.patchify(x).std(2), rtol=0.02, atol=1e-4)
    assert not torch.allclose(mae.patchify(noisy).mean(2), mae.patchify(x).mean(2), atol=1e-3)


def test_the_noise_is_fresh_under_another_address_and_none_without_sigma(x):
    def purify(draws, sigma):
        return NIMMAE(NIMMAE.Options(nim="tiny", sigma=sigma)).purify(x, {"nim": tiny_mae()}, draws)

    assert not torch.equal(purify(DRAWS.at(0), 0.1), purify(DRAWS.at(1), 0.1))
    assert torch.equal(purify(DRAWS.at(0), 0.0), purify(DRAWS.at(1), 0.0))


def test_dir_draws_halves_that_complement_one_another(x):
    net, seen = tiny_dir(), []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    found = DIR(DIR.Options(dir="tiny")).purify(x, {"dir": net}, DRAWS)
    assert len(seen) == 1
    assert torch.equal(seen[0].sort(1).values, torch.arange(16).expand(4, -1))
    assert not torch.equal(seen[0][0], seen[0][1])
    swapped = torch.cat([seen[0][:, 8:], seen[0][:, :8]], 1)
    assert torch.allclose(net(x, swapped).clamp(0.0, 1.0), found, atol=1e-6)
