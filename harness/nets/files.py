"""Weights from files that you have, and classifiers made of them: nothing is downloaded, and no file can run code."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from harness.components import Classifier
from harness.core.errors import UserError
from harness.data.files import data_folder
from harness.nets.reading import bare_names, table, unpack
from harness.nets.sizes import IMAGENET
from harness.options import Deviation, Grey
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import nn

    from harness.core.contracts import DataCard, Nets

Channels = tuple[float, float, float]
Greys = tuple[Grey, Grey, Grey]
Deviations = tuple[Deviation, Deviation, Deviation]

#: what all these networks take
SHAPE = (3, 32, 32)

#: network -> mean and standard deviation, of pixels in [0, 1], that its published weights were measured with
NORMALISATION: dict[str, tuple[Channels, Channels]] = {
    "resnet20": IMAGENET,
    "resnet32": IMAGENET,
    "resnet56": IMAGENET,
    "resnet2b": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cnn-a": ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)),
    "conv-small": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "oval-wide": ((0.485, 0.456, 0.406), (0.225, 0.225, 0.225)),
    "marabou-small": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "marabou-large": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}

#: how far figures may differ that were written with five digits
ROUNDING = 1e-4

Net = Literal[
    "resnet20",
    "resnet32",
    "resnet56",
    "resnet2b",
    "cnn-a",
    "conv-small",
    "oval-wide",
    "marabou-small",
    "marabou-large",
]


def weights_folder() -> Path:
    """Return the folder that ``PUREBENCH_WEIGHTS`` names, else ``weights`` in the data folder."""
    named = os.environ.get("PUREBENCH_WEIGHTS")
    return Path(named) if named else data_folder() / "weights"


def content(file: str, sha256: str) -> bytes:
    """Return what is in a file of the weights folder.

    Args:
        file: its name, without a folder.
        sha256: hash of its content.

    Raises:
        UserError: if it is not there, or if it is another one.
    """
    path = weights_folder() / file
    try:
        found = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"expected weights at {path}, got {error.strerror}; put the file there, "
            "or set PUREBENCH_WEIGHTS to the folder that has it"
        ) from error
    its = hashlib.sha256(found).hexdigest()
    if its != sha256:
        raise UserError(
            f"expected weights with sha256 {sha256[:12]}, got {its[:12]} at {path}; "
            "put the right file there, or name its hash where the file is named"
        )
    return found


def fill(net: nn.Module, called: str, file: str, sha256: str) -> None:
    """Replace the weights of a network by those of a file in the weights folder, of safetensors or of torch.

    The names in it are the network's own, all with ``module.`` before them if a parallel module was saved. Batch
    norm's counters may be absent: they are not used.

    Args:
        net: with weights of any kind.
        called: what it is called in a sentence.
        file: its name, without a folder.
        sha256: hash of its content.

    Raises:
        UserError: if the file is not there, is another one, is not read safely, or holds another network.
    """
    path = weights_folder() / file
    tensors = bare_names(table(unpack(content(file, sha256), path), path))
    counters = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
    try:
        net.load_state_dict(counters | tensors)
    except RuntimeError as error:
        said = "; ".join(line.strip().rstrip(". ") for line in str(error).splitlines()[1:3])
        raise UserError(f"expected weights of a {called} in {file}, got others: {said}") from error


def told_normalisation(content: bytes) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and std that the header of a safetensors file states, or None where it states none.

    It does so under ``normalise`` in its metadata: ``mean=0.485,0.456,0.406;std=0.229,0.224,0.225``.
    """
    length = int.from_bytes(content[:8], "little")
    try:
        stated = json.loads(content[8 : 8 + length])["__metadata__"]["normalise"]
        found = re.fullmatch(r"mean=([0-9.,]+);std=([0-9.,]+)", stated)
        groups = found.groups() if found is not None else ()
        mean, std = (tuple(float(value) for value in group.split(",")) for group in groups)
    except (KeyError, TypeError, ValueError, RecursionError):  # nothing of the kind is stated
        return None
    return mean, std


class FromFile(Classifier):
    """A classifier of 32 x 32 colours with weights that you have placed as safetensors into the weights folder.

    It takes pixels in [0, 1] and normalises them itself. If the file states how, that must be so, unless another way
    was asked for.
    """

    version: ClassVar[int] = 1

    class Options(BaseOptions):
        """Which network, which weights, and how pixels are normalised: ``(x - mean) / std``, by channel."""

        net: Net = Field(description="architecture; resnet20 to resnet56 are those of He et al. for CIFAR-10")
        file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors$", description="name, without a folder")
        sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="hash of the file")
        mean: Greys | None = Field(None, description="of pixels in [0, 1]; by default that of the published weights")
        std: Deviations | None = Field(
            None, description="of pixels in [0, 1]; by default that of the published weights"
        )

        @model_validator(mode="before")
        @classmethod
        def _published(cls, given: Any) -> Any:
            """Write the normalisation out, so that it is a part of the identity whether it was given or not."""
            net = given.get("net") if isinstance(given, dict) else None
            if not isinstance(net, str) or net not in NORMALISATION:
                return given  # which is refused for the right reason
            told = {key: value for key, value in given.items() if value is not None}
            return dict(zip(("mean", "std"), NORMALISATION[net], strict=True)) | told

    options: Options

    def load(self, nets: Nets, data: DataCard) -> nn.Module:
        """Return the network behind its normalisation, after its file has been checked against the hash."""
        from torch import nn

        from harness.nets.normalise import Normalise

        options = self.options
        if data.shape != SHAPE:
            raise UserError(
                f"expected images {SHAPE} for {options.net}, got {data.shape}; name a dataset such as cifar10"
            )
        net = _build(options.net, data.n_classes)
        fill(net, options.net, options.file, options.sha256)
        self._compare_normalisation()
        return nn.Sequential(Normalise(options.mean or (0, 0, 0), options.std or (1, 1, 1)), net).eval()

    def _compare_normalisation(self) -> None:
        """Refuse the published normalisation of the network where the file states another one.

        Raises:
            UserError: then.
        """
        options = self.options
        stated = told_normalisation(content(options.file, options.sha256))
        if stated is None or (options.mean, options.std) != NORMALISATION[options.net]:
            return
        ours, theirs = [*(options.mean or ()), *(options.std or ())], [*stated[0], *stated[1]]
        if len(ours) != len(theirs) or any(abs(a - b) > ROUNDING for a, b in zip(ours, theirs, strict=True)):
            raise UserError(
                f"expected pixels normalised as {options.file} states, with mean {list(stated[0])} and std "
                f"{list(stated[1])}, got those of the published {options.net}; write mean and std beside the file"
            )


def _build(net: Net, n_classes: int = 10) -> nn.Module:
    from harness.nets.resnet import ResNet
    from harness.nets.small import ResNet2B, conv

    match net:
        case "resnet20" | "resnet32" | "resnet56":
            return ResNet((int(net.removeprefix("resnet")) - 2) // 6, n_classes)
        case "resnet2b":
            return ResNet2B(n_classes)
        case "cnn-a" | "oval-wide":
            return conv((16, 32), padding=1, hidden=(100,), n_classes=n_classes)
        case "conv-small":
            return conv((16, 32), padding=0, hidden=(100,), n_classes=n_classes)
        case "marabou-small":
            return conv((8, 16), padding=0, hidden=(128, 64), n_classes=n_classes)
        case "marabou-large":
            return conv((32, 64), padding=0, hidden=(128, 64), n_classes=n_classes)
