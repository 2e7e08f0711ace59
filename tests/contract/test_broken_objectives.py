"""A contract is worth something only if it can fail: each broken objective fails at the right test."""

from __future__ import annotations

import random

import pytest
import torch
from torch.nn import functional as F

from harness import Objective
from harness.testing import ObjectiveContract


class Good(Objective):
    """What the broken ones differ from: the logits of another classifier, on noisy and attacked images."""

    needs = ("classifier", "attack", "threat_model")

    def loss(self, net, batch, beside):
        at = batch.x + 0.01 * batch.draws.at("noise").normal(*batch.x.shape[1:])
        at = beside.attacked(lambda x, _: net(x), at, batch.y, batch.draws, random=False)
        with torch.no_grad():
            wanted = beside.net("classifier")(at)
        return F.mse_loss(net(at), wanted)


def of(loss, **attributes):
    """An objective with another loss."""
    return type("Other", (Good,), {"loss": loss, **attributes})


def with_changed_labels(self, net, batch, beside):
    batch.y[0] = 3
    return Good.loss(self, net, batch, beside)


def with_changed_images(self, net, batch, beside):
    batch.x.clamp_(0.4, 0.6)
    return Good.loss(self, net, batch, beside)


def in_eval_mode(self, net, batch, beside):
    net.eval()
    return Good.loss(self, net, batch, beside)


def with_a_teacher_that_learns(self, net, batch, beside):
    teacher = beside.net("classifier").requires_grad_(True)
    return F.mse_loss(net(batch.x), teacher(batch.x))


def with_a_teacher_in_train_mode(self, net, batch, beside):
    beside.net("classifier").train()
    return Good.loss(self, net, batch, beside)


def with_a_teacher_that_changes(self, net, batch, beside):
    with torch.no_grad():
        next(beside.net("classifier").parameters()).mul_(0.9)
    return Good.loss(self, net, batch, beside)


def with_a_draw(self, net, batch, beside):
    return F.cross_entropy(net(batch.x), batch.y) * (1 + random.random())


BROKEN = [
    (of(Good.loss, needs=("classifier", "teacher")), "what_it_needs_is_what_a_recipe_can_name", "got teacher"),
    (of(Good.loss, needs=("attack", "threat_model")), "it_asks_for_nothing_else", "expected a classifier beside"),
    (of(Good.loss, needs=("classifier", "attack")), "it_asks_for_nothing_else", "expected a threat model"),
    (of(lambda self, net, batch, beside: 0.5), "the_loss_is_one_finite_number", "got float"),
    (
        of(lambda self, net, batch, beside: F.cross_entropy(net(batch.x), batch.y, reduction="none")),
        "the_loss_is_one_finite_number",
        r"got a tensor \(6,\); take the mean",
    ),
    (
        of(lambda self, net, batch, beside: net(batch.x).mean() / 0.0),
        "the_loss_is_one_finite_number",
        "expected a finite loss",
    ),
    (
        of(lambda self, net, batch, beside: Good.loss(self, net, batch, beside).detach()),
        "the_loss_is_one_finite_number",
        "got one without",
    ),
    (
        of(lambda self, net, batch, beside: net(batch.x).mean() * 0.0),
        "the_network_gets_a_gradient",
        "at the network that learns, got none",
    ),
    (
        of(lambda self, net, batch, beside: (net(batch.x) * 0.0).sqrt().mean()),
        "the_network_gets_a_gradient",
        "expected a finite gradient",
    ),
    (
        of(lambda self, net, batch, beside: F.cross_entropy(net(batch.x + torch.rand_like(batch.x)), batch.y)),
        "the_same_batch_has_the_same_loss",
        "draws from a global generator",
    ),
    (of(with_a_draw), "the_same_batch_has_the_same_loss", "draws from a global generator"),
    (of(in_eval_mode), "the_network_is_left_in_train_mode", "got itself"),
    (of(with_changed_images), "the_batch_is_left_alone", "expected images as they were"),
    (of(with_changed_labels), "the_batch_is_left_alone", "expected labels as they were"),
    (of(with_a_teacher_that_learns), "what_it_stands_on_does_not_learn", "expected no gradients at the classifier"),
    (of(with_a_teacher_in_train_mode), "what_it_stands_on_does_not_learn", "expected the classifier in eval mode"),
    (of(with_a_teacher_that_changes), "what_it_stands_on_does_not_learn", "but features.0.weight changed"),
]
TESTS = sorted(name for name in dir(ObjectiveContract) if name.startswith("test_"))


def contract_of(objective):
    class Contract(ObjectiveContract):
        def make(self):
            return objective()

    return Contract()


@pytest.fixture(autouse=True)
def _generator_as_it_was():
    python = random.getstate()
    with torch.random.fork_rng():
        yield
    random.setstate(python)


@pytest.mark.parametrize(("objective", "test", "sentence"), BROKEN)
def test_a_broken_objective_fails(objective, test, sentence):
    with pytest.raises(AssertionError, match=sentence):
        getattr(contract_of(objective), f"test_{test}")()


@pytest.mark.parametrize("test", TESTS)
def test_what_they_differ_from_passes(test):
    getattr(contract_of(Good), test)()


def test_every_test_of_the_contract_is_seen_to_fail():
    assert {f"test_{test}" for _, test, _ in BROKEN} == set(TESTS)
