"""Victims that show what attacks do beyond their contract."""

from __future__ import annotations

import pytest
import torch

from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.testing.victims import LinearVictim, NoisyLinearVictim


class Fickle(LinearVictim):
    """Changes its mind by lot: in a share of all draws it answers with the next class, and without a gradient."""

    def __init__(self, share: float = 0.3) -> None:
        super().__init__()
        self.share = share

    @property
    def random(self) -> bool:
        return True

    def logits(self, x, draws):
        logits = super().logits(x, draws)
        return torch.where(draws.at("mood").uniform(1) < self.share, logits.detach().roll(1, 1), logits)


def _moved(victim, x, y, shares):
    """Images on the straight way to the boundary, each its own share of it; a share of 1 is there."""
    rows = victim.net[2].weight.detach()
    way = (rows[(y + 1) % victim.n_classes] - rows[y]).reshape(x.shape)
    length = torch.as_tensor(shares) * victim.margins(x, y) / (way[0] ** 2).sum()
    return x + way * length.reshape(-1, 1, 1, 1)


@pytest.fixture
def moved():
    return _moved


@pytest.fixture
def fickle():
    return Fickle


@pytest.fixture
def noisy():
    return NoisyLinearVictim


@pytest.fixture
def attacked():
    """Attack the images of a toy victim with a share of the known distance as budget.

    With ``spread``, they are moved to between that distance and half of it.
    """

    def attack_it(attack, victim=None, norm=Norm.LINF, share=1.5, n=6, spread=False):
        victim = victim or LinearVictim()
        x, y, draws = victim.images(n)
        if spread:
            x = _moved(victim, x, y, torch.linspace(0.0, 0.5, n))
        threat = ThreatModel(norm, share * victim.distance(norm), Knowledge.BPDA)
        return attack.propose(victim, x, y, threat, draws), x, y, draws, victim, threat

    return attack_it
