"""Guidance: the gradient of what a purifier wants more of, along its way back through a diffusion.

Where an attacker's gradient stops at the guidance, it is not the purifier's: such a row is not differentiable by its
own account, and is attacked by BPDA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.core.threat import Knowledge

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import Tensor

    from harness.core.contracts import Setting

#: whether an attacker's gradient goes through the guidance, as it does through everything else, or stops at it
Path = Literal["attached", "detached"]

PATH = "gradient of the guidance: part of the graph, or cut off as in the authors' code, which hides it from attackers"


def gradient(value: Callable[[Tensor], Tensor], at: Tensor, path: Path) -> Tensor:
    """Return the gradient of a value at images ``(B, C, H, W)``, whether or not gradients are on around it.

    Args:
        value: from images to ``(B,)``; each image's depends on that image alone.
        at: where.
        path: ``attached``: differentiable in ``at``, where that asks for a gradient.
    """
    import torch

    attached = path == "attached" and torch.is_grad_enabled() and at.requires_grad
    with torch.enable_grad():
        if not attached:
            here = at.detach().requires_grad_(True)
            (found,) = torch.autograd.grad(value(here).sum(), here)
            return found
        with twice_differentiable():
            (found,) = torch.autograd.grad(value(at).sum(), at, create_graph=True)
    return found


def twice_differentiable() -> AbstractContextManager[None]:
    """Return a block in which attention has a second derivative; torch's fused kernels have a first one alone."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    block: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return block


def refuse_detached(name: str, path: Path, setting: Setting) -> str | None:
    """Return why a gradient that stops at the guidance is no attack; None where it is not asked for."""
    if path == "detached" and setting.threat.knowledge is Knowledge.FULL:
        return (
            f"{name} cuts an attacker's gradient off (path: detached), so `full` would follow one that is not the "
            "purifier's; use knowledge: bpda, or path: attached"
        )
    return None
