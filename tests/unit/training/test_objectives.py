"""Objectives: each trains what it should and nothing else, the same way every time, and is what its formula says."""

from __future__ import annotations

import copy
import math
from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attacks.pgd import PGD
from harness import bounds
from harness.core.errors import UserError
from harness.core.registry import find
from harness.core.spec import Spec
from harness.core.threat import BALLS, Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.suite.components import training_plan
from harness.testing.nets import CARD, tiny_cnn, tiny_mae
from harness.training.context import Batch, Beside, Learner, held, kl
from harness.training.forward import denoised, halves, one_pass
from harness.training.loop import train
from harness.training.losses import LOSSES, gamma
from harness.training.objective_options import DIRObjective, SmoothClassifyObjective, TradesObjective
from harness.training.objectives import TABLE

DRAWS = Draws(("objectives",), torch.arange(6))
X = 0.1 + 0.8 * DRAWS.at("x").uniform(1, 8, 8)
Y = torch.arange(6) % 10
BUDGET = ThreatModel(Norm.LINF, 0.1, Knowledge.OBLIVIOUS)
CNN = {"use": "cnn", "width": 8, "hidden": 32}
MAE = {"use": "mae", "patch": 2, "dim": 8, "depth": 1, "heads": 2} | {
    "decoder_dim": 8,
    "decoder_depth": 1,
    "decoder_heads": 2,
}
DIR = {"use": "dir", "patch": 2, "dim": 8, "depth": 1, "heads": 2, "decoder_depth": 1}
MASKDIT = MAE | {"use": "maskdit"}
UNET = {"use": "unet", "channels": [8], "groups": 4}
JOINT = {"use": "joint", "purifier": DIR, "classifier": CNN}

#: objective -> the net that it trains, its threat model, the roles that it stands on
RUNS = {
    "adversarial": (CNN, {"eps": 0.1}, ()),
    "trades": (CNN, {"eps": 0.1, "objective": {"steps": 2}}, ()),
    "smooth-classify": (CNN, {}, ()),
    "classify-purified": (CNN, {}, ("init", "purifier")),
    "noisy-image": (MAE, {}, ()),
    "masked-diffusion": (MASKDIT, {}, ()),
    "purify-classify": (MAE, {"eps": 0.1, "knowledge": "full", "objective": {"mask_ratio": 0.25}}, ("classifier",)),
    "purify-pixels": (MAE, {"eps": 0.3}, ("classifier",)),
    "restore": (DIR, {"eps": 0.3}, ("classifier",)),
    "atop": (MAE, {"eps": 0.1, "knowledge": "full", "objective": {"sigma": 0.1}}, ("classifier",)),
    "bridge": (UNET, {"eps": 0.1, "knowledge": "full"}, ("classifier",)),
    "dir": (JOINT, {"eps": 0.1, "knowledge": "full", "objective": {"kl_steps": 2}}, ("classifier",)),
}

#: whose loss is half of what it was after few steps, each of which takes long
FAST = ("atop", "bridge", "dir")


def batch(draws=DRAWS):
    return Batch(X, Y, torch.Generator(), draws)


def state(net):
    return copy.deepcopy(net.state_dict())


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def trained(split):
    """Train a network; a threat model is given as its eps and knowledge, the attack is PGD's."""

    def made(net, use, *, eps=None, knowledge="oblivious", nets=None, **changes):
        objective = {"use": use} | changes.pop("objective", {})
        plan = {"net": net, "objective": objective, "steps": 12, "batch_size": 32} | changes
        if eps is not None:
            plan["threat_model"] = {"use": "Linf", "params": {"eps": eps, "knowledge": knowledge}}
        attack = None if eps is None else PGD(PGD.Options(steps=2))
        return train(
            training_plan(Spec.of("recipe", net["use"], 1, plan)),
            CARD,
            split,
            lambda share: None,
            nets=nets,
            attack=attack,
        )

    return made


@pytest.fixture(scope="module")
def cnn(trained):
    """A classifier that gets most images right."""
    return trained(CNN, "classify", steps=120, optimiser={"lr": 5e-3}).net


@pytest.fixture(scope="module")
def mae(trained):
    """An autoencoder that has learned a little."""
    return trained(MAE, "reconstruct", steps=150, optimiser={"lr": 5e-3}).net


