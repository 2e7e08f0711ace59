"""What an attacker sees, under each knowledge of the defense."""

import pytest
import torch
from torch import nn

from harness.components import Purifier
from harness.core.contracts import Traits
from harness.core.threat import Knowledge
from harness.draws import Draws
from harness.execution.worker.victim import DefendedVictim, known_draws
from harness.testing.nets import tiny_cnn

DRAWS = Draws(("victim",), torch.arange(3))
COTANGENT = DRAWS.at("cotangent").normal(10)


class Squash(Purifier):
    """Squares the pixels and adds a little noise: differentiable, its Jacobian is diag(2 x)."""

    traits = Traits(random=True, differentiable=True)
    unclipped = True

    def purify(self, x, nets, draws):
        return x**2 + 0.01 * draws.at("noise").normal(1, 8, 8)


@pytest.fixture
def x():
    return DRAWS.at("x").uniform(1, 8, 8)


def victim(knowledge, classifier=None):
    defense = None if knowledge is Knowledge.OBLIVIOUS else Squash()
    return DefendedVictim(classifier or tiny_cnn(), defense, {}, knowledge, 10)


def value_and_gradient(function, x):
    at = x.clone().requires_grad_(True)
    logits = function(at)
    (gradient,) = torch.autograd.grad((logits * COTANGENT).sum(), at)
    return logits.detach(), gradient


def test_bpda_has_the_classifiers_gradient_at_the_purified_point(x):
    purified = Squash().purify(x, {}, DRAWS)
    logits, gradient = value_and_gradient(lambda at: victim(Knowledge.BPDA).logits(at, DRAWS), x)
    expected_logits, expected = value_and_gradient(tiny_cnn(), purified)
    assert torch.equal(logits, expected_logits)
    assert torch.equal(gradient, expected)


def test_full_is_the_chain_rule(x):
    purified = Squash().purify(x, {}, DRAWS)
    logits, gradient = value_and_gradient(lambda at: victim(Knowledge.FULL).logits(at, DRAWS), x)
    expected_logits, outer = value_and_gradient(tiny_cnn(), purified)
    assert torch.equal(logits, expected_logits)
    assert torch.allclose(gradient, 2.0 * x * outer, rtol=1e-5, atol=1e-8)


def test_an_oblivious_attacker_sees_the_classifier_alone(x):
    seen = victim(Knowledge.OBLIVIOUS)
    logits, gradient = value_and_gradient(lambda at: seen.logits(at, DRAWS), x)
    expected_logits, expected = value_and_gradient(tiny_cnn(), x)
    assert torch.equal(logits, expected_logits)
    assert torch.equal(gradient, expected)
    assert not seen.random


@pytest.mark.parametrize("knowledge", [Knowledge.BPDA, Knowledge.FULL])
def test_other_draws_are_another_look_at_a_random_defense(knowledge, x):
    seen = victim(knowledge)
    assert seen.random
    assert torch.equal(seen.logits(x, DRAWS.at(1)), seen.logits(x, DRAWS.at(1)))
    assert not torch.equal(seen.logits(x, DRAWS.at(1)), seen.logits(x, DRAWS.at(2)))


def test_bpda_does_not_differentiate_the_defense(x):
    class Watching(Squash):
        def purify(self, x, nets, draws):
            assert not torch.is_grad_enabled()
            assert not x.requires_grad
            return super().purify(x, nets, draws)

    DefendedVictim(tiny_cnn(), Watching(), {}, Knowledge.BPDA, 10).logits(x.requires_grad_(True), DRAWS)


@pytest.mark.parametrize(
    ("defense", "knowledge"),
    [(Squash(), Knowledge.OBLIVIOUS), (None, Knowledge.BPDA), (None, Knowledge.FULL)],
)
def test_exactly_an_oblivious_attacker_knows_of_no_defense(defense, knowledge):
    with pytest.raises(ValueError, match="unless the attacker is oblivious"):
        DefendedVictim(nn.Identity(), defense, {}, knowledge, 10)


def test_progress_is_handed_on():
    told = []
    DefendedVictim(nn.Identity(), None, {}, Knowledge.OBLIVIOUS, 10, told.append).progress(0.5)
    assert told == [0.5]


def test_known_randomness_is_the_same_in_every_look_and_no_randomness_to_the_attacker(x):
    fresh, known = victim(Knowledge.BPDA), DefendedVictim(tiny_cnn(), Squash(), {}, Knowledge.BPDA, 10, known=7)
    assert not known.random
    assert fresh.random
    assert torch.equal(known.logits(x, DRAWS.at(1)), known.logits(x, DRAWS.at(2)))
    purified = Squash().purify(x, {}, known_draws(7, DRAWS.examples))
    assert torch.equal(known.logits(x, DRAWS), tiny_cnn()(purified))


class Telling(Squash):
    inner = ("weight",)

    def inner_loss(self, name, x, clean, nets, draws):
        return ((self.purify(x, nets, draws) - clean) ** 2).flatten(1).sum(1)


@pytest.mark.parametrize("size", [None, 2])
def test_an_inner_loss_is_exact_in_every_gradient_mode(x, size):
    clean = DRAWS.at("clean").uniform(1, 8, 8)
    noise = 0.01 * DRAWS.at("noise").normal(1, 8, 8)
    for knowledge in (Knowledge.BPDA, Knowledge.FULL):
        seen = DefendedVictim(tiny_cnn(), Telling(), {}, knowledge, 10, batch_size=size)
        at = x.clone().requires_grad_(True)
        found = seen.inner("weight", at, clean, DRAWS)
        (gradient,) = torch.autograd.grad(found.sum(), at)
        off = x**2 + noise - clean
        assert torch.allclose(found, (off**2).flatten(1).sum(1))
        assert torch.allclose(gradient, 4.0 * off * x, atol=1e-6)


def test_a_loss_that_is_not_there_is_refused(x):
    with pytest.raises(ValueError, match="inner loss 'weight'"):
        victim(Knowledge.FULL).inner("weight", x, x, DRAWS)
    with pytest.raises(ValueError, match="inner loss 'weight'"):
        victim(Knowledge.OBLIVIOUS).inner("weight", x, x, DRAWS)


def test_the_gauge_sees_the_gradient_that_the_attacker_gets(x):
    seen = victim(Knowledge.FULL)
    looks = [DRAWS.at(number) for number in range(3)]
    for look in looks:
        value_and_gradient(lambda at, look=look: seen.logits(at, look), x)
    notes = seen.gauge.notes()
    assert notes["zero_gradient"] == (0.0, 9)
    assert 0.0 < notes["noise_share"][0] < 1.0
    assert notes["noise_share"][1] == 3
