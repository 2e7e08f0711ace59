"""Training: the same plan gives the same weights, bit for bit."""

import numpy as np
import pytest
import torch

from harness.core.contracts import Split
from harness.testing.nets import CARD
from harness.training.loop import train
from harness.training.recipe import TrainingPlan

PLAN = {
    "cnn": {
        "net": {"use": "cnn", "width": 8, "hidden": 32},
        "objective": {"use": "classify"},
    },
    "mae": {
        "net": {"use": "mae", "patch": 2, "dim": 8, "depth": 1, "heads": 2}
        | {"decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2},
        "objective": {"use": "reconstruct"},
        "optimiser": {"ema": 0.9},
    },
}


@pytest.fixture(scope="module")
def split():
    """Return images whose class can be seen: one bright square each."""
    labels = np.arange(80) % 10
    images = np.full((80, 1, 8, 8), 0.1, dtype=np.float32)
    for image, label in zip(images, labels, strict=True):
        top, left = 2 * (label // 4), 2 * (label % 4)
        image[0, top : top + 2, left : left + 2] = 1.0
    return Split(images, labels.astype(np.int64), np.arange(80))


def trained(split, net="cnn", told=None, **changes):
    plan = TrainingPlan.model_validate(PLAN[net] | {"steps": 12, "batch_size": 32} | changes)
    return train(plan, CARD, split, (told if told is not None else []).append)


def equal(one, other):
    a, b = one.net.state_dict(), other.net.state_dict()
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("net", ["cnn", "mae"])
def test_the_same_plan_gives_the_same_weights_and_another_seed_does_not(split, net):
    first = trained(split, net)
    with torch.random.fork_rng():
        torch.manual_seed(1234)  # what the process drew before does not matter
        again = trained(split, net)
    assert equal(first, again)
    assert first.curve == again.curve
    assert not equal(first, trained(split, net, seed=1))


@pytest.mark.parametrize("net", ["cnn", "mae"])
def test_the_loss_falls(split, net):
    curve = trained(split, net, steps=150, optimiser={"lr": 5e-3}).curve
    assert curve[-1][0] == 150
    assert curve[-1][1] < 0.8 * curve[0][1]


def test_the_network_comes_back_still_and_the_global_generator_unmoved(split):
    before = torch.get_rng_state()
    net = trained(split).net
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in net.modules())
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_averaged_weights_are_others_than_the_last(split):
    average = {"ema": 0.9}
    assert not equal(trained(split), trained(split, optimiser=average))


def test_progress_rises_to_one(split):
    told = []
    trained(split, told=told)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_batch_may_be_larger_than_the_data(split):
    assert trained(split, steps=2, batch_size=200).curve[-1][0] == 2


def test_an_objective_that_does_not_fit_the_network_is_refused(split):
    with pytest.raises(TypeError, match="expected a masked autoencoder"):
        trained(split, objective={"use": "reconstruct"})
