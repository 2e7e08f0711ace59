"""Entry: what one cell says, as every table shows it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from harness.core.result import MEASURES

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Accuracy:
    """A share of correct examples with its 95 % Wilson interval, all in [0, 1], over ``n`` examples."""

    share: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Price:
    """What an image costs, and the most memory that a batch of them needed; None where it was not measured.

    Attributes:
        peak_memory: in bytes, of ``batch_size`` images at a time.
    """

    seconds: float | None
    forwards: float | None
    backwards: float | None
    evaluations: float | None
    peak_memory: float | None
    batch_size: float | None


@dataclass(frozen=True)
class Entry:
    """A cell of a suite with its numbers, or with the reason why it has none.

    Attributes:
        anchor: the fragment of its row on the page; unique there.
        id: the first twelve digits of the cell's digest; None where the cell was refused.
        undefended: whether the defense does nothing.
        oracle: whether the defense is shown the clean image, which makes it an analysis.
        own_classifier: whether the defense brings a classifier in place of the board's.
        status: ``done``, ``partial``, ``missing`` or ``skipped``.
        reason: why it was skipped, or why its last attempt failed.
        n: examples seen, of ``wanted``.
        repeats: fresh evaluations seen, of ``wanted_repeats``.
        faults: outcomes that broke a rule: out of budget, out of range, not finite.
        accuracy: under the suite's decision rule.
        measures: means of the metrics, by name.
        defense_cost: cost of purifying and classifying.
        attack_cost: cost of crafting.
    """

    anchor: str
    id: str | None
    suite: str
    dataset: str
    classifier: str
    defense: str
    attack: str
    threat_model: str
    undefended: bool
    oracle: bool
    own_classifier: bool
    norm: str | None
    eps: float | None
    knowledge: str | None
    status: str
    reason: str | None
    n: int
    wanted: int
    repeats: int
    wanted_repeats: int
    faults: int
    decision: str
    accuracy: Accuracy | None
    measures: Mapping[str, float | None]
    defense_cost: Price
    attack_cost: Price

    @property
    def clean(self) -> bool:
        """Whether the cell was measured on clean input."""
        return self.attack == "clean"

    @property
    def certified(self) -> bool:
        """Whether a certificate says what is right, in place of an attack."""
        return not self.clean and self.threat_model == "-"

    @property
    def done(self) -> bool:
        """Whether everything that the suite asks for was measured."""
        return self.status == "done"

    @property
    def unfinished(self) -> bool:
        """Whether it can be measured and has not been, or not wholly."""
        return self.status in ("partial", "missing")

    @property
    def adaptive(self) -> bool:
        """Whether the attacker took the defense into account."""
        return self.knowledge is not None and self.knowledge != "oblivious"

    @property
    def state(self) -> str:
        """The status in a word that people read, with how far a partial cell has come."""
        if self.status == "partial":
            return f"partial, {self.n} of {self.wanted}"
        return {"skipped": "refused"}.get(self.status, self.status)

    @property
    def row(self) -> tuple[str, ...]:
        """What the entry's row stands for: dataset, classifier, defense."""
        return (self.dataset, self.classifier, self.defense)

    @property
    def key(self) -> tuple[str, ...]:
        """The suite's names for the cell's parts, which are unique in a suite."""
        return (self.suite, *self.row, self.attack, self.threat_model)


def entry_of(
    record: Mapping[str, Any],
    anchor: str,
    failure: str | None,
    *,
    undefended: bool,
    oracle: bool,
    own_classifier: bool,
) -> Entry:
    """Read one row of the frame of cells, with None where it has nothing.

    Args:
        record: the row.
        anchor: see ``Entry``.
        failure: why the cell's last attempt failed, if it did.
        undefended: see ``Entry``.
        oracle: see ``Entry``.
        own_classifier: see ``Entry``.
    """

    def price(side: str) -> Price:
        return Price(**{one.name: record[f"{side}_{one.name}"] for one in fields(Price)})

    accuracy = None
    if record["accuracy"] is not None:
        accuracy = Accuracy(record["accuracy"], record["low"], record["high"], record["n"])
    status = record["status"]
    return Entry(
        anchor=anchor,
        id=record["id"],
        suite=record["suite"],
        dataset=record["dataset"],
        classifier=record["classifier"],
        defense=record["defense"],
        attack=record["attack"],
        threat_model=record["threat_model"],
        undefended=undefended,
        oracle=oracle,
        own_classifier=own_classifier,
        norm=record["norm"],
        eps=record["eps"],
        knowledge=record["knowledge"],
        status=status,
        reason=record["reason"] or (failure if status in ("partial", "missing") else None),
        n=record["n"],
        wanted=record["wanted_examples"],
        repeats=record["n_repeats"],
        wanted_repeats=record["wanted_repeats"] if record["random"] else 1,
        faults=record["faults"],
        decision=record["decision"],
        accuracy=accuracy,
        measures={name: record[name] for name in MEASURES},
        defense_cost=price("defense"),
        attack_cost=price("attack"),
    )
