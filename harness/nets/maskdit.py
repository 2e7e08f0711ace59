"""A masked diffusion transformer in pixel space (MaskDiT, Zheng et al., TMLR 2024), preconditioned as in EDM.

The trunk is the masked autoencoder's: the encoder sees visible patches only, the decoder all places. Both are told the
noise level, by adaptive layer norm whose gates begin at zero (DiT, Peebles and Xie 2023, section 3.2). Rejected: an
embedding added to the tokens, which would leave the autoencoder's blocks as they are, but which the norm before each
layer scales down among large tokens, and which DiT found to be the weaker way; MaskDiT's own blocks are DiT's.

Preconditioning and weights are those of Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based
Generative Models", table 1. Inside, images live in [-1, 1], as there; from outside, pixels are in [0, 1], and sigma
is in these units: half of theirs. What differs from the authors' code: no autoencoder of latents, no class labels
(nobody knows them at purification), the noise level by its cosines at rates of 1 to 64 (c_noise spans about three
units, over which slower ones hardly move), and, unless ``masked`` says otherwise, no skip connection to a masked
patch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from timm.models.vision_transformer import Attention, Mlp
from torch import Tensor, nn

from harness.nets.mae import Reconstruction, Trunk, n_visible, normalised, unnormalised
from harness.nets.sizes import MAESize

if TYPE_CHECKING:
    from harness.core.contracts import DataCard
    from harness.nets.sizes import MaskDiTSize

#: units of the network, [-1, 1], in one of pixels, [0, 1]
SPAN = 2.0

#: least noise level that a network is told and a loss is weighted for, in the network's units (Karras et al., table 1)
SIGMA_MIN = 0.002

#: cosines and as many sines that tell the noise level
N_RATES = 32


class Preconditioning(NamedTuple):
    """EDM's factors at some noise levels, each of the shape of sigma (Karras et al. 2022, table 1).

    Attributes:
        skip: share of the noisy image in what is predicted.
        out: scale of the network's output.
        into: scale of its input, whose variance it makes 1.
        noise: what the network is told of the noise level.
        weight: of the squared error, lambda; it makes that of the output's target 1.
    """

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor
    weight: Tensor


def preconditioning(sigma: Tensor, sigma_data: float) -> Preconditioning:
    """Return the factors for noise and data of these standard deviations, in the same units.

    Without noise the prediction is the image itself. ``noise`` and ``weight`` are finite there: for them sigma is at
    least 0.002.
    """
    total = sigma**2 + sigma_data**2
    told = sigma.clamp_min(SIGMA_MIN)
    return Preconditioning(
        skip=sigma_data**2 / total,
        out=sigma * sigma_data / total.sqrt(),
        into=1.0 / total.sqrt(),
        noise=told.log() / 4.0,
        weight=(told**2 + sigma_data**2) / (told * sigma_data) ** 2,
    )


class ToldBlock(nn.Module):
    """A transformer block whose norms are scaled and shifted, and whose branches are gated, by a condition."""

    def __init__(self, dim: int, heads: int, width: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        self.attn = Attention(dim, num_heads=heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        self.mlp = Mlp(dim, 4 * dim)
        self.modulation = _zeros(nn.Linear(width, 6 * dim))

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Return tokens ``(B, T, dim)``, given a condition ``(B, width)``; at first they are the ones that came."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, 2)  # (B, 1, dim)
        tokens = tokens + gate1 * self.attn(_modulated(self.norm1(tokens), shift1, scale1))
        out: Tensor = tokens + gate2 * self.mlp(_modulated(self.norm2(tokens), shift2, scale2))
        return out


class MaskDiT(Trunk):
    """Masked diffusion transformer: from noisy, partly removed patches to clean ones."""

    def __init__(self, size: MaskDiTSize, data: DataCard) -> None:
        super().__init__(_trunk(size), data)
        self.targets, self.masked, self.sigma_data = size.targets, size.masked, size.sigma_data
        if self.targets == "normalised" and self.n_pixels < 2:
            raise ValueError("expected patches of two values at least for normalised targets, got one")
        self.tell = nn.Sequential(nn.Linear(2 * N_RATES, size.dim), nn.SiLU(), nn.Linear(size.dim, size.dim), nn.SiLU())
        self.modulation = _zeros(nn.Linear(size.dim, 2 * size.decoder_dim))
        self.predict = _zeros(nn.Linear(size.decoder_dim, self.n_pixels))

    def _block(self, size: MAESize, dim: int, heads: int) -> nn.Module:
        return ToldBlock(dim, heads, size.dim, size.norm_eps)

    def factors(self, sigma: Tensor) -> Preconditioning:
        """Return the factors at noise of deviations ``sigma``, pixels in [0, 1]."""
        return preconditioning(SPAN * sigma, self.sigma_data)

    def forward(self, x: Tensor, sigma: Tensor, order: Tensor, mask_ratio: float) -> Reconstruction:
        """Denoise images from the patches that stay.

        Args:
            x: noisy pixels ``(B, C, H, W)``, unbounded.
            sigma: ``(B,)``, standard deviation of the noise, pixels in [0, 1].
            order: ``(B, N)``, a permutation of the patches of each image; the first ones stay.
            mask_ratio: share of the patches that is removed, 0 to below 1.

        Returns:
            of visible patches the denoised pixels, D(x; sigma); of removed ones the network's output itself, in units
            of its targets, or D too, where ``masked`` is ``preconditioned``. No attention.
        """
        keep = order[:, : n_visible(self.n_patches, mask_ratio)]  # (B, V)
        noisy = self.standardise(self.patchify(x))  # (B, N, P)
        per_image = self.factors(sigma.to(x.dtype))
        factors = Preconditioning(*(factor[:, None, None] for factor in per_image))
        condition = self.tell(_waves(per_image.noise))  # (B, D)
        features, _ = self.decoded(factors.into * noisy, keep, condition)
        shift, scale = self.modulation(condition)[:, None].chunk(2, 2)
        guess = self.predict(_modulated(features, shift, scale))  # (B, N, P)
        denoised = self.unstandardise(factors.skip * noisy + factors.out * guess)
        hidden = torch.ones(len(x), self.n_patches, dtype=torch.bool, device=x.device).scatter(1, keep, False)
        if self.masked == "plain":
            elsewhere = guess if self.targets == "normalised" else self.unstandardise(guess)
        else:
            elsewhere = self.standardise(denoised) if self.targets == "normalised" else denoised
        return Reconstruction(torch.where(hidden[:, :, None], elsewhere, denoised), hidden, ())

    def pixels(self, found: Reconstruction, like: Tensor) -> Tensor:
        """Return images ``(B, C, H, W)`` of what was found, not clipped.

        Where targets are normalised, removed patches get the mean and deviation of those of ``like``, images
        ``(B, C, H, W)``; the gradient passes through them.
        """
        patches = found.patches
        if self.targets == "normalised":
            filled = self.unstandardise(unnormalised(patches, self.standardise(self.patchify(like))))
            patches = torch.where(found.hidden[:, :, None], filled, patches)
        return self.unpatchify(patches)

    def losses(self, found: Reconstruction, clean: Tensor, target: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return the denoising loss of visible patches and the reconstruction loss of removed ones, each ``(B,)``.

        Denoising: lambda(sigma) times the squared error of D against the clean image (Karras et al. 2022, equation 8).
        Reconstruction: squared error against the target's patches, each normalised by its own mean and deviation, or,
        with raw targets, times the square of c_in, so that noise of any level makes a target of variance 1. Means over
        the pixels of the patches that count, in the network's units; 0 where there are none.

        Args:
            found: what the net made of the noisy image.
            clean: images ``(B, C, H, W)``, pixels in [0, 1], that the denoiser should have found.
            target: images likewise, which the removed patches should be those of: in training the noisy ones.
            sigma: ``(B,)``, the noise level that the net was told.
        """
        factors, hidden = self.factors(sigma.to(clean.dtype)), found.hidden
        true, aim = (self.standardise(self.patchify(images)) for images in (clean, target))
        denoised = self.standardise(found.patches)
        denoising = factors.weight * _mean((denoised - true) ** 2, ~hidden)
        if self.targets == "normalised":
            return denoising, _mean((found.patches - normalised(aim)) ** 2, hidden)
        return denoising, factors.into**2 * _mean((denoised - aim) ** 2, hidden)


