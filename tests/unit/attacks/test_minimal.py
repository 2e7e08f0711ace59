"""Attacks that look for the smallest perturbation find the one that is known in closed form, and say how far it is."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from attacks.minimal import DDN, BrendelBethge, CarliniWagner, DeepFool
from harness import bounds
from harness.core.contracts import Setting, Traits
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.testing.nets import CARD
from harness.testing.victims import LinearVictim

#: steps enough for a linear victim; DeepFool oversteps by 2 % unless told
ATTACKS = {
    "ddn": (lambda **more: DDN(DDN.Options(steps=50, **more)), (Norm.L2,)),
    "cw": (
        lambda **more: CarliniWagner(
            CarliniWagner.Options(steps=40, search_steps=4, step_size=0.1, initial_const=1, **more)
        ),
        (Norm.L2,),
    ),
    "deepfool": (lambda **more: DeepFool(DeepFool.Options(overshoot=0.01, **more)), (Norm.LINF, Norm.L2)),
    "brendel-bethge": (
        lambda **more: BrendelBethge(BrendelBethge.Options(steps=60, **more)),
        (Norm.LINF, Norm.L2, Norm.L1),
    ),
}
SLOW = "brendel-bethge"
attacks = pytest.mark.parametrize(
    ("name", "norm"),
    [
        pytest.param(name, norm, marks=[pytest.mark.slow] if name == SLOW else [])
        for name, (_, norms) in ATTACKS.items()
        for norm in norms
    ],
)
quick = pytest.mark.parametrize("name", [name for name in ATTACKS if name != SLOW])


class Noted(LinearVictim):
    """A victim that may be blind, and right about whatever image it is shown."""

    def __init__(self, blind=False):
        super().__init__()
        self.blind = blind

    @property
    def noted(self):
        """The last of each claim."""
        return {name: values[-1] for name, values in self.notes.items()}

    def logits(self, x, draws):
        logits = super().logits(x, draws)
        return 0.0 * logits + torch.eye(10)[draws.examples] if self.blind else logits


def attack(victim, name, norm, eps, **more):
    x, y, draws = victim.images()
    make, _ = ATTACKS[name]
    if name == SLOW:
        pytest.importorskip("numba", reason="the solver is compiled by numba, of the extra brendel-bethge")
    return x, make(**more).propose(victim, x, y, ThreatModel(norm, eps, Knowledge.OBLIVIOUS), draws)


@attacks
@pytest.mark.parametrize("share", [0.5, 3.0])
def test_the_known_distance_is_found_whatever_eps_is(name, norm, share):
    victim = Noted()
    attack(victim, name, norm, share * victim.distance(norm))
    assert victim.noted["distance"].tolist() == pytest.approx([victim.distance(norm)] * 6, rel=0.02)


@attacks
def test_what_is_found_is_proposed_where_eps_allows_it_and_else_the_way_there(name, norm):
    victim = Noted()
    distance = victim.distance(norm)
    x, whole = attack(victim, name, norm, 3 * distance)
    assert torch.allclose(bounds.size(whole - x, norm), victim.noted["distance"])
    _, part = attack(victim, name, norm, 0.5 * distance)
    assert bounds.size(part - x, norm).tolist() == pytest.approx([0.5 * distance] * 6, rel=1e-4)
    assert torch.allclose(part, bounds.project(whole, x, 0.5 * distance, norm), atol=1e-6)


@attacks
def test_extended_it_goes_to_the_edge_of_the_ball_along_the_same_line(name, norm):
    victim = Noted()
    eps = 1.5 * victim.distance(norm)
    x, found = attack(victim, name, norm, eps)
    _, beyond = attack(victim, name, norm, eps, extend=True)
    assert bounds.size(beyond - x, norm).tolist() == pytest.approx([eps] * 6, rel=1e-4)
    cosine = torch.nn.functional.cosine_similarity((found - x).flatten(1), (beyond - x).flatten(1))
    assert bool((cosine > 0.999).all())


@quick
def test_where_nothing_is_found_the_distance_is_infinite_and_proposals_keep_the_contract(name):
    victim = Noted(blind=True)
    norm = ATTACKS[name][1][0]
    x, proposed = attack(victim, name, norm, 0.1)
    assert victim.noted["distance"].tolist() == [torch.inf] * 6
    assert bool(torch.isfinite(proposed).all())
    assert float(bounds.size(proposed - x, norm).max()) <= 0.1 + bounds.tolerance(0.1)
    assert name != "cw" or torch.equal(proposed, x)  # the library's black image is not what it found


@quick
def test_an_image_that_is_misclassified_already_is_at_no_distance(name):
    victim = Noted()
    x, y, draws = victim.images()
    make, norms = ATTACKS[name]
    make().propose(victim, x, (y + 3) % 10, ThreatModel(norms[0], 0.1, Knowledge.OBLIVIOUS), draws)
    assert victim.noted["distance"].tolist() == pytest.approx([0.0] * 6, abs=1e-4)


def test_without_numba_it_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    setting = Setting(CARD, ThreatModel(Norm.L2, 0.1, Knowledge.FULL), Traits(False, True))
    assert "install purebench[brendel-bethge]" in BrendelBethge(BrendelBethge.Options()).refuses(setting)
