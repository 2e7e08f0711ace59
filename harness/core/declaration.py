"""Declaration: a suite as it is recorded, with its members in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.core.spec import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.core.cell import Cell, Labels
    from harness.core.local import Code
    from harness.core.metric import AskedMetric
    from harness.core.threat import ThreatModel


#: of a suite, what its digest covers besides its members
RULES = ("name", "title", "text", "decision", "n_examples", "repeats", "shard_size")


@dataclass(frozen=True)
class Member:
    """A cell's place in a suite; ``cell`` is None where it cannot be run, and ``reason`` says why.

    ``threat`` is told for such a place, so that a report knows on which board to say so. ``traits`` is what a report
    wants to know of the defense without building it; see ``CellRow``.
    """

    labels: Labels
    cell: Cell | None
    random: bool
    reason: str | None = None
    threat: ThreatModel | None = None
    traits: Mapping[str, Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Declaration:
    """A suite as the store keeps it: its text, the rules applied when reading, and its members in order.

    ``metrics`` is what is asked for of each cell that has no certificate. ``code`` is what its cells run of the user's
    own files; the specs of its members have the hashes.
    """

    name: str
    title: str
    text: str
    decision: str
    n_examples: int
    repeats: int
    shard_size: int
    members: tuple[Member, ...]
    metrics: tuple[AskedMetric, ...] = ()
    code: tuple[Code, ...] = ()

    @property
    def digest(self) -> str:
        """Names this version: the text and its rules, and the cells, which may change through recipes that it names."""
        rules = {name: getattr(self, name) for name in RULES}
        metrics = sorted(metric.spec.digest for metric in self.metrics)
        members = [(*one.labels.path, one.cell.digest if one.cell else one.reason) for one in self.members]
        return suite_digest({**rules, "metrics": metrics}, members)


def suite_digest(rules: Mapping[str, Any], members: Iterable[Sequence[str | None]]) -> str:
    """Return the digest of a suite: of its rules, and of each member the names and the cell, or why there is none."""
    return digest_of([dict(rules), [list(one) for one in members]])
