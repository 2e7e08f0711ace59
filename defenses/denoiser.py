"""A noise-predicting network seen as a denoiser of images with Gaussian noise of any deviation, as EDM has it.

Adding noise of deviation sigma to images in [-1, 1] and scaling by sqrt(abar) gives a state of the diffusion whose
abar is 1 / (1 + sigma^2); the noise eps that the network finds there gives the denoised image (Karras et al. 2022,
section 2 and table 1, "VP"):

    D(x + sigma n; sigma) = (x + sigma n) - sigma eps(sqrt(abar) (x + sigma n), step).

The step is that of the discrete schedule the network was trained on, whose log abar is taken as linear between two
steps; the continuous equation's differs by up to 1 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def step_of(sigma: Tensor) -> Tensor:
    """Return the steps ``(B,)`` whose noise, relative to the image, has the deviations ``(B,)``; fractions in between.

    Deviations below that of step 0 (0.01) count as it, those above that of step 999 (157) as that.
    """
    import torch

    from harness.nets.unet import schedule

    known = torch.log(schedule().alphas_cumprod.double()).to(sigma.device)  # falls
    wanted = -torch.log1p(sigma.double() ** 2)
    above = torch.searchsorted(-known, -wanted).clamp(1, len(known) - 1)
    share = (wanted - known[above - 1]) / (known[above] - known[above - 1])
    return (above - 1 + share.clamp(0, 1)).to(sigma.dtype)


def denoised(net: nn.Module, noisy: Tensor, sigma: Tensor) -> Tensor:
    """Return the denoised images ``(B, C, H, W)``, differentiable in the noisy ones.

    Args:
        net: predicts the noise of states at steps ``(B,)``.
        noisy: images in [-1, 1] plus noise.
        sigma: its deviations ``(B,)``.
    """
    wide = sigma.reshape(-1, 1, 1, 1)
    state = noisy / (1.0 + wide**2).sqrt()
    found: Tensor = noisy - wide * net(state, step_of(sigma))
    return found
