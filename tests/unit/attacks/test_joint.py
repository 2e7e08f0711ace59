"""The joint attack finds optima that are known in closed form, and asks for what there is."""

import math

import pytest
import torch
from torch.nn import functional as F

from attacks.joint import Joint
from harness.bounds import size
from harness.core.contracts import Setting, Traits
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.execution.worker.victim import DefendedVictim
from harness.testing.nets import CARD, tiny_cnn, tiny_mae
from harness.testing.victims import PIXELS, GuardedLinearVictim, GuardedNoisyLinearVictim

HALF = torch.arange(PIXELS) % 16 < 8


def victim(guarded):
    """Of two classes, so that the margin's gradient is the same everywhere, with these pixels guarded."""
    found = GuardedLinearVictim(n_classes=2)
    found.guarded = guarded
    return found


def uphill(toy, y):
    """The unit vector ``(B, PIXELS)`` along which the margin falls fastest; half of the pixels tell, all alike."""
    weight = toy.net[2].weight.detach()
    way = weight[1 - y] - weight[y]
    return way / way.norm(dim=1, keepdim=True)


def change(toy, norm, eps, **options):
    x, y, draws = toy.images()
    chosen = {"random_start": False, "steps": 150, "step_size": eps / 60, "when": "always", **options}
    found = Joint(Joint.Options(**chosen)).propose(toy, x, y, ThreatModel(norm, eps, Knowledge.BPDA), draws)
    return (found - x).flatten(1), x, y, found


def fall(toy, x, found, y):
    return toy.margins(x, y) - toy.margins(found, y)


@pytest.mark.parametrize("weight", [0.2, 0.5, 0.9])
def test_in_l2_the_optimum_is_that_of_the_closed_form(weight):
    """The way is c, uphill, less weight times the unit of the change in the guarded pixels, where c has the length g.

    It stands still where the change is along it: (1 - weight / g) of c's share in the guarded pixels and all of it in
    the others; where the weight is g or more nothing of the guarded ones is left.
    """
    toy, eps = victim(HALF), 0.1
    delta, x, y, found = change(toy, Norm.L2, eps, weight=weight)
    c = uphill(toy, y)
    g = (c * HALF).norm(dim=1, keepdim=True)
    assert g.flatten().tolist() == pytest.approx([math.sqrt(0.5)] * len(x))
    wanted = torch.where(HALF, (1 - weight / g).clamp_min(0.0) * c, c)
    wanted = eps * wanted / wanted.norm(dim=1, keepdim=True)
    assert torch.allclose(delta, wanted, rtol=0, atol=0.02 * eps)
    reached = fall(toy, x, found, y) / toy.margins(x, y)
    best = (c * wanted).sum(1) * toy.dual(Norm.L2) / toy.margins(x, y)
    assert reached.tolist() == pytest.approx(best.tolist(), rel=0.02)


@pytest.mark.parametrize(("weight", "left_alone"), [(0.3, False), (1.2, True)])
def test_in_linf_the_guarded_pixels_fall_where_the_weight_is_less_than_their_share(weight, left_alone):
    """Of n telling pixels m are guarded: a sign turns at a weight of root(m / n), and nothing in between is optimal."""
    toy, eps = victim(HALF), 0.05
    delta, x, y, found = change(toy, Norm.LINF, eps, weight=weight)
    c = uphill(toy, y)
    wanted = eps * torch.where(HALF & left_alone, 0.0, c.sign())
    assert torch.allclose(delta, wanted, rtol=0, atol=0.02 * eps)
    share = 0.5 if left_alone else 1.0
    assert (fall(toy, x, found, y) / (eps * toy.dual(Norm.LINF))).tolist() == pytest.approx([share] * len(x), rel=0.02)


@pytest.mark.parametrize(("direction", "inner"), [("hide", 0.0), ("disturb", 1.0)])
def test_where_nothing_is_in_conflict_both_optima_are_reached(direction, inner):
    """The guarded pixels are those that tell nothing: from a random start they go home, or as far as they may."""
    toy, eps, norm = GuardedLinearVictim(n_classes=2), 0.05, Norm.LINF
    _, x, y, found = change(toy, norm, eps, direction=direction, random_start=True)
    assert (fall(toy, x, found, y) / (eps * toy.dual(norm))).tolist() == pytest.approx([1.0] * len(x), rel=0.02)
    loss = toy.inner("reconstruction", found, x, None) / eps**2
    assert loss.tolist() == pytest.approx([inner] * len(x), abs=0.02)


def test_without_weight_it_is_pgd():
    from attacks.pgd import PGD

    toy = GuardedNoisyLinearVictim()
    x, y, draws = toy.images()
    threat = ThreatModel(Norm.LINF, 0.05, Knowledge.BPDA)
    options = {"steps": 5, "eot": 2, "restarts": 2}
    found = Joint(Joint.Options(weight=0.0, **options)).propose(toy, x, y, threat, draws)
    assert torch.equal(found, PGD(PGD.Options(**options)).propose(toy, x, y, threat, draws))


