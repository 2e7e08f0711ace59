"""The gauge sees the gradients that an attack is given, and takes away of them what is not finite, nothing else."""

import pytest
import torch

from harness.execution.worker.gradient_stats import Gauge


def look(gauge, x, slopes):
    at = x.clone().requires_grad_(True)
    (found,) = torch.autograd.grad((gauge.watched(at) * slopes).sum(), at)
    finite = torch.isfinite(slopes)
    assert torch.equal(found, torch.where(finite, slopes, torch.zeros_like(slopes)))
    return found


def test_gradients_pass_unchanged_and_zeros_are_counted():
    gauge, x = Gauge(), torch.rand(2, 1, 2, 2)
    look(gauge, x, torch.tensor([[[[0.0, 0.0], [0.0, 0.0]]], [[[1.0, 0.0], [2.0, 0.0]]]]))
    look(gauge, x + 1, torch.ones_like(x))
    notes = gauge.notes()
    assert notes["zero_gradient_first"] == (0.5, 2)
    assert notes["zero_gradient"] == (0.25, 4)
    assert notes["zero_pixels"] == ((1.0 + 0.5 + 0 + 0) / 4, 4)
    assert "noise_share" not in notes  # nothing was looked at twice


def test_nothing_but_noise_is_told_from_a_signal():
    rng = torch.Generator().manual_seed(0)
    x, n = torch.rand(40, 1, 8, 8), 16
    shares = []
    for signal in (0.0, 0.25, 4.0):
        gauge = Gauge()
        for _ in range(n):
            look(gauge, x, signal + torch.randn(x.shape, generator=rng))
        shares.append(gauge.notes()["noise_share"][0])
    # variance of the mean over the expected square of its length: 1/n / (signal^2 + 1/n)
    assert shares == pytest.approx([(1 / n) / (s**2 + 1 / n) for s in (0.0, 0.25, 4.0)], abs=0.03)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_of_a_gradient_is_0_and_the_share_of_looks_is_noted(broken):
    gauge, x = Gauge(), torch.rand(2, 1, 2, 2)
    slopes = torch.ones(2, 1, 2, 2)
    slopes[0, 0, 0, 1] = broken
    look(gauge, x, slopes)
    look(gauge, x + 1, torch.ones_like(x))
    look(gauge, x + 2, torch.full_like(x, broken))
    notes = gauge.notes()
    assert notes["not_finite"] == (0.5, 6)
    assert notes["zero_gradient"] == (pytest.approx(2 / 6), 6)  # of which nothing is left is zero
    assert notes["zero_pixels"] == (pytest.approx((1 / 4 + 2) / 6), 6)


@pytest.mark.parametrize("unit", [1e-42, 1e-30, 1.0, 1e30])
def test_noise_and_direction_are_told_in_any_unit_of_the_loss(unit):
    rng = torch.Generator().manual_seed(0)
    x, found = torch.rand(40, 1, 8, 8), {}
    for signal in (0.0, 1.0):
        gauge = Gauge()
        for _ in range(4):
            look(gauge, x, unit * (signal + torch.randn(x.shape, generator=rng)))
        found[signal] = gauge.notes()
    # a cosine of 1 / (1 + 1) between two looks; subnormal numbers have two or three digits
    assert found[1.0]["shared_direction"] == (pytest.approx(0.5, abs=0.05), 40)
    assert found[0.0]["shared_direction"] == (pytest.approx(0.0, abs=0.05), 40)
    assert found[1.0]["noise_share"] == (pytest.approx(1 / 5, abs=0.03), 40)


def test_a_single_look_that_explodes_does_not_make_a_direction():
    """Of gradients whose lengths differ by orders the longest is the average, and still points somewhere else."""
    rng = torch.Generator().manual_seed(0)
    x, gauge = torch.rand(40, 1, 8, 8), Gauge()
    for scale in (1e-20, 1.0, 1e30, 1e15):
        look(gauge, x, scale * torch.randn(x.shape, generator=rng))
    notes = gauge.notes()
    assert notes["shared_direction"][0] == pytest.approx(0.0, abs=0.05)
    assert 0.9 < notes["noise_share"][0] <= 2.0


def test_a_look_that_is_gone_back_through_again_is_one_look():
    gauge, x = Gauge(), torch.rand(2, 1, 2, 2)
    for _ in range(2):
        at = x.clone().requires_grad_(True)
        watched = gauge.watched(at)
        for weight in (1.0, -3.0):
            torch.autograd.grad((watched * weight).sum(), at, retain_graph=True)
    notes = gauge.notes()
    assert notes["zero_gradient"] == (0.0, 8)
    assert notes["shared_direction"] == (pytest.approx(1.0), 2)


LOGITS = torch.tensor([[4.0, 1.0, 3.0, 0.0], [3.0, 4.0, 0.0, -1.0]])


@pytest.mark.parametrize(
    ("factor", "loss", "saturated", "flat"),
    [
        (1e-3, "ce", 0.0, 1.0),
        (1.0, "ce", 0.0, 0.0),
        (4.0, "ce", 0.0, 0.0),
        (20.0, "ce", 0.5, 0.0),  # of two images the first is right, by a margin of 20
        (1e-3, "margin", 0.0, 0.0),
        (1e6, "margin", 0.0, 0.0),
        (1e6, "one", 0.0, 0.0),
    ],
)
def test_a_cross_entropy_that_does_not_fit_its_logits_is_noted_and_no_other_loss(factor, loss, saturated, flat):
    gauge, y = Gauge(), torch.tensor([0, 0])
    logits = gauge.heard((factor * LOGITS).requires_grad_(True))
    match loss:
        case "ce":
            value = torch.nn.functional.cross_entropy(logits, y, reduction="sum")
        case "margin":
            value = (logits[:, 1] - logits[:, 0]).sum()
        case _:
            value = logits[:, 0].sum()
    value.backward()
    notes = gauge.notes()
    assert (notes["saturated"], notes["flat"]) == ((saturated, 2), (flat, 2))


def test_of_two_classes_none_are_alike():
    gauge = Gauge()
    logits = gauge.heard(torch.zeros(3, 2).requires_grad_(True))
    torch.nn.functional.cross_entropy(logits, torch.zeros(3, dtype=torch.int64)).backward()
    assert gauge.notes()["flat"] == (0.0, 3)


def test_claims_that_are_not_finite_are_counted_apart():
    gauge = Gauge()
    gauge.note("distance", torch.tensor([1.0]))
    gauge.note("distance", torch.tensor([1.0, torch.inf, 4.0]))
    gauge.note("distance", torch.tensor([2.0]))
    assert gauge.notes() == {"distance": (2.0, 4), "distance_not_finite": (0.2, 5)}
