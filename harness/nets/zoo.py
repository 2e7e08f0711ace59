"""What RobustBench's model zoo has, read from its source: importing it takes a quarter of a minute, and torch."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: side of an image, by default, and number of classes of the zoo's datasets
_DATA = {"cifar10": (32, 10), "cifar100": (32, 100), "imagenet": (224, 1000)}


@dataclass(frozen=True)
class Model:
    """A model of the zoo.

    Attributes:
        parts: how many files its weights come in.
        shape: channels, height, width of the images that it takes.
        n_classes: of its dataset.
    """

    parts: int
    shape: tuple[int, int, int]
    n_classes: int


@functools.cache
def models() -> Mapping[tuple[str, str], Mapping[str, Model]]:
    """Return the models of the installed zoo by dataset and threat model, as the zoo calls them.

    Raises:
        UserError: if there is no zoo, or one whose source is arranged in another way.
    """
    found = importlib.util.find_spec("robustbench")
    if found is None or not found.submodule_search_locations:
        raise UserError("expected the package robustbench, whose zoo has the model, found none; install it")
    folder = Path(found.submodule_search_locations[0]) / "model_zoo"
    try:
        known = {
            (dataset, threat): listed
            for dataset in _DATA
            for threat, listed in _read(ast.parse((folder / f"{dataset}.py").read_text(encoding="utf-8")), dataset)
        }
    except (OSError, SyntaxError, ValueError, LookupError, AttributeError) as error:
        raise UserError(
            f"expected a zoo that can be read in {folder}, but {type(error).__name__}: {error}; "
            "install the robustbench that constraints.txt names"
        ) from error
    return known


def _read(source: ast.Module, dataset: str) -> Iterator[tuple[str, dict[str, Model]]]:
    """Yield the threat models of a file with their models: pairs in an ordered dictionary of ordered dictionaries."""
    assigned = {
        node.targets[0].id: node.value
        for node in source.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    (top,) = [name for name in assigned if name.endswith("_models")]
    for threat, listed in _pairs(assigned[top]):
        named = _pairs(assigned[listed.id])  # type: ignore[attr-defined]
        yield threat.attr, {name.value: _model(entry, dataset) for name, entry in named}  # type: ignore[attr-defined]


def _pairs(node: ast.expr) -> list[list[ast.expr]]:
    """Return the keys and values of ``OrderedDict([(key, value), ...])``."""
    return [pair.elts for pair in node.args[0].elts]  # type: ignore[attr-defined]


def _model(entry: ast.expr, dataset: str) -> Model:
    told = {
        key.value: value
        for key, value in zip(entry.keys, entry.values, strict=True)  # type: ignore[attr-defined]
    }
    side, n_classes = _DATA[dataset]
    ends = re.search(r"Crop(\d+)$", getattr(told.get("preprocessing"), "value", ""))
    side = int(ends[1]) if ends else side
    files = told["gdrive_id"]
    return Model(len(files.elts) if isinstance(files, ast.List) else 1, (3, side, side), n_classes)
