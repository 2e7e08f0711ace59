"""A masked autoencoder (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", section 3).

The encoder sees visible tokens only; the decoder sees all places, with one learned token where a patch was
removed. Positions are fixed 2-D sine-cosine; there is no class token; the targets are raw pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

if TYPE_CHECKING:
    from harness.core.contracts import DataCard
    from harness.nets.sizes import MAESize


class Reconstruction(NamedTuple):
    """What the autoencoder makes of a masked image.

    Attributes:
        patches: ``(B, N, P)``, predicted pixels of every patch, visible ones included.
        hidden: ``(B, N)``, True where the patch was removed.
        attention: of each decoder layer ``(B, heads, N, N)``, rows sum to 1; empty unless asked for.
    """

    patches: Tensor
    hidden: Tensor
    attention: tuple[Tensor, ...]


def n_visible(n_patches: int, mask_ratio: float) -> int:
    """Return how many patches stay when ``mask_ratio`` of them is removed, rounded down as the authors' code does."""
    return int(n_patches * (1.0 - mask_ratio) + 1e-9)  # 1 - 0.9 is a hair under 0.1 in binary


def sincos_positions(dim: int, rows: int, columns: int) -> Tensor:
    """Return ``(rows * columns, dim)``: half of the channels encode the row, half the column.

    Each half is sine and cosine of position times 10000 ** (-2 k / (dim / 2)) for k below dim / 4 (Vaswani et
    al. 2017, section 3.5, once per axis). ``dim`` is a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"expected a width that is a multiple of 4 for sine-cosine positions, got {dim}")
    quarter = dim // 4
    rates = torch.exp(-math.log(10000.0) * torch.arange(quarter, dtype=torch.float64) / quarter)
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.reshape(-1, 1).double() * rates for place in (row, column)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float()


class MAE(nn.Module):
    """Masked autoencoder on timm's transformer blocks."""

    positions: Tensor
    decoder_positions: Tensor

    def __init__(self, size: MAESize, data: DataCard) -> None:
        super().__init__()
        channels, height, width = data.shape
        if height % size.patch or width % size.patch:
            raise ValueError(f"expected a patch that divides {height} x {width} images, got {size.patch}")
        self.patch, self.shape = size.patch, data.shape
        self.grid = (height // size.patch, width // size.patch)
        self.n_patches = self.grid[0] * self.grid[1]
        pixels = channels * size.patch**2

        self.embed = nn.Linear(pixels, size.dim)
        self.encoder = nn.ModuleList([_block(size.dim, size.heads) for _ in range(size.depth)])
        self.norm = nn.LayerNorm(size.dim, eps=1e-6)
        self.bridge = nn.Linear(size.dim, size.decoder_dim)
        self.hidden_token = nn.Parameter(torch.zeros(1, 1, size.decoder_dim))
        nn.init.normal_(self.hidden_token, std=0.02)
        self.decoder = nn.ModuleList([_block(size.decoder_dim, size.decoder_heads) for _ in range(size.decoder_depth)])
        self.decoder_norm = nn.LayerNorm(size.decoder_dim, eps=1e-6)
        self.predict = nn.Linear(size.decoder_dim, pixels)
        self.register_buffer("positions", sincos_positions(size.dim, *self.grid), persistent=False)
        self.register_buffer("decoder_positions", sincos_positions(size.decoder_dim, *self.grid), persistent=False)

    def patchify(self, x: Tensor) -> Tensor:
        """Return the patches ``(B, N, P)`` of images ``(B, C, H, W)``, row by row, channels innermost."""
        channels, p = self.shape[0], self.patch
        rows, columns = self.grid
        x = x.reshape(-1, channels, rows, p, columns, p)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, self.n_patches, p * p * channels)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Return the images ``(B, C, H, W)`` of patches ``(B, N, P)``."""
        channels, p = self.shape[0], self.patch
        rows, columns = self.grid
        x = patches.reshape(-1, rows, columns, p, p, channels).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(-1, *self.shape)

    def forward(self, x: Tensor, order: Tensor, mask_ratio: float, attention: bool = False) -> Reconstruction:
        """Reconstruct images from the patches that stay.

        Args:
            x: pixels ``(B, C, H, W)`` in [0, 1].
            order: ``(B, N)``, a permutation of the patches of each image; the first ones stay.
            mask_ratio: share of the patches that is removed, 0 to below 1.
            attention: return the decoder's attention matrices too.
        """
        keep = order[:, : n_visible(self.n_patches, mask_ratio)]  # (B, V)
        index = keep.unsqueeze(2)
        tokens = self.embed(2.0 * self.patchify(x) - 1.0) + self.positions  # (B, N, D)
        tokens = tokens.gather(1, index.expand(-1, -1, tokens.shape[2]))  # (B, V, D)
        for block in self.encoder:
            tokens = block(tokens)
        visible = self.bridge(self.norm(tokens))  # (B, V, E)

        everywhere = self.hidden_token.expand(len(x), self.n_patches, -1)
        tokens = everywhere.scatter(1, index.expand(-1, -1, visible.shape[2]), visible) + self.decoder_positions
        maps: list[Tensor] = []
        for block in self.decoder:
            if attention:
                maps.append(_attention(block, tokens))
            tokens = block(tokens)
        patches = (self.predict(self.decoder_norm(tokens)) + 1.0) / 2.0  # (B, N, P)
        hidden = torch.ones(len(x), self.n_patches, dtype=torch.bool, device=x.device).scatter(1, keep, False)
        return Reconstruction(patches, hidden, tuple(maps))


def masked_loss(patches: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Return the mean squared error over the pixels of hidden patches, per image ``(B,)``.

    Args:
        patches: predicted ``(B, N, P)``.
        target: true ``(B, N, P)``.
        hidden: ``(B, N)``, True where the loss counts; at least one per image.
    """
    error = ((patches - target) ** 2).mean(2)  # (B, N)
    return (error * hidden).sum(1) / hidden.sum(1)


def _block(dim: int, heads: int) -> nn.Module:
    block: nn.Module = Block(dim, heads, mlp_ratio=4.0, qkv_bias=True)
    return block


def _attention(block: Any, tokens: Tensor) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)) of a block, ``(B, heads, N, N)``; the fused kernel keeps it to itself."""
    layer = block.attn
    B, N, _ = tokens.shape
    qkv = layer.qkv(block.norm1(tokens)).reshape(B, N, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k = layer.q_norm(qkv[0]), layer.k_norm(qkv[1])
    attention: Tensor = torch.softmax((q * layer.scale) @ k.transpose(-2, -1), dim=-1)
    return attention


def build(size: MAESize, data: DataCard) -> MAE:
    """Return an untrained autoencoder; its first weights come from torch's global generator."""
    return MAE(size, data)
