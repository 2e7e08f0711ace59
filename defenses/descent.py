"""Signed gradient descent on the input: the loop that the purifiers which optimise at inference share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.threat import Knowledge, Norm

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.core.contracts import Setting

    #: images that gradients are wanted of, number of the step from 0 -> losses, one or several per image
    Loss = Callable[[Tensor, int], Tensor]


def descend(x: Tensor, loss: Loss, *, steps: int, step_size: float, eps: float, halve_step: bool = False) -> Tensor:
    """Return images within ``eps`` of ``x``, in every pixel, whose loss is lower; without a graph behind them.

    Each step goes ``step_size`` against the gradient's sign in every pixel and is projected onto the Linf ball around
    ``x`` and onto [0, 1]. Losses are summed, so an image's gradient is that of its own loss, in a batch or alone.

    Args:
        x: pixels ``(B, C, H, W)`` in [0, 1].
        loss: what to lower.
        steps: gradient steps, 1 or more.
        step_size: length of a step in every pixel.
        eps: radius of the ball; 1 leaves the pixel range alone.
        halve_step: halve the step once half of the steps, rounded up, are done.
    """
    import torch

    from harness.bounds import project, steepest

    purified = x.detach()
    with torch.enable_grad():
        for step in range(steps):
            at = purified.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(loss(at, step).sum(), at)
            if halve_step and step == (steps + 1) // 2:
                step_size /= 2
            purified = project(purified - step_size * steepest(gradient, Norm.LINF), x.detach(), eps, Norm.LINF)
    return purified.detach()


def refuse_full(name: str, setting: Setting) -> str | None:
    """Return why the exact gradient of a signed descent is no attack; None where it is not asked for."""
    if setting.threat.knowledge is Knowledge.FULL:
        return (
            f"{name} moves by sign(gradient), whose derivative is zero almost everywhere, so the exact Jacobian "
            "of the defense is the identity (but for clipping) and `full` would only repeat `bpda`; "
            "use knowledge: bpda"
        )
    return None
