"""Shortfall: what a row has not met of its suite's minimum, and the lines that add it to the suite."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.core.errors import UserError
from harness.core.minimum import Met
from harness.core.threat import Norm
from harness.suite.document import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.core.minimum import Effort, Lack, Minimum
    from harness.suite.reread import Reread
    from reports.cell import Entry
    from reports.flags.evidence import Evidence
    from reports.model.row import Row


def lacks_of(evidence: Evidence, promised: Iterable[Entry], minimum: Minimum, norm: str) -> tuple[Lack, ...]:
    """Return what a row has not met.

    Args:
        evidence: its finished attacks, of whatever suite. One that met some of the examples alone does not count, nor
            one that had nothing to propose for half of them.
        promised: the suite's own attacks on it that are not finished: they will have been met.
        minimum: what is asked.
        norm: of the board.
    """
    under_way = [entry for entry in promised if entry.unfinished]
    met = [
        _met(entry, blind=evidence.blind(entry)) for entry in evidence.attacks if entry.whole and entry.replaced < 0.5
    ]
    met += [_met(entry) for entry in under_way]
    told = (entry.facts.traits for entry in under_way if entry.facts and entry.facts.traits)
    traits = evidence.traits or next(told, None)
    follows = None if traits is None else traits.get("knowledge", ())
    return minimum.lacks(norm, random=evidence.random is not False, follows=follows, attacks=met)


def _met(entry: Entry, *, blind: bool = False) -> Met:
    """Return an attack as it was met: what no gradient came by followed none, whatever it says."""
    effort = replace(entry.effort, steps=0) if blind else entry.effort
    return Met(entry.title, str(entry.knowledge), effort)


# ---------------------------------------------------------------------- the lines


@dataclass(frozen=True)
class Additions:
    """Lines to add to a suite, each under the key of its name."""

    attacks: tuple[str, ...] = ()
    threat_models: tuple[str, ...] = ()
    matrix: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The lines as they stand in the file; empty where there are none."""
        listed = {name: lines for name, lines in vars(self).items() if lines}
        return "\n".join(
            line for name, lines in listed.items() for line in (f"{name}:", *(f"  - {one}" for one in lines))
        )


class Own(NamedTuple):
    """What a suite has of its own that a line may name.

    Attributes:
        attacks: a cell of each, by norm and name.
        threats: names of threat models, by norm, eps and knowledge.
    """

    attacks: Mapping[tuple[str | None, str], Entry]
    threats: Mapping[tuple[str | None, float | None], Mapping[str, str]]

    @classmethod
    def of(cls, cells: Sequence[Entry]) -> Own:
        """Take the first of each from all cells of a suite."""
        attacks: dict[tuple[str | None, str], Entry] = {}
        threats: dict[tuple[str | None, float | None], dict[str, str]] = {}
        for entry in cells:
            if not entry.transferred:
                attacks.setdefault((entry.norm, entry.attack), entry)
            if not entry.fixed:
                there = threats.setdefault((entry.norm, entry.eps), {})
                there.setdefault(str(entry.knowledge), entry.threat_model)
        return cls(attacks, threats)


@dataclass
class _Draft:
    """Lines under way.

    Attributes:
        asked: what stands in the suite.
        own: what it has.
        norm: of the board.
        eps: likewise.
    """

    asked: Reread
    own: Own
    norm: str
    eps: float
    attacks: dict[str, str] = field(default_factory=dict)
    threats: dict[str, str] = field(default_factory=dict)

    def threat(self, knowledge: Sequence[str]) -> str:
        """Return the name of a threat model of the board with some knowledge, the best first; a new one if need be."""
        there = self.own.threats.get((self.norm, self.eps), {})
        known = next((there[one] for one in knowledge if one in there), None)
        if known is not None:
            return known
        wanted = knowledge[0]
        name = next(
            (name.replace(known, wanted) for known, name in there.items() if name.count(known) == 1),
            f"{self.norm.lower()}-{self.eps:g}-{wanted}",
        )
        line = f"use: {self.norm}, params: {{eps: {_number(self.eps)}, knowledge: {wanted}}}"
        return self._new(self.threats, "threat_models", name, line)

    def attack(self, lack: Lack) -> str:
        """Return the name of an attack that fills a lack: the cheapest of the suite's own, or a new one."""
        use, params = _proposed(lack, self.norm)
        there = [
            entry
            for (norm, _), entry in self.own.attacks.items()
            if norm == self.norm and (entry.spec.get("attack") or {}).get("use") == use
        ]
        enough = [entry for entry in there if _suffices(entry.effort, lack.effort)]
        if enough:
            return min(enough, key=lambda entry: _cost(entry.effort)).attack
        sizes = "-".join(str(value) if name != "eot" else f"eot-{value}" for name, value in params.items())
        told = ", ".join(f"{name}: {value}" for name, value in params.items())
        line = f"use: {use}" + (f", params: {{{told}}}" if told else "")
        return self._new(self.attacks, "attacks", "-".join(filter(None, (use, sizes))), line)

    def _new(self, lines: dict[str, str], axis: str, name: str, rest: str) -> str:
        """Add an entry under a name that is free, unless the same was added before; return its name."""
        for known, line in lines.items():
            if line == rest:
                return known
        taken = {*self.asked.names.get("attacks", ()), *self.asked.names.get("certificates", ())}
        taken = taken if axis == "attacks" else {*self.asked.names.get(axis, ())}
        free, number = name, 2
        while free in taken | lines.keys():
            free, number = f"{name}-{number}", number + 1
        lines[free] = rest
        return free


