"""Contents: which cells meet on a board, and what each is there: a column, a transfer, a check, or another suite's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.core.spec import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from reports.cell import Entry

#: what a cell can be on a board; see ``Content``
KINDS = ("clean", "attacked", "transferred", "checks", "elsewhere", "stale")


@dataclass
class Content:
    """What stands on one board.

    Attributes:
        clean: cells on clean input.
        attacked: direct attacks within the budget, which have a column each.
        transferred: cells within the budget whose examples were crafted on something else.
        checks: cells that count for no worst case, with those of other suites.
        elsewhere: attacks within the budget that other suites have.
        stale: likewise, but measured with other weights than the suite's own cells, or by somebody else alone, so that
            they count for nothing.
    """

    dataset: str
    classifier: str
    norm: str | None
    eps: float | None
    clean: list[Entry] = field(default_factory=list)
    attacked: list[Entry] = field(default_factory=list)
    transferred: list[Entry] = field(default_factory=list)
    checks: list[Entry] = field(default_factory=list)
    elsewhere: list[Entry] = field(default_factory=list)
    stale: list[Entry] = field(default_factory=list)

    def rows(self) -> dict[str, Content]:
        """Return what stands in each row, by defense: whatever the suite has a cell of, in its order."""
        listed = (*self.clean, *self.attacked, *self.transferred, *self.checks)
        names = dict.fromkeys(entry.defense for entry in listed if not entry.elsewhere)
        found = {name: Content(self.dataset, self.classifier, self.norm, self.eps) for name in names}
        for kind in KINDS:
            for entry in getattr(self, kind):
                if entry.defense in found:
                    getattr(found[entry.defense], kind).append(entry)
        return found


def _key(entry: Entry) -> tuple[str, str, str | None, float | None]:
    return (entry.dataset, entry.classifier, entry.norm, entry.eps)


def contents(entries: Sequence[Entry], related: Sequence[Entry]) -> list[Content]:
    """Return the boards of a suite in order of appearance: one per dataset, classifier and budget.

    A check has no board of its own. One of fixed randomness stands on the board of its budget; where there is none, as
    without a bound, it stands on all boards of its dataset and classifier. What is not attacked otherwise has a board
    of clean input only. Certificates and cells of an unknown budget stand nowhere.
    """
    listed = [entry for entry in entries if not entry.certified and (entry.clean or entry.norm is not None)]
    found: dict[tuple[str, str, str | None, float | None], Content] = {}
    for entry in listed:
        key = _key(entry)
        if not entry.clean and not entry.check:
            content = found.setdefault(key, Content(*key))
            (content.transferred if entry.transferred else content.attacked).append(entry)
    attacked = {key[:2] for key in found}
    rest = [entry for entry in listed if entry.clean or entry.check]
    for entry in rest:
        key = (entry.dataset, entry.classifier, None, None)
        if key[:2] not in attacked:
            found.setdefault(key, Content(*key))
    for entry in rest:
        for content in _where(entry, found):
            (content.clean if entry.clean else content.checks).append(entry)
    weights = _weights(entries) if related else {}
    for entry in related:
        counts = _agree(entry, weights.get(entry.row, {})) and not entry.foreign
        kind = ("checks" if entry.check else "elsewhere") if counts else "stale"
        for content in _where(entry, found):
            getattr(content, kind).append(entry)
    return list(found.values())


def _where(entry: Entry, found: Mapping[tuple[str, str, str | None, float | None], Content]) -> list[Content]:
    """Return the boards that a cell stands on: that of its budget; of clean input and of some checks more than one."""
    exact = found.get(_key(entry))
    if exact and not entry.clean and not entry.unbounded:
        return [exact]
    if not entry.clean and not entry.check:
        return []
    return [content for key, content in found.items() if key[:2] == (entry.dataset, entry.classifier)]


def _weights(entries: Iterable[Entry]) -> dict[tuple[str, ...], dict[str, str]]:
    """Return for each row what its own cells were measured with last: content hash by recipe digest."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    measured = [(entry.facts.ended, entry) for entry in entries if entry.facts and entry.facts.ended]
    for _, entry in sorted(measured, key=lambda pair: pair[0]):
        found.setdefault(entry.row, {}).update(_used(entry))
    return found


def _agree(entry: Entry, weights: Mapping[str, str]) -> bool:
    """Whether classifier and defense of a cell had the same weights."""
    mine = _used(entry)
    return all(mine[recipe] == weights[recipe] for recipe in _recipes(entry) if recipe in mine and recipe in weights)


def _used(entry: Entry) -> dict[str, str]:
    return {one.digest: one.sha256 for one in entry.facts.weights} if entry.facts else {}


def _recipes(entry: Entry) -> set[str]:
    """Return the digests of the recipes that a cell's classifier and defense stand on."""
    return {digest for role in ("classifier", "defense") for digest in _of_recipes(entry.spec.get(role) or {})}


def _of_recipes(spec: Mapping[str, Any]) -> Iterator[str]:
    for part in spec.get("parts", {}).values():
        if part["kind"] == "recipe":
            yield digest_of(part)
        else:
            yield from _of_recipes(part)
