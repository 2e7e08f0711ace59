"""A defense whose traits are untrue is found out by a few images; one whose are true is not."""

from __future__ import annotations

import random

import pytest
import torch

from harness.core.contracts import Traits
from harness.execution.worker.trial import trial

X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
IDS = torch.arange(5)


class _Defense:
    traits = Traits(random=False, differentiable=True)

    def __init__(self):
        self.calls = 0


class Darker(_Defense):
    def purify(self, x, nets, draws):
        return x * 0.9


class Drawing(_Defense):
    """Random by its draws."""

    def purify(self, x, nets, draws):
        return (x + 0.1 * draws.normal(*x.shape[1:])).clamp(0, 1)


class Careless(_Defense):
    """Random by nobody's draws."""

    traits = Traits(random=True, differentiable=True)

    def purify(self, x, nets, draws):
        return (x + 0.1 * random.random()).clamp(0, 1)


class Counting(_Defense):
    def purify(self, x, nets, draws):
        self.calls += 1
        return x / self.calls


class Level(_Defense):
    def purify(self, x, nets, draws):
        return (x + x.mean() - x.mean((1, 2, 3), keepdim=True)).clamp(0, 1)


class Ordered(_Defense):
    def purify(self, x, nets, draws):
        return x * torch.linspace(0.5, 1.0, len(x), dtype=x.dtype).reshape(-1, 1, 1, 1)


class Signs(_Defense):
    """Moves by signs of sums that come out otherwise in another order, which is honest."""

    def purify(self, x, nets, draws):
        return (x + 0.02 * torch.sign(x - x.flip(-1))).clamp(0, 1)


@pytest.mark.parametrize(
    ("defense", "untrue"),
    [
        (Darker, []),
        (Signs, []),
        (Drawing, ["untrue: random"]),
        (Careless, ["untrue: stateful"]),
        (Counting, ["untrue: stateful"]),
        (Level, ["untrue: batchwise"]),
        (Ordered, ["untrue: batchwise"]),
    ],
)
def test_untrue_traits_are_told(defense, untrue):
    assert list(trial(defense, {}, X, IDS)) == untrue


@pytest.mark.parametrize("traits", [{"random": True}, {"stateful": True}, {"batchwise": True}])
def test_what_a_defense_says_of_itself_is_no_fault(traits):
    kind = {"random": Drawing, "stateful": Counting, "batchwise": Level}[next(iter(traits))]
    honest = type("Honest", (kind,), {"traits": Traits(**{"random": False, "differentiable": True, **traits})})
    assert trial(honest, {}, X, IDS) == {}


def test_one_image_is_enough_to_try():
    assert trial(Darker, {}, X[:1], IDS[:1]) == {}
