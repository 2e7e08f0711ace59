"""Published diffusion networks of diffusers, read into ours as they are.

That is ``google/ddpm-cifar10-32`` (``diffusion_pytorch_model.safetensors``, or ``.bin``), and whatever else is a
``UNet2DModel`` that predicts the noise of 1,000 linear steps in images in [-1, 1]. Nothing is downloaded here, and no
file is read that could run code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.errors import UserError
from harness.nets.published import content_of
from harness.nets.reading import table, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

#: names in an attention layer: as diffusers had them in 2022, and google/ddpm-cifar10-32 has -> as it has them now
_FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def read_unet(path: Path, net: nn.Module, content: bytes | None = None) -> dict[str, Tensor]:
    """Return the weights in a file, under the names that a ``UNet2DModel`` has, in float32.

    Args:
        path: a file of torch's or safetensors, as diffusers saves it now, or as it did before it renamed attention.
        net: the ``UNet2DModel`` that they are for; it is not changed.
        content: what is in the file, where that has been read.

    Raises:
        UserError: if the file is missing, is not read safely, or holds another network.
    """
    found = _renamed(table(unpack(content_of(path) if content is None else content, path), path))
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
