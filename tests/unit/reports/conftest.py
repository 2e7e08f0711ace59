"""Databases made by hand, so that every figure of a report can be checked against a sum on paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from measured import measurements, metric, outcomes, row

from harness.core.cell import Cell, Labels, Shard
from harness.core.contracts import Traits
from harness.core.declaration import Declaration, Member
from harness.core.job import Evaluate
from harness.core.result import TOTALS, UNREPLACED, Artifact, Cost, Done
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.write.store import Store

THREATS = {
    "oblivious-0.2": ThreatModel(Norm.LINF, 0.2, Knowledge.OBLIVIOUS),
    "bpda-0.2": ThreatModel(Norm.LINF, 0.2, Knowledge.BPDA),
    "full-0.2": ThreatModel(Norm.LINF, 0.2, Knowledge.FULL),
    "oblivious-1": ThreatModel(Norm.L2, 1.0, Knowledge.OBLIVIOUS),
}

PROBE = Spec.of("recipe", "mae", 1, {"steps": 100, "label": "digits-mae"})

#: what the suites ask for; the last is not taken of any cell
METRICS = (metric("distances"), metric("reconstruction", PROBE), metric("amv", PROBE))

#: what an attack spends that meets the usual minimum all by itself, as AutoAttack does
ENOUGH = {"steps": 10, "eot": 4, "queries": 100}

#: what one image takes if a test does not say otherwise: of a defense, and of an attack whose memory nobody watched
USUAL = Cost(1, 0.5, 11, 10, 10, peak_memory=12_300_000, batch_size=4)
CRAFT = Cost(1, 2.0, 20, 20)


@dataclass
class Bench:
    """A suite under construction: its members in order, and what was measured of them."""

    path: Path
    members: list[Member] = field(default_factory=list)
    measured: list[tuple[Cell, list[str], Cost, Cost]] = field(default_factory=list)
    n_examples: int = 4
    repeats: int = 3
    decision: str = "mean"
    name: str = "toy"
    title: str = "A toy"
    text: str = "suite: toy\n"
    usual: Cost = USUAL

    def cell(
        self,
        defense: str,
        threat: str | None,
        *,
        dataset: str = "digits",
        use: str | None = None,
        params: dict[str, Any] | None = None,
        own_classifier: bool = False,
    ) -> Cell:
        classifier = Spec.of("recipe", "classifier", 1, {"width": 8})
        params = {"steps": 10, **(params or {}), **({"own_classifier": True} if own_classifier else {})}
        return Cell(
            dataset=Spec.of("dataset", "digits", 1, {}),
            classifier=Spec.of("classifier", "trained", 1, {}, {"net": classifier}),
            defense=Spec.of("defense", use or defense.split("<")[0], 1, params),
            attack=Spec.of("attack", "pgd", 1, {"steps": 20}) if threat else None,
            threat=THREATS[threat] if threat else None,
            seed=0,
            subset_seed=0,
            labels=Labels(dataset, "cnn", defense, *(("pgd", threat) if threat else ())),
        )

    def add(
        self, defense: str, threat: str | None, *correct: str, cost: Cost = USUAL, attack: Cost = CRAFT, **options: Any
    ) -> Cell:
        """Add a cell; ``correct`` holds a word per example with a digit per repeat, none if it was not run.

        ``cost`` is that of the defense, ``attack`` that of the attack if there is one, each for one image.
        """
        cell = self.cell(defense, threat, **options)
        random = cell.defense.use != "none"
        oracle = cell.defense.use == "amv-oracle"
        told = Traits(random=random, differentiable=False, optimises=self.usual.backwards > 0, oracle=oracle)
        traits = {**vars(told), "knowledge": [], "pixels": 64, **({"effort": ENOUGH} if threat else {})}
        self.members.append(Member(cell.labels, cell, random=random, traits=traits))
        if correct:
            self.measure(cell, correct, cost, attack)
        return cell

    def measure(self, cell: Cell, correct: Sequence[str], cost: Cost = USUAL, attack: Cost = CRAFT) -> None:
        """Remember what was seen of a cell; see ``add``."""
        self.measured.append((cell, list(correct), cost, attack))

    def refuse(self, defense: str, threat: str, reason: str) -> None:
        self.members.append(
            Member(Labels("digits", "cnn", defense, "pgd", threat), None, False, reason, THREATS.get(threat))
        )

    def write(self) -> str:
        """Write the database; return its path."""
        store = Store.open(str(self.path), create=True)
        store.declare(
            Declaration(
                *(self.name, self.title, self.text, self.decision, self.n_examples, self.repeats, 50),
                members=tuple(self.members),
                metrics=METRICS,
            )
        )
        for cell, correct, cost, attack in self.measured:
            job = Evaluate(cell, Shard(0, 0, len(correct)), 0, len(correct[0]), asked(cell))
            store.finish(store.queue.claim(job), job, done(cell, correct, cost, attack))
        self.measured.clear()
        return str(self.path)


def times(cost: Cost, images: int) -> Cost:
    """Return what as many images cost, one batch after the other."""
    return replace(cost, **{name: getattr(cost, name) * images for name in TOTALS})


def asked(cell: Cell) -> tuple[Spec, ...]:
    """Return the metrics that ``done`` measures of a cell: not the AMV, and none of one with a certificate."""
    return () if cell.certificate else tuple(one.spec for one in METRICS[:2])


def done(
    cell: Cell, correct: Sequence[str], cost: Cost, attack: Cost, broken: dict[str, Sequence[int]] | None = None
) -> Done:
    """Return what is measured of a cell; ``broken`` has by what was wrong the places where it was, in repeat 0."""
    images = len(correct) * len(correct[0])
    size = 0.2 if cell.attack else 0.0
    wrong = {place: fault for fault, places in (broken or {}).items() for place in places}
    rows = []
    for place, word in enumerate(correct):
        for repeat, digit in enumerate(word):
            fault = wrong.get(place) if repeat == 0 else None
            good = digit == "1" and fault not in UNREPLACED
            seen = row(
                example=100 + place,
                place=place,
                repeat=repeat,
                label=3,
                prediction=-1 if fault in UNREPLACED else 3 if good else 5,
                correct=good,
                fault=fault,
                radius=(0.1 if good else 0.0) if cell.certificate else None,
                linf=size,
                l2=8 * size,
                reconstruction_clean=0.024,
                reconstruction_adversarial=0.031,
                reconstruction_purified=0.016,
            )
            name = (fault or "").removesuffix(" not finite")
            rows.append(seen.but(fault=None, **{name: None}) if name in dict(seen.metrics) else seen)
    return Done(
        artifacts=tuple(Artifact(one.digest, "weights", "a" * 64, 1000, "cnn") for one in cell.recipes()),
        outcomes=outcomes(rows),
        measurements=() if cell.certificate else measurements(rows, METRICS),
        defense_cost=times(cost, images),
        attack_cost=times(attack, len(correct)) if cell.attack else None,
        environment={"python": "3.11.0", "cpu": "<b>a machine</b>"},
        seconds=1.0,
    )


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    def make(**options: object) -> Bench:
        return Bench(tmp_path / "runs.db", **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(autouse=True)
def rank_few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boards that are worked out by hand have few repeats and are ranked; what forbids that has tests of its own."""
    monkeypatch.setattr("reports.flags.evidence.ENOUGH", 1)


