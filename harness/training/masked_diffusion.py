"""What MaskDiT is trained on: denoising of visible patches, reconstruction of removed ones (Zheng et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.nets.maskdit import SPAN
from harness.training.forward import maskdit

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.draws import Draws
    from harness.training.context import Batch, Beside
    from harness.training.objective_options import MaskedDiffusionObjective


def masked_diffusion(net: nn.Module, batch: Batch, objective: MaskedDiffusionObjective, beside: Beside) -> Tensor:
    """lambda(sigma) |D(x + n) - x|^2 on visible patches + weight * reconstruction of the noisy removed ones.

    The noise level, the noise and the mask of an image are fresh in each step.
    """
    net, x, draws = maskdit(net), batch.x, batch.draws
    sigma = noise_levels(draws.at("sigma"), objective.log_mean, objective.log_std)
    noisy = x + sigma.reshape(-1, 1, 1, 1) * draws.at("noise").normal(*x.shape[1:])
    found = net(noisy, sigma, draws.at("mask").permutation(net.n_patches), objective.mask_ratio)
    denoising, reconstruction = net.losses(found, x, noisy, sigma)
    return (denoising + objective.reconstruction_weight * reconstruction).mean()


def noise_levels(draws: Draws, log_mean: float, log_std: float) -> Tensor:
    """Return ``(B,)`` for pixels in [0, 1], log-normal in the network's units (Karras et al. 2022, table 1)."""
    return (log_mean + log_std * draws.normal()).exp() / SPAN
