"""What an objective sees beside the network that learns: a batch, networks to stand on, an attack to meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.bounds import project, steepest
from harness.core.errors import UserError
from harness.core.threat import Knowledge
from harness.draws import Draws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.contracts import Attack
    from harness.core.threat import ThreatModel

#: images ``(B, C, H, W)`` and their draws to logits ``(B, K)``
Ask = Callable[[Tensor, Draws], Tensor]

#: deviation of the noise that an ascent on a divergence begins with: at the centre itself its gradient is zero
START = 1e-3


@dataclass(frozen=True)
class Batch:
    """The images of one step.

    Attributes:
        x: pixels ``(B, C, H, W)`` in [0, 1].
        y: labels ``(B,)``.
        rng: the generator of the run, on the CPU, which the plain objectives draw from.
        draws: addressed by the recipe's seed, the step and the image; attacks and all that goes with them draw here.
    """

    x: Tensor
    y: Tensor
    rng: torch.Generator
    draws: Draws


@dataclass(frozen=True)
class Beside:
    """What a recipe stands on, loaded.

    Attributes:
        nets: by role, in eval mode, without gradients of their own.
        attack: what is trained against, or None.
        threat: its budget, and what it sees of a purifier, or None.
        n_classes: number of labels.
    """

    nets: Mapping[str, nn.Module] = field(default_factory=dict)
    attack: Attack | None = None
    threat: ThreatModel | None = None
    n_classes: int = 0

    def net(self, role: str) -> nn.Module:
        """Return the network of a role.

        Raises:
            UserError: if the recipe names none.
        """
        if role not in self.nets:
            raise UserError(f"expected a {role} beside the network that is trained, got none; name it in the recipe")
        return self.nets[role]

    @property
    def budget(self) -> ThreatModel:
        """The threat model.

        Raises:
            UserError: if the recipe has none.
        """
        if self.threat is None:
            raise UserError("expected a threat model to train under, got none; write `threat_model` into the recipe")
        return self.threat

    @property
    def through(self) -> bool:
        """Whether the attack differentiates through the purifier; else it sees the classifier alone."""
        return self.budget.knowledge is Knowledge.FULL

    def asking(self, classifier: nn.Module, purified: Callable[[Tensor, Draws], Tensor]) -> Ask:
        """Return what an attack asks: the logits of purified images, or, where it sees the classifier alone, of images.

        Args:
            classifier: images to logits ``(B, K)``.
            purified: images and their draws to images.
        """

        def ask(at: Tensor, draws: Draws) -> Tensor:
            logits: Tensor = classifier(purified(at, draws) if self.through else at)
            return logits

        return ask

    def attacked(self, ask: Ask, x: Tensor, y: Tensor, draws: Draws, *, random: bool) -> Tensor:
        """Return what the attack proposes around ``x``; ``random``: whether other draws may get other logits.

        Raises:
            UserError: if the recipe names no attack.
        """
        if self.attack is None:
            raise UserError("expected an attack to train against, got none; name one under `attack` in the recipe")
        victim = Learner(ask, self.n_classes, random)
        return self.attack.propose(victim, x, y, self.budget, draws.at("attack")).detach()

    def ascend(
        self, divergence: Callable[[Tensor], Tensor], x: Tensor, steps: int, step_size: float | None, draws: Draws
    ) -> Tensor:
        """Return images within the budget around ``x`` that raise a divergence: projected ascent, Gaussian start.

        The inner problem of TRADES (Zhang et al. 2019, algorithm 1), in either norm.

        Args:
            divergence: from images ``(B, C, H, W)`` to ``(B,)``.
            x: the centre of the ball, without a graph behind it.
            steps: how many.
            step_size: length of a step in the norm; a quarter of eps if None.
            draws: those of the images.
        """
        eps, norm = self.budget.eps, self.budget.norm
        length = step_size or eps / 4
        at = project(x + START * draws.at("start").normal(*x.shape[1:]), x, eps, norm)
        for _ in range(steps):
            at = at.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(divergence(at).sum(), at)
            at = project(at.detach() + length * steepest(gradient, norm), x, eps, norm)
        return at.detach()


@dataclass(frozen=True)
class Learner:
    """The victim of an attack in training.

    Attributes:
        ask: from images and draws to logits.
        n_classes: number of labels.
        random: whether two calls with different draws may differ.
    """

    ask: Ask
    n_classes: int
    random: bool

    def inner(self, name: str, x: Tensor, clean: Tensor, draws: Draws) -> Tensor:
        """Refuse: what is trained here has no losses to show.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"expected an attack in training that asks for no inner loss, got asked for {name!r}")

    def note(self, name: str, values: Tensor) -> None:
        """Keep nothing: no claim is looked at in training."""

    def progress(self, fraction: float) -> None:
        """Keep nothing: a training tells how far it is by its own steps."""

    def logits(self, x: Tensor, draws: Draws) -> Tensor:
        """Return logits ``(B, K)`` of pixels ``(B, C, H, W)`` in [0, 1]."""
        return self.ask(x, draws)


@contextmanager
def held(net: nn.Module) -> Iterator[None]:
    """Hold a network in eval mode while it is attacked, as it will be attacked later."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


def kl(moved: Tensor, still: Tensor) -> Tensor:
    """Return KL(softmax(still) || softmax(moved)) of logits ``(B, K)``, as ``(B,)``."""
    return F.kl_div(F.log_softmax(moved, 1), F.log_softmax(still, 1), reduction="none", log_target=True).sum(1)
