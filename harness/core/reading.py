"""Modules as they are read: their statements, which names these bind, and what names they import."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from importlib.machinery import ModuleSpec

#: decorators that do nothing but to what they decorate; another one may keep it in a register, where it is found later
PLAIN = frozenset(
    [
        "cache",
        "cached_property",
        "classmethod",
        "contextmanager",
        "dataclass",
        "lru_cache",
        "no_grad",
        "override",
        "property",
        "runtime_checkable",
        "staticmethod",
        "total_ordering",
        "unique",
        "wraps",
    ]
)

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass
class Module:
    """A module as it is read.

    Attributes:
        tree: its statements; None where there is no source.
        data: what is hashed where there is none.
        bound: top-level statements by the names that they bind.
        imported: what local names stand for, anywhere in the module: a module, and a name of it; no name for the module
            itself, None for one that is named only on the way to a module within it.
        stars: modules whose names are all taken.
        effects: top-level statements that do more than to bind a name.
        package: whether there may be modules within it.
    """

    tree: ast.Module | None
    data: bytes = b""
    bound: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    effects: list[ast.stmt] = field(default_factory=list)
    package: bool = False


def read(name: str, find: Callable[[str], ModuleSpec | None] | None = None) -> Module | None:
    """Read a module: its source, else the file that holds it; None where there is no such module.

    Args:
        name: dotted.
        find: says where a module comes from; ``spec_of`` if None.
    """
    spec = (find or spec_of)(name)
    if spec is None:
        return None
    source = None
    try:
        source = spec.loader.get_source(name) if spec.loader is not None else ""  # type: ignore[attr-defined]
        tree = None if source is None else ast.parse(source)
    except (AttributeError, ImportError, OSError, SyntaxError, ValueError):
        tree = None
    if tree is None:
        return Module(None, _bytes(spec))
    tree.body = [part for part in tree.body if not says_nothing(part) or isinstance(part, ast.Import | ast.ImportFrom)]
    found = Module(tree, package=spec.submodule_search_locations is not None)
    within = name if found.package else name.rpartition(".")[0]
    for node in _walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                if not alias.asname and top != alias.name:
                    found.imported.setdefault(top, []).append((top, None))
                found.imported.setdefault(alias.asname or alias.name, []).append((alias.name, ""))
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute("." * node.level + (node.module or ""), within)
            for alias in node.names:
                if alias.name == "*":
                    found.stars.append(origin)
                else:
                    found.imported.setdefault(alias.asname or alias.name, []).append((origin, alias.name))
    for statement in tree.body:
        for bound in _binds(statement):
            found.bound.setdefault(bound, []).append(statement)
        if _acts(statement):
            found.effects.append(statement)
    return found


def spec_of(name: str) -> ModuleSpec | None:
    """Return where a module comes from; None where it is not there, or what it stands in cannot be imported."""
    try:
        return importlib.util.find_spec(name)
    except (Exception, SystemExit):  # a package around it is imported, and may be any code
        return None


def _absolute(name: str, within: str) -> str:
    try:
        return importlib.util.resolve_name(name, within)
    except ImportError:  # a relative import outside a package: it fails when it is run
        return name


def _bytes(spec: ModuleSpec) -> bytes:
    """Return what stands for a module without a source: its file, without the header of a compiled one."""
    try:
        data: bytes = spec.loader.get_data(spec.origin)  # type: ignore[union-attr]
    except (AttributeError, OSError, TypeError):
        return b""
    return data[16:] if str(spec.origin).endswith(".pyc") else data


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a tree's nodes in order, but not what is for a type checker alone."""
    if isinstance(node, ast.If) and _for_types(node):
        for part in node.orelse:
            yield from _walk(part)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk(child)


def _for_types(node: ast.If) -> bool:
    test = node.test
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))


def says_nothing(node: ast.stmt) -> bool:
    """Whether a statement changes nothing by itself: a docstring, an import (whose names are followed), or types."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.If) and _for_types(node) and not node.orelse
    )


def _binds(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a top-level statement binds."""
    if isinstance(node, _DEFINITIONS):
        yield node.name
        return
    assigned = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
    for part in (part for one in assigned for part in ast.walk(one)):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
        elif isinstance(part, _DEFINITIONS):
            yield part.name


def _acts(node: ast.stmt) -> bool:
    """Whether a top-level statement does more than to bind names."""
    if isinstance(node, _DEFINITIONS):
        return not all(called(decorator) in PLAIN for decorator in node.decorator_list)
    if isinstance(node, ast.Assign):
        return not all(isinstance(target, ast.Name | ast.Tuple) for target in node.targets)
    if isinstance(node, ast.AnnAssign | ast.AugAssign):
        return not isinstance(node.target, ast.Name)
    return not says_nothing(node)


def called(node: ast.expr) -> str:
    """Return the last word of what a decorator, or a call, is called."""
    named = node.func if isinstance(node, ast.Call) else node
    return str(getattr(named, "attr", getattr(named, "id", "")))
