"""Victim: what an attack sees - a defense followed by a classifier, under the gradient mode of the threat model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.core.threat import Knowledge
from harness.run.voting import pooled

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.core.contracts import Defense, Nets
    from harness.draws import Draws


def _silent(fraction: float) -> None:
    return None


@dataclass(frozen=True)
class DefendedVictim:
    """A classifier behind a defense.

    Attributes:
        classifier: pixels ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``.
        defense: what purifies before it; None where the attacker does not know of any.
        nets: the defense's networks, by role.
        knowledge: the gradient mode.
        n_classes: number of labels.
        report: told how much of an attack is done, 0 to 1.
        batch_size: images that go through the networks at a time; None: all that are asked about. Of a larger batch
            only the parts' logits are kept, and the backward pass runs each part again: its draws have addresses,
            so it sees the same numbers.
        notes: what the attack claims of each example, ``(B,)`` by name.
    """

    classifier: nn.Module
    defense: Defense | None
    nets: Nets
    knowledge: Knowledge
    n_classes: int
    report: Callable[[float], None] = field(default=_silent)
    batch_size: int | None = None
    notes: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Hold the one invariant: exactly an oblivious attacker knows of no defense."""
        if (self.defense is None) != (self.knowledge is Knowledge.OBLIVIOUS):
            raise ValueError(f"expected a defense unless the attacker is oblivious, got {self.knowledge}")

    @property
    def random(self) -> bool:
        """Whether two calls with different draws may differ."""
        return self.defense is not None and self.defense.traits.random

    def progress(self, fraction: float) -> None:
        """Hand on how much of the attack is done."""
        self.report(fraction)

    def note(self, name: str, values: Tensor) -> None:
        """Keep what an attack claims of each example; shown beside the verdict, never believed."""
        self.notes[name] = values.detach().clone()

    def logits(self, x: Tensor, draws: Draws) -> Tensor:
        """Return logits ``(B, K)``, with the gradient that the attacker can have.

        ``oblivious``: of the classifier alone. ``bpda``: the defense's output forwards, the identity backwards.
        ``full``: autograd through the defense. Of a defense that votes: the mean over its copies.
        """
        votes = 1 if self.defense is None else self.defense.traits.votes
        return pooled(lambda copy: self._copy(x, copy), draws, votes)

    def _copy(self, x: Tensor, draws: Draws) -> Tensor:
        size = self.batch_size
        if size is None or len(x) <= size:
            return self._logits(x, draws)
        cuts = [slice(start, start + size) for start in range(0, len(x), size)]
        if not (torch.is_grad_enabled() and x.requires_grad):
            return torch.cat([self._logits(x[cut], draws.take(cut)) for cut in cuts])
        parts = [checkpoint(self._logits, x[cut], draws.take(cut), use_reentrant=False) for cut in cuts]
        return torch.cat(parts)

    def _logits(self, x: Tensor, draws: Draws) -> Tensor:
        if self.defense is None:
            seen = x
        elif self.knowledge is Knowledge.FULL:
            seen = self.defense.purify(x, self.nets, draws)
        else:
            with torch.no_grad():
                purified = self.defense.purify(x.detach(), self.nets, draws)
            # x - x.detach() is exactly zero forwards and has the identity for its gradient
            seen = purified + (x - x.detach())
        logits: Tensor = self.classifier(seen)
        return logits
