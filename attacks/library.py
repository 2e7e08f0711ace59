"""A victim as AutoAttack's authors want it, and a library's random numbers from our addresses.

Their package draws from torch's global generator for a whole batch, so the shard is its batch, and an image is not
attacked alike alone and within one.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from harness.core.contracts import Victim
    from harness.draws import Draws

#: the import package, whose version and hash are kept with every result
PACKAGE = "pyautoattack"


def quiet() -> logging.Logger:
    """Return the library's logger, silent: its warnings of random or dynamic defenses say what traits say already."""
    import logging

    logger = logging.getLogger("auto-attack")
    logger.setLevel(logging.ERROR)
    return logger


@contextmanager
def seeded(draws: Draws) -> Iterator[None]:
    """Seed torch's global generator by an address, and leave it as it was; no gradients unless asked for."""
    import torch

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(draws.seed())
        yield


class Calls:
    """A victim as a function of images alone.

    The library drops examples as it goes and does not say which, so a random defense draws by call and row.

    Args:
        victim: what is called.
        draws: the address under which it draws.
        eot: draws whose logits are averaged in each call, of a random victim.
        expected: calls of a whole attack, for telling how much is done; None: nothing is told.
    """

    def __init__(self, victim: Victim, draws: Draws, eot: int = 1, expected: int | None = None) -> None:
        self.victim, self.draws, self.calls = victim, draws, 0
        self.eot = eot if victim.random else 1
        self.expected = expected

    def __call__(self, x: Tensor) -> Tensor:
        """Return logits ``(B, K)`` of images ``(B, C, H, W)``; differentiable in them."""
        import torch

        from harness.draws import Draws

        if not len(x):
            return x.new_zeros(0, self.victim.n_classes)
        self.calls += 1
        if self.expected is not None:
            self.victim.progress(min(1.0, self.calls / self.expected))
        here = Draws((*self.draws.address, "call", self.calls), torch.arange(len(x), device=x.device))
        if self.eot == 1:
            return self.victim.logits(x, here)
        total = self.victim.logits(x, here.at("eot", 0))
        for number in range(1, self.eot):
            total = total + self.victim.logits(x, here.at("eot", number))
        return total / self.eot


def sealed(calls: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the same function, through which a gradient reaches the images and nothing else.

    FAB and Foolbox call ``backward``, which leaves gradients at every parameter behind the images.
    """
    import torch

    class Through(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor) -> Tensor:
            with torch.enable_grad():
                context.at = x.detach().requires_grad_(True)
                context.logits = calls(context.at)
            logits: Tensor = context.logits.detach()
            return logits

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            back: Tensor = torch.autograd.grad(context.logits, context.at, gradient, retain_graph=True)[0]
            return back

    def ask(x: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and x.requires_grad):
            return calls(x)
        logits: Tensor = Through.apply(x)
        return logits

    return ask
