"""A classifier of any importable function, with weights from a file: your own package's, timm's, torchvision's."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, JsonValue, model_validator

from harness.components import Classifier
from harness.core.errors import UserError
from harness.nets.files import fill
from harness.options import Deviation, Grey
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from harness.core.contracts import DataCard, Nets

#: as a suite names a function
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class FromPython(Classifier):
    """A network that an importable function makes, with weights from a file in the weights folder.

    It is given pixels in [0, 1]; what it wants of them is said here once: resized, then normalised or scaled.
    """

    version: ClassVar[int] = 1

    class Options(BaseOptions):
        """Which function, which weights, and what the network takes."""

        make: str = Field(
            description="module:function, or module:Class, such as timm:create_model; it returns a torch.nn.Module"
        )
        args: dict[str, JsonValue] = Field(default_factory=dict, description="what it is called with, by name")
        weights: str | None = Field(
            None,
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
            description="file in the weights folder, safetensors or torch's; only a network without weights has none",
        )
        sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="hash of that file")
        scale: float = Field(1.0, gt=0, le=255, description="what pixels are multiplied by, without mean and std")
        size: int | None = Field(None, ge=1, le=4096, description="height and width that images are resized to")
        mean: tuple[Grey, ...] | None = Field(None, description="by channel, of pixels in [0, 1], taken off")
        std: tuple[Deviation, ...] | None = Field(None, description="by channel, of pixels in [0, 1], divided by")

        @model_validator(mode="after")
        def _whole(self) -> FromPython.Options:
            if _TARGET.fullmatch(self.make) is None:
                raise ValueError(f"expected make as module:function, such as timm:create_model, got {self.make!r}")
            if (self.weights is None) != (self.sha256 is None):
                raise ValueError("expected weights and sha256 together, got one of them")
            if (self.mean is None) != (self.std is None):
                raise ValueError("expected mean and std together, got one of them")
            if self.mean is not None and self.scale != 1.0:
                raise ValueError("expected mean and std of pixels in [0, 1] or a scale, got both")
            return self

    options: Options

    @classmethod
    def runs(cls, params: Mapping[str, Any]) -> str:
        """Return the ``module:function`` whose code it runs, so that the code's hash is kept with results."""
        return str(params["make"])

    def load(self, nets: Nets, data: DataCard) -> nn.Module:
        """Return the network behind what it takes.

        Raises:
            UserError: if there is no such function, it returns no network, or the weights are not its.
        """
        from torch import nn

        options = self.options
        try:
            net = _function(options.make)(**options.args)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise UserError(f"expected {options.make} to make a network, but it raised {said}") from error
        if not isinstance(net, nn.Module):
            raise UserError(f"expected a torch.nn.Module from {options.make}, got {type(net).__name__}")
        if options.weights is not None and options.sha256 is not None:
            fill(net, options.make, options.weights, options.sha256)
        elif net.state_dict():
            raise UserError(
                f"expected a file of weights for {options.make}, since it has some, which would be random ones or come "
                "from elsewhere; name it under weights, with its sha256"
            )
        return nn.Sequential(*_before(options, data), net).eval()


def _function(target: str) -> Any:
    module, _, name = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _before(options: FromPython.Options, data: DataCard) -> list[nn.Module]:
    from torch import nn

    from harness.nets.normalise import Normalise

    parts: list[nn.Module] = []
    if options.size is not None:
        parts.append(nn.Upsample(size=(options.size, options.size), mode="bilinear", align_corners=False))
    if options.mean is not None and options.std is not None:
        channels = data.shape[0]
        if len(options.mean) != channels or len(options.std) != channels:
            got = f"{len(options.mean)} and {len(options.std)}"
            raise UserError(f"expected mean and std of {channels} channels, got {got}")
        parts.append(Normalise(options.mean, options.std))
    if options.scale != 1.0:
        parts.append(Normalise((0.0,) * data.shape[0], (1.0 / options.scale,) * data.shape[0]))
    return parts
