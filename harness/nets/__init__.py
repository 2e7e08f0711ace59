"""Networks: one file each; their sizes are declared in ``sizes``, which needs no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from harness.core.contracts import DataCard
    from harness.nets.sizes import NetSize

#: registered name -> where ``build(size, data)`` is, for networks that recipes train
TABLE = {
    "cnn": "harness.nets.cnn:build",
    "diffusers-unet": "harness.nets.unet:build",
    "dir": "harness.nets.dir:build",
    "joint": "harness.nets.joint:build",
    "mae": "harness.nets.mae:build",
    "maskdit": "harness.nets.maskdit:build",
    "resnet": "harness.nets.resnet:build",
    "unet": "harness.nets.unet:build",
}


def build_net(size: NetSize, data: DataCard) -> nn.Module:
    """Return the untrained network of a size; its first weights come from torch's global generator."""
    module, _, name = TABLE[size.use].partition(":")
    net: nn.Module = getattr(importlib.import_module(module), name)(size, data)
    return net