def _mean(error: Tensor, counts: Tensor) -> Tensor:
    """Return ``(B,)``, the mean of errors ``(B, N, P)`` over the patches that count, ``(B, N)``; 0 without any."""
    return (error.mean(2) * counts).sum(1) / counts.sum(1).clamp_min(1)


def _modulated(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return tokens * (1.0 + scale) + shift


def _waves(level: Tensor) -> Tensor:
    """Return ``(B, 2 * N_RATES)``, cosines and sines of levels ``(B,)`` at rates from 1 to 64, equal factors apart."""
    rates = torch.exp(torch.linspace(0.0, math.log(64.0), N_RATES, dtype=level.dtype, device=level.device))
    angles = level[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], 1)


def _zeros(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _trunk(size: MaskDiTSize) -> MAESize:
    """Return the size of the autoencoder whose trunk this network has."""
    return MAESize(
        use="mae",
        patch=size.patch,
        dim=size.dim,
        depth=size.depth,
        heads=size.heads,
        decoder_dim=size.decoder_dim,
        decoder_depth=size.decoder_depth,
        decoder_heads=size.decoder_heads,
        positions=size.positions,
        norm_eps=1e-6,
    )


def levels(x: Tensor, sigma: float) -> Tensor:
    """Return ``(B,)``, the same noise level for every image."""
    return torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)


def build(size: MaskDiTSize, data: DataCard) -> MaskDiT:
    """Return an untrained network; its first weights come from torch's global generator."""
    return MaskDiT(size, data)
