"""Session: components that were registered in this process, each known by the hash that it was registered with.

They run in the process that has them: no worker and no other machine can be given them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError, nearest
from harness.core.registry import RegistryEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.core.spec import Spec

#: before the name of a component of this process, in suites and specs
SESSION = "session:"

_components: dict[tuple[str, str, str], Any] = {}
_latest: dict[tuple[str, str], str] = {}


@dataclass(frozen=True)
class SessionEntry(RegistryEntry):
    """A component of this process.

    Attributes:
        source: the hash that it was registered with.
    """

    source: str

    def _component(self) -> Any:
        return _components[self.kind, self.name.removeprefix(SESSION), self.source]

    def _remedy(self) -> str:
        return "mend it and register it again"


def is_session(use: str) -> bool:
    """Whether a suite or a spec names a component of a process."""
    return use.startswith(SESSION)


def lives_here(specs: Iterable[Spec]) -> bool:
    """Whether components of a process are among specs or their parts."""
    return any(is_session(spec.use) or lives_here(part for _, part in spec.parts) for spec in specs)


def register(kind: str, name: str, component: Any, source: str) -> str:
    """Keep a component, in place of an earlier one of its name; return what a suite writes under ``use``."""
    _components[kind, name, source] = component
    _latest[kind, name] = source
    return f"{SESSION}{name}"


def find(kind: str, use: str) -> SessionEntry:
    """Return the entry of what a suite names.

    Raises:
        UserError: if nothing of that name was registered.
    """
    name = use.removeprefix(SESSION)
    if (kind, name) not in _latest:
        known = [one for its, one in _latest if its == kind]
        raise UserError(f"expected a {kind} registered in this process, got {name!r}; {nearest(name, known)}")
    return _entry(kind, name, _latest[kind, name])


def entry_of(spec: Spec, source: str) -> SessionEntry:
    """Return the entry of a spec.

    Raises:
        UserError: if this process has none of that hash.
    """
    name = spec.use.removeprefix(SESSION)
    if (spec.kind, name, source) not in _components:
        raise UserError(
            f"expected the {spec.kind} {name} of hash {source[:12]} in this process, which has none; it lives in the "
            "Python session that registered it: put it in a file beside the suite, and name that, to run it elsewhere"
        )
    return _entry(spec.kind, name, source)


def _entry(kind: str, name: str, source: str) -> SessionEntry:
    return SessionEntry(kind, f"{SESSION}{name}", f"this process:{name}", "this process", source)
