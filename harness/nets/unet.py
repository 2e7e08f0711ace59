"""A noise-predicting U-Net on the DDPM schedule (Ho et al. 2020): diffusers' network and diffusers' schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from harness.core.errors import UserError

if TYPE_CHECKING:
    from harness.core.contracts import DataCard
    from harness.nets.sizes import DiffusersUNetSize, UNetSize

#: steps of the schedule; betas rise linearly from 1e-4 to 2e-2 (Ho et al. 2020, section 4)
N_STEPS = 1000


class UNet(nn.Module):
    """Predicts the noise in ``x_t``; images live in [-1, 1] here."""

    def __init__(self, size: UNetSize | DiffusersUNetSize, data: DataCard) -> None:
        super().__init__()
        self.net = UNet2DModel(**(_own(size, data) if size.use == "unet" else _published(size, data)))

    def forward(self, x_t: Tensor, step: Tensor) -> Tensor:
        """Return the predicted noise ``(B, C, H, W)`` at steps ``(B,)`` of 0 .. 999."""
        noise: Tensor = self.net(x_t, step).sample
        return noise


def _own(size: UNetSize, data: DataCard) -> dict[str, Any]:
    channels, height, _ = data.shape
    depth = len(size.channels)
    return {
        "sample_size": height,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": size.channels,
        "layers_per_block": size.layers,
        "norm_num_groups": size.groups,
        "down_block_types": ("DownBlock2D",) * depth,
        "up_block_types": ("UpBlock2D",) * depth,
        "add_attention": False,
    }


def _published(size: DiffusersUNetSize, data: DataCard) -> dict[str, Any]:
    wanted = (size.in_channels, size.sample_size, size.sample_size)
    if data.shape != wanted:
        raise UserError(
            f"expected images {wanted} for a net of in_channels {size.in_channels} and sample_size "
            f"{size.sample_size}, got {data.shape}; name a dataset of such images, or the net of these"
        )
    return size.model_dump(exclude={"use"})


def schedule(*, clamp: bool = False) -> Any:
    """Return the DDPM schedule as diffusers has it, ready for DDIM and ancestral steps.

    Args:
        clamp: whether its steps clamp the image that they predict to [-1, 1].
    """
    return DDIMScheduler(num_train_timesteps=N_STEPS, beta_schedule="linear", clip_sample=clamp)


def add_noise(x: Tensor, noise: Tensor, step: Tensor) -> Tensor:
    """Return x_t = sqrt(abar_t) x + sqrt(1 - abar_t) noise (Ho et al. 2020, equation 4).

    Args:
        x: images ``(B, C, H, W)`` in [-1, 1].
        noise: standard normal, likewise shaped.
        step: ``(B,)`` int64, 0 .. 999.
    """
    noised: Tensor = schedule().add_noise(x, noise, step)
    return noised


def steps_like(x: Tensor, step: int) -> Tensor:
    """Return ``(B,)`` int64, the same step for every image."""
    return torch.full((len(x),), step, dtype=torch.int64, device=x.device)


def bare(net: nn.Module) -> UNet2DModel:
    """Return diffusers' network in ours.

    Raises:
        TypeError: if it is another one.
    """
    if not isinstance(net, UNet):
        raise TypeError(f"expected a noise-predicting U-Net, got {type(net).__name__}")
    return net.net


def build(size: UNetSize | DiffusersUNetSize, data: DataCard) -> UNet:
    """Return an untrained network; its first weights come from torch's global generator.

    Raises:
        UserError: if a published network takes other images than those of the data.
    """
    return UNet(size, data)
