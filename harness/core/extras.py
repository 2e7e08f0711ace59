"""Extras: packages that only some suites need, what each is for, and how to install it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Extra:
    """Packages that are installed by ``pip install 'purebench[name]'``.

    Attributes:
        name: as in ``pyproject.toml``.
        packages: the names under which they are imported.
        purpose: what they are for.
        components: kind and registered name of what cannot do without them.
        options: name and value of the options of components that cannot.
    """

    name: str
    packages: tuple[str, ...]
    purpose: str
    components: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    @property
    def remedy(self) -> str:
        """The command that installs it."""
        return f"pip install 'purebench[{self.name}]'"

    @property
    def absent(self) -> tuple[str, ...]:
        """The packages that are not installed."""
        return tuple(package for package in self.packages if importlib.util.find_spec(package) is None)

    def missing(self, asker: str) -> Problem | None:
        """Return that ``asker`` cannot do without the packages that are not installed; None where all are."""
        if not self.absent:
            return None
        noun = "package" if len(self.absent) == 1 else "packages"
        are = "is" if len(self.absent) == 1 else "are"
        sentence = f"expected the {noun} {' and '.join(self.absent)} for {asker}, which {are} not installed"
        return Problem(sentence, remedy=self.remedy)


FOOLBOX = Extra(
    "foolbox",
    ("foolbox",),
    "the attacks ddn, cw and deepfool",
    components=(("attack", "ddn"), ("attack", "cw"), ("attack", "deepfool")),
)
BRENDEL_BETHGE = Extra(
    "brendel-bethge",
    ("foolbox", "numba"),
    "the attack brendel-bethge",
    components=(("attack", "brendel-bethge"),),
)
TORCHSDE = Extra("torchsde", ("torchsde",), "the sampler torchsde of diffusions", options=(("sampler", "torchsde"),))
CERTIFICATES = Extra(
    "certificates",
    ("statsmodels",),
    "certificates by randomised smoothing",
    components=(("certificate", "smoothing"),),
)
RAY = Extra("ray", ("ray",), "workers on several machines (--executor ray)")
POSTGRESQL = Extra("postgresql", ("psycopg",), "databases on a PostgreSQL server")
PARQUET = Extra("parquet", ("pyarrow",), "purebench db export --format parquet")

EXTRAS = (FOOLBOX, BRENDEL_BETHGE, TORCHSDE, CERTIFICATES, RAY, POSTGRESQL, PARQUET)


def lacking(kind: str, use: str, options: Mapping[str, Any]) -> Iterator[tuple[str, Problem]]:
    """Yield what a component cannot do without and is not installed, after the option that asks for it, or ''."""
    for extra in EXTRAS:
        asked = [("", f"the {kind} {use}")] if (kind, use) in extra.components else []
        asked += [(name, f"`{name}: {value}`") for name, value in extra.options if options.get(name) == value]
        for name, asker in asked:
            problem = extra.missing(asker)
            if problem is not None:
                yield name, problem
