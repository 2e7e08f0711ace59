"""A family of threat models: one entry with a list of budgets, read as an entry for each of them.

``{name: linf, use: Linf, params: {eps: [2/255, 8/255], knowledge: bpda}}`` stands for ``linf-2/255`` and
``linf-8/255``, and a matrix that says ``linf`` means both. Families are spelled out where a suite is read; nothing
behind knows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.core.errors import Problem
    from harness.suite.document import Document, Path
    from harness.suite.schema import Condition, MatrixBlock, MatrixPoint

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


def spelled_out(block: MatrixBlock, families: Families) -> MatrixBlock:
    """Return a block of a matrix with its families replaced by their members, but for ties."""
    listed = None if block.threat_models is None else tuple(_names(block.threat_models, families))
    found = {
        "threat_models": listed,
        "exclude": tuple(_condition(one, families) for one in block.exclude),
        "include": tuple(point for one in block.include for point in _points(one, families)),
    }
    return block.model_copy(update=found) if families else block


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


def _names(listed: Iterable[str], families: Families) -> Iterator[str]:
    for name in listed:
        yield from families.get(name, [name])


def _condition(condition: Condition, families: Families) -> Condition:
    if condition.threat_model is None:
        return condition
    return condition.model_copy(update={"threat_model": tuple(_names(condition.threat_model, families))})


def _points(point: MatrixPoint, families: Families) -> Iterator[MatrixPoint]:
    for name in _names([point.threat_model], families):
        yield point.model_copy(update={"threat_model": name})


def _written(eps: Any) -> str:
    return "".join(str(eps).split())
