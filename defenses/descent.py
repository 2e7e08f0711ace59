"""Signed gradient descent on the input: what the purifiers that optimise at inference share."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from defenses.guidance import twice_differentiable
from harness.components import Purifier
from harness.core.threat import Knowledge, Norm

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.core.contracts import Setting
    from harness.core.threat import Smoothing

    #: images that the descent moves, the same images as its gradient takes them for constants, number of the step from
    #: 0 -> losses, one or several per image
    Loss = Callable[[Tensor, Tensor, int], Tensor]


def descend(
    x: Tensor,
    loss: Loss,
    *,
    steps: int,
    step_size: float,
    eps: float,
    halve_step: bool = False,
    smoothing: Smoothing | None = None,
) -> Tensor:
    """Return images within ``eps`` of ``x``, in every pixel, whose loss is lower.

    There is no graph behind them, unless signs are smoothed: then a gradient goes back through every step, which is
    run again for it, through the loss's own gradient (its second derivative) and through the projections.

    Each step goes ``step_size`` against the gradient's sign in every pixel and is projected onto the Linf ball around
    ``x`` and onto [0, 1]. Losses are summed, so an image's gradient is that of its own loss, in a batch or alone.

    Args:
        x: pixels ``(B, C, H, W)`` in [0, 1].
        loss: what to lower; what it takes of its second argument, the descent's gradient leaves out.
        steps: gradient steps, 1 or more.
        step_size: length of a step in every pixel.
        eps: radius of the ball; 1 leaves the pixel range alone.
        halve_step: halve the step once half of the steps, rounded up, are done.
        smoothing: what stands for a sign in the backward pass; None: no graph.
    """
    from harness.bounds import project
    from harness.replay import replayed

    def down(at: Tensor, centre: Tensor, step: int) -> Tensor:
        length = step_size / 2 if halve_step and step >= (steps + 1) // 2 else step_size
        return project(at - length * _sign(at, loss, step, smoothing), centre, eps, Norm.LINF)

    centre = x.detach() if smoothing is None else x
    purified = centre
    for step in range(steps):
        purified = replayed(partial(down, step=step), purified, centre)
    return purified


def _sign(at: Tensor, loss: Loss, step: int, smoothing: Smoothing | None) -> Tensor:
    """Return the signs of the loss's gradient; differentiable where they are smoothed and gradients are on."""
    import torch

    attached = smoothing is not None and torch.is_grad_enabled() and at.requires_grad
    with torch.enable_grad():
        if not attached:
            here = at.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(loss(here, at.detach(), step).sum(), here)
            return gradient.sign()
        here = at.view_as(at)  # the gradient is by this one alone, and depends on the other too
        with twice_differentiable():
            (gradient,) = torch.autograd.grad(loss(here, at, step).sum(), here, create_graph=True)
    mean = gradient.abs().flatten(1).mean(1).reshape(-1, 1, 1, 1)
    # however small a gradient is, its own mean is what it is counted in; where it is zero nothing is
    mean = torch.where(mean > 0, mean, torch.ones_like(mean))
    smooth = gradient / mean
    if smoothing is not None and smoothing.by == "tanh":
        smooth = torch.tanh(smoothing.slope * gradient / mean.detach())
    return gradient.sign().detach() + smooth - smooth.detach()


class SignedDescent(Purifier):
    """A purifier that moves by the signs of a gradient, which ``descend`` smooths for an attacker.

    Attributes:
        name: what it is called in a sentence.
        smoothing: what stands for a sign in the backward pass; None: no graph is behind the result.
    """

    name: ClassVar[str]

    def __init__(self, options: Any, smoothing: Smoothing | None = None) -> None:
        super().__init__(options)
        self.smoothing = smoothing

    def smoothed(self, smoothing: Smoothing) -> Self:
        """Return the same defense, through whose signs a gradient can go."""
        return type(self)(self.options, smoothing)

    def refuses(self, setting: Setting) -> str | None:
        """Refuse the exact gradient: it would only repeat BPDA under a stronger name."""
        if setting.threat.knowledge is Knowledge.FULL:
            return (
                f"{self.name} moves by sign(gradient), whose derivative is zero almost everywhere, so the exact "
                "Jacobian of the defense is the identity (but for clipping) and `full` would only repeat `bpda`; "
                "use knowledge: smooth, or bpda"
            )
        return None
