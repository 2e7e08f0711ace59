"""Classifiers of RobustBench's model zoo, from a local folder: nothing is downloaded."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from harness.artifacts import Folder
from harness.core.errors import UserError
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import nn

    from harness.core.contracts import DataCard, Nets


def zoo() -> Any:
    """Return the imported package ``robustbench``.

    It asks for a module ``autoattack``, which no package on PyPI provides: the authors' own ``pyautoattack`` has the
    same content under another name. This is the one place that bridges the two.
    """
    import pyautoattack

    sys.modules.setdefault("autoattack", pyautoattack)
    import robustbench

    return robustbench


class RobustBench:
    """A model of the zoo, with weights that you have placed into the artifact folder."""

    version: ClassVar[int] = 1

    class Options(BaseOptions):
        """Which model; the hash of its weights is part of the identity."""

        model: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="the zoo's name, such as Standard")
        dataset: Literal["cifar10", "cifar100", "imagenet"] = Field("cifar10", description="the zoo's dataset")
        threat_model: Literal["Linf", "L2", "corruptions"] = Field("Linf", description="the zoo's threat model")
        sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="hash of the file with the weights")

    def __init__(self, options: Options) -> None:
        self.options = options

    def load(self, nets: Nets, data: DataCard) -> nn.Module:
        """Return the model, after its file has been checked against the hash."""
        options, root = self.options, Folder.default().root / "robustbench"
        path = root / options.dataset / options.threat_model / f"{options.model}.pt"
        if not path.is_file():
            raise UserError(
                f"expected the weights of RobustBench's {options.model} at {path}, found none; "
                "download them from the model zoo and put them there"
            )
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != options.sha256:
            raise UserError(f"expected weights with sha256 {options.sha256[:12]}, got {found[:12]} at {path}")
        model: nn.Module = zoo().load_model(
            options.model, model_dir=str(root), dataset=options.dataset, threat_model=options.threat_model
        )
        return model
