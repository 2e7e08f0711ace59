"""Published diffusion networks: those of diffusers are read into ours as they are, others are known and refused.

What is read: ``google/ddpm-cifar10-32`` (``diffusion_pytorch_model.safetensors``, or ``.bin``), and whatever else is a
``UNet2DModel`` that predicts the noise of 1,000 linear steps in images in [-1, 1]. Nothing is downloaded here, and no
file is read that could run code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.errors import UserError
from harness.nets.published import read_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

_ON_CIFAR10 = "take google/ddpm-cifar10-32 with net: diffusers-unet, or train cifar10-denoiser-small"

_SCORE_SDE = (
    "the score network of Song et al. 2021 for CIFAR-10 (DDPM++, continuous, VP), whose layers are not those of "
    f"diffusers and whose averaged weights have no names; {_ON_CIFAR10}"
)
_GUIDED = (
    "guided-diffusion's network for ImageNet at 256 x 256 (Dhariwal and Nichol 2021), which predicts a variance beside "
    "the noise and whose layers are not those of diffusers; take a UNet2DModel of such images with net: "
    f"diffusers-unet, or train a unet by the objective diffuse; on CIFAR-10, {_ON_CIFAR10}"
)
_HO = (
    "a port of Ho et al.'s network for CIFAR-10 to PyTorch, whose layers have other names than diffusers'; take "
    "google/ddpm-cifar10-32, Ho et al.'s network under names that can be read, with net: diffusers-unet"
)
_EDM = (
    "EDM's denoiser for CIFAR-10 (Karras et al. 2022), a pickle that brings code with it, which is not run here, and "
    f"which predicts the image at a noise level instead of the noise at a step; {_ON_CIFAR10}"
)
_IMPROVED = (
    "improved-diffusion's network for CIFAR-10 (Nichol and Dhariwal 2021), trained on 4,000 steps of a cosine schedule "
    "instead of 1,000 of a linear one, which predicts a variance beside the noise and whose layers are not those of "
    f"diffusers; {_ON_CIFAR10}"
)

#: name of a file without its ending -> what it is, why there is no adapter, and what to use in its place
_REFUSED = {
    "checkpoint_8": _SCORE_SDE,
    "32x32_ckpt_8_diffusion": _SCORE_SDE,  # as ADBM's authors call it
    "score_sde_model": _SCORE_SDE,  # as DiffBreak's cache has it
    "256x256_diffusion_uncond": _GUIDED,
    "guided_model": _GUIDED,
    "edm-cifar10-32x32-uncond-vp": _EDM,
    "hao_ddpm": _HO,
    "ema_cifar10": _HO,  # as GDMP's authors call it
    "cifar10_uncond_50M_500K": _IMPROVED,
}

#: names in an attention layer: as diffusers had them in 2022, and google/ddpm-cifar10-32 has -> as it has them now
_FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

_ENDINGS = (".bin", ".ckpt", ".pkl", ".pt", ".pth", ".safetensors")


def refuse_file(name: str) -> str | None:
    """Return why a published file, by its name, cannot be read yet, and what to use in its place; None where it may."""
    stem = next((name.removesuffix(ending) for ending in _ENDINGS if name.endswith(ending)), name)
    told = _REFUSED.get(stem)
    return None if told is None else f"expected weights that there is an adapter for, got {name}: {told}"


def read_unet(path: Path, net: nn.Module) -> dict[str, Tensor]:
    """Return the weights in a file, under the names that a ``UNet2DModel`` has, in float32.

    Args:
        path: a file of torch's or safetensors, as diffusers saves it now, or as it did before it renamed attention.
        net: the ``UNet2DModel`` that they are for; it is not changed.

    Raises:
        UserError: if the file is missing, is not read safely, or holds another network.
    """
    found = _renamed(read_tensors(path))
    wanted = net.state_dict()
    differs = _first_difference(found, wanted)
    if differs is not None:
        raise UserError(
            f"expected the {len(wanted)} tensors of the U-Net that the net describes in {path.name}, got others: the "
            f"first that differs is {differs}; write the net as the config.json of the file does"
        )
    return {name: found[name].float() for name in wanted}


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if len(parts) > 2 and "attentions" in parts:
            parts[-2] = _FORMER.get(parts[-2], parts[-2])
        now = ".".join(parts)
        renamed[name if now in tensors else now] = tensor  # a file with both names has one too many
    return renamed


def _first_difference(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """Return what the first tensor that differs is called and how it does, in the order of the network."""
    for name, tensor in wanted.items():
        if name not in found:
            return f"{name}, which is missing"
        if found[name].shape != tensor.shape:
            return f"{name}, of shape {tuple(found[name].shape)} in place of {tuple(tensor.shape)}"
    return next((f"{name}, which such a network has not" for name in found if name not in wanted), None)
