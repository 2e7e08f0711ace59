"""Doubts: cells whose numbers were measured by what has been mended since, as far as a database shows it; reads only.

No row is damaged by that, so a database with such cells is sound. A cell in doubt is measured anew by running its suite
with the components of today, whose versions are others.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from harness.core.cell import Labels
from harness.core.code_hashes import CRAFTED, unlike
from harness.core.recipe import objective
from harness.core.rectangle import Rectangle
from harness.core.spec import Spec, short
from harness.store.tables import LABELS, CellRow, ComponentRow, MeasureRow, MemberRow, ResultRow, SuiteRow
from harness.store.write.aggregates import bits_of, numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection


@dataclass(frozen=True)
class MendedFault:
    """A fault of components before some version.

    Attributes:
        kind: of the component, as a part of a cell.
        below: the first version without the fault, by registered name.
        said: what was wrong, in a sentence.
        norms: only under budgets of these norms; under all if there are none.
        trained: whether networks that were trained against the component have it too.
    """

    kind: str
    below: Mapping[str, int]
    said: str
    norms: tuple[str, ...] = ()
    trained: bool = False


SMALL_GRADIENTS = "steps vanished where gradients were small: a confident classifier looked robust"
LOST_GRADIENTS = "gradients that are not finite turned the attack off for an image"
UNLIKE_CODE = "results of unlike code count together"

#: what was wrong, with which components, and since which version it is not
FAULTS = (
    MendedFault("attack", {"fgsm": 2, "pgd": 2, "joint": 2}, SMALL_GRADIENTS, ("L2", "L1"), trained=True),
    MendedFault("defense", {"gdmp": 2}, "the guide was a hundred times as strong as the authors'"),
    MendedFault("defense", {"soap": 2}, "it moves by signs and was not attacked through smooth ones"),
    MendedFault("defense", {"contrastive": 2}, "alone, without batch-mates, its guidance is several times as strong"),
)

#: attacks that a gradient which is not finite turned off, by the first version that goes on with its finite part
LOST = {
    "fgsm": 2,
    "pgd": 2,
    "joint": 2,
    "apgd": 2,
    "autoattack": 3,
    "fab": 2,
    "stadv": 2,
    "corruption": 2,
    "ddn": 2,
    "cw": 2,
    "deepfool": 2,
    "brendel-bethge": 2,
}

#: those of them that propose a clean image only where they had no gradient to go by; the others keep those that hold
OURS = ("fgsm", "pgd", "joint")


def doubts(connection: Connection) -> Iterator[str]:
    """Yield a sentence for every cell with results that one of the faults could have touched, fault by fault."""
    cells = _Cells(connection)
    for fault in FAULTS:
        yield from cells.told(fault.said, cells.with_fault(fault))
    yield from cells.told(LOST_GRADIENTS, cells.without_gradients())
    yield from cells.told(UNLIKE_CODE, cells.of_unlike_code())


class _Cells:
    """The cells with results, what they are made of, and what they are called."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.components = {row.digest: row for row in connection.execute(select(*ComponentRow.__table__.columns))}
        there = select(ResultRow.cell).distinct()
        query = select(*CellRow.__table__.columns).where(CellRow.digest.in_(there)).order_by(CellRow.digest)
        self.rows = {row.digest: row for row in connection.execute(query)}
        named = select(MemberRow.cell, SuiteRow.name, *LABELS).join(SuiteRow, SuiteRow.id == MemberRow.suite_id)
        self.names = {cell: f"{suite}: {Labels(*labels)}" for cell, suite, *labels in connection.execute(named)}

    def told(self, said: str, found: Mapping[str, str]) -> Iterator[str]:
        """Yield a sentence per cell, in the order of their names."""
        for digest in sorted(found, key=lambda one: (self.names.get(one, ""), one)):
            yield f"in doubt: cell {short(digest)} ({self.names.get(digest, 'of no suite')}): {said} ({found[digest]})"

    def with_fault(self, fault: MendedFault) -> dict[str, str]:
        """Return the cells that have a component with a fault, or a network trained against one, and which."""
        found = {}
        for digest, row in self.rows.items():
            component = self.components.get(getattr(row, fault.kind))
            norm = self._norm(row.threat)
            if component and component.version < fault.below.get(component.use, 0) and self._within(fault, norm):
                found[digest] = f"{component.use} {component.version}"
            elif fault.trained and (recipe := self._trained(row, fault)):
                found[digest] = f"its network is trained by {recipe}"
        return found

    def _norm(self, threat: str | None) -> str | None:
        component = self.components.get(threat) if threat else None
        return component.spec["norm"] if component is not None else None

    def _within(self, fault: MendedFault, norm: str | None) -> bool:
        return not fault.norms or norm in fault.norms

    def _trained(self, row: Any, fault: MendedFault) -> str | None:
        """Return what a network behind a cell was trained by, in a norm where steps vanished."""
        waiting = [self.components[part].spec for part in (row.classifier, row.defense) if part in self.components]
        while waiting:
            spec = waiting.pop()
            budget = spec["params"].get("threat_model") or {}
            attack = spec["parts"].get("attack", {"use": "", "version": 0})
            old = spec["kind"] == "recipe" and attack["version"] < fault.below.get(attack["use"], 0)
            if old and budget.get("use") in fault.norms:
                return f"{objective(Spec.from_dict(spec)).use} in {budget['use']}"
            waiting += spec["parts"].values()
        return None

    def without_gradients(self) -> dict[str, str]:
        """Return the cells whose attack lost values, or proposed clean images that counted as right.

        Attacks of others are asked for in every version: nobody here knows what they do with what is not finite.
        """
        found: dict[str, str] = {}
        uses = {
            digest: attack.use
            for digest, row in self.rows.items()
            if (attack := self.components.get(row.attack)) and attack.version < LOST.get(attack.use, attack.version + 1)
        }
        for cell, notes in self.connection.execute(select(ResultRow.cell, ResultRow.notes)):
            names = [name for name, (_, number) in (notes or {}).items() if name.endswith("_lost") and number]
            names = [name for name in names if not name.startswith("distance")]  # of images that an attack gave up
            if names and cell in uses:
                found[cell] = f"{names[0].removesuffix('_lost').replace('_', ' ')} was not finite"
        for cell, number in self._unmoved().items():
            if uses.get(cell) in OURS:
                found[cell] = f"{number} outcomes are of clean images"
        return found

    def _unmoved(self) -> Counter[str]:
        """Return how many images of each cell were judged as they are, and rightly so, where distances were taken."""
        edges = [getattr(ResultRow, name) for name in Rectangle._fields]
        query = select(ResultRow.id, ResultRow.cell, ResultRow.correct, MeasureRow.names, MeasureRow.numbers, *edges)
        query = query.join(ResultRow, ResultRow.id == MeasureRow.result)
        query = query.where(MeasureRow.names.contains("linf"), MeasureRow.shape == "").order_by(MeasureRow.attempt)
        unmoved: dict[int, tuple[str, int]] = {}  # by result, as they were taken last
        for result, cell, correct, told, packed, *its in self.connection.execute(query):
            names, rectangle = told.split(","), Rectangle(*its)
            if "linf" in names:
                numbers = numbers_of(packed, len(names), (), rectangle)[names.index("linf")]
                right = bits_of([correct], *numbers.shape)[0]
                unmoved[result] = cell, int(((numbers == 0) & (right == 1)).sum())
        counted: Counter[str] = Counter()
        for cell, number in unmoved.values():
            counted[cell] += number
        return +counted

    def of_unlike_code(self) -> dict[str, str]:
        """Return the cells of which results that count together were measured by different code, and whose."""
        found = {}
        query = select(ResultRow.cell, ResultRow.weights, ResultRow.code).order_by(ResultRow.cell, ResultRow.weights)
        for (cell, _), rows in groupby(self.connection.execute(query), lambda row: (row.cell, row.weights)):
            distinct: list[dict[str, str]] = []
            for row in rows:
                if row.code not in distinct:
                    distinct.append(row.code)
            roles = {role for one in distinct for role in unlike(distinct[0], one)}
            roles |= {role for one in distinct for role in one if role.startswith(CRAFTED) and role not in distinct[0]}
            roles |= {
                role
                for role in (
                    "attack",
                    "defense",
                    "certificate",
                )  # whole files, in databases before syntax was looked at
                if len({one[role] for one in distinct if role in one and ":" not in one[role]}) > 1
            }
            if roles:
                found[cell] = f"of its {' and '.join(sorted(roles))}"
        return found
