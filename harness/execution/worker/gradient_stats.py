"""Gauge: what the gradients were like that an attack was given, and what the attack claimed.

Whether a defense hides its gradient, and whether they were averaged over enough draws, is seen on the very gradients
of the attack that is judged: each passes here on its way to the attack (Athalye et al. 2018, section 3; Kassis et al.
2025 on the number of draws).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness import bounds

#: below this sum of a loss's slopes over the classes a single rounding of a probability near 1 may show
FAINT = 1e-4

#: slopes of the other classes that are within this factor of each other tell them hardly apart
ALIKE = 2.0

#: share of that sum by which its slopes may fail to balance
UNBALANCED = 0.1


@dataclass
class Tally:
    """Sum and number of some values."""

    total: float = 0.0
    number: int = 0

    def add(self, values: Tensor) -> None:
        """Add finite values of any shape."""
        values = values.detach().double()
        self.total += float(values.sum())
        self.number += values.numel()


@dataclass
class Gauge:
    """Looks at gradients, takes away what of them is not finite, and keeps claims.

    A gradient that is infinite or not a number in one pixel would turn off an attack on the whole image; so there it
    is 0, and the attack goes on with the rest.

    What it notes, each per image and look:

    - ``zero_gradient``: whether the gradient was zero in every pixel, and ``zero_gradient_first``: in the first look;
    - ``zero_pixels``: the share of pixels where it was zero;
    - ``not_finite``: whether it was not finite in some pixel;
    - ``inner_not_finite``: likewise, of a loss inside the defense;
    - ``saturated``: whether the loss's slope at the logits had lost the part of the true class, as that of a
      cross-entropy in float32 has where the victim is sure of an image;
    - ``flat``: whether its slopes at the logits of three classes or more told the other classes hardly apart, as those
      of a cross-entropy do where logits are small;
    - ``noise_share``: where the same images were looked at several times in a row, as averaging over draws does: the
      variance of the averaged gradient over its squared length, at most 2. About 1 is nothing but noise, 0 none of it;
    - ``shared_direction``: likewise, the mean cosine between the gradients of two of these looks: 1 where all have one
      direction, 0 where they have none in common. Looks without any gradient are left out.

    A claim that is not finite is kept as ``<name>_not_finite``, the share of claims that were not, and is left out of
    the mean.
    """

    tallies: dict[str, Tally] = field(default_factory=dict)
    _row: Row | None = None

    def note(self, name: str, values: Tensor) -> None:
        """Add per-image values to a name."""
        finite = torch.isfinite(values)
        if name + _NOT_FINITE in self.tallies or not bool(finite.all()):
            before = self.tallies.get(name, Tally()).number
            lost = self.tallies.setdefault(name + _NOT_FINITE, Tally(number=before))
            lost.add(~finite)
        self._count(name, values[finite])

    def _count(self, name: str, values: Tensor) -> None:
        """Add values that are finite to a name."""
        self.tallies.setdefault(name, Tally()).add(values)

    def watched(self, x: Tensor) -> Tensor:
        """Return the same images, whose gradient is looked at when it comes, and is finite."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return x
        where, seen = x.detach(), False

        def look(gradient: Tensor) -> Tensor | None:
            nonlocal seen
            # who goes back through a look again, for another logit, has not looked again
            again, seen = seen, True
            return self._look(where, gradient, again=again)

        same = x.view_as(x)
        same.register_hook(look)  # type: ignore[no-untyped-call]
        return same

    def mended(self, x: Tensor) -> Tensor:
        """Return the same images, whose gradient is finite; for losses inside the defense, noted by themselves."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return x
        same = x.view_as(x)
        same.register_hook(lambda gradient: self._finite("inner_not_finite", gradient))  # type: ignore[no-untyped-call]
        return same

    def heard(self, logits: Tensor) -> Tensor:
        """Return the same logits ``(B, K)``; what an attack's loss makes of them is looked at when it comes."""
        if torch.is_grad_enabled() and logits.requires_grad:
            logits.register_hook(self._listen)  # type: ignore[no-untyped-call]
        return logits

    def _listen(self, slopes: Tensor) -> None:
        """Note where a loss says too little.

        A loss that does not change where all logits are raised alike has slopes whose sum over the classes is 0. Of a
        saturated cross-entropy, the probability of the true class less 1 is rounded, to 0 at last, and its counterparts
        are not. A single slope of usual size is the gradient of one logit, which some attacks ask for; slopes that are
        all 0 make a gradient that is 0, which is noted already.
        """
        slopes = slopes.detach().double()
        size = slopes.abs().sum(1)
        others = slopes.sort(1).values[:, 1:]  # all but the true class's, which alone is below 0
        alike = (slopes.amin(1) < 0) & (others[:, 0] > 0) & (others[:, -1] < ALIKE * others[:, 0])
        self._count("flat", alike if slopes.shape[1] > 2 else torch.zeros_like(alike))
        self._count("saturated", (size > 0) & (size < FAINT) & (slopes.sum(1).abs() > UNBALANCED * size))

    def _finite(self, name: str, gradient: Tensor) -> Tensor | None:
        """Note where a gradient is not finite; return it with 0 there, or None where all of it is finite."""
        finite = torch.isfinite(gradient)
        whole = finite.flatten(1).all(1)
        self._count(name, ~whole)
        return None if bool(whole.all()) else torch.where(finite, gradient, torch.zeros_like(gradient))

    def _look(self, at: Tensor, gradient: Tensor, *, again: bool) -> Tensor | None:
        """Note what a gradient is like; return it with 0 where it is not finite, or None where all of it is."""
        mended = self._finite("not_finite", gradient)
        flat = (gradient if mended is None else mended).detach().flatten(1)
        zero = flat == 0
        nothing = zero.all(1)
        if "zero_gradient" not in self.tallies:
            self._count("zero_gradient_first", nothing)
        self._count("zero_gradient", nothing)
        self._count("zero_pixels", zero.double().mean(1))
        if self._row is None or not self._row.continues(at):
            self._settle()
            self._row = Row(at, flat)
        if not again:
            self._row.add(flat)
        return mended

    def _settle(self) -> None:
        """Note what the looks at the same images that have ended have in common."""
        row, self._row = self._row, None
        if row is None or row.looks < 2:
            return
        for name, values in (("noise_share", row.noise()), ("shared_direction", row.cosine())):
            self._count(name, values)

    def notes(self) -> dict[str, tuple[float, int]]:
        """Return mean and number by name."""
        self._settle()
        return {name: (one.total / one.number, one.number) for name, one in self.tallies.items() if one.number}


