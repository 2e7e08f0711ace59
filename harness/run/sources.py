"""Which code did it: hashes of the source of attack and defense, and of a library that does an attack's work."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.registry import find

if TYPE_CHECKING:
    from harness.core.cell import Cell


def code_of(cell: Cell) -> dict[str, str]:
    """Return the sha256 of the source file of attack, defense and certificate, by role.

    Of one that has a ``library``, the import package that does its work, also that of the package under
    ``attack_library``, and its name and version under ``attack_library_version``.
    """
    found: dict[str, str] = {}
    for role, spec in {"attack": cell.attack, "defense": cell.defense, "certificate": cell.certificate}.items():
        if spec is None:
            continue
        component = find(spec.kind, spec.use).load()
        file = inspect.getsourcefile(component)
        if file:
            found[role] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        library = getattr(component, "library", None)
        if library is not None:
            found[f"{role}_library"] = package_hash(library)
            found[f"{role}_library_version"] = f"{library} {metadata.version(library)}"
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
        content = file.read_bytes()
        whole.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode())
        whole.update(content)
    return whole.hexdigest()
