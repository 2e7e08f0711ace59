"""Gradients that are not finite in some pixels: attacks go on with the rest, and the gauge says how often."""

from __future__ import annotations

import pytest
import torch

from attacks.apgd import APGD
from attacks.autoattack import AutoAttack
from attacks.fab import FAB
from attacks.fgsm import FGSM
from attacks.joint import Joint
from attacks.minimal import DDN, CarliniWagner, DeepFool
from attacks.pgd import PGD
from harness.core.contracts import Traits
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.execution.worker.victim import DefendedVictim
from harness.testing.flawed import Rooted
from harness.testing.victims import LinearVictim

ATTACKS = {
    "pgd": (PGD(PGD.Options(steps=20)), (Norm.LINF, Norm.L2, Norm.L1)),
    "pgd-margin": (PGD(PGD.Options(steps=20, loss="margin", random_start=False)), (Norm.LINF, Norm.L2, Norm.L1)),
    "fgsm": (FGSM(FGSM.Options()), (Norm.LINF, Norm.L2, Norm.L1)),
    # in L1 it blackens pixels itself, which have no gradient then
    "apgd": (APGD(APGD.Options(steps=20)), (Norm.LINF, Norm.L2)),
    "autoattack": (
        AutoAttack(AutoAttack.Options(version="custom", attacks=["apgd-ce", "fab-t"])),
        (Norm.LINF, Norm.L2, Norm.L1),
    ),
    "fab": (FAB(FAB.Options(steps=20, targets=3)), (Norm.LINF, Norm.L2)),
    "ddn": (DDN(DDN.Options(steps=50)), (Norm.L2,)),
    "cw": (CarliniWagner(CarliniWagner.Options(steps=40, search_steps=4, step_size=0.1, initial_const=1)), (Norm.L2,)),
    "deepfool": (DeepFool(DeepFool.Options()), (Norm.LINF, Norm.L2)),
}


def black_pixels():
    """Images of the linear victim, two of whose pixels are black; what these weigh is given to all others."""
    victim = LinearVictim()
    x, y, draws = victim.images()
    x[:, 0, 0, :2] = 0.0
    return victim, x, y, draws


@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name, (_, norms) in ATTACKS.items() for norm in norms])
def test_an_attack_goes_on_with_the_finite_part(name, norm):
    victim, x, y, draws = black_pixels()
    right = victim.margins(x, y) > 0
    assert bool(right.all())
    behind = DefendedVictim(victim.net, Rooted(Rooted.Options()), {}, Knowledge.FULL, 10)
    # two of 64 pixels are left out: what remains of the budget is enough by far
    eps = 2.0 * victim.distance(norm)
    found = ATTACKS[name][0].propose(behind, x, y, ThreatModel(norm, eps, Knowledge.FULL), draws)
    assert bool(torch.isfinite(found).all())
    assert bool((victim.margins(found, y) <= 0).all())
    notes = behind.gauge.notes()
    if name != "cw":  # whose change of variables never comes to 0, and whose margin counts for nothing once it fools
        assert notes["not_finite"][0] > 0
        assert notes["zero_gradient"][0] == 0
    assert notes.get("no_better", (0.0, 6))[0] == 0


class Shattered:
    """Returns the images, with a gradient that is nowhere finite."""

    traits = Traits(random=False, differentiable=True)
    inner = ("deviation",)

    def purify(self, x, nets, draws):
        class Broken(torch.autograd.Function):
            @staticmethod
            def forward(context, x):
                return x.clone()

            @staticmethod
            def backward(context, gradient):
                return torch.full_like(gradient, torch.nan)

        return Broken.apply(x)

    def inner_loss(self, name, x, clean, nets, draws):
        return (self.purify(x, nets, draws) ** 2).flatten(1).mean(1)


@pytest.mark.parametrize(
    "attack",
    [
        PGD(PGD.Options(steps=5)),
        PGD(PGD.Options(steps=5, random_start=False, restarts=2)),
        Joint(Joint.Options(inner="deviation", steps=5)),
        APGD(APGD.Options(steps=5)),
    ],
    ids=["pgd", "from-the-image", "joint", "apgd"],
)
def test_where_nothing_is_finite_the_notes_say_that_nothing_was_found(attack):
    victim = LinearVictim()
    x, y, draws = victim.images()
    behind = DefendedVictim(victim.net, Shattered(), {}, Knowledge.FULL, 10)
    eps = 0.5 * victim.distance(Norm.LINF)
    found = attack.propose(behind, x, y, ThreatModel(Norm.LINF, eps, Knowledge.FULL), draws)
    assert bool(torch.isfinite(found).all())
    notes = behind.gauge.notes()
    assert (notes["not_finite"][0], notes["zero_gradient"][0]) == (1.0, 1.0)
    if not isinstance(attack, APGD):  # whose random start may be better than the image itself
        assert notes["no_better"] == (1.0, len(x))
    if isinstance(attack, Joint):
        assert notes["inner_not_finite"][0] == 1.0
