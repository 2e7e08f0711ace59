"""Spec: kind, registered name, version, parameters and parts, with the digest that is its identity."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no blanks, no NaN or infinity.

    Raises:
        ValueError: if a number is not finite.
        TypeError: if something is not a plain JSON value.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest_of(value: Any) -> str:
    """Return the sha256 (64 hex digits) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def short(digest: str) -> str:
    """Return the first twelve digits: what people see and what a report's anchors are made of."""
    return digest[:12]


def differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield what differs between two identities in plain JSON types, as ``attack.params.steps 10 -> 20``."""
    for key in sorted({*before, *now}):
        old, new, where = before.get(key), now.get(key), f"{path}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{where}.")
        elif old != new:
            plain = not isinstance(old, dict | list) and not isinstance(new, dict | list)
            yield f"{where} {old} -> {new}" if plain else where


@dataclass(frozen=True)
class Spec:
    """What to build: a registered component with its parameters and the components it stands on.

    Two specs are the same when everything that changes what they do is the same; the name that a suite
    gives to an entry (``label``) is a title and takes no part.

    Attributes:
        kind: one of the registry's, or ``recipe``.
        use: the registered name.
        version: the component's own version; raised whenever its numbers change.
        params_json: the parameters, defaults filled in, as canonical JSON.
        parts: what it stands on, by role: a defense's networks, a recipe's dataset.
        label: the name given in the suite.
    """

    kind: str
    use: str
    version: int
    params_json: str
    parts: tuple[tuple[str, Spec], ...] = ()
    label: str = field(default="", compare=False)

    @classmethod
    def of(
        cls,
        kind: str,
        use: str,
        version: int,
        params: Mapping[str, Any],
        parts: Mapping[str, Spec] | None = None,
        label: str = "",
    ) -> Spec:
        """Build a spec from plain parameters."""
        return cls(kind, use, version, canonical_json(dict(params)), tuple(sorted((parts or {}).items())), label)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Spec:
        """Build the spec whose ``as_dict`` this is; a label is not told, since it is no part of an identity."""
        parts = {role: cls.from_dict(part) for role, part in told["parts"].items()}
        return cls.of(told["kind"], told["use"], told["version"], told["params"], parts)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as a fresh dictionary."""
        params: dict[str, Any] = json.loads(self.params_json)
        return params

    def part(self, role: str) -> Spec:
        """Return the component that plays a role.

        Raises:
            KeyError: if no part has that role.
        """
        return dict(self.parts)[role]

    def stands_on(self) -> Iterator[Spec]:
        """Yield the recipes whose networks this needs at hand; not those that these were trained beside."""
        for _, part in self.parts:
            if part.kind == "recipe":
                yield part
            else:
                yield from part.stands_on()

    def as_dict(self) -> dict[str, Any]:
        """Return what the digest is made of, in plain JSON types."""
        return {
            "kind": self.kind,
            "use": self.use,
            "version": self.version,
            "params": self.params,
            "parts": {role: part.as_dict() for role, part in self.parts},
        }

    @cached_property
    def digest(self) -> str:
        """The identity: sha256 over kind, name, version, parameters and parts."""
        return digest_of(self.as_dict())
