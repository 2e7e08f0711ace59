"""Probe: a masked autoencoder that looks at clean, adversarial and purified images alike, and what it sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.core.metric import AMV_AXES

if TYPE_CHECKING:
    from harness.core.contracts import Seen
    from harness.draws import Draws
    from harness.nets.mae import MAE


@dataclass(frozen=True)
class ProbeView:
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
    def look(self, x: Tensor, draws: Draws) -> ProbeView:
        """Return reconstruction loss and decoder attention of images ``(B, C, H, W)``.

        The same ``draws`` give the same masks: look at the clean and at the other image with the same.
        """
        losses, maps = [], []
        for mask in range(self.masks):
            order = draws.at("probe", mask).permutation(self.mae.n_patches)
            found = self.mae(x, order, self.mask_ratio, attention=True)
            losses.append(self.mae.loss(found, x))  # in the units that the probe was trained in
            maps.append(list(found.attention))
        return ProbeView(torch.stack(losses).mean(0), maps)


#: matrix norm -> as torch calls it
_ORDERS: dict[str, Any] = {"frobenius": "fro", "spectral": 2}


def variation(other: Seen, clean: Seen, matrix_norm: str = "frobenius") -> Tensor:
    """Return the AMV ``(B, layers, heads)``: a norm of the attention's difference, mean over masks.

    ``frobenius``: the root of the sum of squares. ``spectral``: the largest singular value.
    """
    order = _ORDERS[matrix_norm]
    per_mask = [
        torch.stack([torch.linalg.matrix_norm(a - b, order) for a, b in zip(layers, clean_layers, strict=True)], 1)
        for layers, clean_layers in zip(other.attention, clean.attention, strict=True)
    ]
    return torch.stack(per_mask).mean(0)


def last_and_mean(amv: Tensor) -> tuple[Tensor, Tensor]:
    """Return the AMV of the last layer and its mean over layers, heads averaged, each ``(B,)``."""
    per_layer = amv.mean(2)
    return per_layer[:, -1], per_layer.mean(1)


def by_head(adversarial: Seen, purified: Seen, clean: Seen) -> Tensor:
    """Return the AMV ``(B, images, norms, layers, heads)`` of every layer and head; the first axes are ``AMV_AXES``."""
    images = {"adversarial": adversarial, "purified": purified}
    norms = AMV_AXES["matrix_norm"]
    return torch.stack(
        [torch.stack([variation(images[image], clean, norm) for norm in norms], 1) for image in AMV_AXES["image"]], 1
    )
