"""stAdv on ramps, where the strongest flow of a linear classifier is known in closed form."""

from __future__ import annotations

import pytest
import torch

from attacks.stadv import StAdv, roughness
from harness import bounds
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws

SIDE, SLOPE, EPS = 8, 0.05, 0.5
DRAWS = Draws(("ramps",), torch.arange(4))


class Ramps:
    """Two classes, told apart by a weighted sum of pixels; the images grow brighter to the right, by SLOPE a pixel.

    A move to the right by d brightens a pixel by SLOPE d, exactly, and one up or down does nothing. The columns at the
    edges, where images are mirrored, have no weight. So no flow within eps lowers the margin by more than
    eps SLOPE times the sum of the absolute weights, and that which moves each pixel against its weight does.
    """

    n_classes, random = 2, False

    def __init__(self, noise=0.0, factor=1.0):
        self.weights = Draws(("weights",), torch.arange(1)).normal(1, SIDE, SIDE)
        self.weights[..., [0, -1]] = 0.0
        self.noise, self.random, self.asked = noise, noise > 0, []
        self.factor = factor
        self.x = 0.2 + SLOPE * torch.arange(float(SIDE)).expand(4, 1, SIDE, SIDE)
        self.bias = 0.1 + EPS * SLOPE * float(self.weights.abs().sum()) - float((self.weights * self.x[:1]).sum())

    def progress(self, fraction): ...

    def note(self, name, values): ...

    def margins(self, x):
        return (self.weights * x).flatten(1).sum(1) + self.bias

    def logits(self, x, draws):
        self.asked.append(draws.address)
        seen = x + self.noise * draws.at("noise").normal(*x.shape[1:]) if self.noise else x
        margin = self.margins(seen)
        return self.factor * torch.stack([margin, torch.zeros_like(margin)], 1)


def attack(victim, eps=EPS, **options):
    threat = ThreatModel(Norm.FLOW, eps, Knowledge.OBLIVIOUS)
    y = torch.zeros(4, dtype=torch.int64)
    return StAdv(StAdv.Options(**options)).propose(victim, victim.x, y, threat, DRAWS)


@pytest.mark.parametrize("random_start", [True, False])
def test_without_a_price_for_roughness_the_strongest_flow_is_found(random_start):
    victim = Ramps()
    flow = attack(victim, tau=0, random_start=random_start)
    strongest = -EPS * victim.weights[0].sign()[..., 1:-1].expand(4, SIDE, SIDE - 2)
    assert torch.allclose(flow[:, 1, :, 1:-1], strongest, atol=1e-5)
    assert victim.margins(bounds.warp(victim.x, flow)).tolist() == pytest.approx([0.1] * 4, abs=1e-4)


def test_what_is_out_of_reach_stands_and_a_little_more_room_does_it():
    victim = Ramps()
    reach = EPS * SLOPE * float(victim.weights.abs().sum())
    for eps, correct in ((EPS * (1 + 0.09 / reach), True), (EPS * (1 + 0.11 / reach), False)):
        margins = victim.margins(bounds.warp(victim.x, attack(victim, eps, tau=0)))
        assert bool(((margins > 0) == correct).all())


def test_a_price_for_roughness_makes_smoother_flows_of_a_larger_margin():
    victim = Ramps()
    rough, smooth = attack(victim, tau=0, random_start=False), attack(victim, tau=0.05, random_start=False)
    assert bool((roughness(smooth) < 0.9 * roughness(rough)).all())
    margins = [victim.margins(bounds.warp(victim.x, flow)) for flow in (rough, smooth)]
    assert bool((margins[0] < margins[1]).all())


@pytest.mark.parametrize(("noise", "looks", "fresh"), [(0.0, 6, 5), (0.05, 18 + 7 * 3, 15 + 7)])
def test_a_random_victim_is_asked_with_fresh_draws_and_another_once(noise, looks, fresh):
    victim = Ramps(noise=noise)
    attack(victim, steps=5, eot=3, reevaluate=7)  # of the last flow and the two best
    assert (len(victim.asked), len(set(victim.asked))) == (looks, fresh)


@pytest.mark.parametrize("factor", [1e-3, 1e3, 1e6])
def test_the_unit_of_the_logits_changes_neither_strength_nor_smoothness(factor):
    victims = Ramps(), Ramps(factor=factor)
    flows = [attack(victim, random_start=False) for victim in victims]
    usual, scaled = (float(roughness(flow).mean()) for flow in flows)
    # tau weighs as much up to the power of 2 that is nearest
    assert 0.7 < scaled / usual < 1.4
    usual, scaled = (float(victims[0].margins(bounds.warp(victims[0].x, flow)).mean()) for flow in flows)
    assert usual == pytest.approx(scaled, rel=0.1)


def test_roughness_is_that_of_the_definition():
    flow = Draws(("flow",), torch.arange(2)).normal(2, 3, 4)
    for row in range(2):
        total = 0.0
        for i in range(3):
            for j in range(4):
                for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                    if 0 <= i + down < 3 and 0 <= j + right < 4:
                        total += float((flow[row, :, i, j] - flow[row, :, i + down, j + right]).norm())
        assert float(roughness(flow)[row]) == pytest.approx(total, rel=1e-5)


def test_a_flow_that_is_the_same_everywhere_is_not_rough_and_has_no_slope():
    flow = torch.full((1, 2, 4, 4), 0.3, requires_grad=True)
    rough = roughness(flow)
    assert rough.item() < 1e-3
    (gradient,) = torch.autograd.grad(rough.sum(), flow)
    assert not gradient.any()
