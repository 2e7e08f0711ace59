"""A contract is worth something only if it can fail: each broken network fails at the right test."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from harness import Network
from harness.testing import NetworkContract


class Good(Network):
    """What the broken ones differ from."""

    def build(self, data):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, data.n_classes))


class Described(Good):
    def build(self, data):
        return {"layers": 2}


class Weightless(Good):
    def build(self, data):
        return super().build(data).requires_grad_(False)


class Net(nn.Module):
    """A module around another one, to be spoiled."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def around(kind):
    class Around(Good):
        def build(self, data):
            return kind(super().build(data))

    return Around


class Noting(Net):
    def get_extra_state(self):
        return {"note": "no tensor"}

    def set_extra_state(self, state):
        pass


class Seeding(Good):
    def build(self, data):
        torch.manual_seed(0)
        return super().build(data)


class FromNumpy(Good):
    def build(self, data):
        net = super().build(data)
        with torch.no_grad():
            net[1].bias += float(np.random.default_rng(0).normal()) + 0.0 * np.random.random()
        return net


class FromPython(Good):
    def build(self, data):
        random.random()
        return super().build(data)


class Rotating(Net):
    """Has a random matrix that is no part of its state."""

    def __init__(self, inner):
        super().__init__(inner)
        self.register_buffer("turn", torch.randn(10, 10), persistent=False)

    def forward(self, x):
        return self.inner(x) @ self.turn


class Dropping(Net):
    def forward(self, x):
        return nn.functional.dropout(self.inner(x), 0.5, training=True)


class Drawing(Net):
    def forward(self, x):
        return self.inner(x) + 0.0 * torch.rand(1)


class Counting(Net):
    def __init__(self, inner):
        super().__init__(inner)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return self.inner(x)


class Idle(Net):
    def __init__(self, inner):
        super().__init__(inner)
        self.spare = nn.Linear(3, 3)


class Centring(Net):
    """Looks across the batch."""

    def forward(self, x):
        return self.inner(x - x.mean(0))


class Short(Net):
    def forward(self, x):
        return self.inner(x)[:, :7]


BROKEN = [
    (Described, "a_module_is_built", "expected a torch.nn.Module from build, got dict"),
    (Weightless, "a_module_is_built", "expected weights to train, got none"),
    (around(Noting), "its_state_is_of_tensors", "something else under _extra_state"),
    (Seeding, "the_seed_is_where_first_weights_come_from", "expected other first weights from another seed"),
    (FromNumpy, "other_generators_are_left_alone", "build drew from them"),
    (FromPython, "other_generators_are_left_alone", "build drew from them"),
    (around(Rotating), "the_state_says_all", "has to be a parameter or a persistent buffer"),
    (around(Dropping), "the_same_images_get_the_same", "let eval\\(\\) reach every part"),
    (around(Drawing), "the_same_images_get_the_same", "expected no draws in evaluation mode"),
    (around(Counting), "the_same_images_get_the_same", "a call changed some"),
    (around(Idle), "every_weight_has_a_gradient", "got none at spare.weight, spare.bias"),
    (around(Centring), "a_classifier_gives_logits_of_each_image_alone", "their own image alone"),
    (around(Short), "a_classifier_gives_logits_of_each_image_alone", "for the dataset's 10 classes, got 7"),
]
TESTS = sorted(name for name in dir(NetworkContract) if name.startswith("test_"))


def contract_of(network):
    class Contract(NetworkContract):
        def make(self):
            return network()

    return Contract()


@pytest.fixture(autouse=True)
def _generators_as_they_were():
    numbers, python = np.random.get_state(legacy=False), random.getstate()
    with torch.random.fork_rng():
        yield
    np.random.set_state(numbers)
    random.setstate(python)


@pytest.mark.parametrize(("network", "test", "sentence"), BROKEN)
def test_a_broken_network_fails(network, test, sentence):
    with pytest.raises(AssertionError, match=sentence):
        getattr(contract_of(network), f"test_{test}")()


@pytest.mark.parametrize("test", TESTS)
def test_what_they_differ_from_passes(test):
    getattr(contract_of(Good), test)()


def test_every_test_of_the_contract_is_seen_to_fail():
    assert {f"test_{test}" for _, test, _ in BROKEN} == set(TESTS)
