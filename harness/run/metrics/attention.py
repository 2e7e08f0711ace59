"""Attention-matrix variation (AMV) and masked reconstruction loss, seen by a probe autoencoder.

AMV at decoder layer t is A^t(other) - A^t(clean), with A^t = softmax(Q K^T / sqrt(d)), under the same weights and
the same masks (MAE-Pure, section 3). What is reported here is the Frobenius norm of that difference for every head,
averaged over heads and over a stated number of masks; the paper writes a plain double bar and says nothing of heads,
so both are choices of ours. The probe is named in the suite and need not belong to any defense, so every defense has
the metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.nets.mae import MAE, masked_loss

if TYPE_CHECKING:
    from harness.draws import Draws


@dataclass(frozen=True)
class Seen:
    """What the probe makes of a batch.

    Attributes:
        reconstruction: masked reconstruction loss, mean over masks, ``(B,)``.
        attention: for every mask and decoder layer ``(B, heads, N, N)``: outer list masks, inner list layers.
    """

    reconstruction: Tensor
    attention: list[list[Tensor]]


@dataclass(frozen=True)
class Probe:
    """A masked autoencoder that looks, and the masks it looks through.

    Attributes:
        mae: the network.
        mask_ratio: share of the patches that is removed.
        masks: how many masks a number is averaged over.
    """

    mae: MAE
    mask_ratio: float
    masks: int

    @torch.no_grad()
    def look(self, x: Tensor, draws: Draws) -> Seen:
        """Return reconstruction loss and decoder attention of images ``(B, C, H, W)``.

        The same ``draws`` give the same masks: look at the clean and at the other image with the same.
        """
        losses, maps = [], []
        for mask in range(self.masks):
            order = draws.at("probe", mask).permutation(self.mae.n_patches)
            found = self.mae(x, order, self.mask_ratio, attention=True)
            losses.append(masked_loss(found.patches, self.mae.patchify(x), found.hidden))
            maps.append(list(found.attention))
        return Seen(torch.stack(losses).mean(0), maps)


def variation(other: Seen, clean: Seen) -> Tensor:
    """Return the AMV ``(B, layers, heads)``: Frobenius norm of the attention's difference, mean over masks."""
    per_mask = [
        torch.stack([torch.linalg.matrix_norm(a - b) for a, b in zip(layers, clean_layers, strict=True)], 1)
        for layers, clean_layers in zip(other.attention, clean.attention, strict=True)
    ]
    return torch.stack(per_mask).mean(0)


def last_and_mean(amv: Tensor) -> tuple[Tensor, Tensor]:
    """Return the AMV of the last layer and its mean over layers, heads averaged, each ``(B,)``."""
    per_layer = amv.mean(2)
    return per_layer[:, -1], per_layer.mean(1)
