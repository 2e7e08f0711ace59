"""Entry: what one cell says, as every table shows it; read from the frames."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from harness.core.cell import Labels
from harness.core.minimum import Effort
from harness.core.result import REPAIRED, REPLACED, UNREPLACED
from harness.core.roles import Role, role_of
from harness.core.table import Cell, Note, Share, State
from harness.core.threat import unbounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from harness.store.read.frames import Results
    from harness.store.read.provenance import CellFacts, Provenance
    from harness.store.read.summaries import Numbers


#: a share of correct examples
Accuracy = Share


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


#: what a suite calls the parts of a cell
_NAMES = tuple(one.name for one in fields(Labels))

#: the names of the prices, in their order
PRICES = tuple(one.name for one in fields(Price))


@dataclass(frozen=True)
class Entry:
    """A cell of a suite with its numbers, or with the reason why it has none.

    Attributes:
        anchor: the fragment of its row on the page; unique there.
        id: the first twelve digits of the cell's digest; None where the cell was refused.
        labels: what the suite calls its parts.
        undefended: whether the defense does nothing.
        oracle: whether the defense is shown the clean image, which makes it an analysis.
        own_classifier: whether the defense brings a classifier in place of the board's.
        fixed: whether the attacker knows the defense's random numbers, which are always the same.
        pixels: the values of an image; None where that was not recorded.
        random: whether the defense draws random numbers in this cell; None where the cell was refused.
        elsewhere: the suite that has the cell, where the one that is shown has not.
        facts: what else is known of the cell; None where it was refused.
        notes: what was seen of the attack as it was made, and what it claimed: mean and number by name; None if nobody
            looked.
        status: ``done``, ``partial``, ``missing`` or ``skipped``.
        reason: why it was skipped, or why its last attempt failed.
        n: examples seen, of ``wanted``.
        repeats: fresh evaluations seen, of ``wanted_repeats``.
        faults: outcomes that broke a rule: out of budget, out of range, not finite.
        accuracy: under the suite's decision rule.
        measures: means of the metrics, by name.
        defense_cost: cost of purifying and classifying.
        attack_cost: cost of crafting.
        broken: by what was wrong with outcomes: the number of repeats that it befell, per place.
    """

    anchor: str
    id: str | None
    suite: str
    labels: Labels
    undefended: bool
    oracle: bool
    own_classifier: bool
    norm: str | None
    eps: float | None
    knowledge: str | None
    fixed: bool
    pixels: int | None
    random: bool | None
    elsewhere: str | None
    facts: CellFacts | None
    notes: Mapping[str, tuple[float, float]] | None
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
    broken: Mapping[str, Numbers] = field(default_factory=dict, compare=False, repr=False)

    @property
    def dataset(self) -> str:
        """The suite's name for it."""
        return self.labels.dataset

    @property
    def classifier(self) -> str:
        """The suite's name for it."""
        return self.labels.classifier

    @property
    def defense(self) -> str:
        """The suite's name for it."""
        return self.labels.defense

    @property
    def attack(self) -> str:
        """What stands in the attack's place as people read it."""
        return self.labels.attack_title

    @property
    def threat_model(self) -> str:
        """The suite's name for it; ``-`` where there is no attack."""
        return self.labels.threat_model

    @property
    def computed_in(self) -> str:
        """The database that it was computed in, where that is another; empty otherwise."""
        return self.facts.origin if self.facts else ""

    @property
    def foreign(self) -> bool:
        """Whether it was computed elsewhere, and no share of it again here."""
        return bool(self.facts and self.facts.origin and not self.facts.adopted)

    @property
    def clean(self) -> bool:
        """Whether the cell was measured on clean input."""
        return self.labels.clean

    @property
    def certified(self) -> bool:
        """Whether a certificate says what is right, in place of an attack."""
        return bool(self.labels.certificate)

    @property
    def done(self) -> bool:
        """Whether everything that the suite asks for was measured."""
        return self.status == "done"

    @property
    def unfinished(self) -> bool:
        """Whether it can be measured and has not been, or not wholly."""
        return self.status in ("partial", "missing")

    @property
    def transferred(self) -> bool:
        """Whether its examples were crafted on another defense or classifier."""
        return bool(self.labels.source_defense)

    @property
    def unbounded(self) -> bool:
        """Whether the budget allows to paint every image the same grey, so that nothing should be left."""
        return unbounded(self.norm, self.eps, self.pixels)

    @property
    def check(self) -> bool:
        """Whether it tells how an attack or a defense works, and is no part of any worst case."""
        return self.fixed or self.unbounded

    @property
    def adaptive(self) -> bool:
        """Whether the attacker took the defense into account."""
        return self.knowledge is not None and self.knowledge != "oblivious" and not self.transferred

    @property
    def claimed(self) -> float | None:
        """The accuracy that the attack claimed to have left, in [0, 1]; None where it claimed none."""
        pair = (self.notes or {}).get("claimed_robust")
        return None if pair is None else pair[0]

    @property
    def effort(self) -> Effort:
        """What the attack spends on an image, by its own account."""
        return Effort.recorded(
            self.facts.traits if self.facts else None, (self.spec.get("attack") or {}).get("params", {})
        )

    @property
    def whole(self) -> bool:
        """Whether it has met every example that the suite asks for, in however many repeats."""
        return self.done or (self.accuracy is not None and self.n >= self.wanted)

    @property
    def lost(self) -> float:
        """The share of outcomes in which the defended classifier chose no class, since something was not finite."""
        return self._befell(UNREPLACED)

    @property
    def repaired(self) -> float:
        """The share of outcomes whose proposal broke range or budget, and was brought back."""
        return self._befell(REPAIRED)

    @property
    def absent(self) -> float:
        """The share of examples that the attack says it has nothing for, as a file without them."""
        return (self.notes or {}).get("absent", (0.0, 0.0))[0]

    @property
    def replaced(self) -> float:
        """The share of examples whose clean image was judged, since nothing finite was proposed or nothing at all."""
        return min(self._befell(REPLACED) + self.absent, 1.0)

    def _befell(self, faults: Iterable[str]) -> float:
        found = sum(int(self.broken[fault].sum()) for fault in faults if fault in self.broken)
        return found / (self.n * self.repeats) if found else 0.0

    @property
    def spec(self) -> Mapping[str, Any]:
        """What the cell's digest is made of; empty where it was refused."""
        return self.facts.spec if self.facts else {}

    @property
    def title(self) -> str:
        """Name what is judged: clean input, or the attack and its threat model, and whose they are."""
        if self.clean:
            return "clean"
        return f"{self.attack} {self.threat_model}" + (f" of {self.origin}" if self.elsewhere else "")

    @property
    def origin(self) -> str:
        """Name the suite that has the cell."""
        earlier = f"an earlier {self.suite}"
        return earlier if self.elsewhere == self.suite else self.elsewhere or self.suite

    @property
    def state(self) -> str:
        """The status in a word that people read, with what a partial cell has: of examples, or else of repeats."""
        if self.status == "partial" and self.n < self.wanted:
            return f"partial, {self.n} of {self.wanted}"
        if self.status == "partial" and self.repeats < self.wanted_repeats:
            return f"partial, {self.repeats} of {self.wanted_repeats} repeats"
        if self.status == "partial":
            return "partial, repeats missing"
        return {"skipped": "refused"}.get(self.status, self.status)

    @property
    def full_name(self) -> str:
        """Name the defense and what it met."""
        threat_model = "" if self.threat_model == "-" else f" {self.threat_model}"
        return f"{self.defense}, {self.attack}{threat_model}"

    @property
    def outcome(self) -> str:
        """The state, and why it is in that."""
        return f"{self.state}: {self.reason}" if self.reason else self.state

    @property
    def figure(self) -> Cell:
        """Its accuracy as tables have it, or its state."""
        if self.accuracy is None:
            return Cell(State(self.state, self.unfinished, self.reason or ""), self.anchor)
        return Cell(self.accuracy, self.anchor, () if self.done else (Note(self.state, warn=True),))

    @property
    def row(self) -> tuple[str, ...]:
        """What the entry's row stands for: dataset, classifier, defense."""
        return (self.dataset, self.classifier, self.defense)

    @property
    def key(self) -> tuple[str, ...]:
        """The suite's names for the cell's parts, which are unique there; of another suite's cell its id as well."""
        names = (self.suite, *self.row, self.attack, self.threat_model)
        return (*names, self.elsewhere, self.id or "") if self.elsewhere else names


