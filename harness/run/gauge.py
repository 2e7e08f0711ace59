"""Gauge: what the gradients were like that an attack was given, and what the attack claimed.

Whether a defense hides its gradient, and whether they were averaged over enough draws, is seen on the very gradients
of the attack that is judged: each passes here on its way to the attack (Athalye et al. 2018, section 3; Kassis et al.
2025 on the number of draws).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Tally:
    """Sum and number of some values; those that are not finite are counted apart."""

    total: float = 0.0
    number: int = 0
    lost: int = 0

    def add(self, values: Tensor) -> None:
        """Add values of any shape."""
        values = values.detach().double().flatten()
        finite = torch.isfinite(values)
        self.total += float(values[finite].sum())
        self.number += int(finite.sum())
        self.lost += int((~finite).sum())


@dataclass
class Gauge:
    """Looks at gradients and keeps claims; changes neither.

    What it notes, each per image and look:

    - ``zero_gradient``: whether the gradient was zero in every pixel, and ``zero_gradient_first``: in the first look;
    - ``zero_pixels``: the share of pixels where it was zero;
    - ``noise_share``: where the same images were looked at several times in a row, as averaging over draws does: the
      variance of the averaged gradient over its squared length, at most 2. About 1 is nothing but noise, 0 none of it.
    """

    tallies: dict[str, Tally] = field(default_factory=dict)
    _at: Tensor | None = None
    _sum: Tensor | None = None
    _squares: Tensor | None = None
    _looks: int = 0

    def note(self, name: str, values: Tensor) -> None:
        """Add per-image values to a name."""
        self.tallies.setdefault(name, Tally()).add(values)

    def watched(self, x: Tensor) -> Tensor:
        """Return the same images, whose gradient is looked at when it comes."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return x
        where = x.detach()
        same = x.view_as(x)
        same.register_hook(lambda gradient: self._look(where, gradient))  # type: ignore[no-untyped-call]
        return same

    def _look(self, at: Tensor, gradient: Tensor) -> None:
        flat = gradient.detach().flatten(1)
        zero = flat == 0
        nothing = zero.all(1)
        if "zero_gradient" not in self.tallies:
            self.note("zero_gradient_first", nothing)
        self.note("zero_gradient", nothing)
        self.note("zero_pixels", zero.double().mean(1))
        if self._at is None or self._at.shape != at.shape or not torch.equal(self._at, at):
            self._settle()
            self._at, self._sum, self._squares, self._looks = at, torch.zeros_like(flat), flat.new_zeros(len(flat)), 0
        if self._sum is not None and self._squares is not None:
            self._sum, self._squares = self._sum + flat, self._squares + flat.square().sum(1)
            self._looks += 1

    def _settle(self) -> None:
        """Note the noise of the average that has ended."""
        n = self._looks
        if n < 2 or self._sum is None or self._squares is None:
            return
        length = (self._sum / n).square().sum(1)
        spread = (self._squares / n - length).clamp_min(0.0) * n / (n - 1)  # of a single draw, without bias
        known = length > 0
        self.note("noise_share", (spread[known] / n / length[known]).clamp_max(2.0))

    def notes(self) -> dict[str, tuple[float, int]]:
        """Return mean and number by name; ``<name>_lost`` tells how many values were not finite."""
        self._settle()
        self._at = self._sum = self._squares = None
        self._looks = 0
        found = {name: (one.total / one.number, one.number) for name, one in self.tallies.items() if one.number}
        lost = {f"{name}_lost": (float(one.lost), one.lost) for name, one in self.tallies.items() if one.lost}
        return found | lost