@pytest.fixture
def toy(bench: Callable[..., Bench]) -> Bench:
    """Two defenses and none; attacks oblivious, bpda and full; refused, missing and partial cells among them.

    Verdicts of mae-pure by example, three repeats each, worked through by hand in the tests:

        clean       111 111 110 111
        oblivious   111 011 111 000
        bpda        011 111 111 111
    """
    toy = bench()
    toy.add("none", None, "1", "1", "1", "1")
    toy.add("none", "oblivious-0.2", "0", "1", "0", "0")
    toy.add("none", "bpda-0.2", "0", "0", "1", "0")
    toy.add("mae-pure", None, "111", "111", "110", "111")
    toy.add("mae-pure", "oblivious-0.2", "111", "011", "111", "000")
    toy.add("mae-pure", "bpda-0.2", "011", "111", "111", "111")
    toy.refuse("mae-pure", "full-0.2", "The <script>alert(1)</script> sign step has the identity for a Jacobian.")
    toy.add("dmae", None, "111", "111", "111", "111")
    toy.add("dmae", "oblivious-0.2", "111", "111", "111", "000")
    toy.add("dmae", "bpda-0.2")
    toy.add("dmae", "full-0.2", "000", "111")
    toy.refuse("mae-pure", "smooth", "Nothing is known of this budget.")
    return toy


#: what a defense that can be differentiated says of itself, and the values of an image of the digits
TRAITS = {**vars(Traits(random=True, differentiable=True)), "knowledge": ["full"], "pixels": 64}

#: of an attack that looked at its gradients and saw nothing amiss
LOOKED = {"zero_gradient": (0.0, 640), "zero_gradient_first": (0.0, 32), "noise_share": (0.1, 600)}