def entries_of(frames: Results, origin: Provenance) -> list[Entry]:
    """Return an entry per row, of the suites and then of what is related to them."""
    seen: dict[str, int] = {}
    found = []
    records = [*_records(frames.cells), *(_records(frames.related) if len(frames.related) else [])]
    undefended = {(record["suite"], record["defense"]) for record in records if record["defense_use"] == "none"}
    traits = {record["id"]: facts.traits or {} for record in records if (facts := origin.cells.get(record["id"]))}
    oracles = {
        (record["suite"], record["defense"])
        for record in records
        if role_of(record["defense_use"], traits.get(record["id"])) is Role.ORACLE
    }
    pixels = {(record["suite"], record["dataset"]): traits.get(record["id"], {}).get("pixels") for record in records}
    for position, record in enumerate(records):
        cell = record["id"]
        name = cell or f"refused-{position + 1}"
        seen[name] = seen.get(name, 0) + 1
        anchor = f"c-{name}" if seen[name] == 1 else f"c-{name}-{seen[name]}"
        facts = origin.cells.get(cell) if cell else None
        row = (record["suite"], record["defense"])
        own = bool(facts and facts.spec["defense"]["params"].get("own_classifier"))
        oracle = traits.get(cell, {}).get("oracle", row in oracles)
        flags = {"undefended": row in undefended, "oracle": oracle, "own_classifier": own}
        names = ("suite", "dataset", "classifier", "defense", "attack", "threat_model")
        key = tuple(record[name] for name in (*names, *(("elsewhere", "id") if record.get("elsewhere") else ())))
        size = pixels[record["suite"], record["dataset"]]
        notes, broken = frames.notes.get(key), frames.broken.get(key)
        measures = {column.name: record[column.name] for column in frames.columns}
        found.append(
            entry_of(record, anchor, facts, pixels=size, measures=measures, notes=notes, broken=broken, **flags)
        )
    return found


