"""The gauge sees the gradients that an attack is given, and changes none."""

import pytest
import torch

from harness.run.gauge import Gauge


def look(gauge, x, slopes):
    at = x.clone().requires_grad_(True)
    (found,) = torch.autograd.grad((gauge.watched(at) * slopes).sum(), at)
    assert torch.equal(found, slopes)
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


def test_what_is_not_finite_is_counted_apart():
    gauge = Gauge()
    gauge.note("distance", torch.tensor([1.0, torch.inf, 3.0]))
    assert gauge.notes() == {"distance": (2.0, 2), "distance_lost": (1.0, 1)}
