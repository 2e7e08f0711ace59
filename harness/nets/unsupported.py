"""Published diffusion networks that are known by the names of their files, and have no adapter yet; needs no torch."""

from __future__ import annotations

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

_ENDINGS = (".bin", ".ckpt", ".pkl", ".pt", ".pth", ".safetensors")


def refuse_file(name: str) -> str | None:
    """Return why a published file, by its name, cannot be read yet, and what to use in its place; None where it may."""
    stem = next((name.removesuffix(ending) for ending in _ENDINGS if name.endswith(ending)), name)
    told = _REFUSED.get(stem)
    return None if told is None else f"expected weights that there is an adapter for, got {name}: {told}"
