"""A masked autoencoder (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", section 3).

The encoder sees visible tokens only; the decoder sees all places, with one learned token where a patch was
removed. Its size says the rest: fixed or learned positions, a class token or none, pixels as targets or pixels
normalised by patch, and what pixels are normalised by on the way in.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

if TYPE_CHECKING:
    from harness.core.contracts import DataCard
    from harness.nets.sizes import MAESize

#: added to a patch's variance before the root (He et al. 2022, the authors' code)
PATCH_EPS = 1e-6


class Reconstruction(NamedTuple):
    """What the autoencoder makes of a masked image.

    Attributes:
        patches: ``(B, N, P)``, what is predicted of every patch, visible ones included: pixels, unless the net's
            targets are normalised; ``MAE.pixels`` makes images of both.
        hidden: ``(B, N)``, True where the patch was removed.
        attention: of each decoder layer ``(B, heads, T, T)``, rows sum to 1; empty unless asked for. T is N, or N + 1
            with the class token first.
    """

    patches: Tensor
    hidden: Tensor
    attention: tuple[Tensor, ...]


def n_visible(n_patches: int, mask_ratio: float) -> int:
    """Return how many patches stay when ``mask_ratio`` of them is removed, rounded down as the authors' code does."""
    return int(n_patches * (1.0 - mask_ratio) + 1e-9)  # 1 - 0.9 is a hair under 0.1 in binary


def sincos_positions(dim: int, rows: int, columns: int, columns_first: bool = False) -> Tensor:
    """Return ``(rows * columns, dim)``: half of the channels encode the row, half the column.

    Each half is sine and cosine of position times 10000 ** (-2 k / (dim / 2)) for k below dim / 4 (Vaswani et
    al. 2017, section 3.5, once per axis). ``dim`` is a multiple of 4. The row has the first half, or, as in the
    authors' code, the column.
    """
    if dim % 4:
        raise ValueError(f"expected a width that is a multiple of 4 for sine-cosine positions, got {dim}")
    quarter = dim // 4
    rates = torch.exp(-math.log(10000.0) * torch.arange(quarter, dtype=torch.float64) / quarter)
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    axes = (column, row) if columns_first else (row, column)
    angles = [place.reshape(-1, 1).double() * rates for place in axes]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float()


