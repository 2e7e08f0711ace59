"""Which code did it: hashes of the source of attack and defense, and of a library that does an attack's work."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.registry import find

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from harness.core.cell import Cell


def code_of(cell: Cell) -> dict[str, str]:
    """Return the sha256 of the source of attack, defense and certificate, by role: see ``source_hash``.

    Of one that has a ``library``, the import package that does its work, also that of the package under
    ``attack_library``, and its name and version under ``attack_library_version``.
    """
    found: dict[str, str] = {}
    for role, spec in {"attack": cell.attack, "defense": cell.defense, "certificate": cell.certificate}.items():
        if spec is None:
            continue
        component = find(spec.kind, spec.use).load()
        found[role] = source_hash(component.__module__)
        library = getattr(component, "library", None)
        if library is not None:
            found[f"{role}_library"] = package_hash(library)
            found[f"{role}_library_version"] = f"{library} {metadata.version(library)}"
    return found


@functools.cache
def source_hash(module: str) -> str:
    """Return the sha256 over the file of a module and those that it imports of its own top-level package, in turn.

    So a step that attacks share counts for each that takes it, and a change to another attack for none. A module is
    found by its import statements, also those within functions; names that are made up at run time are not followed.
    """
    package = module.partition(".")[0]
    files: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        spec = None if name in files else _spec(name)
        if spec is None or not spec.origin or not spec.origin.endswith(".py"):
            continue
        files[name] = Path(spec.origin)
        within = name if spec.submodule_search_locations else name.rpartition(".")[0]
        imported = _imported(files[name].read_bytes(), within)
        waiting += sorted(one for one in imported if one.partition(".")[0] == package)
    whole = hashlib.sha256()
    for name, file in sorted(files.items()):
        _add(whole, name, file.read_bytes())
    return whole.hexdigest()


def _spec(name: str) -> ModuleSpec | None:
    """Return where a module comes from; None where the name is none of a module but of something within one."""
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None


def _imported(source: bytes, within: str) -> set[str]:
    """Return the names that a source may import as modules, of a module within this package."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), within)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


@functools.cache
def package_hash(package: str) -> str:
    """Return the sha256 over the Python files of an installed package: their names and contents, sorted by name.

    Raises:
        ModuleNotFoundError: if there is no such package.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"expected an installed package {package!r}, found none", name=package)
    root = Path(spec.submodule_search_locations[0])
    whole = hashlib.sha256()
    for file in sorted(root.rglob("*.py"), key=lambda file: file.relative_to(root).as_posix()):
        _add(whole, file.relative_to(root).as_posix(), file.read_bytes())
    return whole.hexdigest()


def _add(whole: hashlib._Hash, name: str, content: bytes) -> None:
    """Add a name and a content, so that no two lists of them look alike."""
    whole.update(f"{name} {len(content)}\n".encode())
    whole.update(content)
