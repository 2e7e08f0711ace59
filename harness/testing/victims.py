"""Victims whose optimum is known in closed form.

``logits = SCALE * H (x - 1/2)`` with rows of +1 and -1 that are orthogonal to each other (Sylvester's Hadamard matrix).
The margin between two classes is linear, so the nearest point that is misclassified is at ``margin / dual norm`` of the
difference of their rows: its l1 norm for Linf, its l2 norm for L2, its largest component for L1. Each is the same for
every two classes. In L1 many pixels have that largest component, so the range [0, 1] of one is not in the way.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.core.threat import Norm
from harness.draws import Draws

#: images are (1, SIDE, SIDE); the number of pixels is a power of 2, as Sylvester's construction wants
SIDE = 8
PIXELS = SIDE * SIDE
#: how much further the images lie along the row of their own class than along that of the next one
GAP = 0.1
#: of the logits: the next class outweighs the others together, and no gradient drowns in rounding
SCALE = 0.5


class LinearVictim:
    """A linear classifier without a defense; keeps what it was asked, and how far it was told the attack is.

    Args:
        n_classes: number of labels.
        unit: what the logits are counted in: they are so many times as large. No label and no distance changes.

    Attributes:
        n_classes: number of labels.
        net: pixels to logits; the dropout in it is off, so a change of training mode changes the numbers.
        questions: the images of every call.
        told: every fraction that was reported.
        notes: every claim, by name.
    """

    def __init__(self, n_classes: int = 10, unit: float = 1.0) -> None:
        if not 2 <= n_classes < PIXELS:
            raise ValueError(f"expected 2 to {PIXELS - 1} classes, got {n_classes}")
        self.n_classes = n_classes
        self.rows = _hadamard(PIXELS)[1 : n_classes + 1]  # without the constant row
        # a pixel that all rows weigh alike changes no margin: weight 0, or rounding would choose its gradient's sign
        telling = (self.rows != self.rows[0]).any(0)
        linear = nn.Linear(PIXELS, n_classes, device="meta").to_empty(device="cpu")  # draws nothing
        with torch.no_grad():
            linear.weight.copy_(unit * SCALE * self.rows * telling)
            linear.bias.copy_(-0.5 * linear.weight.sum(1))
        self.net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), linear).eval()
        self.questions: list[Tensor] = []
        self.told: list[float] = []
        self.notes: dict[str, list[Tensor]] = {}

    @property
    def random(self) -> bool:
        """Whether two calls with different draws may differ."""
        return False

    def progress(self, fraction: float) -> None:
        """Keep how much of the attack is done."""
        self.told.append(fraction)

    def note(self, name: str, values: Tensor) -> None:
        """Keep what the attack claims; per image, or it is no claim about one."""
        if values.ndim != 1:
            raise AssertionError(f"expected notes per image, shape (B,), got {tuple(values.shape)}")
        self.notes.setdefault(name, []).append(values.detach().clone())

    def inner(self, name: str, x: Tensor, clean: Tensor, draws: Draws) -> Tensor:
        """Refuse: there is no defense in here.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"expected an attack that asks for no inner loss of a bare classifier, got {name!r}")

    def logits(self, x: Tensor, draws: Draws) -> Tensor:
        """Return logits ``(B, K)``."""
        if len(draws.examples) != len(x):
            raise AssertionError(
                f"expected the victim to be asked with the draws of its {len(x)} images, got those of "
                f"{len(draws.examples)}; use draws.take(rows) for some of the images, draws.repeated(n) for copies"
            )
        self.questions.append(x.detach().clone())
        logits: Tensor = self.net(x)
        return logits

    def images(self, n: int = 6) -> tuple[Tensor, Tensor, Draws]:
        """Return ``n`` images that are equally far from being misclassified, their labels, and draws for them.

        All pixels are near 1/2, so that the box [0, 1] is not in the way. The class next to the true one is its
        successor; the others are about twice as far.
        """
        draws = Draws(("toy images",), torch.arange(n))
        labels = torch.arange(n) % self.n_classes
        runners = (labels + 1) % self.n_classes
        noise = 0.04 * (draws.uniform(PIXELS) - 0.5)
        pixels = 0.5 + noise
        for row, wanted in ((self.rows[labels], 2.0 * GAP), (self.rows[runners], GAP)):
            pixels = pixels + row * (wanted - (noise * row).sum(1, keepdim=True) / PIXELS)
        return pixels.reshape(n, 1, SIDE, SIDE), labels, draws

    def distance(self, norm: Norm) -> float:
        """Return how far each of the images is from being misclassified, in closed form: margin / dual norm."""
        return SCALE * GAP * PIXELS / self.dual(norm)

    def dual(self, norm: Norm) -> float:
        """Return how fast a margin can fall per unit of perturbation: the dual norm of the difference of two rows."""
        difference = SCALE * (self.rows[0] - self.rows[1])
        match norm:
            case Norm.LINF:
                return float(difference.abs().sum())
            case Norm.L2:
                return float(difference.norm())
            case Norm.L1:
                return float(difference.abs().max())
            case _:
                raise ValueError(f"expected a norm with a known dual, one of Linf, L2, L1, got {norm}")

    def margins(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the logit of the true class minus the largest other one, ``(B,)``; not counted as a question."""
        with torch.no_grad():
            logits: Tensor = self.net(x)
        own = logits.gather(1, y[:, None])
        others = logits.scatter(1, y[:, None], -torch.inf)
        return (own - others.amax(1, keepdim=True)).squeeze(1)


class NoisyLinearVictim(LinearVictim):
    """The same behind a random defense: normal noise on the input, drawn from the caller's draws."""

    def __init__(self, n_classes: int = 10, unit: float = 1.0, sigma: float = 0.05) -> None:
        super().__init__(n_classes, unit)
        self.sigma = sigma

    @property
    def random(self) -> bool:
        """Whether two calls with different draws may differ."""
        return True

    def logits(self, x: Tensor, draws: Draws) -> Tensor:
        """Return logits ``(B, K)`` of the noisy images."""
        return super().logits(x + self.sigma * draws.at("noise").normal(*x.shape[1:]), draws)


class _Guard:
    """Gives a linear victim an inner loss: the mean square of the change of some of the pixels, its ``guarded`` ones.

    By default these are the pixels that all classes weigh alike, so that an attack loses nothing where it leaves them
    alone; every name of an inner loss means this one.

    Attributes:
        guarded: boolean ``(PIXELS,)``, or None for the default.
        asked: the names of the inner losses that were asked for, one a call.
    """

    rows: Tensor
    guarded: Tensor | None = None
    asked: tuple[str, ...] = ()

    def inner(self, name: str, x: Tensor, clean: Tensor, draws: Draws) -> Tensor:
        """Return the inner loss, per image ``(B,)``."""
        self.asked = (*self.asked, name)
        guarded = (self.rows == self.rows[0]).all(0) if self.guarded is None else self.guarded
        return ((x - clean).flatten(1)[:, guarded] ** 2).mean(1)


class GuardedLinearVictim(_Guard, LinearVictim):
    """A linear classifier behind a purifier that changes nothing and has an inner loss."""


class GuardedNoisyLinearVictim(_Guard, NoisyLinearVictim):
    """The same behind normal noise on the input."""


def _hadamard(n: int) -> Tensor:
    """Return Sylvester's Hadamard matrix ``(n, n)`` for n a power of 2."""
    matrix = torch.ones(1, 1)
    while len(matrix) < n:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    return matrix
