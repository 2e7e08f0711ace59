"""What attacks raise, against the formulas written out and the library of APGD's authors."""

from __future__ import annotations

import math

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack

from attacks.losses import CLASSES, dlr, log_ce, margin, raised, too_few, unit

LOGITS = torch.tensor([[4.0, 1.0, 3.0, 0.0], [4.0, 1.0, 3.0, 0.0], [-2.0, 5.0, 5.0, 1.0]])
Y = torch.tensor([0, 2, 3])


def test_a_margin_is_the_largest_other_logit_minus_the_true_one():
    assert margin(LOGITS, Y).tolist() == [-1.0, 1.0, 4.0]


def test_the_dlr_divides_it_by_the_distance_to_the_third_largest():
    assert dlr(LOGITS, Y).tolist() == pytest.approx([-1 / 3, 1 / 3, 4 / 4])


def test_the_dlr_does_not_change_where_logits_are_scaled_or_shifted():
    assert torch.allclose(dlr(3.0 * LOGITS - 7.0, Y), dlr(LOGITS, Y))


def test_the_dlr_is_that_of_the_authors():
    torch_draws = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 10, generator=torch_draws)
    y = torch.randint(10, (50,), generator=torch_draws)
    theirs = APGDAttack(lambda x: x, eps=1.0).dlr_loss(logits, y)
    assert torch.allclose(dlr(logits, y), theirs, atol=1e-6)


FACTORS = [1e-3, 1.0, 20.0, 1e3, 1e6]


def test_the_logarithm_of_the_cross_entropy_is_that_of_minus_the_log_of_the_true_classs_probability():
    wanted = -math.log(math.exp(4) / (math.exp(4) + math.exp(1) + math.exp(3) + 1))
    assert float(log_ce(LOGITS, Y)[0]) == pytest.approx(math.log(wanted))


def slopes(name, logits):
    at = logits.clone().requires_grad_(True)
    return torch.autograd.grad(raised(name, at, Y[: len(at)]).sum(), at)[0]


@pytest.mark.parametrize("factor", FACTORS)
def test_its_slopes_are_those_of_the_cross_entropy_as_far_as_that_can_be_computed_and_never_vanish(factor):
    at = (factor * LOGITS).double().requires_grad_(True)
    plain = torch.autograd.grad(torch.nn.functional.cross_entropy(at, Y, reduction="none").sum(), at)[0]
    found = slopes("ce", factor * LOGITS)
    size = found.abs().sum(1)
    assert bool((torch.isfinite(found).all(1) & (size > 0)).all())
    assert torch.allclose(found.sum(1) / size, torch.zeros(3), atol=1e-5)  # float32 sums of slopes that balance
    told = plain.abs().sum(1) > 1e-9  # of doubles, whose probabilities near 1 are rounded at 1e-16
    assert bool(told[1:].all())
    ratio = plain[told].float() / plain[told].abs().sum(1, keepdim=True).float()
    assert torch.allclose(found[told] / size[told, None], ratio, atol=1e-5)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", ["margin", "dlr"])
def test_slopes_of_other_losses_have_the_same_direction_in_every_unit(name, factor):
    one, other = slopes(name, LOGITS), slopes(name, factor * LOGITS)
    assert torch.allclose(one / one.abs().sum(1, keepdim=True), other / other.abs().sum(1, keepdim=True), atol=1e-5)


@pytest.mark.parametrize("name", ["ce", "dlr", "margin"])
@pytest.mark.parametrize("factor", [1.0, 20.0, 1e6])
def test_a_loss_tells_any_two_margins_apart_whatever_their_unit(name, factor):
    gaps = torch.linspace(-30.0, 30.0, 61)
    logits = factor * torch.stack([torch.zeros(61), gaps, torch.full((61,), -31.0)], 1)
    found = raised(name, logits, torch.zeros(61, dtype=torch.int64))
    rises = found.diff() > 0
    assert bool(rises[:30].all())
    assert name == "dlr" or bool(rises.all())  # a DLR is about 1 wherever the class is another


def test_a_dlr_of_three_equal_logits_is_finite_and_so_are_its_slopes():
    at = torch.tensor([[0.0, 0.0, 0.0], [1e6, 1e6, 1e6]]).requires_grad_(True)
    found = raised("dlr", at, torch.tensor([0, 1]))
    (gradient,) = torch.autograd.grad(found.sum(), at)
    assert found.tolist() == [0.0, 0.0]
    assert bool(torch.isfinite(gradient).all())


def test_a_unit_is_a_power_of_2_in_which_logits_span_from_8_to_16():
    logits = torch.stack([factor * LOGITS[0] for factor in (*FACTORS, 0.0)])
    found = unit(logits)
    spans = (logits.amax(1) - logits.amin(1)) / found
    assert bool(((spans[:-1] >= 8.0) & (spans[:-1] < 16.0)).all())
    assert torch.frexp(found).mantissa.tolist() == [0.5] * 6
    assert float(found[-1]) == 1.0


@pytest.mark.parametrize("name", list(CLASSES))
def test_too_few_classes_are_a_sentence(name):
    fewest = CLASSES[name]
    assert too_few(name, fewest) is None
    assert too_few(name, fewest - 1) == (
        f"the loss {name} needs at least {fewest} classes, and the dataset has {fewest - 1}; use ce or margin"
    )
