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


def unit_free(attack: Any) -> Any:
    """Return the library's APGD, whose steps are as long for small gradients as for large ones.

    It adds 1e-12 to the length of a gradient before it divides by it. Counted in its magnitude first, a power of 2, a
    gradient of usual size gives the same step to the last bit.
    """
    from harness.bounds import magnitude

    normalise = attack.normalize

    def scaled(x: Tensor) -> Tensor:
        found: Tensor = normalise(x / magnitude(x).reshape(-1, *[1] * (x.ndim - 1)))
        return found

    attack.normalize = scaled
    return attack


def in_units(calls: Callable[[Tensor], Tensor], unit: float) -> Callable[[Tensor], Tensor]:
    """Return the same function, whose logits are divided by a power of 2, which rounds nothing."""

    def ask(x: Tensor) -> Tensor:
        return calls(x) / unit

    return ask


def sealed(
    calls: Callable[[Tensor], Tensor], slopes: Callable[[Tensor], Tensor] | None = None
) -> Callable[[Tensor], Tensor]:
    """Return the same function, through which a gradient reaches the images and nothing else.

    FAB and Foolbox call ``backward``, which leaves gradients at every parameter behind the images.

    Args:
        calls: from images to logits ``(B, K)``.
        slopes: from logits to what goes backwards in place of what the library sends: the slopes of its loss up to a
            factor, where it would lose them to rounding. For who follows the direction of a gradient alone, which is
            then counted in its magnitude.
    """
    import torch

    from harness.bounds import magnitude

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
            if slopes is not None:
                gradient = slopes(context.logits.detach())
            back: Tensor = torch.autograd.grad(context.logits, context.at, gradient, retain_graph=True)[0]
            return back if slopes is None else back / magnitude(back).reshape(-1, 1, 1, 1)

    def ask(x: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and x.requires_grad):
            return calls(x)
        logits: Tensor = Through.apply(x)
        return logits

    return ask
