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


@pytest.fixture
def fickle():
    return Fickle


@pytest.fixture
def noisy():
    return NoisyLinearVictim


@pytest.fixture
def attacked():
    """Attack the images of a toy victim with a share of the known distance as budget."""

    def attack_it(attack, victim=None, norm=Norm.LINF, share=1.5, n=6):
        victim = victim or LinearVictim()
        x, y, draws = victim.images(n)
        threat = ThreatModel(norm, share * victim.distance(norm), Knowledge.BPDA)
        return attack.propose(victim, x, y, threat, draws), x, y, draws, victim, threat

    return attack_it
