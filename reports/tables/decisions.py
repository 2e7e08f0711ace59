"""Judging: a board's figures under every rule that makes one verdict of several repeats, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.core.table import Column, Table
from harness.store.read.frames import wilson
from harness.store.read.summaries import DECISIONS
from reports.cell import Accuracy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.store.read.summaries import Shares
    from reports.model.board import Board


#: a vote of all repeats, which needs the predictions and not only how many were right
PLURALITY = "plurality"

#: what one verdict can be made of several repeats by
RULES = (*DECISIONS, PLURALITY)


@dataclass(frozen=True)
class Judged:
    """A random defense under each rule: accuracy on clean input, and in the worst case.

    Attributes:
        repeats: how many fresh evaluations each example had, at most.
        clean: on clean input, by rule; under ``plurality`` the label has the most votes of all repeats.
        worst: in the worst case, by rule; under ``plurality`` the smallest of the votes on the attacks. None
            where votes were not counted.
        smallest: the smallest verdicts that were seen in the worst case, under each rule: lower bounds.
    """

    defense: str
    repeats: int
    clean: Mapping[str, Accuracy | None]
    worst: Mapping[str, Accuracy | None]
    smallest: Mapping[str, float]

    def title(self, decision: str) -> str:
        """Name a rule with the number of repeats, as in ``any of 10``."""
        return decision if decision == "mean" else f"{decision} of {self.repeats}"


def judged(board: Board) -> list[Judged]:
    """Return a line for each row with a worst case whose examples were judged more than once."""
    found = []
    for row in board.rows:
        evidence = row.evidence
        repeats = max((entry.repeats for entry in evidence.counted), default=0)
        if row.worst and evidence.clean and repeats > 1:
            clean: dict[str, Accuracy | None] = {
                rule: _accuracy(evidence.verdicts(evidence.clean, rule)) for rule in DECISIONS
            }
            worst = {rule: evidence.worst_case(rule) for rule in DECISIONS}
            figures: dict[str, Accuracy | None] = {rule: case.accuracy for rule, case in worst.items()}
            smallest = {rule: float(case.smallest.mean()) for rule, case in worst.items()}
            votes = [evidence.plurality.get(entry.key) for entry in (evidence.clean, *evidence.counted)]
            clean[PLURALITY] = None if votes[0] is None else _accuracy(votes[0])
            known = [one for one in votes if one is not None]
            figures[PLURALITY] = _accuracy(np.min(known, axis=0)) if len(known) == len(votes) else None
            found.append(Judged(row.defense, repeats, clean, figures, smallest))
    return found


def decision_table(lines: Sequence[Judged]) -> Table:
    """Return the table."""
    columns = [
        Column("defense", "defense", value=lambda line: line.defense),
        Column("repeats", "repeats", "count", value=lambda line: line.repeats),
    ]
    for side, title, rules in (
        ("clean", "clean", RULES),
        ("worst", "worst case", RULES),
        ("smallest", "smallest seen, lower bounds", DECISIONS),
    ):
        columns += [_under(side, title, rule) for rule in rules]
    return Table.of("How repeats are judged", columns, lines)


def _under(side: str, group: str, rule: str) -> Column:
    unit = "" if rule == "mean" else "of N"
    return Column(f"{side}_{rule}", rule, "percent", group, unit, value=lambda line: getattr(line, side)[rule])


def _accuracy(verdicts: Shares) -> Accuracy:
    n = len(verdicts)
    share, low, high = (float(bound) for bound in wilson(round(float(verdicts.sum()), 9), n))
    return Accuracy(share, low, high, n)
