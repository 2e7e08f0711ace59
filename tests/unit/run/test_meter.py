"""Cost is counted per image."""

import pytest
import torch
from torch import nn

from harness.run.meter import Meter


def counts(meter):
    return meter.forwards, meter.backwards, meter.evaluations


@pytest.mark.parametrize("purifier", [False, True])
def test_forward_passes_are_counted_per_image(purifier):
    meter, net = Meter(), nn.Linear(3, 2)
    meter.attach(net, purifier=purifier)
    net(torch.ones(5, 3))
    net(torch.ones(2, 3))
    assert counts(meter) == (7, 0, 7 if purifier else 0)


def test_a_backward_pass_is_counted_when_a_gradient_arrives():
    meter, net = Meter(), nn.Linear(3, 2)
    meter.attach(net, purifier=False)
    logits = net(torch.ones(5, 3))
    assert meter.backwards == 0
    logits.sum().backward()
    assert counts(meter) == (5, 5, 0)


def test_without_gradients_there_is_no_backward_pass():
    meter, net = Meter(), nn.Linear(3, 2)
    meter.attach(net, purifier=False)
    with torch.no_grad():
        net(torch.ones(5, 3))
    net.requires_grad_(False)
    net(torch.ones(4, 3))
    assert counts(meter) == (9, 0, 0)


def test_a_still_network_has_a_backward_pass_for_the_gradient_of_its_input():
    meter, net = Meter(), nn.Linear(3, 2).requires_grad_(False)
    meter.attach(net, purifier=True)
    x = torch.ones(5, 3, requires_grad=True)
    torch.autograd.grad(net(x).sum(), x)
    assert counts(meter) == (5, 5, 5)


def test_an_output_that_is_a_tuple_is_counted_once():
    class Two(nn.Module):
        def forward(self, x):
            return x.detach(), 2.0 * x, "no tensor"

    meter, net = Meter(), Two()
    meter.attach(net, purifier=False)
    x = torch.ones(5, 3, requires_grad=True)
    net(x)[1].sum().backward()
    assert counts(meter) == (5, 5, 0)


def test_a_block_is_charged_what_happens_in_it():
    meter, net, purifier = Meter(), nn.Linear(3, 3), nn.Linear(3, 3)
    meter.attach(net, purifier=False)
    meter.attach(purifier, purifier=True)
    net(torch.ones(9, 3))  # before
    with meter.measure(4) as spent:
        net(purifier(purifier(torch.ones(4, 3)))).sum().backward()
    net(torch.ones(9, 3))  # after
    cost = spent.cost
    assert (cost.images, cost.forwards, cost.backwards, cost.evaluations) == (4, 12, 12, 8)
    assert cost.seconds > 0.0
