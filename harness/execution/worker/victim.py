"""Victim: what an attack sees - a defense followed by a classifier, under the gradient mode of the threat model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.core.threat import Knowledge
from harness.draws import Draws
from harness.execution.worker.gradient_stats import Gauge
from harness.execution.worker.purify import purify
from harness.execution.worker.voting import copies, pooled

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.core.contracts import Defense, Nets


def _silent(fraction: float) -> None:
    return None


def known_draws(seed: int, examples: Tensor) -> Draws:
    """Return the draws of a defense whose random numbers are fixed and known: of a cell's seed and the example."""
    return Draws(("known", seed), examples)


@dataclass(frozen=True)
class DefendedVictim:
    """A classifier behind a defense.

    Attributes:
        classifier: pixels ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``.
        defense: what purifies before it, as the attacker runs it; None where the attacker does not know of any.
        nets: the defense's networks, by role.
        knowledge: the gradient mode.
        n_classes: number of labels.
        report: told how much of an attack is done, 0 to 1.
        batch_size: images that go through the networks at a time; None: all that are asked about. Of a larger batch
            only the parts' logits are kept, and the backward pass runs each part again: its draws have addresses,
            so it sees the same numbers.
        gauge: looks at the gradients and keeps claims.
        known: the cell's seed where the defense's random numbers are fixed and known, else None.
    """

    classifier: nn.Module
    defense: Defense | None
    nets: Nets
    knowledge: Knowledge
    n_classes: int
    report: Callable[[float], None] = field(default=_silent)
    batch_size: int | None = None
    gauge: Gauge = field(default_factory=Gauge)
    known: int | None = None

    def __post_init__(self) -> None:
        """Hold the one invariant: exactly an oblivious attacker knows of no defense."""
        if (self.defense is None) != (self.knowledge is Knowledge.OBLIVIOUS):
            raise ValueError(f"expected a defense unless the attacker is oblivious, got {self.knowledge}")

    @property
    def random(self) -> bool:
        """Whether two calls with different draws may differ."""
        return self.defense is not None and self.defense.traits.random and self.known is None

    def note(self, name: str, values: Tensor) -> None:
        """Keep what an attack claims."""
        self.gauge.note(name, values)

    def progress(self, fraction: float) -> None:
        """Hand on how much of the attack is done."""
        self.report(fraction)

    def logits(self, x: Tensor, draws: Draws) -> Tensor:
        """Return logits ``(B, K)``, with the gradient that the attacker can have.

        ``oblivious``: of the classifier alone. ``bpda``: the defense's output forwards, the identity backwards.
        ``surrogate``, ``full``, ``smooth``: autograd through the defense that the attacker runs. Of a defense that
        votes: the mean over its copies. Where a gradient is not finite, the attacker gets 0.
        """
        draws, votes = self._draws(draws), 1 if self.defense is None else self.defense.traits.votes
        watched = self.gauge.watched(x)
        return self.gauge.heard(pooled(lambda copy: self._in_parts(self._logits, copy, watched), draws, votes))

    def inner(self, name: str, x: Tensor, clean: Tensor, draws: Draws) -> Tensor:
        """Return a loss inside the defense, ``(B,)``, of its first copy; exact whatever the gradient mode.

        Raises:
            ValueError: if the attacker knows of no defense that has such a loss.
        """
        defense = self.defense
        if defense is None or name not in defense.inner:
            raise ValueError(f"expected a defense with the inner loss {name!r} and an attacker who knows of it")
        first = copies(self._draws(draws), defense.traits.votes)[0]

        def ask(draws: Draws, x: Tensor, clean: Tensor) -> Tensor:
            return defense.inner_loss(name, x, clean, self.nets, draws)

        return self._in_parts(ask, first, self.gauge.mended(x), clean)

    def _draws(self, draws: Draws) -> Draws:
        return draws if self.known is None else known_draws(self.known, draws.examples)

    def _in_parts(self, ask: Callable[..., Tensor], draws: Draws, *images: Tensor) -> Tensor:
        """Ask about images a part at a time; of a part only the answer is kept."""
        size, n = self.batch_size, len(images[0])
        if size is None or n <= size:
            return ask(draws, *images)
        cuts = [slice(start, start + size) for start in range(0, n, size)]
        questions = [(draws.take(cut), *(one[cut] for one in images)) for cut in cuts]
        if not (torch.is_grad_enabled() and any(one.requires_grad for one in images)):
            return torch.cat([ask(*question) for question in questions])
        return torch.cat([checkpoint(ask, *question, use_reentrant=False) for question in questions])

    def _logits(self, draws: Draws, x: Tensor) -> Tensor:
        if self.defense is None:
            seen = x
        elif self.knowledge is not Knowledge.BPDA:
            seen = purify(self.defense, x, self.nets, draws)
        else:
            with torch.no_grad():
                purified = purify(self.defense, x.detach(), self.nets, draws)
            # x - x.detach() is exactly zero forwards and has the identity for its gradient
            seen = purified + (x - x.detach())
        logits: Tensor = self.classifier(seen)
        return logits