@pytest.fixture
def run(trained, cnn, mae):
    """Train by an objective, beside copies of a trained classifier and autoencoder; also return these."""

    def made(use, **changes):
        net, how, roles = RUNS[use]
        whole = {"init": cnn, "classifier": cnn, "purifier": mae}
        nets = {role: copy.deepcopy(whole[role]) for role in roles}
        return trained(net, use, nets=nets, **{**how, **changes}), nets

    return made


@pytest.mark.parametrize("use", RUNS)
def test_the_same_recipe_gives_the_same_weights_whatever_was_drawn_before(run, use):
    first, _ = run(use, steps=3)
    torch.rand(5)
    again, _ = run(use, steps=3)
    assert same(state(first.net), state(again.net))
    assert not same(state(first.net), state(run(use, steps=3, seed=1)[0].net))


@pytest.mark.parametrize(
    "use", [*sorted(RUNS.keys() - {"purify-classify"}), pytest.param("purify-classify", marks=pytest.mark.slow)]
)
def test_the_loss_falls_and_what_is_stood_on_stays_as_it_was(run, cnn, mae, use):
    made, nets = run(use, steps=40 if use in FAST else 100, optimiser={"lr": 5e-3})
    losses = [loss for _, loss in made.curve]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    for role, whole in (("classifier", cnn), ("purifier", mae)):
        assert role not in nets or same(state(nets[role]), state(whole))


def test_every_objective_has_a_loss_of_its_name():
    assert set(LOSSES) | {"published"} == set(TABLE)
    assert set(RUNS) | {"classify", "reconstruct", "denoise-masked", "diffuse"} == set(LOSSES)
    for name in LOSSES:
        component = find("objective", name).load()
        assert component.code == f"harness.training.losses:LOSSES[{name}]"
        assert get_args(component.Options.model_fields["use"].annotation) == (name,)


@pytest.mark.parametrize("use", ["adversarial", "trades"])
def test_training_against_an_attack_makes_a_classifier_that_stands_it(run, trained, split, use):
    robust, _ = run(use, eps=0.3, steps=150, optimiser={"lr": 5e-3})
    plain = trained(CNN, "classify", steps=150, optimiser={"lr": 5e-3})
    x, y = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    draws = Draws(("test",), torch.arange(len(x)))
    right = []
    for net in (plain.net, robust.net):
        victim = Learner(lambda at, _, net=net: net(at), 10, False)
        x_adv = PGD(PGD.Options(steps=10)).propose(
            victim, x, y, ThreatModel(Norm.LINF, 0.3, Knowledge.OBLIVIOUS), draws
        )
        right.append(int((net(x_adv).argmax(1) == y).sum()))
    assert right[1] >= right[0] + 20


def test_a_purifier_that_is_tuned_against_attacks_brings_more_of_them_back(run, mae, cnn, split):
    x, y = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    draws = Draws(("test",), torch.arange(len(x)))
    threat = ThreatModel(Norm.LINF, 0.45, Knowledge.OBLIVIOUS)
    x_adv = PGD(PGD.Options(steps=10)).propose(Learner(lambda at, _: cnn(at), 10, False), x, y, threat, draws)
    tuned, _ = run("purify-pixels", steps=100, eps=0.45, optimiser={"lr": 5e-3})
    apart = [float((one_pass(net, x_adv, 0.0, draws) - x).abs().mean()) for net in (mae, tuned.net)]
    assert apart[1] < 0.8 * apart[0]


# ---------------------------------------------------------------------- what the parts are


def test_gamma_has_the_moments_of_its_shape_and_scale():
    found = gamma(Draws(("gamma",), torch.arange(20_000)), 25, 3 / 255)
    assert float(found.mean()) == pytest.approx(75 / 255, rel=0.01)
    assert float(found.std()) == pytest.approx(15 / 255, rel=0.03)
    assert float(found.min()) > 0


def test_kl_is_the_divergence_from_the_second_to_the_first():
    moved, still = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[0.0, 2.0, 0.0]])
    p, q = still.softmax(1), moved.softmax(1)
    assert float(kl(moved, still)) == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-5)
    assert float(kl(still, still)) == 0.0


def test_trades_without_a_way_to_move_is_the_cross_entropy():
    class Constant(nn.Module):
        def forward(self, x):
            return 0.0 * x.flatten(1)[:, :10] + torch.arange(10.0)

    loss = LOSSES["trades"](Constant(), batch(), TradesObjective(use="trades"), Beside(threat=BUDGET))
    assert float(loss) == pytest.approx(float(F.cross_entropy(torch.arange(10.0).expand(6, -1), Y)))


