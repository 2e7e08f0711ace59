"""Training: the same plan gives the same weights, bit for bit."""

import pytest
import torch

from harness.core.errors import UserError
from harness.core.spec import Spec
from harness.suite.components import training_plan
from harness.testing.nets import CARD
from harness.training.loop import train

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


def fit(split, base="cnn", told=None, nets=None, **changes):
    plan = training_plan(Spec.of("recipe", base, 1, PLAN[base] | {"steps": 12, "batch_size": 32} | changes))
    return train(plan, CARD, split, (told if told is not None else []).append, nets=nets)


def equal(one, other):
    a, b = one.net.state_dict(), other.net.state_dict()
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("net", ["cnn", "mae"])
def test_the_same_plan_gives_the_same_weights_and_another_seed_does_not(split, net):
    first = fit(split, net)
    with torch.random.fork_rng():
        torch.manual_seed(1234)  # what the process drew before does not matter
        again = fit(split, net)
    assert equal(first, again)
    assert first.curve == again.curve
    assert not equal(first, fit(split, net, seed=1))


@pytest.mark.parametrize("net", ["cnn", "mae"])
def test_the_loss_falls(split, net):
    curve = fit(split, net, steps=150, optimiser={"lr": 5e-3}).curve
    assert curve[-1][0] == 150
    assert curve[-1][1] < 0.8 * curve[0][1]


def test_the_network_comes_back_still_and_the_global_generator_unmoved(split):
    before = torch.get_rng_state()
    net = fit(split).net
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in net.modules())
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_averaged_weights_are_others_than_the_last(split):
    average = {"ema": 0.9}
    assert not equal(fit(split), fit(split, optimiser=average))


def test_progress_rises_to_one(split):
    told = []
    fit(split, told=told)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_batch_may_be_larger_than_the_data(split):
    assert fit(split, steps=2, batch_size=200).curve[-1][0] == 2


def test_an_objective_that_does_not_fit_the_network_is_refused(split):
    with pytest.raises(TypeError, match="expected a masked autoencoder"):
        fit(split, objective={"use": "reconstruct"})


@pytest.mark.parametrize("net", ["cnn", "mae"])
def test_no_steps_leave_the_first_weights(split, net):
    told = []
    made = fit(split, net, told=told, steps=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = training_plan(Spec.of("recipe", net, 1, PLAN[net] | {"steps": 0})).net.build(CARD)
    assert all(torch.equal(tensor, made.net.state_dict()[name]) for name, tensor in first.state_dict().items())
    assert (made.curve, told) == ((), [1.0])


@pytest.mark.parametrize("net", ["cnn", "mae"])
def test_training_starts_from_the_weights_under_init(split, net):
    earlier = fit(split, net)
    assert equal(fit(split, net, steps=0, nets={"init": earlier.net}), earlier)
    assert not equal(fit(split, net, steps=2, nets={"init": earlier.net}), fit(split, net, steps=2))


def test_a_joint_network_starts_from_the_weights_of_its_parts(split):
    cnn, mae = fit(split, "cnn"), fit(split, "mae")
    plan = {
        "net": {"use": "joint", "purifier": PLAN["mae"]["net"], "classifier": PLAN["cnn"]["net"]},
        "objective": {"use": "dir"},
    }
    joint = fit(split, "cnn", steps=0, nets={"purifier": mae.net, "classifier": cnn.net}, **plan).net
    for part, whole in ((joint.purifier, mae), (joint.classifier, cnn)):
        assert all(torch.equal(tensor, whole.net.state_dict()[name]) for name, tensor in part.state_dict().items())


def test_weights_of_another_network_are_no_start(split):
    with pytest.raises(UserError, match="expected the weights under `init` to be those of the network that is trained"):
        fit(split, "cnn", nets={"init": fit(split, "mae").net})
