"""What attacks raise, against the formulas written out and the library of APGD's authors."""

from __future__ import annotations

import math

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack

from attacks.losses import CLASSES, dlr, loss_of, margin, squeezed, too_few

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


def test_the_cross_entropy_is_minus_the_log_of_the_true_classs_probability():
    wanted = -math.log(math.exp(4) / (math.exp(4) + math.exp(1) + math.exp(3) + 1))
    assert float(loss_of("ce", LOGITS, Y)[0]) == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["ce", "dlr", "margin"])
def test_losses_are_squeezed_without_changing_their_order(name):
    losses = torch.linspace(0.0 if name == "ce" else -30.0, 12.0 if name == "ce" else 30.0, 200)
    found = squeezed(name, losses)
    assert bool((found.diff() > 0).all())
    assert 0.0 <= float(found[0]) < float(found[-1]) < 1.0


@pytest.mark.parametrize("name", list(CLASSES))
def test_too_few_classes_are_a_sentence(name):
    fewest = CLASSES[name]
    assert too_few(name, fewest) is None
    assert too_few(name, fewest - 1) == (
        f"the loss {name} needs at least {fewest} classes, and the dataset has {fewest - 1}; use ce or margin"
    )