class Trunk(nn.Module):
    """The masked autoencoder up to its last linear layer: from pixels to one feature per patch.

    Transformer blocks are timm's.
    """

    positions: Tensor
    decoder_positions: Tensor
    patch_mean: Tensor
    patch_std: Tensor

    def __init__(self, size: MAESize, data: DataCard) -> None:
        super().__init__()
        channels, height, width = data.shape
        if height % size.patch or width % size.patch:
            raise ValueError(f"expected a patch that divides {height} x {width} images, got {size.patch}")
        for name, values in (("mean", size.mean), ("std", size.std)):
            if len(values) not in (1, channels):
                raise ValueError(f"expected one {name} or {channels}, one per channel, got {len(values)}")
        self.patch, self.shape = size.patch, data.shape
        self.grid = (height // size.patch, width // size.patch)
        self.n_patches = self.grid[0] * self.grid[1]
        self.n_pixels = channels * size.patch**2
        self.n_class = int(size.class_token)

        self.embed = nn.Linear(self.n_pixels, size.dim)
        self.encoder = nn.ModuleList([self._block(size, size.dim, size.heads) for _ in range(size.depth)])
        self.norm = nn.LayerNorm(size.dim, eps=1e-6)
        self.bridge = nn.Linear(size.dim, size.decoder_dim)
        self.hidden_token = nn.Parameter(torch.zeros(1, 1, size.decoder_dim))
        nn.init.normal_(self.hidden_token, std=0.02)
        self.decoder = nn.ModuleList(
            [self._block(size, size.decoder_dim, size.decoder_heads) for _ in range(size.decoder_depth)]
        )
        self.decoder_norm = nn.LayerNorm(size.decoder_dim, eps=1e-6)
        if size.class_token:
            self.class_token = nn.Parameter(torch.zeros(1, 1, size.dim))
            nn.init.normal_(self.class_token, std=0.02)
        self._place("positions", size.dim, size.positions)
        self._place("decoder_positions", size.decoder_dim, size.positions)
        for name, values in (("patch_mean", size.mean), ("patch_std", size.std)):
            per_channel = torch.tensor(values).expand(channels)
            self.register_buffer(name, per_channel.repeat(size.patch**2), persistent=False)  # (P,), channels innermost

    def _block(self, size: MAESize, dim: int, heads: int) -> nn.Module:
        """Return a block of the encoder or of the decoder, ``(B, T, dim)`` to the same, and what ``decoded`` adds."""
        norm = partial(nn.LayerNorm, eps=size.norm_eps)
        block: nn.Module = Block(dim, heads, mlp_ratio=4.0, qkv_bias=True, norm_layer=norm)
        return block

    def _place(self, name: str, dim: int, kind: str) -> None:
        """Make a table of positions ``(T, dim)``, the class token's first; a fixed one is no part of the weights."""
        if kind == "learned":
            table = nn.Parameter(torch.zeros(self.n_class + self.n_patches, dim))
            nn.init.trunc_normal_(table, std=0.02)
            self.register_parameter(name, table)
        else:
            places = sincos_positions(dim, *self.grid, columns_first=kind == "sincos-columns-first")
            self.register_buffer(name, torch.cat([torch.zeros(self.n_class, dim), places]), persistent=False)

    def patchify(self, x: Tensor) -> Tensor:
        """Return the patches ``(B, N, P)`` of images ``(B, C, H, W)``, row by row, channels innermost."""
        channels, p = self.shape[0], self.patch
        rows, columns = self.grid
        x = x.reshape(-1, channels, rows, p, columns, p)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, self.n_patches, self.n_pixels)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Return the images ``(B, C, H, W)`` of patches ``(B, N, P)``."""
        channels, p = self.shape[0], self.patch
        rows, columns = self.grid
        x = patches.reshape(-1, rows, columns, p, p, channels).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(-1, *self.shape)

    def standardise(self, patches: Tensor) -> Tensor:
        """Return pixels ``(B, N, P)`` of [0, 1] in the network's units: mean taken off, over the deviation."""
        return (patches - self.patch_mean) / self.patch_std

    def unstandardise(self, patches: Tensor) -> Tensor:
        """Return pixels of [0, 1] from the network's units, ``(B, N, P)``."""
        return patches * self.patch_std + self.patch_mean

    def features(self, x: Tensor, keep: Tensor, attention: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the decoded features ``(B, N, E)``, normed, and the decoder's attention if it is asked for.

        Args:
            x: pixels ``(B, C, H, W)`` in [0, 1].
            keep: ``(B, V)``, the patches of each image that the encoder sees.
            attention: return the matrices ``(B, heads, T, T)`` of the decoder too; gradients reach ``x`` through them.
        """
        return self.decoded(self.standardise(self.patchify(x)), keep, attention=attention)

    def decoded(
        self, patches: Tensor, keep: Tensor, *beside: Tensor, attention: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return ``features`` of patches ``(B, N, P)`` in the network's units; every block is told what is ``beside``.

        The blocks of this network take nothing beside their tokens; those of a network that inherits may.
        """
        index, first = keep.unsqueeze(2), self.n_class
        tokens = self.embed(patches) + self.positions[first:]  # (B, N, D)
        tokens = tokens.gather(1, index.expand(-1, -1, tokens.shape[2]))  # (B, V, D)
        if first:
            token = (self.class_token + self.positions[:first]).expand(len(patches), -1, -1)
            tokens = torch.cat([token, tokens], 1)  # (B, 1 + V, D)
        for block in self.encoder:
            tokens = block(tokens, *beside)
        seen = self.bridge(self.norm(tokens))  # (B, V, E), or one more with the class token

        everywhere = self.hidden_token.to(seen.dtype).expand(len(patches), self.n_patches, -1)  # autocast may halve it
        visible = seen[:, first:]
        tokens = everywhere.scatter(1, index.expand(-1, -1, visible.shape[2]), visible)  # (B, N, E)
        if first:
            tokens = torch.cat([seen[:, :first], tokens], 1)
        tokens = tokens + self.decoder_positions
        maps: list[Tensor] = []
        for block in self.decoder:
            if attention:
                maps.append(_attention(block, tokens))
            tokens = block(tokens, *beside)
        return self.decoder_norm(tokens[:, first:]), tuple(maps)


class MAE(Trunk):
    """Masked autoencoder: the trunk, and a linear layer to the pixels of each patch."""

    def __init__(self, size: MAESize, data: DataCard) -> None:
        super().__init__(size, data)
        self.targets = size.targets
        if self.targets == "normalised" and self.n_pixels < 2:
            raise ValueError("expected patches of two values at least for normalised targets, got one")
        self.predict = nn.Linear(size.decoder_dim, self.n_pixels)

    def forward(self, x: Tensor, order: Tensor, mask_ratio: float, attention: bool = False) -> Reconstruction:
        """Reconstruct images from the patches that stay.

        Args:
            x: pixels ``(B, C, H, W)`` in [0, 1].
            order: ``(B, N)``, a permutation of the patches of each image; the first ones stay.
            mask_ratio: share of the patches that is removed, 0 to below 1.
            attention: return the decoder's attention matrices too.
        """
        keep = order[:, : n_visible(self.n_patches, mask_ratio)]  # (B, V)
        features, maps = self.features(x, keep, attention)
        patches = self.predict(features)  # (B, N, P)
        if self.targets == "raw":
            patches = self.unstandardise(patches)
        hidden = torch.ones(len(x), self.n_patches, dtype=torch.bool, device=x.device).scatter(1, keep, False)
        return Reconstruction(patches, hidden, maps)

    def target(self, x: Tensor) -> Tensor:
        """Return what ``patches`` should be, ``(B, N, P)``: the pixels of images, or each patch normalised."""
        patches = self.patchify(x)
        return patches if self.targets == "raw" else normalised(self.standardise(patches))

    def pixels(self, patches: Tensor, like: Tensor) -> Tensor:
        """Return images ``(B, C, H, W)`` of predicted patches, not clipped.

        Normalised predictions lack each patch's mean and deviation, which are those of ``like``, images ``(B, C, H,
        W)``. Where noise was added before encoding, these are the noisy images, or, as NIM-MAE's code has it, the
        images that the noise was added to, so that an attack's mean and contrast in each patch come back (You et al.
        2023). The gradient passes through them. Raw predictions need no ``like``.
        """
        if self.targets == "normalised":
            patches = self.unstandardise(unnormalised(patches, self.standardise(self.patchify(like))))
        return self.unpatchify(patches)

    def loss(
        self,
        found: Reconstruction,
        x: Tensor,
        where: Literal["masked", "visible", "all"] = "masked",
        units: Literal["own", "raw", "normalised", "standardised"] = "own",
        detach_target: bool = False,
    ) -> Tensor:
        """Return the mean squared error of a reconstruction, per image ``(B,)``.

        Args:
            found: what the net predicted.
            x: the images ``(B, C, H, W)`` that it should have predicted.
            where: the patches that count.
            units: ``raw``: pixels of [0, 1], whatever the net's mean and deviation; ``normalised``: each true patch's
                own mean is taken off and its deviation divided by; ``own``: whichever of both the net was trained to
                predict; ``standardised``: the loss of He et al.'s code, pixels over their channel's deviation, but as
                ``own`` where targets are normalised.
            detach_target: let no gradient pass through the target, nor through its mean and deviation.
        """
        true = self.patchify(x.detach() if detach_target else x)
        guess = found.patches
        if units == "own" or (units == "standardised" and self.targets == "normalised"):
            units = self.targets
        if units == "standardised":
            guess, true = self.standardise(guess), self.standardise(true)
        if self.targets == "normalised" and units == "raw":
            guess = self.unstandardise(unnormalised(guess, self.standardise(true)))
        if units == "normalised":
            true = self.standardise(true)
            if self.targets == "raw":
                guess = normalised(self.standardise(guess), true)
            true = normalised(true)
        return patch_loss(guess, true, found.hidden, where)


def normalised(patches: Tensor, like: Tensor | None = None) -> Tensor:
    """Return ``(B, N, P)``: the mean of each patch of ``like`` taken off, over the root of its variance + 1e-6.

    The variance is the unbiased one (He et al. 2022, section 4.1, and the authors' code). Without ``like``, the
    patches' own.
    """
    mean, deviation = _statistics(patches if like is None else like)
    return (patches - mean) / deviation


def unnormalised(patches: Tensor, like: Tensor) -> Tensor:
    """Return ``(B, N, P)`` with the mean and deviation of each patch of ``like``: undoes ``normalised``."""
    mean, deviation = _statistics(like)
    return patches * deviation + mean


def _statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance = patches.mean(2, keepdim=True), patches.var(2, keepdim=True)
    return mean, (variance + PATCH_EPS).sqrt()


def patch_loss(
    patches: Tensor, target: Tensor, hidden: Tensor, where: Literal["masked", "visible", "all"] = "masked"
) -> Tensor:
    """Return the mean squared error over the pixels of the patches that count, per image ``(B,)``.

    Args:
        patches: predicted ``(B, N, P)``.
        target: true ``(B, N, P)``.
        hidden: ``(B, N)``, True where a patch was removed.
        where: the patches that count; at least one per image.
    """
    error = ((patches - target) ** 2).mean(2)  # (B, N)
    if where == "all":
        return error.mean(1)
    counts = hidden if where == "masked" else ~hidden
    return (error * counts).sum(1) / counts.sum(1)


def _attention(block: Any, tokens: Tensor) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)) of a block, ``(B, heads, T, T)``; the fused kernel keeps it to itself."""
    layer = block.attn
    B, T, _ = tokens.shape
    qkv = layer.qkv(block.norm1(tokens)).reshape(B, T, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k = layer.q_norm(qkv[0]), layer.k_norm(qkv[1])
    attention: Tensor = torch.softmax((q * layer.scale) @ k.transpose(-2, -1), dim=-1)
    return attention


def build(size: MAESize, data: DataCard) -> MAE:
    """Return an untrained autoencoder; its first weights come from torch's global generator."""
    return MAE(size, data)
