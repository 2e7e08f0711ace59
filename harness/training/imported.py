"""Published weights in the place of training: from a file that you have, checked against its hash."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from harness.core.errors import UserError
from harness.nets.files import weights_folder
from harness.nets.published import load
from harness.training.passes import mae

if TYPE_CHECKING:
    from torch import nn

    from harness.core.contracts import DataCard
    from harness.nets.sizes import NetSize
    from harness.training.recipe import PublishedObjective


def import_into(net: nn.Module, size: NetSize, data: DataCard, objective: PublishedObjective) -> None:
    """Replace the first weights of an autoencoder by published ones.

    Raises:
        UserError: if there is no such file, if it is not the one that the recipe names, or if it holds another network.
    """
    if size.use != "mae":
        raise UserError(f"expected a masked autoencoder to import weights into, got a {size.use} network; use net: mae")
    path = weights_folder() / objective.file
    if not path.is_file():
        raise UserError(f"expected published weights at {path}, found none; download them and put them there")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != objective.sha256:
        raise UserError(f"expected weights with sha256 {objective.sha256[:12]} at {path}, got {found[:12]}")
    mae(net).load_state_dict(load(path, size, data.shape))
