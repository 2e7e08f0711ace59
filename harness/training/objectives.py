"""What a recipe minimises: one function per objective, from a batch to a scalar loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.nets.mae import MAE, masked_loss
from harness.training.recipe import (
    ClassifyObjective,
    DenoiseMaskedObjective,
    DiffuseObjective,
    Objective,
    ReconstructObjective,
)

#: network, images (B, C, H, W) in [0, 1], labels (B,), generator -> scalar
Loss = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]


def loss_of(objective: Objective) -> Loss:
    """Return the loss function of an objective."""
    match objective:
        case ClassifyObjective():
            return classify
        case ReconstructObjective():
            return lambda net, x, y, rng: reconstruct(net, x, rng, objective)
        case DenoiseMaskedObjective():
            return lambda net, x, y, rng: denoise_masked(net, x, rng, objective)
        case DiffuseObjective():
            return lambda net, x, y, rng: diffuse(net, x, rng, objective)


def classify(net: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    """Cross-entropy."""
    return F.cross_entropy(net(x), y)


def reconstruct(net: nn.Module, x: Tensor, rng: torch.Generator, objective: ReconstructObjective) -> Tensor:
    """Mean squared error on the hidden patches, a fresh mask per image."""
    mae = _mae(net)
    order = torch.rand(len(x), mae.n_patches, generator=rng).argsort(1).to(x.device)
    found = mae(x, order, objective.mask_ratio)
    return masked_loss(found.patches, mae.patchify(x), found.hidden).mean()


def denoise_masked(net: nn.Module, x: Tensor, rng: torch.Generator, objective: DenoiseMaskedObjective) -> Tensor:
    """Mean squared error on all patches of the clean image, from a noisy and masked one."""
    mae = _mae(net)
    order = torch.rand(len(x), mae.n_patches, generator=rng).argsort(1).to(x.device)
    noisy = x + objective.sigma * torch.randn(x.shape, generator=rng).to(x.device)
    return F.mse_loss(mae(noisy, order, objective.mask_ratio).patches, mae.patchify(x))


def diffuse(net: nn.Module, x: Tensor, rng: torch.Generator, objective: DiffuseObjective) -> Tensor:
    """Mean squared error of the predicted noise."""
    from harness.nets.unet import add_noise  # diffusers takes seconds to import, and most recipes do without

    step = torch.randint(objective.max_step, (len(x),), generator=rng).to(x.device)
    noise = torch.randn(x.shape, generator=rng).to(x.device)
    return F.mse_loss(net(add_noise(2.0 * x - 1.0, noise, step), step), noise)


def _mae(net: nn.Module) -> MAE:
    if not isinstance(net, MAE):
        raise TypeError(f"expected a masked autoencoder for this objective, got {type(net).__name__}")
    return net