#: behind the name of a claim
_NOT_FINITE = "_not_finite"


class Row:
    """Gradients at the same images, one look after the other.

    Each image's are counted in the magnitude of its first, so that their squares neither vanish nor overflow.

    Args:
        at: the images.
        first: the first gradients, ``(B, D)``.
    """

    def __init__(self, at: Tensor, first: Tensor) -> None:
        self.at, self.looks = at, 0
        self.unit = bounds.magnitude(first)[:, None]
        self.sum, self.squares = torch.zeros_like(first), first.new_zeros(len(first), dtype=torch.float64)
        self.directions, self.directed = torch.zeros_like(first), first.new_zeros(len(first))

    def continues(self, at: Tensor) -> bool:
        """Whether images are these."""
        return self.at.shape == at.shape and torch.equal(self.at, at)

    def add(self, flat: Tensor) -> None:
        """Add gradients ``(B, D)``."""
        own = bounds.magnitude(flat)[:, None]
        scaled = flat / own
        length = torch.linalg.vector_norm(scaled, dim=1)
        there = length > 0
        self.directions += scaled / torch.where(there, length, torch.ones_like(length))[:, None]
        self.directed += there
        self.sum += flat / self.unit
        self.squares += (length.double() * (own / self.unit).squeeze(1).double()) ** 2
        self.looks += 1

    def noise(self) -> Tensor:
        """Return the share of noise of the averages, of images where it is known, at most 2."""
        n = self.looks
        length = torch.linalg.vector_norm(self.sum / n, dim=1).double() ** 2
        spread = (self.squares / n - length).clamp_min(0.0) * n / (n - 1)  # of a single draw, without bias
        share = spread / n / length
        # lengths of which the largest double is too small differ by so much that the average is one of its parts
        return torch.where(torch.isfinite(share), share, torch.full_like(share, 1.0))[length > 0].clamp_max(2.0)

    def cosine(self) -> Tensor:
        """Return the mean cosine between two looks' gradients, of images that had two."""
        n = self.directed.double()
        together = torch.linalg.vector_norm(self.directions, dim=1).double() ** 2
        cosine: Tensor = ((together - n) / (n * (n - 1)))[n > 1]
        return cosine
