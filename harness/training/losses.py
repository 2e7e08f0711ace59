"""The losses of the objectives: one function each, from a batch to a scalar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.training import robust
from harness.training.bridge import bridge
from harness.training.forward import denoised, mae, still_order
from harness.training.masked_diffusion import masked_diffusion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.draws import Draws
    from harness.training.context import Batch, Beside
    from harness.training.objective_options import (
        ClassifyObjective,
        ClassifyPurifiedObjective,
        DenoiseMaskedObjective,
        DiffuseObjective,
        NoisyImageObjective,
        ReconstructObjective,
        SmoothClassifyObjective,
    )


def classify(net: nn.Module, batch: Batch, objective: ClassifyObjective, beside: Beside) -> Tensor:
    """Cross-entropy."""
    return F.cross_entropy(net(batch.x), batch.y)


def reconstruct(net: nn.Module, batch: Batch, objective: ReconstructObjective, beside: Beside) -> Tensor:
    """Mean squared error on the hidden patches, in the net's own units, a fresh mask per image."""
    net = mae(net)
    order = torch.rand(len(batch.x), net.n_patches, generator=batch.rng).argsort(1).to(batch.x.device)
    return net.loss(net(batch.x, order, objective.mask_ratio), batch.x).mean()


def denoise_masked(net: nn.Module, batch: Batch, objective: DenoiseMaskedObjective, beside: Beside) -> Tensor:
    """Mean squared error on all patches of the clean image, from a noisy and masked one."""
    net, x = mae(net), batch.x
    order = torch.rand(len(x), net.n_patches, generator=batch.rng).argsort(1).to(x.device)
    noisy = x + objective.sigma * torch.randn(x.shape, generator=batch.rng).to(x.device)
    return net.loss(net(noisy, order, objective.mask_ratio), x, "all").mean()


def diffuse(net: nn.Module, batch: Batch, objective: DiffuseObjective, beside: Beside) -> Tensor:
    """Mean squared error of the predicted noise."""
    from harness.nets.unet import add_noise  # diffusers takes seconds to import, and most recipes do without

    x = batch.x
    step = torch.randint(objective.max_step, (len(x),), generator=batch.rng).to(x.device)
    noise = torch.randn(x.shape, generator=batch.rng).to(x.device)
    return F.mse_loss(net(add_noise(2.0 * x - 1.0, noise, step), step), noise)


def noisy_image(net: nn.Module, batch: Batch, objective: NoisyImageObjective, beside: Beside) -> Tensor:
    """Mean squared error on all patches of the clean image, from a noisy one of which nothing is removed.

    Each image has its own deviation, from Gamma(25, 3) / 255, mean 75 / 255, unless one is given (NIM-MAE, You et al.
    2023, the authors' code). Targets normalised by patch, as there, are the net's option ``targets``.
    """
    net, x = mae(net), batch.x
    if objective.sigma is None:
        sigma = gamma(batch.draws.at("sigma"), objective.gamma_shape, objective.gamma_scale)
    else:
        sigma = torch.full((len(x),), objective.sigma, device=x.device)
    noisy = x + sigma.reshape(-1, 1, 1, 1) * batch.draws.at("noise").normal(*x.shape[1:])
    return net.loss(net(noisy, still_order(net, x), 0.0), x, "all").mean()


def classify_purified(net: nn.Module, batch: Batch, objective: ClassifyPurifiedObjective, beside: Beside) -> Tensor:
    """Cross-entropy on denoised images, noise of deviation U(0, 30 / 255) (NIM-MAE, fine-tuning).

    The authors fine-tune a ViT that begins as the denoiser's encoder, with mixup, cutmix and drop-path. Ours is any
    classifier, from the weights of ``init`` if there are any, without these; the denoiser is frozen.
    """
    sigma = objective.sigma_max * batch.draws.at("sigma").uniform()
    with torch.no_grad():
        seen = denoised(beside.net("purifier"), batch.x, sigma, batch.draws)
    return F.cross_entropy(net(seen), batch.y, label_smoothing=objective.label_smoothing)


def smooth_classify(net: nn.Module, batch: Batch, objective: SmoothClassifyObjective, beside: Beside) -> Tensor:
    """Noisy cross-entropy + lambda mean_i KL(q || p_i) + eta H(q), q the mean of the copies' p_i.

    Source: Jeong and Shin, "Consistency Regularization for Certified Robustness", NeurIPS 2020, section 3; lambda and
    eta as in DMAE's fine-tuning (Wu et al. 2023), whose network is a ViT; ours is any classifier.
    """
    losses, guesses = [], []
    for copy in range(objective.noises):
        noise = batch.draws.at("noise", copy).normal(*batch.x.shape[1:])
        logits = net(batch.x + objective.sigma * noise)
        losses.append(F.cross_entropy(logits, batch.y))
        guesses.append(F.log_softmax(logits, 1))
    several = torch.stack(guesses)  # (copies, B, K)
    average = several.exp().mean(0)
    surprise = average.clamp_min(1e-20).log()
    divergence = (average * (surprise - several)).sum(2).mean()
    entropy = -(average * surprise).sum(1).mean()
    return torch.stack(losses).mean() + objective.consistency * divergence + objective.entropy * entropy


def gamma(draws: Draws, shape: int, scale: float) -> Tensor:
    """Return ``(B,)`` from Gamma(shape, scale) for a whole shape: a sum of exponentials."""
    return -scale * torch.log1p(-draws.uniform(shape)).sum(1)


#: an objective's name -> network that learns, batch, objective, what is beside it -> scalar
LOSSES: Mapping[str, Callable[[nn.Module, Batch, Any, Beside], Tensor]] = {
    "classify": classify,
    "reconstruct": reconstruct,
    "denoise-masked": denoise_masked,
    "diffuse": diffuse,
    "noisy-image": noisy_image,
    "classify-purified": classify_purified,
    "smooth-classify": smooth_classify,
    "masked-diffusion": masked_diffusion,
    "adversarial": robust.adversarial,
    "trades": robust.trades,
    "purify-classify": robust.purify_classify,
    "purify-pixels": robust.purify_pixels,
    "restore": robust.restore,
    "dir": robust.joint,
    "atop": robust.atop,
    "bridge": bridge,
}
