"""Is this installation sound? Answers without importing torch."""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from harness.artifacts import Folder
from harness.core import registry
from harness.core.errors import UserError

OURS = ("harness", "attacks", "defenses", "reports", "suites")
PACKAGES = ("torch", "torchvision", "timm", "diffusers", "robustbench", "pyautoattack", "sqlalchemy", "pandas")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is sound, and what was found."""

    subject: str
    sound: bool
    found: str


def where(package: str) -> Path | None:
    """Return the folder of a package without importing it, or None if there is none."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def guard() -> None:
    """Stop where one of our packages comes from somewhere else: their names are generic, and pip lets two coexist.

    Raises:
        UserError: naming both places.
    """
    home = where("harness")
    for package in OURS:
        folder = where(package)
        if folder is None or home is None or folder.parent != home.parent:
            raise UserError(
                f"expected the package {package!r} beside {home}, but Python finds {folder or 'none'}; "
                "install purebench in a virtual environment of its own"
            )


def findings() -> list[Finding]:
    """Look at Python, packages, our own import names, the artifact folder and the plug-ins."""
    found = [
        Finding("python", True, f"{platform.python_version()} on {platform.platform()}"),
        Finding("cores", True, str(os.cpu_count())),
    ]
    try:
        guard()
        found.append(Finding("packages of purebench", True, str(where("harness"))))
    except UserError as error:
        found.append(Finding("packages of purebench", False, str(error)))
    for package in PACKAGES:
        try:
            found.append(Finding(package, True, metadata.version(package)))
        except metadata.PackageNotFoundError:
            found.append(Finding(package, False, "not installed; `make quickstart` installs the pinned versions"))
    found.append(_artifacts())
    for kind in registry.TABLES:
        found += _plugins(kind)
    return found


def _artifacts() -> Finding:
    folder = Folder.default().root
    at = folder
    while not at.exists():
        at = at.parent
    sound = os.access(at, os.W_OK)
    return Finding(
        "artifact folder", sound, f"{folder}" if sound else f"{folder} cannot be written; set PUREBENCH_HOME"
    )


def _plugins(kind: str) -> list[Finding]:
    found = []
    for entry in registry.entries(kind).values():
        try:
            entry.load()
        except UserError as error:
            found.append(Finding(f"{kind} {entry.name}", False, str(error)))
        else:
            if "/" in entry.name:
                found.append(Finding(f"{kind} {entry.name}", True, f"{entry.target} from {entry.origin}"))
    return found
