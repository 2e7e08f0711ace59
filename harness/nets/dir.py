"""DIR's purifier: complementary halves of the patches through one masked autoencoder, features averaged.

Source: Zhou et al. 2023, "Eliminating Adversarial Noise via Information Discard and Robust Representation Restoration",
ICML. As in the authors' code: learned positions, a class token, one width throughout, a convolution as the head. Unlike
it: each half's features stand at their own places (there, the second half's stand at the first half's), and a linear
layer and a norm lie between encoder, decoder and head, as in the autoencoder of ``mae``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from harness.nets.mae import Trunk
from harness.nets.sizes import MAESize

if TYPE_CHECKING:
    from harness.core.contracts import DataCard
    from harness.nets.sizes import DIRSize


class DIR(nn.Module):
    """An autoencoder of the two halves of an image, with a 1-d convolution to pixels."""

    def __init__(self, size: DIRSize, data: DataCard) -> None:
        super().__init__()
        inner = MAESize(
            use="mae",
            patch=size.patch,
            dim=size.dim,
            depth=size.depth,
            heads=size.heads,
            decoder_dim=size.dim,
            decoder_depth=size.decoder_depth,
            decoder_heads=size.heads,
            positions="learned",
            class_token=True,
        )
        self.trunk = Trunk(inner, data)
        self.n_patches, pixels = self.trunk.n_patches, self.trunk.n_pixels
        if size.dim % pixels:
            raise ValueError(f"expected a width that is a multiple of the {pixels} values of a patch, got {size.dim}")
        if self.n_patches < 2:
            raise ValueError(f"expected a patch that leaves two patches at least, got {size.patch}")
        window = size.dim // pixels
        self.head = nn.Conv1d(self.n_patches, self.n_patches, window, stride=window)  # patches are its channels

    def forward(self, x: Tensor, order: Tensor) -> Tensor:
        """Return restored images ``(B, C, H, W)``, not clipped.

        Args:
            x: pixels ``(B, C, H, W)`` in [0, 1].
            order: ``(B, N)``, a permutation of the patches of each image, whose two halves are encoded apart.
        """
        half = self.n_patches // 2
        first, _ = self.trunk.features(x, order[:, :half])
        second, _ = self.trunk.features(x, order[:, half:])
        patches = self.head((first + second) / 2.0)  # (B, N, E) -> (B, N, P)
        return self.trunk.unpatchify(self.trunk.unstandardise(patches))


def build(size: DIRSize, data: DataCard) -> DIR:
    """Return an untrained purifier; its first weights come from torch's global generator."""
    return DIR(size, data)
