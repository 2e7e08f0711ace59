"""Square finds the optimum of a linear victim that looks where squares come, without a gradient."""

from __future__ import annotations

import pytest
import torch

from attacks.square import Square
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.testing.victims import SIDE, LinearVictim

#: where the library puts squares: never so that they touch the last row or column
INSIDE = torch.zeros(SIDE, SIDE, dtype=torch.bool)
INSIDE[:-1, :-1] = True


class Victim(LinearVictim):
    """Of two classes, that weighs no pixel but those inside."""

    def __init__(self):
        super().__init__(n_classes=2)
        linear = self.net[2]
        with torch.no_grad():
            linear.weight.mul_(INSIDE.flatten())
            linear.bias.copy_(-0.5 * linear.weight.sum(1))
        self.difference = linear.weight.detach()[0] - linear.weight.detach()[1]

    def dual(self, norm):
        assert norm is Norm.LINF
        return float(self.difference.abs().sum())


def attacked(share):
    """Return margins before and after, with this share of each image's own distance as the budget of all."""
    victim = Victim()
    x, y, draws = victim.images(3)
    y[:] = victim.net(x).argmax(1)  # the edge may have told them
    distances = victim.margins(x, y) / victim.dual(Norm.LINF)
    found = []
    for row, distance in enumerate(distances.tolist()):
        one = slice(row, row + 1)
        threat = ThreatModel(Norm.LINF, share * distance, Knowledge.OBLIVIOUS)
        attack = Square(Square.Options(n_queries=2000, rescale=True))
        found.append(attack.propose(victim, x[one], y[one], threat, draws.take(one)))
    return victim, x, torch.cat(found), y, share * distances


def test_every_image_falls_2_percent_beyond_its_distance():
    victim, _, found, y, _ = attacked(1.02)
    assert bool((victim.margins(found, y) <= 0).all())


@pytest.mark.parametrize("share", [0.5, 0.98])
def test_the_margin_falls_as_far_as_it_can(share):
    victim, x, found, y, eps = attacked(share)
    fall = (victim.margins(x, y) - victim.margins(found, y)) / (eps * victim.dual(Norm.LINF))
    assert fall.tolist() == pytest.approx([1.0] * len(x), rel=0.02)
    assert bool((victim.margins(found, y) > 0).all())
