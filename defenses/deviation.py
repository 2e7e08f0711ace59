"""Deviation: how far the way back through a diffusion strays from the way there.

Source: Kang, Song and Li, "DiffAttack: Evasion Attacks Against Diffusion-Based Adversarial Purification", NeurIPS 2023,
equation 8: the mean over time steps of d(x_t, x'_t), where x_t is the input noised to step t and x'_t the state that
the way back has there. All steps count alike, as in their experiments (appendix D.2).

What they leave open: d is the mean squared difference of pixels in [-1, 1]; x_t has the noise that the purifier itself
draws on the way there, scaled to the level of the step, so that both ways begin at the same point; every step of the
way back counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from defenses.reverse import Seen


class Deviation:
    """Collects the distances of the states of a way back, or of several in a row."""

    def __init__(self) -> None:
        self._distances: list[Tensor] = []

    def from_way(self, image: Tensor, noise: Tensor | None) -> Seen:
        """Return what is to be shown the states of a way back.

        Args:
            image: in [-1, 1], ``(B, C, H, W)``, as it was before the noise.
            noise: standard normal, likewise shaped; None where none was added: states are compared with the image.
        """

        def seen(state: Tensor, share: float) -> None:
            there = image if noise is None else math.sqrt(share) * image + math.sqrt(1.0 - share) * noise
            self._distances.append(((state - there) ** 2).flatten(1).mean(1))

        return seen

    def mean(self) -> Tensor:
        """Return the mean over all steps, ``(B,)``."""
        import torch

        return torch.stack(self._distances).mean(0)
