"""A contract is worth something only if it can fail: each broken attack fails at the right test."""

from __future__ import annotations

import pytest
import torch

from attacks.pgd import PGD
from harness import bounds
from harness.core.threat import Norm
from harness.testing import AttackContract


class Good:
    """What the broken ones differ from."""

    def __init__(self):
        self.pgd = PGD(PGD.Options(steps=10, step_size=10.0, loss="margin"))

    def refuses(self, setting):
        return None

    def propose(self, victim, x, y, threat, draws):
        return self.pgd.propose(victim, x, y, threat, draws)


class OverBudget(Good):
    def propose(self, victim, x, y, threat, draws):
        return bounds.clip(x + 1.2 * (super().propose(victim, x, y, threat, draws) - x))


class OutOfRange(Good):
    def propose(self, victim, x, y, threat, draws):
        return x + threat.eps * bounds.steepest(super().propose(victim, x, y, threat, draws) - x, threat.norm)


class NotFinite(Good):
    def propose(self, victim, x, y, threat, draws):
        return super().propose(victim, x, y, threat, draws).index_fill(0, torch.tensor([1]), torch.nan)


class Unseeded(Good):
    def propose(self, victim, x, y, threat, draws):
        noise = 1e-3 * torch.rand_like(x)
        return bounds.project(super().propose(victim, x, y, threat, draws) - noise, x, threat.eps, threat.norm)


class Seeding(Good):
    def propose(self, victim, x, y, threat, draws):
        torch.manual_seed(0)
        return super().propose(victim, x, y, threat, draws)


class NotRandom(Good):
    def propose(self, victim, x, y, threat, draws):
        return super().propose(victim, x, y, threat, type(draws)(("always the same",), draws.examples))


class InPlace(Good):
    def propose(self, victim, x, y, threat, draws):
        x.copy_(super().propose(victim, x, y, threat, draws))
        return x


class DoublePrecision(Good):
    def propose(self, victim, x, y, threat, draws):
        return super().propose(victim, x, y, threat, draws).double()


class Backward(Good):
    def propose(self, victim, x, y, threat, draws):
        at = x.clone().requires_grad_(True)
        victim.logits(at, draws).sum().backward()
        return super().propose(victim, x, y, threat, draws)


class TrainingMode(Good):
    def propose(self, victim, x, y, threat, draws):
        proposed = super().propose(victim, x, y, threat, draws)
        victim.net.train()
        return proposed


class AcrossTheBatch(Good):
    def propose(self, victim, x, y, threat, draws):
        proposed = super().propose(victim, x, y, threat, draws)
        return bounds.project(proposed - (x - x.mean(0)), x, threat.eps, threat.norm)


class Lazy(Good):
    def propose(self, victim, x, y, threat, draws):
        return x + 0.9 * (super().propose(victim, x, y, threat, draws) - x)


class Saturating(Good):
    """Climbs a cross-entropy whose probabilities are rounded, of which in other units nothing is left."""

    def propose(self, victim, x, y, threat, draws):
        at = x.clone().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(victim.logits(at, draws), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, at)
        return bounds.project(bounds.step(x, gradient, threat.eps, threat.norm), x, threat.eps, threat.norm)


class Asleep(Good):
    def propose(self, victim, x, y, threat, draws):
        return x.clone()


class Percent(Good):
    def propose(self, victim, x, y, threat, draws):
        victim.progress(100)
        return super().propose(victim, x, y, threat, draws)


class Claiming(Good):
    def propose(self, victim, x, y, threat, draws):
        victim.note("claimed_robust", torch.ones(3))
        return super().propose(victim, x, y, threat, draws)


class OthersDraws(Good):
    def propose(self, victim, x, y, threat, draws):
        victim.logits(x[:1], draws)
        return super().propose(victim, x, y, threat, draws)


class Asking(Good):
    def propose(self, victim, x, y, threat, draws):
        victim.inner("reconstruction", x, x, draws)
        return super().propose(victim, x, y, threat, draws)


class AskingAnyone(Asking):
    inner = True


class Grumbling(Good):
    def refuses(self, setting):
        return "no"


class Boasting(Good):
    norms = tuple(Norm)


BROKEN = [
    (OverBudget, "proposals_stay_within_the_budget", "expected perturbations of at most"),
    (OverBudget, "no_image_falls_just_short_of_the_known_distance", "the budget is not kept"),
    (OutOfRange, "proposals_are_finite_and_in_range", r"expected pixels in \[0, 1\]"),
    (NotFinite, "proposals_are_finite_and_in_range", "expected finite proposals"),
    (Unseeded, "the_same_draws_give_the_same_proposals", "expected the same proposals"),
    (Unseeded, "the_global_generators_are_left_alone", "expected the global generators"),
    (Seeding, "the_global_generators_are_left_alone", "expected the global generators"),
    (NotRandom, "the_flag_random_is_honest", "expected random = False"),
    (InPlace, "images_and_labels_are_left_alone", "changed them in place"),
    (DoublePrecision, "proposals_have_the_images_shape_and_dtype", "dtype torch.float32"),
    (Backward, "the_victim_is_left_alone", "expected no gradient"),
    (TrainingMode, "the_victim_is_left_alone", "training mode"),
    (AcrossTheBatch, "a_batch_of_one_works", "alike alone and within a batch"),
    (Lazy, "the_margin_falls_as_far_as_it_can", "got 9"),
    (Asleep, "every_image_falls_just_beyond_the_known_distance", "6 of 6 stand"),
    (Saturating, "the_unit_of_the_logits_makes_no_difference", "times as large too, but"),
    (Asleep, "a_random_victim_falls", "got 0 %"),
    (Percent, "progress_runs_from_0_to_1", "expected progress between 0 and 1"),
    (Claiming, "claims_are_one_for_each_image", r"a value for each of the 6 images, got the shape \(3,\)"),
    (OthersDraws, "proposals_have_the_images_shape_and_dtype", "draws of its 1 images"),
    (Boasting, "the_norms_are_those_it_says_to_serve", "got one that says Linf, L2, L1, flow, corr"),
    (Grumbling, "a_refusal_is_a_sentence", "got 'no'"),
    (Asking, "the_flag_inner_is_honest", "expected inner = True"),
    (AskingAnyone, "a_refusal_is_a_sentence", "refuse a setting that has none"),
]
TESTS = sorted(name for name in dir(AttackContract) if name.startswith("test_"))


def contract_of(attack):
    class Contract(AttackContract):
        inner = getattr(attack, "inner", False)

        def make(self):
            return attack()

    return Contract()


@pytest.mark.parametrize(("attack", "test", "sentence"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_attack_fails(attack, test, sentence):
    with pytest.raises(AssertionError, match=sentence):
        getattr(contract_of(attack), f"test_{test}")()


@pytest.mark.parametrize("test", TESTS)
def test_what_they_differ_from_passes(test):
    getattr(contract_of(Good), test)()


def test_every_test_of_the_contract_is_seen_to_fail():
    assert {f"test_{test}" for _, test, _ in BROKEN} == set(TESTS)
