"""The suites and recipes that come with the package."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def suites() -> dict[str, Traversable]:
    """Return the shipped suites by name."""
    return _yaml_files(resources.files("suites"))


def recipes() -> dict[str, Traversable]:
    """Return the shipped recipes by name."""
    return _yaml_files(resources.files("suites").joinpath("recipes"))


def _yaml_files(folder: Traversable) -> dict[str, Traversable]:
    if not folder.is_dir():
        return {}
    found = {item.name.removesuffix(".yaml"): item for item in folder.iterdir() if item.name.endswith(".yaml")}
    return dict(sorted(found.items()))
