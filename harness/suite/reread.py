"""Reread: what a report wants of a suite's text as it was recorded; read leniently, since it was checked once."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from harness.core.minimum import MINIMA, USUAL, Minimum
from harness.suite.document import parse
from harness.suite.expand import members
from harness.suite.schema import AXES

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Reread:
    """What stands in the text.

    Attributes:
        minimum: what a row has to have met to be ranked.
        names: the names on each axis, by its plural name; of several budgets one name each.
        crosses: whether the suite says how its axes are crossed; else everything is.
    """

    minimum: Minimum = MINIMA[USUAL]
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    crosses: bool = True


@functools.lru_cache(maxsize=64)
def reread(text: str) -> Reread:
    """Read a suite's text; what cannot be read says nothing.

    Raises:
        UserError: if the suite names a minimum that is not known here, so that nobody could say who meets it.
    """
    try:
        data = parse(text, "the recorded suite").data
    except UserError:
        return Reread()
    if not isinstance(data, dict):
        return Reread()
    evaluation = data.get("evaluation")
    name = evaluation.get("minimum", USUAL) if isinstance(evaluation, dict) else USUAL
    if name not in MINIMA:
        raise UserError(
            f"expected a minimum of {', '.join(MINIMA)} in the suite {data.get('name')} as it was recorded, got "
            f"{name!r}; report with the version of purebench that ran it"
        )
    return Reread(MINIMA[name], {axis: _names(data.get(axis)) for axis in AXES}, "matrix" in data)


def _names(listed: Any) -> tuple[str, ...]:
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    named = [entry for entry in entries if isinstance(entry.get("name"), str)]
    return tuple(member["name"] for entry in named for member in members(entry))