def test_a_classifier_that_noise_does_not_move_pays_for_its_entropy_alone():
    class Flat(nn.Module):
        def forward(self, x):
            return 0.0 * x.flatten(1)[:, :10]

    objective = SmoothClassifyObjective(use="smooth-classify", consistency=9.0, entropy=0.5)
    loss = LOSSES["smooth-classify"](Flat(), batch(), objective, Beside())
    assert float(loss) == pytest.approx(math.log(10) + 0.5 * math.log(10), rel=1e-5)


@pytest.mark.parametrize("norm", BALLS)
def test_an_ascent_raises_the_divergence_within_the_budget(norm):
    net, eps = tiny_cnn(), 0.2 if norm is Norm.LINF else 1.0
    still = net(X)
    beside = Beside(threat=ThreatModel(norm, eps, Knowledge.OBLIVIOUS))
    found = beside.ascend(lambda at: kl(net(at), still), X, 5, None, DRAWS)
    assert float(bounds.size(found - X, norm).max()) <= eps + bounds.tolerance(eps)
    near = bounds.project(X + eps * bounds.steepest(DRAWS.at("near").normal(1, 8, 8), norm), X, eps, norm)
    assert bool((kl(net(found), still) > kl(net(near), still)).all())
    assert not found.requires_grad


def test_the_perturbation_of_dir_is_projected_into_the_budget(trained, monkeypatch):
    net = trained(JOINT, "dir", eps=0.1, steps=1).net
    seen = []
    forward = type(net.classifier).forward

    def watched(self, x):
        seen.append(x.detach().clone())
        return forward(self, x)

    monkeypatch.setattr(type(net.classifier), "forward", watched)
    objective = DIRObjective(use="dir", kl_steps=20, kl_step_size=0.1)
    LOSSES["dir"](net, batch(), objective, Beside({}, PGD(PGD.Options(steps=1)), BUDGET, 10))
    restored, moved = seen[-22], seen[-1]  # the purified images, 20 looks in the ascent, and what it came to
    assert 0.05 < float((moved - restored).abs().max()) <= 0.1 + bounds.tolerance(0.1)


def test_visible_patches_are_kept_or_decoded():
    net, draws = tiny_mae(), DRAWS.at("pass")
    kept, decoded = (one_pass(net, X, 0.5, draws, visible) for visible in ("kept", "decoded"))
    hidden = net(X, draws.at("mask").permutation(net.n_patches), 0.5).hidden
    assert torch.equal(net.patchify(kept)[hidden], net.patchify(decoded)[hidden])
    assert torch.equal(net.patchify(kept)[~hidden], net.patchify(X)[~hidden])
    assert not torch.isclose(net.patchify(decoded)[~hidden], net.patchify(X)[~hidden]).all()


def test_halves_of_an_autoencoder_are_averaged_and_are_complementary():
    net, draws = tiny_mae(), DRAWS.at("pass")
    order = draws.at("mask").permutation(net.n_patches)
    one, other = (net(X, half, 0.5) for half in (order, order.flip(1)))
    assert bool((one.hidden ^ other.hidden).all())
    assert torch.allclose(halves(net, X, draws), net.unpatchify((one.patches + other.patches) / 2), atol=1e-6)


def test_denoising_leaves_the_range_nowhere_and_draws_by_image():
    net, sigma = tiny_mae(), torch.full((6,), 0.3)
    found = denoised(net, X, sigma, DRAWS)
    assert float(found.min()) >= 0.0
    assert float(found.max()) <= 1.0
    assert torch.allclose(denoised(net, X[2:4], sigma[2:4], DRAWS.take(slice(2, 4))), found[2:4], atol=1e-5)


def test_a_network_is_held_in_eval_mode_while_it_is_attacked():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5)).train()
    with held(net):
        assert not net[1].training
    assert net[1].training


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        ("adversarial", "expected a threat model to train under, got none|expected an attack to train against"),
        ("purify-classify", "expected a classifier beside the network that is trained, got none"),
        ("classify-purified", "expected a purifier beside the network that is trained, got none"),
    ],
)
def test_what_is_missing_beside_is_told(trained, use, sentence):
    with pytest.raises(UserError, match=sentence):
        trained(RUNS[use][0], use)
