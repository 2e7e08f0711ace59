"""AToP's fine-tuning, written out."""

import pytest
import torch
from torch.nn import functional as F

from attacks.pgd import PGD
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.nets.transforms import completed
from harness.testing.nets import tiny_cnn, tiny_mae, tiny_unet
from harness.training.context import Batch, Beside
from harness.training.objective_options import AToPObjective
from harness.training.robust import atop

DRAWS = Draws(("atop",), torch.arange(4))
X, Y = 0.2 + 0.6 * DRAWS.at("x").uniform(1, 8, 8), torch.arange(4)
BATCH = Batch(X, Y, torch.Generator(), DRAWS)
FGSM = PGD.Options(steps=1, step_size=0.1, random_start=False)


def beside(knowledge, asked=None, cnn=None):
    class Seen(PGD):
        def propose(self, victim, x, y, threat, draws):
            found = super().propose(victim, x, y, threat, draws)
            if asked is not None:
                asked.append((victim, x, found))
            return found

    return Beside({"classifier": cnn or tiny_cnn()}, Seen(FGSM), ThreatModel(Norm.LINF, 0.1, knowledge), 10)


@pytest.mark.parametrize("transform", ["RT1", "RT2", "RT3"])
@pytest.mark.parametrize("target", ["attacked", "clean"])
def test_the_loss_is_the_generators_own_and_a_weighted_cross_entropy_of_one_pass(transform, target):
    net, cnn, asked = tiny_mae(), tiny_cnn(), []
    how = {"transform": transform, "mask_ratio": 0.25, "sigma": 0.2, "patch": 4}
    objective = AToPObjective(use="atop", target=target, classification_weight=0.3, **how)
    loss = atop(net, BATCH, objective, beside(Knowledge.FULL, asked, cnn))
    ((victim, start, x_adv),) = asked
    assert torch.equal(start, X)
    assert victim.random
    found, image = completed(net, x_adv, DRAWS.at("update"), **how)
    own = (found.patches - net.patchify(x_adv if target == "attacked" else X)) ** 2  # all patches
    expected = own.mean() + 0.3 * F.cross_entropy(cnn(image.clamp(0, 1)), Y)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_fgsm_goes_one_step_of_eps_along_the_sign_through_transform_generator_and_classifier():
    net, cnn, asked = tiny_mae(), tiny_cnn(), []
    objective = AToPObjective(use="atop", sigma=0.2)
    atop(net, BATCH, objective, beside(Knowledge.FULL, asked, cnn))
    ((victim, _, x_adv),) = asked
    at = X.clone().requires_grad_(True)
    here = DRAWS.at("attack", "restart", 0, "step", 0, "eot", 0)
    _, image = completed(net, at, here, transform="RT2", mask_ratio=0.25, sigma=0.2)
    logits = cnn(image.clamp(0, 1))
    assert torch.allclose(victim.logits(X, here), logits, atol=1e-6)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, Y, reduction="sum"), at)
    moved = (X + 0.1 * gradient.sign()).clamp(0, 1)
    for image, first, last in zip(x_adv, X, moved, strict=True):
        assert torch.equal(image, first) or torch.allclose(image, last, atol=1e-6)
    assert sum(torch.allclose(image, last, atol=1e-6) for image, last in zip(x_adv, moved, strict=True)) >= 2


def test_an_attacker_who_does_not_know_of_the_generator_sees_the_classifier_alone():
    net, cnn, asked = tiny_mae(), tiny_cnn(), []
    atop(net, BATCH, AToPObjective(use="atop"), beside(Knowledge.OBLIVIOUS, asked, cnn))
    ((victim, _, _),) = asked
    assert not victim.random
    assert torch.equal(victim.logits(X, DRAWS), cnn(X))


def test_only_the_generator_has_gradients():
    net, cnn = tiny_mae().requires_grad_(True), tiny_cnn()
    atop(net, BATCH, AToPObjective(use="atop"), beside(Knowledge.FULL, cnn=cnn)).backward()
    assert all(weight.grad is None for weight in cnn.parameters())
    assert all(bool(weight.grad.any()) for weight in net.parameters())


def test_another_network_is_told():
    with pytest.raises(TypeError, match="expected a masked autoencoder for this objective, got UNet"):
        atop(tiny_unet(), BATCH, AToPObjective(use="atop"), beside(Knowledge.FULL))