@dataclass
class Trial:
    """A suite of one random defense or more, and what was noted of the attacks on them; 32 examples, one repeat."""

    path: Path
    name: str = "toy"
    n_examples: int = 32
    repeats: int = 1
    decision: str = "mean"
    weights: str = "a" * 64
    text: str = "suite: toy\n"
    members: list[Member] = field(default_factory=list)
    measured: list[tuple[Cell, Done]] = field(default_factory=list)

    def clean(self, defense: str = "pure", right: int | str | None = 32, *, own: int = 0, **options: Any) -> Cell:
        """Add clean input; the defense takes ``own`` backward passes for an image."""
        return self._add(defense, right, replace(USUAL, backwards=own), **options)

    def attack(
        self,
        defense: str = "pure",
        right: int | str | None = 32,
        *,
        attack: str = "pgd",
        threat: str = "full",
        norm: Norm = Norm.LINF,
        eps: float = 0.2,
        fixed: bool = False,
        source: str | None = None,
        params: dict[str, Any] | None = None,
        notes: dict[str, Any] | None = LOOKED,
        backwards: int = 20,
        effort: dict[str, int] | None = ENOUGH,
        **options: Any,
    ) -> Cell:
        """Add an attack, whose threat model is called by its knowledge, and by its radius where that is not 0.2.

        ``right``: how many examples it leaves right, those of the first places; a text has a word of digits for each,
        a digit for each repeat. None if it was not run. ``effort`` is what was recorded of what it spends.
        """
        title = "-".join([threat, *([f"{eps:g}"] if eps != 0.2 else []), *(["fixed"] if fixed else [])])
        source_defense, _, classifier = (source or "").partition(" on ")
        crafted_on = {"source_defense": source_defense, "source_classifier": classifier or "cnn"} if source else {}
        labels = {"attack": attack, "threat_model": title, **crafted_on}
        other = Spec.of("defense", "pure", 1, {"name": source})
        parts: dict[str, Any] = {
            "attack": Spec.of("attack", attack.split("-")[0], 1, params or {"steps": 20}),
            "threat": ThreatModel(norm, eps, Knowledge(threat), fixed=fixed),
            "surrogate": Spec.of("defense", "pure", 1, {"cheap": True}) if threat == "surrogate" else None,
            **({"source_classifier": CLASSIFIER, "source_defense": other} if source else {}),
        }
        cost = replace(CRAFT, backwards=backwards)
        told = {"crafted": cost, "notes": notes, "fixed": fixed, "effort": effort}
        return self._add(defense, right, USUAL, labels, **told, **parts, **options)

    @staticmethod
    def follows(*knowledge: str) -> dict[str, Any]:
        """Return the traits of a defense of which an attacker can follow so much."""
        return {**TRAITS, "knowledge": list(knowledge)}

    def certify(self, defense: str = "pure", right: int = 20) -> Cell:
        """Add a certificate."""
        return self._add(
            defense, right, USUAL, {"certificate": "smoothing"}, certificate=Spec.of("certificate", "smoothing", 1, {})
        )

    def _add(
        self,
        defense: str,
        right: int | str | None,
        cost: Cost,
        labels: dict[str, str] | None = None,
        *,
        crafted: Cost | None = None,
        notes: dict[str, Any] | None = None,
        random: bool = True,
        fixed: bool = False,
        traits: dict[str, Any] | None = TRAITS,
        effort: dict[str, int] | None = None,
        recipe: Spec | None = None,
        broken: dict[str, Sequence[int]] | None = None,
        **parts: Any,
    ) -> Cell:
        """Add a cell; see ``done`` for ``broken``."""
        made = Spec.of(
            "defense", "none" if defense == "none" else "pure", 1, {"name": defense}, {"net": recipe} if recipe else {}
        )
        cell = Cell(
            **{"attack": None, "threat": None, **parts},
            dataset=Spec.of("dataset", "digits", 1, {}),
            classifier=CLASSIFIER,
            defense=made,
            seed=0,
            subset_seed=0,
            labels=Labels("digits", "cnn", defense, **(labels or {})),
        )
        random = random and not fixed
        told = {**traits, "effort": effort} if traits and effort else traits
        self.members.append(Member(cell.labels, cell, random, traits=told))
        if right is not None:
            words = right.split() if isinstance(right, str) else ["1"] * right + ["0"] * (self.n_examples - right)
            words = [word * self.repeats if random and len(word) == 1 else word for word in words]
            own = tuple(Artifact(one.digest, "weights", self.weights, 9, "net") for one in cell.recipes())
            found = done(cell, words, cost, crafted or CRAFT, broken)
            self.measured.append((cell, replace(found, artifacts=own, notes=notes)))
        return cell

    def write(self) -> str:
        """Write the suite into the database; return its path."""
        store = Store.open(str(self.path), create=True)
        rules = (self.decision, self.n_examples, self.repeats, 50)
        store.declare(Declaration(self.name, "A toy", self.text, *rules, tuple(self.members), METRICS))
        for cell, found in self.measured:
            places = {outcome.place for outcome in found.outcomes}
            repeats = {outcome.repeat for outcome in found.outcomes}
            job = Evaluate(cell, Shard(0, 0, len(places)), 0, len(repeats), asked(cell))
            assert store.finish(store.queue.claim(job), job, found)
        self.measured.clear()
        return str(self.path)


CLASSIFIER = Spec.of("classifier", "trained", 1, {})


@pytest.fixture
def trial(tmp_path: Path) -> Callable[..., Trial]:
    def make(**options: object) -> Trial:
        return Trial(tmp_path / "runs.db", **options)  # type: ignore[arg-type]

    return make
