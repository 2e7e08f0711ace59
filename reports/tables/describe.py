"""What a cell is and where it was measured, in lines that a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.core.cell import SPECIAL
from harness.core.spec import canonical_json, digest_of, short
from reports.format import moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.store.read.provenance import CellFacts, Provenance, SuiteFacts


def component(spec: Mapping[str, Any]) -> str:
    """Write a component as ``name v1 (step_size=0.02, steps=10)``."""
    params = ", ".join(f"{name}={_plain(value)}" for name, value in sorted(spec["params"].items()))
    return f"{spec['use']} v{spec['version']}" + (f" ({params})" if params else "")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def _parts(spec: Mapping[str, Any], role: str) -> Iterator[tuple[str, str]]:
    """Yield a component and all it stands on; a recipe carries its digest, which names the checkpoint."""
    mark = f", digest {short(digest_of(dict(spec)))}" if spec["kind"] == "recipe" else ""
    yield role, component(spec) + mark
    for name, part in sorted(spec["parts"].items()):
        yield from _parts(part, f"{role} \N{RIGHTWARDS ARROW} {name}")


#: the title of what others have of a suite's cells
BESIDE = "What others measured of these cells"


def from_elsewhere(suite: SuiteFacts) -> str:
    """Say that a suite was run in another database."""
    return f"Run in {suite.origin}, not here: its rows do not rank until a share of each was computed again here."


def elsewhere(origin: Provenance) -> Iterator[str]:
    """Yield a line for each suite that was run in another database, and for each cell that others have as well."""
    for suite in origin.suites:
        if suite.origin:
            yield f"{suite.name}: {from_elsewhere(suite)}"
        for dispute in suite.disputes:
            yield f"{suite.name}: {dispute}"


def describe(cell: CellFacts) -> list[tuple[str, str]]:
    """Return what the cell's digest is made of, as pairs of a role and a line of text."""
    spec = cell.spec
    lines: list[tuple[str, str]] = []
    for role in ("dataset", "classifier", "defense", "attack", "probe", *SPECIAL):
        if spec.get(role):
            lines += _parts(spec[role], role.replace("_", " "))
    threat = spec.get("threat")
    if threat:
        told = [f"{threat['norm']}", f"eps {threat['eps']:.6g}", f"{threat['knowledge']}"]
        told += [f"smoothing {_plain(threat['smoothing'])}"] if "smoothing" in threat else []
        told += ["randomness fixed"] if threat.get("fixed") else []
        lines.append(("threat model", ", ".join(told)))
    if cell.origin:
        again = "a share of it computed again here" if cell.adopted else "not computed again here"
        lines.append(("computed in", f"{cell.origin}, {again}"))
    lines.append(("seeds", f"draws {spec['seed']}, subset {spec['subset_seed']}"))
    return lines


def measured(origin: Provenance) -> str:
    """Say when the oldest and the newest of the results were measured; empty without any of ours."""
    ours = [cell for cell in origin.cells.values() if not cell.origin]
    started = [cell.started for cell in ours if cell.started]
    ended = [cell.ended for cell in ours if cell.ended]
    if not started or not ended:
        return ""
    first, last = moment(min(started)), moment(max(ended))
    return first if first == last else f"{first} to {last}"
