"""A defense is given a copy, and what it returns is held to be images."""

from __future__ import annotations

import pytest
import torch

from harness.core.contracts import Traits
from harness.core.errors import UserError
from harness.core.threat import Knowledge
from harness.draws import Draws
from harness.execution.worker.purify import purify
from harness.execution.worker.victim import DefendedVictim

X = torch.linspace(0.0, 1.0, 2 * 64).reshape(2, 1, 8, 8)
DRAWS = Draws(("purify",), torch.arange(2))


class Made:
    """A defense of a function."""

    traits = Traits(random=False, differentiable=True)

    def __init__(self, function, unclipped=False):
        self.function, self.unclipped = function, unclipped

    def purify(self, x, nets, draws, **shown):
        return self.function(x, **shown)


def in_place(x):
    x.data.mul_(0.9)
    return x


def quietly(x):
    x.data.mul_(0.9)
    return x.clone()


def grown(x):
    with torch.no_grad():
        x += 0.01
    return x.clamp(0.0, 1.0)


@pytest.mark.parametrize("function", [in_place, quietly, grown])
@pytest.mark.parametrize("knowledge", [Knowledge.BPDA, Knowledge.FULL])
def test_who_works_in_place_is_named_and_the_images_stay(function, knowledge):
    mine = X.clone()
    with pytest.raises(UserError, match=r"^defense Made: expected the images that `purify` is given to stay"):
        purify(Made(function), mine, {}, DRAWS)
    assert torch.equal(mine, X)
    victim = DefendedVictim(torch.nn.Flatten(), Made(function), {}, knowledge, 64)
    asked = mine.clone().requires_grad_(True)
    with pytest.raises(UserError, match="work on a copy"):
        victim.logits(asked, DRAWS)
    assert torch.equal(asked, X)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: (255.0 * x).to(torch.int32), r"\(2, 1, 8, 8\) of torch.int32"),
        (lambda x: x.double(), "torch.float64"),
        (lambda x: x[:1], r"\(1, 1, 8, 8\)"),
        (lambda x: x.numpy(force=True), "ndarray"),
        (lambda x: (x, x), "tuple"),
        (lambda x: None, "NoneType"),
        (lambda x: 5.0 * x - 2.0, r"pixels in \[0, 1\], got -2 to 3"),
        (lambda x: x - 1e-4, "-0.0001 to"),
        (lambda x: torch.full_like(x, 1.001), "1.001"),
    ],
)
def test_what_is_no_image_is_refused(function, said):
    with pytest.raises(UserError, match=said):
        purify(Made(function), X, {}, DRAWS)


@pytest.mark.parametrize(
    "function", [lambda x: x, lambda x: x - 1e-7, lambda x: x * torch.nan, lambda x: torch.where(x > 0.5, torch.inf, x)]
)
def test_rounding_and_what_is_no_number_are_matters_of_others(function):
    purify(Made(function), X, {}, DRAWS)
    purify(Made(function), X * torch.nan, {}, DRAWS)  # an attack may ask about anything


def test_what_a_certificate_has_added_noise_to_is_no_image_to_begin_with():
    noisy = X + 0.5
    assert torch.equal(purify(Made(lambda x: x), noisy, {}, DRAWS), noisy)


def test_who_means_to_leave_the_range_says_so():
    found = purify(Made(lambda x: 5.0 * x - 2.0, unclipped=True), X, {}, DRAWS)
    assert (float(found.min()), float(found.max())) == (-2.0, 3.0)


def test_the_gradient_is_that_of_the_images_and_only_an_oracle_is_shown_more():
    x = X.clone().requires_grad_(True)
    purify(Made(lambda x: x**2), x, {}, DRAWS).sum().backward()
    assert torch.equal(x.grad, 2.0 * X)
    assert torch.equal(purify(Made(lambda x, clean: clean), X, {}, DRAWS, clean=1.0 - X), 1.0 - X)
