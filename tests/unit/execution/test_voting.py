"""A defense that is asked several times about an image."""

from __future__ import annotations

import torch

from harness.core.contracts import Traits
from harness.core.threat import Knowledge
from harness.draws import Draws
from harness.execution.worker.cost import Meter
from harness.execution.worker.judge import Batch, Judge, admit
from harness.execution.worker.victim import DefendedVictim
from harness.execution.worker.voting import ballot, copies

DRAWS = Draws(("voting",), torch.arange(3))


def votes(*predictions, sure=2.0):
    """Logits (V, 1, 3) of copies that choose these classes."""
    return torch.stack([sure * torch.nn.functional.one_hot(torch.tensor([one]), 3).float() for one in predictions])


def test_the_class_that_most_copies_choose_wins():
    assert int(ballot(votes(2, 0, 2)).argmax()) == 2


def test_of_equals_the_more_probable_one_wins():
    logits = votes(0, 1)
    logits[1] *= 3.0
    assert int(ballot(logits).argmax()) == 1
    assert int(ballot(logits.flip(0)).argmax()) == 1


def test_a_vote_weighs_more_than_any_probability():
    assert int(ballot(torch.cat([votes(0, sure=1e4), votes(1, 1, sure=1e-4)])).argmax()) == 1


def test_a_single_copys_logits_stay_as_they_are():
    logits = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    assert ballot(logits) is not None
    assert torch.equal(ballot(logits), logits[0])


def test_logits_that_are_not_finite_are_seen_in_the_ballot():
    logits = votes(0, 0)
    logits[1, 0, 2] = torch.inf
    assert not torch.isfinite(ballot(logits)).any()


def test_copies_have_draws_of_their_own_and_a_single_one_the_images():
    assert copies(DRAWS, 1) == [DRAWS]
    first, second = copies(DRAWS, 2)
    assert not torch.equal(first.uniform(4), second.uniform(4))


class Coins:
    """Adds noise that changes what the classifier says of every third image or so."""

    traits = Traits(random=True, differentiable=True, votes=5)

    def __init__(self):
        self.calls = 0

    def purify(self, x, nets, draws):
        self.calls += 1
        return (x + 0.4 * draws.at("noise").normal(*x.shape[1:])).clamp(0, 1)


def classifier(x):
    """Two classes: darker or brighter than the middle; smooth in the pixels."""
    mean = x.flatten(1).mean(1)
    return torch.stack([0.5 - mean, mean - 0.5], 1) * 20


def test_the_judge_counts_votes():
    n = 60
    ids = torch.arange(n)
    x = torch.full((n, 1, 1, 1), 0.55)
    defense, draws = Coins(), Draws(("judge",), ids)
    judge = Judge(classifier, defense, {}, Meter())
    batch = Batch(x, torch.ones(n, dtype=torch.int64), ids, ids)
    clean = admit(None, x, None)
    rows, _ = judge.outcomes(batch, clean, None, range(1), draws, lambda *told: None, lambda share: None)
    assert defense.calls == 5
    each = torch.stack(
        [classifier(Coins().purify(x, {}, draws.at("repeat", 0).at("vote", vote))).argmax(1) for vote in range(5)]
    )
    wanted = (each.sum(0) >= 3).long().tolist()
    assert [row.prediction for row in rows] == wanted
    assert 0 < sum(wanted) < n
    assert each.float().mean() < sum(wanted) / n  # the majority is right more often than one copy


def test_an_attacker_sees_the_mean_of_the_copies_and_its_gradient():
    x = torch.full((3, 1, 1, 1), 0.5, requires_grad=True)
    victim = DefendedVictim(classifier, Coins(), {}, Knowledge.FULL, 2)
    logits = victim.logits(x, DRAWS)
    wanted = torch.stack([classifier(Coins().purify(x, {}, DRAWS.at("vote", vote))) for vote in range(5)]).mean(0)
    assert torch.allclose(logits, wanted)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x)
    (by_hand,) = torch.autograd.grad(wanted[:, 1].sum(), x)
    assert torch.allclose(gradient, by_hand)
    assert bool((gradient > 0).any())


def test_an_oblivious_attacker_has_one_copy_for_there_is_no_defense():
    victim = DefendedVictim(classifier, None, {}, Knowledge.OBLIVIOUS, 2)
    x = torch.full((3, 1, 1, 1), 0.3)
    assert torch.equal(victim.logits(x, DRAWS), classifier(x))
