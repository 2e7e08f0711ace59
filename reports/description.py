"""What a cell is and where it was measured, in lines that a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.core.cell import SPECIAL
from harness.core.spec import canonical_json, digest_of, short
from reports.numbers import moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.store.provenance import CellFacts, Provenance


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
    lines.append(("seeds", f"draws {spec['seed']}, subset {spec['subset_seed']}"))
    return lines


def measured(origin: Provenance) -> str:
    """Say when the oldest and the newest of the results were measured; empty without any."""
    started = [cell.started for cell in origin.cells.values() if cell.started]
    ended = [cell.ended for cell in origin.cells.values() if cell.ended]
    if not started or not ended:
        return ""
    first, last = moment(min(started)), moment(max(ended))
    return first if first == last else f"{first} to {last}"
