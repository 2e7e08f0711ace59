"""A family of threat models: one entry with a list of budgets, read as an entry for each of them.

``{name: linf, use: Linf, params: {eps: [2/255, 8/255], knowledge: bpda}}`` stands for ``linf-2/255`` and
``linf-8/255``, and a matrix that says ``linf`` means both. Families are spelled out where a suite is read; nothing
behind knows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.core.errors import Problem
    from harness.suite.document import Document, Path

#: family -> names of its members
Families = Mapping[str, Sequence[str]]


def members(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return an entry for each budget, named ``<name>-<eps as written>``; the entry alone where there is one budget.

    An entry whose budgets are no list with something in it is returned as it is, for the schema to judge.
    """
    params = entry.get("params")
    budgets = params.get("eps") if isinstance(params, dict) else None
    if not isinstance(params, dict) or not isinstance(budgets, list) or not budgets:
        return [dict(entry)]
    use = entry["name"] if entry.get("use") is None else entry["use"]
    return [
        {**entry, "name": f"{entry['name']}-{_written(eps)}", "use": use, "params": {**params, "eps": eps}}
        for eps in budgets
    ]


def is_family(entry: Mapping[str, Any]) -> bool:
    """Answer whether an entry stands for several, or for one of another name."""
    return members(entry) != [entry]


def spelled_out(block: Any, families: Families) -> Any:
    """Return a block of a matrix, as it is written, with its families replaced by their members, but for ties."""
    if not isinstance(block, dict):
        return block
    found = dict(block)
    if isinstance(found.get("threat_models"), list):
        found["threat_models"] = list(_names(found["threat_models"], families))
    if isinstance(found.get("exclude"), list):
        found["exclude"] = [_condition(one, families) for one in found["exclude"]]
    if isinstance(found.get("include"), list):
        found["include"] = [point for one in found["include"] for point in _points(one, families)]
    return found


def tied(blocks: Any, families: Families, document: Document) -> Iterator[Problem]:
    """Say which families are tied to other axes: a walk goes from one name to the next, and a family is several."""
    for index, block in enumerate(blocks if isinstance(blocks, list) else []):
        ties = block.get("tie") if isinstance(block, dict) else None
        for number, tie in enumerate(ties if isinstance(ties, list) else []):
            listed = tie.get("threat_models") if isinstance(tie, dict) else None
            for place, name in enumerate(listed if isinstance(listed, list) else []):
                if isinstance(name, str) and name in families:
                    path: Path = ("matrix", index, "tie", number, "threat_models", place)
                    sentence = f"expected a single threat model in a tie, got {name!r}, which stands for several"
                    yield document.problem(path, sentence, f"name one of {', '.join(families[name])}")


def _names(listed: Sequence[Any], families: Families) -> Iterator[Any]:
    for name in listed:
        yield from families.get(name, [name]) if isinstance(name, str) else [name]


def _condition(condition: Any, families: Families) -> Any:
    if not isinstance(condition, dict) or "threat_model" not in condition:
        return condition
    told = condition["threat_model"]
    return {**condition, "threat_model": list(_names(told if isinstance(told, list) else [told], families))}


def _points(point: Any, families: Families) -> list[Any]:
    told = point.get("threat_model") if isinstance(point, dict) else None
    if not isinstance(told, str) or told not in families:
        return [point]
    return [{**point, "threat_model": name} for name in families[told]]


def _written(eps: Any) -> str:
    return "".join(str(eps).split())
