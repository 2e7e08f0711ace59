"""Meter: counts what networks do, per image, and sees how much memory it takes, so that cost is a result."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.core.result import Cost
from harness.execution.worker.memory import tidy, watch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass
class Spent:
    """Filled in when the measured block ends."""

    cost: Cost = field(default_factory=Cost)


class Meter:
    """Counts passes through networks from the moment it is attached.

    A forward pass is one image through one network. A backward pass is counted when a gradient arrives at the
    network's output, so a network that is run without gradients has none.

    Args:
        device: where the networks are, whose memory is meant.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.tidied = False
        self.forwards = 0
        self.backwards = 0
        self.evaluations = 0

    def attach(self, net: nn.Module, *, purifier: bool) -> None:
        """Count the calls of a network; those of a defense's own are its function evaluations."""

        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            images = len(inputs[0])
            self.forwards += images
            if purifier:
                self.evaluations += images
            first = next((t for t in _tensors(output) if t.requires_grad), None)
            if first is not None:
                first.register_hook(lambda gradient: self._back(images))  # type: ignore[no-untyped-call]

        net.register_forward_hook(count)

    def _back(self, images: int) -> None:
        self.backwards += images

    @contextmanager
    def measure(self, images: int, at_a_time: int | None = None) -> Iterator[Spent]:
        """Measure what the block costs for ``images`` images, of which ``at_a_time`` go through the networks; else all.

        The first block begins with nothing left over from earlier work. A later one may use again what the one before
        it gave back, so its peak alone can be too small: what is meant is the largest of them, as costs add up.
        """
        spent = Spent()
        if not self.tidied:
            tidy()  # takes milliseconds where much is left over: once for each meter, and outside of its seconds
            self.tidied = True
        before = (self.forwards, self.backwards, self.evaluations)
        with watch(self.device) as memory:
            start = time.perf_counter()
            yield spent
            seconds = time.perf_counter() - start
        after = (self.forwards, self.backwards, self.evaluations)
        forwards, backwards, evaluations = (b - a for a, b in zip(before, after, strict=True))
        batch_size = None if memory.peak is None else at_a_time or images
        spent.cost = Cost(images, seconds, forwards, backwards, evaluations, memory.peak, batch_size)


def _tensors(output: object) -> Iterable[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, tuple):
        return [item for item in output if isinstance(item, Tensor)]
    return []
