"""Published weights in the place of training: from a file that you have, checked against its hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.errors import UserError
from harness.nets.files import content, fill, weights_folder
from harness.nets.published import load
from harness.nets.published_unets import read_unet
from harness.nets.resnet import bare
from harness.training.forward import mae

if TYPE_CHECKING:
    from torch import nn

    from harness.core.contracts import DataCard
    from harness.nets.sizes import NetSize
    from harness.training.objective_options import PublishedObjective


def import_into(net: nn.Module, size: NetSize, data: DataCard, objective: PublishedObjective) -> None:
    """Replace the first weights of an autoencoder, of a residual network or of a U-Net by published ones.

    Raises:
        UserError: if there is no such file, if it is not the one that the recipe names, or if it holds another network.
    """
    path = weights_folder() / objective.file
    match size.use:
        case "mae":
            found = content(objective.file, objective.sha256)  # what is hashed is what is read
            mae(net).load_state_dict(load(path, size, data.shape, found))
        case "resnet":
            fill(bare(net), f"resnet{size.depth}", objective.file, objective.sha256)
        case "unet" | "diffusers-unet":
            from harness.nets.unet import bare as bare_unet  # diffusers takes seconds to import

            found = content(objective.file, objective.sha256)
            bare_unet(net).load_state_dict(read_unet(path, bare_unet(net), found))
        case _:
            raise UserError(
                "expected a masked autoencoder, a residual network or a U-Net to import weights into, got a "
                f"{size.use} network; use net: mae, resnet, unet or diffusers-unet"
            )
