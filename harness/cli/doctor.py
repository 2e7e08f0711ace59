"""Is this installation sound? Answers without importing torch."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from harness.artifacts import Folder
from harness.core import registry
from harness.core.errors import UserError
from harness.core.extras import EXTRAS, Extra

OURS = ("harness", "attacks", "defenses", "reports", "suites")
PACKAGES = (
    *("torch", "torchvision", "timm", "diffusers", "robustbench", "pyautoattack", "sqlalchemy", "pandas"),
    "setuptools",
)

#: whose requirements hold packages back, and what for, where the requirement is ours
HOLDERS = ("robustbench", "purebench")
REASONS = {"setuptools": "since robustbench imports pkg_resources"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is sound, None of what need not be there, and what was found."""

    subject: str
    sound: bool | None
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
    """Look at Python, packages, our own import names, extras, the artifact folder and the plug-ins."""
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
            found.append(Finding(package, True, "; ".join((metadata.version(package), *_held(package)))))
        except metadata.PackageNotFoundError:
            found.append(Finding(package, False, "not installed; `make quickstart` installs the pinned versions"))
    found += _mixed()
    found += [_extra(one) for one in EXTRAS]
    found.append(_artifacts())
    for kind in registry.TABLES:
        found += _plugins(kind)
    return found


def _held(package: str) -> list[str]:
    """Return who holds a package to one release, or below another, each bound once."""
    held: dict[str, str] = {}
    for holder in HOLDERS:
        try:
            asked = metadata.requires(holder) or []
        except metadata.PackageNotFoundError:
            continue
        for requirement in asked:
            told = re.fullmatch(rf"{package}\s*\(?([^;)]*)\)?\s*", requirement)
            if told is not None and re.search("==|<|~=", told[1]):
                reason = f", {REASONS[package]}" if holder == "purebench" and package in REASONS else ""
                held.setdefault(told[1].strip(), f"held to {told[1].strip()} by {holder}{reason}")
    return list(held.values())


def _mixed() -> list[Finding]:
    """Return that torch is without CUDA and torchvision with it, which does not load."""
    try:
        torch, torchvision = metadata.version("torch"), metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        return []
    if not torch.endswith("+cpu") or torchvision.endswith("+cpu"):
        return []
    said = f"torchvision {torchvision} does not go with torch {torch}; take both from where torch is from"
    return [Finding("torch and torchvision", False, f"{said}; see `purebench help install`")]


def _extra(extra: Extra) -> Finding:
    if extra.absent:
        return Finding(f"extra {extra.name}", None, f"for {extra.purpose}; not installed: {extra.remedy}")
    return Finding(f"extra {extra.name}", True, f"for {extra.purpose}; installed: {', '.join(extra.packages)}")


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
