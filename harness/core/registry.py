"""From a registered name to a component, imported at first use.

Built-ins stand in a literal table beside their modules (``attacks/__init__.py`` and so on) and are written bare
in a suite. Components of other distributions are found through entry points and are written
``distribution/name``, so that installing a package can never change what an existing suite means.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

#: kind -> the module whose TABLE lists the built-ins (reached by name: the ground imports no plug-in)
TABLES = {
    "dataset": "harness.data",
    "classifier": "harness.nets.classifiers",
    "defense": "defenses",
    "attack": "attacks",
    "certificate": "harness.certificates.smoothing",
    "network": "harness.nets.networks",
    "objective": "harness.training.objectives",
    "metric": "harness.metrics",
    "section": "reports.sections",
}

#: kind -> the base class whose defaults a component has (reached by name likewise)
BASES = {
    "dataset": "harness.components:Dataset",
    "classifier": "harness.components:Classifier",
    "defense": "harness.components:Purifier",
    "attack": "harness.components:Attack",
    "certificate": "harness.components:Certificate",
    "network": "harness.components:Network",
    "objective": "harness.components:Objective",
    "metric": "harness.components:Metric",
    "section": "harness.components:Section",
}


@dataclass(frozen=True)
class RegistryEntry:
    """A name in the registry: where the component comes from and how to reach it.

    Attributes:
        kind: which axis it serves.
        name: as written in a suite.
        target: ``module:attribute``.
        origin: distribution and version that provide it.
    """

    kind: str
    name: str
    target: str
    origin: str

    def load(self) -> Any:
        """Import the component; one that does not inherit from the base class of its kind gets its defaults here.

        Raises:
            UserError: if its module cannot be imported or holds no component; the cause is in the sentence.
        """
        try:
            component = self._component()
        except (Exception, SystemExit) as error:  # a module may be a script that ends by itself
            raise self._unfit(f"importing it failed with {type(error).__name__}: {error}") from error
        lacking = [name for name in ("version", "Options") if not hasattr(component, name)]
        if lacking:
            raise self._unfit(f"it has no {' and no '.join(lacking)}")
        try:
            return _completed(component, self.kind)
        except UserError as error:
            raise self._unfit(str(error)) from None

    def _component(self) -> Any:
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def _remedy(self) -> str:
        return f"repair or uninstall {self.origin.split()[0]}"

    def _unfit(self, reason: str) -> UserError:
        where = f"{self.kind} {self.name!r} at {self.target} (from {self.origin})"
        return UserError(f"expected {where}, but {reason}; {self._remedy()}")


@functools.cache
def _completed(component: Any, kind: str) -> Any:
    """Return a component with the defaults of its kind; the same one every time.

    Raises:
        UserError: if it lacks something that has no default.
    """
    module, _, base = BASES[kind].partition(":")
    home = importlib.import_module(module)
    return home.completed(component, getattr(home, base))


def _own_version() -> str:
    try:
        return metadata.version("purebench")
    except metadata.PackageNotFoundError:
        return "(not installed)"


@functools.cache
def entries(kind: str) -> Mapping[str, RegistryEntry]:
    """Return every known name of a kind; nothing but the literal tables is imported."""
    own = f"purebench {_own_version()}"
    table: Mapping[str, str] = importlib.import_module(TABLES[kind]).TABLE
    found = {name: RegistryEntry(kind, name, target, own) for name, target in table.items()}
    for point in metadata.entry_points(group=f"purebench.{kind}s"):
        distribution = point.dist.metadata["Name"] if point.dist else "unknown"
        version = point.dist.version if point.dist else "?"
        name = f"{distribution}/{point.name}"
        found[name] = RegistryEntry(kind, name, point.value, f"{distribution} {version}")
    return found


def find(kind: str, name: str) -> RegistryEntry:
    """Return the entry of a name.

    Raises:
        UserError: if the name is unknown; the sentence names the nearest right one.
    """
    known = entries(kind)
    if name not in known:
        raise UserError(f"expected a registered {kind}, got {name!r}; {nearest(name, known)}")
    return known[name]
