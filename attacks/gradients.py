"""How an attack that follows gradients looks at a point: loss and gradient, averaged over the draws of a defense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attacks.losses import Loss, raised

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Victim
    from harness.draws import Draws


@dataclass(frozen=True)
class Look:
    """What was seen of a batch of points.

    Attributes:
        fooled: number of draws under which an image was misclassified, ``(B,)``.
        loss: mean over draws, ``(B,)``; of cross-entropy its logarithm.
        gradient: of that mean, divided by exp(``scale``), ``(B, C, H, W)``; zero where none was asked for.
        scale: of each image, ``(B,)``, of type double. It is 0 but for cross-entropy, whose gradient may be too small
            for any number: an attack that follows the direction alone has no use for it.
        draws: how many there were.
    """

    fooled: Tensor
    loss: Tensor
    gradient: Tensor
    scale: Tensor
    draws: int


def look(
    victim: Victim, at: Tensor, y: Tensor, loss: Loss, eot: int, draws: Draws, *, with_gradient: bool = True
) -> Look:
    """Look at points ``(B, C, H, W)`` with labels ``(B,)``, under ``eot`` draws of a random victim, else once.

    Expectation over transformation (Athalye et al. 2018, "Synthesizing robust adversarial examples").
    """
    import torch

    rounds = eot if victim.random else 1
    total = Mean(loss, at)
    fooled = at.new_zeros(len(at))
    for round_ in range(rounds):
        with torch.set_grad_enabled(with_gradient):
            point = at.detach().requires_grad_(with_gradient)
            logits = victim.logits(point, draws.at("eot", round_))
            here = raised(loss, logits, y)
        gradient = torch.autograd.grad(here.sum(), point)[0] if with_gradient else None
        total.add(here.detach(), gradient)
        fooled += (logits.detach().argmax(1) != y).to(fooled.dtype)
    return Look(fooled, total.loss, total.gradient / rounds, total.scale, rounds)


class Mean:
    """The mean of a loss over draws, and its gradient; of cross-entropy from logarithms, which never vanish.

    With l = log(loss), a draw's gradient is exp(l) times that of l. The sum is kept divided by the largest exp(l) of
    the image so far. A draw whose loss is not finite counts for nothing.

    Args:
        name: of the loss.
        at: the points.
    """

    def __init__(self, name: Loss, at: Tensor) -> None:
        import torch

        self.logarithmic = name == "ce"
        self.gradient = torch.zeros_like(at)
        self.total, self.number = at.new_zeros(len(at), dtype=torch.float64), 0
        self.scale = torch.full_like(self.total, -torch.inf) if self.logarithmic else torch.zeros_like(self.total)

    def add(self, loss: Tensor, gradient: Tensor | None) -> None:
        """Add a draw's loss ``(B,)``, or its logarithm, and the gradient of that."""
        import torch

        self.number += 1
        finite = torch.isfinite(loss)
        if not self.logarithmic:
            self.total += torch.where(finite, loss.double(), torch.zeros_like(self.total))
            if gradient is not None:
                self.gradient += gradient
            return
        loss = torch.where(finite, loss, torch.full_like(loss, -torch.inf))
        largest = torch.maximum(self.scale, loss)
        before, share = (
            torch.where(torch.isfinite(one), (one - largest).exp(), torch.zeros_like(one)) for one in (self.scale, loss)
        )
        self.total = self.total * before + share
        if gradient is not None:
            before, share = (one.to(gradient.dtype).reshape(-1, 1, 1, 1) for one in (before, share))
            self.gradient = self.gradient * before + gradient * share
        self.scale = largest

    @property
    def loss(self) -> Tensor:
        """The mean so far, ``(B,)``; its logarithm where that is what was added."""
        return self.scale + (self.total / self.number).log() if self.logarithmic else self.total / self.number
