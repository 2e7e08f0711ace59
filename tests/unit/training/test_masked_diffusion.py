"""What MaskDiT is trained on, and the tuning of its robust variant, written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from attacks.pgd import PGD
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.testing.nets import tiny_cnn, tiny_mae, tiny_maskdit
from harness.training.context import Batch, Beside
from harness.training.forward import one_pass, own_loss
from harness.training.masked_diffusion import masked_diffusion, noise_levels
from harness.training.objective_options import MaskedDiffusionObjective, PurifyClassifyObjective
from harness.training.robust import purify_classify

DRAWS = Draws(("masked-diffusion",), torch.arange(4))
X, Y = 0.2 + 0.6 * DRAWS.at("x").uniform(1, 8, 8), torch.arange(4)
BATCH = Batch(X, Y, torch.Generator(), DRAWS)


def test_noise_levels_are_log_normal_in_units_of_the_network():
    logs = (2.0 * noise_levels(Draws(("levels",), torch.arange(20000)), -1.2, 1.2)).log()
    assert float(logs.mean()) == pytest.approx(-1.2, abs=0.03)
    assert float(logs.std()) == pytest.approx(1.2, abs=0.03)


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_the_objective_is_weighted_denoising_and_a_tenth_of_reconstruction(ratio):
    net, total = tiny_maskdit(), 0.0
    objective = MaskedDiffusionObjective(use="masked-diffusion", mask_ratio=ratio)
    order, noise = DRAWS.at("mask").permutation(16), DRAWS.at("noise").normal(1, 8, 8)
    for image in range(4):
        sigma = math.exp(-1.2 + 1.2 * float(DRAWS.at("sigma").normal()[image]))  # of pixels in [-1, 1]
        noisy = X[image : image + 1] + sigma / 2 * noise[image : image + 1]
        found = net(noisy, torch.tensor([sigma / 2]), order[image : image + 1], ratio)
        error = [(2 * found.patches - 2 * net.patchify(true))[0] ** 2 for true in (X[image : image + 1], noisy)]
        hidden, both = found.hidden[0], sigma**2 + 0.25
        total += both / (sigma / 2) ** 2 * float(error[0][~hidden].mean()) / 4
        total += 0.1 / both * float(error[1][hidden].mean()) / 4 if ratio else 0.0
    assert float(masked_diffusion(net, BATCH, objective, Beside())) == pytest.approx(total, rel=1e-4)


def test_another_network_has_no_such_loss():
    with pytest.raises(TypeError, match="expected a masked diffusion transformer for this objective, got MAE"):
        masked_diffusion(tiny_mae(), BATCH, MaskedDiffusionObjective(use="masked-diffusion"), Beside())


@pytest.mark.parametrize("knowledge", [Knowledge.OBLIVIOUS, Knowledge.FULL])
def test_tuning_attacks_the_clean_image_and_adds_the_noise_in_every_pass(knowledge):
    net, cnn, asked = tiny_maskdit(), tiny_cnn(), []
    budget = ThreatModel(Norm.LINF, 0.1, knowledge)

    class Seen(PGD):
        def propose(self, victim, x, y, threat, draws):
            asked.append((x, victim.random))
            return super().propose(victim, x, y, threat, draws)

    beside = Beside({"classifier": cnn}, Seen(Seen.Options(steps=2)), budget, 10)
    objective = PurifyClassifyObjective(
        use="purify-classify", visible="decoded", sigma=0.3, mask_ratio=0.25, reconstruction_weight=2.0
    )
    loss = purify_classify(net, BATCH, objective, beside)
    ((start, random),) = asked
    assert torch.equal(start, X)
    assert random is (knowledge is Knowledge.FULL)

    def ask(at, draws):
        return cnn(one_pass(net, at, 0.25, draws, sigma=0.3).clamp(0, 1) if random else at)

    x_adv = beside.attacked(ask, X, Y, DRAWS, random=random)
    update, level = DRAWS.at("update"), torch.full((4,), 0.3)
    noisy = x_adv + 0.3 * update.at("noise").normal(1, 8, 8)
    image = net.pixels(net(noisy, level, update.at("mask").permutation(16), 0.25), x_adv)
    noisy = x_adv + 0.3 * update.at("reconstruct", "noise").normal(1, 8, 8)
    found = net(noisy, level, update.at("reconstruct").permutation(16), 0.25)
    denoising, reconstruction = net.losses(found, X, X, level)
    expected = F.cross_entropy(cnn(image.clamp(0, 1)), Y) + 2.0 * (denoising + 0.1 * reconstruction).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_the_own_loss_of_an_autoencoder_is_its_masked_reconstruction_of_the_clean_image():
    net, order = tiny_mae(), DRAWS.at("reconstruct").permutation(16)
    attacked = X + 0.1
    assert torch.equal(own_loss(net, attacked, X, 0.5, DRAWS, 0.3), net.loss(net(attacked, order, 0.5), X))
