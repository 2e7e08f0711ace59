"""Replay: a step of a purifier whose backward pass runs it again, so that memory does not grow with the steps.

Of each step only what went into it is kept; its activations are made anew when the gradient arrives (Chen et al. 2016,
"Training Deep Nets with Sublinear Memory Cost", section 4). Random numbers have addresses, so the step that is run
again is the step that was run. Torch's own checkpoint would run a step that has a gradient inside more than twice.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: a tensor or several: what a step returns
Found = TypeVar("Found", Tensor, tuple[Tensor, ...])

_STORED: ContextVar[bool] = ContextVar("stored", default=False)


@contextmanager
def stored_graph() -> Iterator[None]:
    """Keep the whole graph within the block, as autograd does by itself: for small cases and for comparison."""
    token = _STORED.set(True)
    try:
        yield
    finally:
        _STORED.reset(token)


def replayed(step: Callable[..., Found], *given: Tensor) -> Found:
    """Return ``step(*given)``, whose backward pass runs the step again in place of keeping its activations.

    Gradients reach what is ``given`` and nothing else: a tensor that the step has from elsewhere counts as a constant.
    Without gradients, or within ``stored_graph``, the step is simply called.

    Args:
        step: a pure function of tensors, to a tensor or to several; what it draws has addresses.
        given: what it is called with.
    """
    wanted = torch.is_grad_enabled() and any(one.requires_grad for one in given)
    if not wanted or _STORED.get():
        return step(*given)
    found: Found = _Replayed.apply(step, *given)
    return found


class _Replayed(torch.autograd.Function):
    """Runs a step without a graph, and again with one when its gradient is asked for."""

    @staticmethod
    def forward(ctx: Any, step: Callable[..., Any], *given: Tensor) -> Any:
        """Run the step; gradients are off here."""
        ctx.step = step
        ctx.save_for_backward(*given)
        return step(*given)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *above: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the step again and hand the gradients of its results on to what it was given."""
        asked = ctx.needs_input_grad[1:]
        given = [one.detach().requires_grad_(needs) for one, needs in zip(ctx.saved_tensors, asked, strict=True)]
        with torch.enable_grad():
            found = ctx.step(*given)
        several = (found,) if isinstance(found, Tensor) else found
        pairs = [(one, up) for one, up in zip(several, above, strict=True) if up is not None and one.requires_grad]
        wanted = [one for one, needs in zip(given, asked, strict=True) if needs]
        if not pairs:
            return None, *(None for _ in given)
        roots, ups = zip(*pairs, strict=True)
        gradients = iter(torch.autograd.grad(roots, wanted, ups, allow_unused=True))
        return None, *(next(gradients) if needs else None for needs in asked)
