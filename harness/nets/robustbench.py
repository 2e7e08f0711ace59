"""Classifiers of RobustBench's model zoo, from a local folder: nothing is downloaded, and no file can run code.

The zoo reads weights in several ways: from files of its own, through torchvision, through timm. All of them are
answered here with the files that were hashed, one after the other; whatever else it asks for is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from harness.artifacts import Folder
from harness.components import Classifier
from harness.core.errors import UserError, nearest
from harness.nets.reading import check_names, unpack
from harness.nets.zoo import Model, models
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from harness.core.contracts import DataCard, Nets

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

#: where the zoo, and the libraries that it builds networks with, would download weights or take them from a cache
DOORS = (
    ("robustbench.utils", "download_gdrive_new"),
    ("torchvision.models._api", "load_state_dict_from_url"),
    ("timm.models._builder", "load_state_dict_from_url"),
    ("timm.models._builder", "load_state_dict_from_hf"),
    ("timm.models._builder", "download_cached_file"),
    ("socket", "getaddrinfo"),
)


def zoo() -> Any:
    """Return the imported package ``robustbench``.

    It asks for a module ``autoattack``, which no package on PyPI provides: the authors' own ``pyautoattack`` has the
    same content under another name. This is the one place that bridges the two.
    """
    import pyautoattack

    sys.modules.setdefault("autoattack", pyautoattack)
    import robustbench

    return robustbench


class RobustBench(Classifier):
    """A model of the zoo, with weights that you have placed into the artifact folder.

    They are in ``robustbench/<dataset>/<threat model>/`` there: ``<model>.pt``, or, of a model in several parts,
    ``<model>.pt_m0.pt``, ``<model>.pt_m1.pt`` and so on, as the zoo calls them. Models that the zoo takes from
    torchvision or timm have the file that those would download, under that name.
    """

    version: ClassVar[int] = 2

    class Options(BaseOptions):
        """Which model; the hash of its weights is part of the identity."""

        model: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="the zoo's name, such as Standard")
        dataset: Literal["cifar10", "cifar100", "imagenet"] = Field("cifar10", description="the zoo's dataset")
        threat_model: Literal["Linf", "L2", "corruptions"] = Field("Linf", description="the zoo's threat model")
        sha256: Hash | Annotated[tuple[Hash, ...], Field(min_length=1)] = Field(
            description="hash of the file with the weights; of a model in several parts, a list with that of each"
        )

        @property
        def hashes(self) -> tuple[str, ...]:
            """The hash of each part."""
            return (self.sha256,) if isinstance(self.sha256, str) else self.sha256

        @property
        def entry(self) -> Model:
            """What the zoo has under the name."""
            return models()[self.dataset, self.threat_model][self.model]

        @model_validator(mode="after")
        def _in_the_zoo(self) -> RobustBench.Options:
            try:
                known = models().get((self.dataset, self.threat_model), {})
            except UserError as error:
                raise ValueError(str(error)) from error
            if self.model not in known:
                elsewhere = [" ".join(at) for at, listed in models().items() if self.model in listed]
                remedy = f"it is one of {', '.join(elsewhere)}" if elsewhere else _nearest(self.model, known)
                raise ValueError(
                    f"expected a model of RobustBench's zoo for {self.dataset} {self.threat_model}, got "
                    f"{self.model!r}; {remedy}"
                )
            parts, told = known[self.model].parts, len(self.hashes)
            if parts != told:
                raise ValueError(
                    f"expected under sha256 the hash of each of the {parts} files of {self.model}, in order, got {told}"
                )
            return self

    options: Options

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files with the weights, in the order of their hashes."""
        options = self.options
        folder = Folder.default().root / "robustbench" / options.dataset / options.threat_model
        if options.entry.parts == 1:
            return (folder / f"{options.model}.pt",)
        return tuple(folder / f"{options.model}.pt_m{number}.pt" for number in range(options.entry.parts))

    def refuses(self, data: DataCard) -> str | None:
        """Refuse other images and classes than those of the zoo's dataset, and a model whose files are not all there.

        Files are looked for here, and hashed when they are read.
        """
        options, entry = self.options, self.options.entry
        if (data.shape, data.n_classes) != (entry.shape, entry.n_classes):
            return (
                f"RobustBench's {options.model} takes images {entry.shape} of {entry.n_classes} classes, as of "
                f"{options.dataset}, and these are {data.shape} of {data.n_classes}"
            )
        missing = [path for path in self.paths if not path.is_file()]
        return _missing(options.model, missing) if missing else None

    def load(self, nets: Nets, data: DataCard) -> nn.Module:
        """Return the model, made of the files whose hashes are told and of nothing else.

        Raises:
            UserError: if a file is missing, is another one, is not read safely or holds another network's weights.
        """
        options = self.options
        found = [self._read(path, sha256) for path, sha256 in zip(self.paths, options.hashes, strict=True)]
        left = list(found)
        library = zoo()
        with _answering(left):
            try:
                model: nn.Module = library.load_model(
                    options.model,
                    model_dir=str(Folder.default().root / "robustbench"),
                    dataset=options.dataset,
                    threat_model=options.threat_model,
                )
            except MemoryError:
                raise
            except Exception as error:  # whatever a network makes of weights that are not its own
                raise self._others(error) from error
        if left:
            raise UserError(
                f"expected RobustBench to read {len(found)} files for {options.model}, but it read "
                f"{len(found) - len(left)}; install the robustbench that constraints.txt names"
            )
        return model

    def _read(self, path: Path, sha256: str) -> Any:
        """Return what is in a file, after its hash has been compared; what is hashed is what is read."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"expected a file that is there: {_missing(self.options.model, [path])}") from error
        its = hashlib.sha256(content).hexdigest()
        if its != sha256:
            raise UserError(f"expected weights with sha256 {sha256[:12]}, got {its[:12]} at {path}")
        found = unpack(content, path)
        for table in (found, *(found.values() if isinstance(found, dict) else ())):
            if isinstance(table, dict):
                check_names({name: value for name, value in table.items() if isinstance(name, str)}, path)
        return found

    def _others(self, error: Exception) -> UserError:
        said = [line.strip().rstrip(". ") for line in str(error).splitlines() if line.strip()]
        if isinstance(error, KeyError):
            said = [f"there is no {error.args[0]!r}"]
        elif not isinstance(error, RuntimeError | UserError):
            said = [f"{type(error).__name__}: {' '.join(said)}"]
        names = ", ".join(path.name for path in self.paths)
        return UserError(
            f"expected weights of RobustBench's {self.options.model} in {names}, got others: "
            f"{'; '.join(said[:3])[:300]}; take the files that the zoo names for it"
        )


def _nearest(name: str, known: Any) -> str:
    """Name the nearest models, without a list of all of them."""
    close = nearest(name, known)
    return close if "?" in close else "its readme lists them"


def _missing(model: str, paths: list[Path]) -> str:
    """Say which files of a model are missing."""
    names = " and ".join(path.name for path in paths[1:])
    more = f", nor {names} beside it" if names else ""
    return (
        f"the weights of RobustBench's {model} were looked for at {paths[0]} and not found{more}; "
        "download them from the model zoo and put them there"
    )


@contextlib.contextmanager
def _answering(found: list[Any]) -> Iterator[None]:
    """Answer each request of the zoo's for weights with the next of what was read, taking it out of the list."""
    import torch

    def answer(*words: Any, **more: Any) -> Any:
        if not found:
            raise UserError("the zoo asks for more weights than the files that were hashed, and nothing is downloaded")
        return found.pop(0)

    def refuse(*words: Any, **more: Any) -> Any:
        raise UserError("the zoo asks for a download, and nothing is downloaded")

    with contextlib.ExitStack() as stack:
        for name, door in DOORS:
            replies = answer if door == "load_state_dict_from_url" else refuse
            stack.enter_context(_replaced(importlib.import_module(name), door, replies))
        reader = SimpleNamespace(**{**vars(torch), "load": answer})
        stack.enter_context(_replaced(importlib.import_module("robustbench.utils"), "torch", reader))
        yield


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
