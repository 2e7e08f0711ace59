"""Cost is counted per image."""

import itertools
import threading
import time

import pytest
import torch
from torch import nn

from harness.core.result import Cost
from harness.execution.worker import memory
from harness.execution.worker.cost import Meter


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


#: what the blocks below hold at once; large against what Python and torch do beside it
HELD = 48 * 2**20


def hold(size=HELD):
    """Hold so many bytes, each page touched, and give them back."""
    assert torch.ones(size, dtype=torch.uint8)[-1] == 1


def test_peak_memory_is_what_a_block_held_at_most_above_what_was_held_before():
    kept = torch.ones(2 * HELD, dtype=torch.uint8)
    with Meter().measure(8) as spent:
        hold()
    assert kept[-1] == 1
    assert 0.9 * HELD < spent.cost.peak_memory < 1.5 * HELD
    assert spent.cost.batch_size == 8


def test_what_was_given_back_before_a_meter_began_is_seen_when_it_is_needed_again():
    def scatter():
        """Hold as much in pieces that are too small to be mapped alone, so that the C library keeps them for later."""
        assert len([torch.ones(2**16, dtype=torch.uint8) for _ in range(HELD // 2**16)]) == HELD // 2**16

    scatter()
    with Meter().measure(8) as spent:
        scatter()
    assert 0.9 * HELD < spent.cost.peak_memory < 1.5 * HELD


def test_a_block_that_needs_little_is_not_charged_an_earlier_peak():
    meter = Meter()
    with meter.measure(8):
        hold()
    with meter.measure(4) as spent:
        hold(2**12)
    assert spent.cost.peak_memory < HELD / 2


def test_the_batch_size_is_what_goes_through_the_networks_at_a_time():
    with Meter().measure(8, at_a_time=3) as spent:
        hold()
    assert (spent.cost.images, spent.cost.batch_size) == (8, 3)


@pytest.fixture
def untold(monkeypatch, tmp_path):
    """A system that cannot be told to forget a peak."""
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "absent" / "clear_refs")


@pytest.mark.usefixtures("untold")
def test_where_the_system_keeps_no_peak_a_thread_looks(monkeypatch):
    looks, look = [], memory._rss
    monkeypatch.setattr(memory, "_rss", lambda process: looks.append(look(process)) or looks[-1])
    with Meter().measure(8) as spent:
        kept = torch.ones(HELD, dtype=torch.uint8)
        assert kept[-1] == 1
        enough = len(looks) + 2  # the first of them may have begun before
        while len(looks) < enough:
            time.sleep(memory.INTERVAL)
        del kept
    assert 0.9 * HELD < spent.cost.peak_memory < 1.5 * HELD


@pytest.mark.usefixtures("untold")
def test_the_thread_ends_with_the_block_even_if_that_fails():
    def watching():
        return "memory" in [thread.name for thread in threading.enumerate()]

    def fail():
        with Meter().measure(8):
            raise ValueError(f"watched: {watching()}")

    with pytest.raises(ValueError, match="watched: True"):
        fail()
    assert not watching()


@pytest.mark.usefixtures("untold")
def test_a_peak_that_nobody_can_see_is_not_known_and_not_zero(monkeypatch):
    monkeypatch.setattr(memory, "_rss", lambda process: None)
    with Meter().measure(8) as spent:
        hold()
    assert (spent.cost.peak_memory, spent.cost.batch_size) == (None, None)
    with Meter(torch.device("meta")).measure(8) as spent:  # a device whose memory nobody counts
        hold()
    assert (spent.cost.peak_memory, spent.cost.batch_size) == (None, None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_allocator_counts():
    device = torch.device("cuda:0")
    kept = torch.ones(2 * HELD, dtype=torch.uint8, device=device)
    with Meter(device).measure(8) as spent:
        torch.ones(HELD, dtype=torch.uint8, device=device)
    assert kept[-1] == 1
    assert HELD <= spent.cost.peak_memory < 1.1 * HELD


def test_costs_add_up_and_peaks_do_not():
    small, large, unknown = Cost(4, 1.0, 5, 6, 7, 100, 4), Cost(2, 0.5, 1, 1, 1, 300, 2), Cost(3, 1.0, 1, 1, 1)
    assert small + large == Cost(6, 1.5, 6, 7, 8, 300, 2)
    assert small + unknown == Cost(7, 2.0, 6, 7, 8, 100, 4)
    assert unknown + unknown == Cost(6, 2.0, 2, 2, 2, None, None)
    nothing = Cost(4, 1.0, peak_memory=0, batch_size=4)
    assert (unknown + nothing).peak_memory == (nothing + unknown).peak_memory == 0  # zero was measured, None was not
    assert (small + Cost(8, peak_memory=100, batch_size=8)).batch_size == 8


def test_costs_may_be_added_in_any_order():
    pieces = [Cost(), Cost(1, peak_memory=7, batch_size=2), Cost(1), Cost(1, peak_memory=7, batch_size=1),
              Cost(1, peak_memory=0, batch_size=9)]  # fmt: skip
    totals = {sum(order, Cost()) for order in itertools.permutations(pieces)}
    assert totals == {Cost(4, peak_memory=7, batch_size=2)}