def _records(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows with None for what pandas writes as not-a-number."""
    columns = [column.astype(object).where(column.notna(), None).tolist() for _, column in cells.items()]
    names = [str(name) for name in cells]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def entry_of(
    record: Mapping[str, Any],
    anchor: str,
    facts: CellFacts | None,
    *,
    undefended: bool,
    oracle: bool,
    own_classifier: bool,
    pixels: int | None = None,
    measures: Mapping[str, float | None] | None = None,
    notes: Mapping[str, tuple[float, float]] | None = None,
    broken: Mapping[str, Numbers] | None = None,
) -> Entry:
    """Read one row of the frame of cells, with None where it has nothing.

    Args:
        record: the row.
        anchor: see ``Entry``.
        facts: see ``Entry``.
        undefended: see ``Entry``.
        oracle: see ``Entry``.
        own_classifier: see ``Entry``.
        pixels: see ``Entry``.
        measures: see ``Entry``.
        notes: see ``Entry``.
        broken: see ``Entry``.
    """

    def price(side: str) -> Price:
        return Price(*(record[f"{side}_{name}"] for name in PRICES))

    accuracy = None
    if record["accuracy"] is not None:
        accuracy = Accuracy(record["accuracy"], record["low"], record["high"], record["n"])
    status = record["status"]
    return Entry(
        anchor=anchor,
        id=record["id"],
        suite=record["suite"],
        labels=Labels(**{**{name: record[name] or "" for name in _NAMES}, "attack": record["attack_name"]}),
        undefended=undefended,
        oracle=oracle,
        own_classifier=own_classifier,
        norm=record["norm"],
        eps=record["eps"],
        knowledge=record["knowledge"],
        fixed=record["fixed"],
        pixels=pixels,
        random=None if record["random"] is None else bool(record["random"]),
        elsewhere=record.get("elsewhere"),
        facts=facts,
        notes=notes,
        status=status,
        reason=record["reason"] or (facts.failure if facts and status in ("partial", "missing") else None),
        n=record["n"],
        wanted=record["wanted_examples"],
        repeats=record["n_repeats"],
        wanted_repeats=record["wanted_repeats"] if record["random"] else 1,
        faults=record["faults"],
        decision=record["decision"],
        accuracy=accuracy,
        measures=measures or {},
        defense_cost=price("defense"),
        attack_cost=price("attack"),
        broken=broken or {},
    )