def test_by_default_an_image_hides_only_once_it_is_fooled():
    """Half of the images are out of reach: these are attacked as without the inner loss, to the bit."""
    from attacks.pgd import PGD

    toy = victim(HALF)
    x, y, draws = toy.images()
    eps = toy.distance(Norm.LINF)
    x[::2] = x[::2] - (0.5 * eps * uphill(toy, y).sign()[::2]).reshape(-1, *x.shape[1:])  # further from falling
    threat = ThreatModel(Norm.LINF, 1.2 * eps, Knowledge.BPDA)
    options = {"random_start": False, "steps": 60, "step_size": eps / 20}
    plain = PGD(PGD.Options(**options)).propose(toy, x, y, threat, draws)
    looks = len(toy.questions)
    found = Joint(Joint.Options(weight=2.0, **options)).propose(toy, x, y, threat, draws)
    assert (toy.margins(plain, y) < 0).tolist() == [False, True] * 3
    assert torch.equal(found[::2], plain[::2])
    points = torch.stack(toy.questions[looks:])
    inner = torch.stack([toy.inner("", point, x, None) for point in points])
    wrong = torch.stack([toy.margins(point, y) < 0 for point in points])
    fell = wrong[:, 1].float().argmax()
    assert bool((inner[fell:, 1::2].amin(0) < 0.9 * inner[fell, 1::2]).all())  # having fallen, it goes home
    assert bool((inner[1:, ::2] >= inner[:-1, ::2] - 1e-9).all())


@pytest.mark.parametrize(("direction", "sign"), [("hide", -1.0), ("disturb", 1.0)])
def test_plain_losses_are_added_as_they_are(direction, sign):
    """In L2 the second step, from a point where both have one, goes along the gradient of the sum."""
    toy, eps, weight = victim(HALF), 1.0, 200.0
    x, y, draws = toy.images()
    options = Joint.Options(
        scale="plain", weight=weight, direction=direction, when="always", steps=2, step_size=0.01, random_start=False
    )
    asked = []
    toy.logits, old = (lambda at, draws: asked.append(at.detach().clone()) or old(at, draws)), toy.logits
    Joint(options).propose(toy, x, y, ThreatModel(Norm.L2, eps, Knowledge.BPDA), draws)
    start = asked[1].requires_grad_(True)
    loss = F.cross_entropy(toy.net(start), y, reduction="sum") + sign * weight * toy.inner("", start, x, None).sum()
    (way,) = torch.autograd.grad(loss, start)
    wanted = 0.01 * way / way.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    assert torch.allclose(asked[2] - asked[1], wanted, rtol=1e-4, atol=1e-6)
    plain = torch.autograd.grad(F.cross_entropy(toy.net(start), y, reduction="sum"), start)[0]
    assert float(F.cosine_similarity(way.flatten(1), plain.flatten(1)).max()) < 0.999


def test_both_losses_are_asked_of_the_same_draws_anew_in_each_step_or_restart():
    class Watching(GuardedNoisyLinearVictim):
        def __init__(self):
            super().__init__()
            self.outer, self.within = [], []

        def logits(self, x, draws):
            self.outer.append(draws.address)
            return super().logits(x, draws)

        def inner(self, name, x, clean, draws):
            self.within.append(draws.address)
            return super().inner(name, x, clean, draws)

    for masks, number in (("fresh", 2 * 3 * 2), ("per-restart", 2 * 2)):
        toy = Watching()
        x, y, draws = toy.images()
        attack = Joint(Joint.Options(steps=3, restarts=2, eot=2, masks=masks, reevaluate=0))
        attack.propose(toy, x, y, ThreatModel(Norm.LINF, 0.05, Knowledge.BPDA), draws)
        assert len(set(toy.outer)) == number
        with_gradient = [address for step in range(8) if step % 4 < 3 for address in toy.outer[2 * step : 2 * step + 2]]
        assert toy.within[:-2] == with_gradient  # the last two are for the notes


def test_the_inner_loss_is_noted_on_the_clean_and_the_proposed_images():
    toy = GuardedLinearVictim()
    x, y, draws = toy.images()
    attack = Joint(Joint.Options(direction="disturb", when="always"))
    found = attack.propose(toy, x, y, ThreatModel(Norm.LINF, 0.05, Knowledge.BPDA), draws)
    assert torch.equal(toy.notes["reconstruction_clean"][0], torch.zeros(len(x)))
    assert torch.allclose(toy.notes["reconstruction_proposed"][0], toy.inner("", found, x, None))
    assert float(toy.notes["reconstruction_proposed"][0].min()) > 0


def test_it_works_through_a_real_purifier_in_every_gradient_mode_that_knows_it():
    from defenses.mae_pure import MAEPure
    from harness.core.threat import Smoothing

    draws = Draws(("real",), torch.arange(3))
    x, y = draws.at("x").uniform(1, 8, 8), torch.arange(3)
    defense = MAEPure(MAEPure.Options(mae="tiny", steps=2))
    for knowledge, known in ((Knowledge.BPDA, defense), (Knowledge.SMOOTH, defense.smoothed(Smoothing()))):
        for inner in MAEPure.inner:
            seen = DefendedVictim(tiny_cnn(), known, {"mae": tiny_mae()}, knowledge, 10, batch_size=2)
            attack = Joint(Joint.Options(inner=inner, steps=3))
            found = attack.propose(seen, x, y, ThreatModel(Norm.LINF, 0.1, knowledge), draws)
            assert float(size(found - x, Norm.LINF).max()) <= 0.1 + 1e-6
            assert {f"{inner}_clean", f"{inner}_proposed"} <= set(seen.gauge.notes())


def test_it_refuses_who_does_not_know_and_what_has_no_such_loss():
    def why(knowledge, has, **options):
        traits = Traits(random=True, differentiable=True)
        return Joint(Joint.Options(**options)).refuses(
            Setting(CARD, ThreatModel(Norm.LINF, 0.1, knowledge), traits, has)
        )

    assert "an oblivious attacker does not know" in why(Knowledge.OBLIVIOUS, ())
    assert "asks for the inner loss 'attention', and the defense has deviation" in why(
        Knowledge.FULL, ("deviation",), inner="attention"
    )
    assert "the defense has none" in why(Knowledge.FULL, ())
    for knowledge in Knowledge:
        if knowledge is not Knowledge.OBLIVIOUS:
            assert why(knowledge, ("deviation",), inner="deviation", direction="disturb") is None