def additions(rows: Iterable[Row], own: Own, asked: Reread, board: tuple[str, str, str, float]) -> Additions:
    """Return what to add to a suite so that its rows meet the minimum; rows that lack the same share a line.

    Args:
        rows: of one board.
        own: what the suite has.
        asked: what stands in the suite.
        board: dataset, classifier, norm and eps.
    """
    dataset, classifier, norm, eps = board
    draft = _Draft(asked, own, norm, eps)
    blocks: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for lack in row.lacks:
            if lack.knowledge:
                names = blocks.setdefault((draft.attack(lack), draft.threat(_allowed(lack, row))), [])
                names.append(row.defense)
    where = [("datasets", dataset)] if len(asked.names.get("datasets", ())) > 1 else []
    where += [("classifiers", classifier)] if len(asked.names.get("classifiers", ())) > 1 else []
    matrix = [
        _flow(
            [
                *((axis, [name]) for axis, name in where),
                ("defenses", names),
                ("attacks", [attack]),
                ("threat_models", [threat]),
            ]
        )
        for (attack, threat), names in blocks.items()
    ]
    if matrix and not asked.crosses:  # all was crossed with all, and is to stay so without the new ones
        before = [(axis, list(asked.names[axis])) for axis in ("attacks", "threat_models", "certificates")]
        matrix.insert(0, _flow((axis, names) for axis, names in before if names))
    return Additions(tuple(_entries(draft.attacks)), tuple(_entries(draft.threats)), tuple(matrix))


def _allowed(lack: Lack, row: Row) -> Sequence[str]:
    """Return what an attack may know of a row's defense: that it exists, and what can be followed through it."""
    if lack.kind == "gradient":
        return lack.knowledge
    follows = (row.evidence.traits or {}).get("knowledge", ())
    return [one for one in lack.knowledge if one == "bpda" or one in follows]


def _proposed(lack: Lack, norm: str) -> tuple[str, Mapping[str, int]]:
    """Return the attack that would fill a lack, and its options."""
    if lack.kind == "any":
        return "corruption", {}
    if lack.kind == "search":
        return "square", {"n_queries": lack.effort.queries}
    use = "stadv" if norm == Norm.FLOW else "pgd"
    return use, {"steps": lack.effort.steps, "eot": lack.effort.eot}


def _suffices(has: Effort, asked: Effort) -> bool:
    return has.steps >= asked.steps and has.eot >= asked.eot and has.queries >= asked.queries


def _cost(effort: Effort) -> int:
    return effort.steps * effort.eot + effort.queries


def _entries(lines: Mapping[str, str]) -> Iterator[str]:
    for name, rest in lines.items():
        yield f"{{name: {_word(name)}, {rest}}}"


def _flow(pairs: Iterable[tuple[str, Sequence[str]]]) -> str:
    told = ", ".join(f"{axis}: [{', '.join(map(_word, names))}]" for axis, names in pairs)
    return f"{{{told}}}"


@cache
def _word(name: str) -> str:
    """Write a name so that it is read as the same text."""
    try:
        plain = parse(f"[{name}]", name).data == [name]
    except UserError:
        plain = False
    return name if plain else json.dumps(name, ensure_ascii=not name.isprintable())  # which YAML reads too


def _number(eps: float) -> str:
    """Write a radius so that it is read as the same number."""
    whole = round(eps * 255)
    told: Any = int(eps) if eps == int(eps) else eps
    return f"{whole}/255" if whole and whole / 255 == eps and len(repr(told)) > 6 else repr(told)
