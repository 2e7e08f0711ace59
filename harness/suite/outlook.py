"""Outlook: which rows of a suite its own attacks will leave unranked, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.core.minimum import MINIMA, Effort, Met
from harness.core.threat import unbounded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.declaration import Member
    from harness.core.minimum import Lack
    from harness.suite.suite import Suite


@dataclass(frozen=True)
class Below:
    """Rows of a board that will have been attacked less than the suite's minimum asks, and that lack the same."""

    dataset: str
    classifier: str
    norm: str
    eps: float
    defenses: tuple[str, ...]
    lacks: tuple[Lack, ...]

    def __str__(self) -> str:
        """Name the rows and say what they lack."""
        where = f"{self.dataset}/{self.classifier}, {self.norm} {self.eps:g}: {', '.join(self.defenses)}"
        return f"{where} lack{'s' * (len(self.defenses) == 1)} {'; '.join(lack.sentence for lack in self.lacks)}"


def outlook(suite: Suite) -> tuple[Below, ...]:
    """Return the rows that will not be ranked, in the suite's order, unless other suites attack them.

    A row is a defense that is attacked within a budget. Checks make none, nor do the classifier without a defense and
    what is shown the clean image, which are never ranked.
    """
    minimum = MINIMA[suite.evaluation.minimum]
    found: dict[tuple[Any, ...], list[str]] = {}
    for (dataset, classifier, defense, norm, eps), members in _rows(suite).items():
        traits: dict[str, Any] = dict(members[0].traits or {})
        lacks = minimum.lacks(
            norm,
            random=any(member.random for member in members),
            follows=traits.get("knowledge", ()),
            attacks=[met for member in members for met in _met(member)],
        )
        if lacks:
            found.setdefault((dataset, classifier, norm, eps, lacks), []).append(defense)
    return tuple(
        Below(dataset, classifier, norm, eps, tuple(defenses), lacks)
        for (dataset, classifier, norm, eps, lacks), defenses in found.items()
    )


def _rows(suite: Suite) -> dict[tuple[Any, ...], list[Member]]:
    rows: dict[tuple[Any, ...], list[Member]] = {}
    for member in suite.members:
        cell, traits = member.cell, member.traits or {}
        if cell is None or cell.threat is None or cell.threat.fixed:
            continue
        norm, eps = cell.threat.norm.value, cell.threat.eps
        never = cell.defense.use == "none" or traits.get("oracle", False)
        if not never and not unbounded(norm, eps, traits.get("pixels")):
            labels = member.labels
            rows.setdefault((labels.dataset, labels.classifier, labels.defense, norm, eps), []).append(member)
    return rows


def _met(member: Member) -> Iterator[Met]:
    """Yield the attack of a member, unless its examples were crafted on something else."""
    cell = member.cell
    if cell is not None and cell.threat is not None and cell.attack is not None and cell.source_defense is None:
        title = f"{member.labels.attack} {member.labels.threat_model}"
        yield Met(title, cell.threat.knowledge.value, Effort.recorded(member.traits, cell.attack.params))
