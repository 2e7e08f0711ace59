"""How an attack that follows gradients looks at a point: loss and gradient, averaged over the draws of a defense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attacks.losses import Loss, loss_of

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Victim
    from harness.draws import Draws


@dataclass(frozen=True)
class Look:
    """What was seen of a batch of points.

    Attributes:
        fooled: number of draws under which an image was misclassified, ``(B,)``.
        loss: mean over draws, ``(B,)``.
        gradient: of that mean, ``(B, C, H, W)``; zero where none was asked for.
        draws: how many there were.
    """

    fooled: Tensor
    loss: Tensor
    gradient: Tensor
    draws: int


def look(
    victim: Victim, at: Tensor, y: Tensor, loss: Loss, eot: int, draws: Draws, *, with_gradient: bool = True
) -> Look:
    """Look at points ``(B, C, H, W)`` with labels ``(B,)``, under ``eot`` draws of a random victim, else once.

    Expectation over transformation (Athalye et al. 2018, "Synthesizing robust adversarial examples").
    """
    import torch

    rounds = eot if victim.random else 1
    gradient = torch.zeros_like(at)
    fooled, total = at.new_zeros(len(at)), at.new_zeros(len(at))
    for round_ in range(rounds):
        with torch.set_grad_enabled(with_gradient):
            point = at.detach().requires_grad_(with_gradient)
            logits = victim.logits(point, draws.at("eot", round_))
            raised = loss_of(loss, logits, y)
        if with_gradient:
            gradient += torch.autograd.grad(raised.sum(), point)[0]
        fooled += (logits.detach().argmax(1) != y).to(fooled.dtype)
        total += raised.detach()
    return Look(fooled, total / rounds, gradient / rounds, rounds)
