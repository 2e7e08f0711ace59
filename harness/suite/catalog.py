"""What can be named in a suite: shipped suites and recipes, components with their options."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from harness.core import registry
from harness.core.errors import UserError
from harness.suite import shipped
from harness.suite.components import read_file
from harness.suite.document import parse

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from harness.core.contracts import Traits
    from harness.options import Options

_TYPES = {int: "integer", float: "number", bool: "true or false", str: "text", NoneType: "nothing"}


@dataclass(frozen=True)
class OptionInfo:
    """An option: ``default`` is None where it must be given, otherwise the default as text."""

    name: str
    type: str
    default: str | None
    description: str


@dataclass(frozen=True)
class ComponentInfo:
    """A registered component.

    Attributes:
        kind: one of the registry's.
        name: as written in a suite or a recipe.
        summary: the first line of its docstring.
        origin: distribution and version.
        options: what can be set.
        source: the paper that it comes from, where it says so.
        traits: of a defense with default options; None otherwise, or where it cannot be built without more.
        smooth: whether a defense has smooth signs for an attacker to follow.
        fault: why it cannot be used; empty where it can.
    """

    kind: str
    name: str
    summary: str
    origin: str
    options: tuple[OptionInfo, ...] = ()
    source: str = ""
    traits: Traits | None = None
    fault: str = ""
    smooth: bool = False


@dataclass(frozen=True)
class FileInfo:
    """A shipped suite or recipe: its name, and its title or what it trains."""

    name: str
    title: str


def components(kind: str) -> tuple[ComponentInfo, ...]:
    """Return every component of a kind, by name; one that cannot be imported says why."""
    return tuple(_component(entry) for _, entry in sorted(registry.entries(kind).items()))


def suites() -> tuple[FileInfo, ...]:
    """Return the shipped suites with their titles."""
    return tuple(FileInfo(name, str(_top(file, name).get("title", ""))) for name, file in shipped.suites().items())


def recipes() -> tuple[FileInfo, ...]:
    """Return the shipped recipes, each with its network and objective."""
    found = []
    for name, file in shipped.recipes().items():
        top = _top(file, name)
        parts = [top.get(key) for key in ("net", "objective", "dataset")]
        uses = [str(part["use"]) for part in parts if isinstance(part, dict) and "use" in part]
        found.append(FileInfo(name, ", ".join(uses)))
    return tuple(found)


def _top(file: Any, name: str) -> dict[str, Any]:
    try:
        data = parse(read_file(file, name), name).data
    except UserError:
        return {}
    return data if isinstance(data, dict) else {}


def _component(entry: registry.RegistryEntry) -> ComponentInfo:
    try:
        component = entry.load()
    except UserError as error:
        return ComponentInfo(entry.kind, entry.name, "", entry.origin, fault=str(error))
    summary = (inspect.getdoc(component) or "").partition("\n")[0]
    options: type[Options] = component.Options
    fields = [pair for pair in options.model_fields.items() if pair[0] != "use"]  # which a recipe says anyway
    fields.sort(key=lambda field: not field[1].is_required())
    listed = tuple(_option(name, item, name in options.recipe_fields()) for name, item in fields)
    traits = _traits(component, options) if entry.kind == "defense" else None
    smooth = entry.kind == "defense" and component.smoothable()
    return ComponentInfo(entry.kind, entry.name, summary, entry.origin, listed, component.source, traits, smooth=smooth)


def _traits(component: Any, options: type[Options]) -> Traits | None:
    try:
        named = [name for name in options.recipe_fields() if options.model_fields[name].is_required()]
        built = component(options.model_validate(dict.fromkeys(named, "recipe")))
    except ValidationError:
        return None
    traits: Traits = built.traits
    return traits


def _option(name: str, item: FieldInfo, recipe: bool) -> OptionInfo:
    kind = "recipe" if recipe else _type(item.annotation)
    default = None if item.is_required() else _default(item.get_default(call_default_factory=True))
    return OptionInfo(name, kind, default, item.description or "")


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    if isinstance(value, float):
        return _number(value)
    return str(value.value) if isinstance(value, Enum) else str(value)


def _number(value: float) -> str:
    """Return a number as a suite would have it: in grey levels where it has no short decimal form."""
    levels = value * 255
    return f"{levels:.0f}/255" if len(str(value)) > 8 and abs(levels - round(levels)) < 1e-9 else str(value)


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return " | ".join(str(value) for value in get_args(annotation))
    if origin in (Union, UnionType):
        return " | ".join(_type(branch) for branch in get_args(annotation))
    if origin in (list, tuple):
        return f"list of {_type(get_args(annotation)[0])}"
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"{{{', '.join(annotation.model_fields)}}}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(str(member.value) for member in annotation)
    return _TYPES.get(annotation, getattr(annotation, "__name__", str(annotation)))
