"""From points of the matrix to cells, or to the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.core.cell import CLEAN, Cell, Labels
from harness.core.contracts import DataCard, Setting, effort_of, refusal
from harness.core.declaration import Member
from harness.core.metric import PROBE
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.suite.components import build
from harness.suite.matrix import source_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.core.errors import Problem
    from harness.core.metric import AskedMetric
    from harness.core.spec import Spec
    from harness.suite.components import Resolved
    from harness.suite.document import Document, Path
    from harness.suite.schema import EvaluationRules, MatrixBlock


@dataclass(frozen=True)
class Shelf:
    """The checked entries of a suite, by name; entries with mistakes are absent.

    ``surrogates`` are the cheaper versions of defenses, ``faulty`` the defenses whose cheaper version has mistakes.
    """

    datasets: dict[str, Resolved] = field(default_factory=dict)
    classifiers: dict[str, Resolved] = field(default_factory=dict)
    defenses: dict[str, Resolved] = field(default_factory=dict)
    attacks: dict[str, Resolved] = field(default_factory=dict)
    threat_models: dict[str, ThreatModel] = field(default_factory=dict)
    certificates: dict[str, Resolved] = field(default_factory=dict)
    surrogates: dict[str, Resolved] = field(default_factory=dict)
    faulty: set[str] = field(default_factory=set)

    def has(self, labels: Labels) -> bool:
        """Answer whether all that a point names is there."""
        classifier, defense = source_of(labels)
        attacked = labels.attack in self.attacks and labels.threat_model in self.threat_models
        return (
            (attacked or labels.attack == CLEAN)
            and (not labels.certificate or labels.certificate in self.certificates)
            and labels.dataset in self.datasets
            and {labels.classifier, classifier} <= self.classifiers.keys()
            and {labels.defense, defense} <= self.defenses.keys()
            and not (defense in self.faulty and self._cheaper(labels))
        )

    def _cheaper(self, labels: Labels) -> bool:
        threat = self.threat_models.get(labels.threat_model)
        return threat is not None and threat.knowledge is Knowledge.SURROGATE


#: options that say how many decoder layers, and heads of each, a probe shows the attention of
_SHOWN = ("decoder_depth", "decoder_heads")


def unfit_probe(net: Spec) -> str | None:
    """Return why a network cannot be a probe, as a sentence, or None; one of the user's own is tried when it is run."""
    own = "use" not in net.params
    if net.use == "mae" or (own and all(isinstance(net.params.get(name), int) for name in _SHOWN)):
        return None
    lacking = f", which has no options {' and '.join(_SHOWN)}" if own else ""
    return f"expected a recipe of a masked autoencoder (net mae), got one of net {net.use}{lacking}"


class Grid:
    """Makes members of points, and keeps every problem that it meets.

    Points that name an entry with mistakes are passed over: those mistakes have been noted already.
    """

    def __init__(
        self, shelf: Shelf, evaluation: EvaluationRules | None, metrics: Sequence[AskedMetric], document: Document
    ) -> None:
        self.shelf = shelf
        self.evaluation = evaluation
        self.metrics = metrics
        self.document = document
        self.problems: list[Problem] = []

    def members(self, points: Mapping[Labels, int], blocks: Mapping[int, MatrixBlock]) -> tuple[Member, ...]:
        """Return a member per point, in order; ``points`` maps each to the block that named it."""
        members = []
        for labels, position in points.items():
            if self.shelf.has(labels):
                members.append(self._member(labels, position, blocks[position]))
        self.problems += self._too_few_images(points)
        self.problems = list(dict.fromkeys(self.problems))
        return tuple(members)

    def _member(self, labels: Labels, position: int, block: MatrixBlock) -> Member:
        defense = self.shelf.defenses[labels.defense]
        attacked = labels.attack != CLEAN
        threat = self.shelf.threat_models[labels.threat_model] if attacked else None
        random = _random(defense.built, threat, certified=bool(labels.certificate))
        reason = self._refusal(labels)
        if reason is not None:
            if block.impossible == "error":
                sentence = f"expected a possible cell, got {labels}: {reason.rstrip('.')}"
                remedy = "exclude the cell or write `impossible: skip` in the block"
                self.problems.append(self.document.problem(("matrix", position), sentence, remedy))
            return Member(labels, None, random, reason, threat)
        cell = self._cell(labels, threat)
        self.problems += self._other_data(cell)
        attack = self.shelf.attacks[labels.attack] if attacked else None
        tried = () if attack is None else (attack.built, attack.spec.params)
        return Member(labels, cell, random, traits=_traits(defense.built, self._card(labels.dataset), *tried))

    def _cell(self, labels: Labels, threat: ThreatModel | None) -> Cell:
        shelf = self.shelf
        classifier, defense = source_of(labels)
        knowing = threat is not None and threat.knowledge is Knowledge.SURROGATE
        elsewhere = (classifier, defense) != (labels.classifier, labels.defense)
        return Cell(
            dataset=shelf.datasets[labels.dataset].spec,
            classifier=shelf.classifiers[labels.classifier].spec,
            defense=shelf.defenses[labels.defense].spec,
            attack=None if threat is None else shelf.attacks[labels.attack].spec,
            threat=threat,
            surrogate=shelf.surrogates[defense].spec if knowing else None,
            source_classifier=shelf.classifiers[classifier].spec if elsewhere else None,
            source_defense=shelf.defenses[defense].spec if elsewhere else None,
            seed=self.evaluation.seed if self.evaluation else 0,
            subset_seed=self.evaluation.subset_seed if self.evaluation else 0,
            certificate=shelf.certificates[labels.certificate].spec if labels.certificate else None,
            labels=labels,
        )

    def _refusal(self, labels: Labels) -> str | None:
        if self.shelf.defenses[labels.defense].built.traits.stateful:
            return (
                f"{labels.defense} keeps state by its own account, so what it does to an image would depend on which "
                "images share its job; let it begin anew in each call of purify"
            )
        for name in dict.fromkeys((labels.classifier, source_of(labels)[0])):
            unfit: str | None = self.shelf.classifiers[name].built.refuses(self._card(labels.dataset))
            if unfit is not None:
                return unfit
        if labels.clean:
            return None
        if labels.certificate:
            return self._uncertifiable(labels)
        # what is attacked is what the examples are crafted on, in the version that the attacker runs
        _, victim = source_of(labels)
        threat = self.shelf.threat_models[labels.threat_model]
        if threat.knowledge is Knowledge.SURROGATE and victim not in self.shelf.surrogates:
            best = _strongest(self.shelf.defenses[victim].built)
            return (
                f"{victim} has no `surrogate` in its entry, so there is nothing cheaper to attack; name a cheaper "
                f"version's options there, or use knowledge: {best}"
            )
        shelf = self.shelf.surrogates if threat.knowledge is Knowledge.SURROGATE else self.shelf.defenses
        attack, defense = self.shelf.attacks[labels.attack].built, shelf[victim].built
        inner = tuple(defense.inner) if threat.adaptive else ()
        setting = Setting(self._card(labels.dataset), threat, defense.traits, inner)
        reason: str | None = refusal(attack, setting) or defense.refuses(setting)
        return reason or _mode_refusal(victim, defense, setting, attack)

    def _uncertifiable(self, labels: Labels) -> str | None:
        """Return why nothing can be certified of a defense, or None."""
        traits = self.shelf.defenses[labels.defense].built.traits
        if traits.oracle:
            return (
                f"{labels.defense} is shown the clean image, which nobody has of an image that was tampered with, so "
                "there is no classifier to certify"
            )
        certificate = self.shelf.certificates[labels.certificate].built
        reason: str | None = certificate.refuses(self._card(labels.dataset), traits)
        return reason

    def _card(self, dataset: str) -> DataCard:
        card: DataCard = self.shelf.datasets[dataset].built.card
        return card

    def _other_data(self, cell: Cell) -> Iterator[Problem]:
        """Say which recipes of a cell trained on other data than the cell's."""
        labels = cell.labels
        classifier, defense = source_of(labels)
        standing: list[tuple[Path, Spec | None]] = [
            (self.shelf.classifiers[labels.classifier].path, cell.classifier),
            (self.shelf.classifiers[classifier].path, cell.source_classifier),
            (self.shelf.defenses[labels.defense].path, cell.defense),
            (self.shelf.defenses[defense].path, cell.source_defense),
            (self.shelf.defenses[defense].path, cell.surrogate),
        ]
        if cell.attack is not None:
            standing.append((self.shelf.attacks[labels.attack].path, cell.attack))
        if labels.certificate:
            standing.append((self.shelf.certificates[labels.certificate].path, cell.certificate))
        named = [((*path, "params", role), part) for path, spec in standing if spec for role, part in spec.parts]
        if cell.certificate is None:
            parts = [part for metric in self.metrics for role, part in metric.spec.parts if role == PROBE]
            named += [(("metrics", PROBE, "recipe"), part) for part in parts]
        for path, recipe in named:
            trained_on = dict(recipe.parts).get("dataset")
            if trained_on is not None and trained_on.digest != cell.dataset.digest:
                yield self.document.problem(
                    path,
                    f"recipe {recipe.label!r} was trained on {_title(trained_on)}, "
                    f"expected dataset {labels.dataset!r}, which is {_title(cell.dataset)}",
                    "name a recipe that trains on the same data, or tie or exclude so that the two do not meet",
                )

    def _too_few_images(self, points: Mapping[Labels, int]) -> Iterator[Problem]:
        wanted = self.evaluation.n_examples if self.evaluation else 0
        for name in dict.fromkeys(labels.dataset for labels in points if labels.dataset in self.shelf.datasets):
            has = self._card(name).n_test
            if wanted > has:
                sentence = f"expected at most {has}, the test images of dataset {name!r}, got {wanted}"
                yield self.document.problem(("evaluation", "n_examples"), sentence)


def member_of(cell: Cell) -> Member:
    """Return a cell with what its defense is, from the components that its specs name and that are installed here.

    Raises:
        UserError: if one of them is not.
    """
    defense, dataset = build(cell.defense), build(cell.dataset)
    tried = () if cell.attack is None else (build(cell.attack), cell.attack.params)
    random = _random(defense, cell.threat, certified=cell.certificate is not None)
    return Member(cell.labels, cell, random, traits=_traits(defense, dataset.card, *tried))


def _random(defense: Any, threat: ThreatModel | None, *, certified: bool) -> bool:
    """Whether a defense is judged by several repeats: a certificate has one, and so has randomness that is known."""
    return bool(defense.traits.random) and not certified and not (threat is not None and threat.fixed)


def _traits(
    defense: Any, card: DataCard, attack: Any = None, params: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what reports want to know of a defense, its images and an attack unbuilt; see ``CellRow``."""
    followed = [knowledge.value for knowledge in _followed(defense, card)]
    spent = {} if attack is None else {"effort": vars(effort_of(attack, params or {}))}
    images = {"pixels": math.prod(card.shape), "classes": card.n_classes}
    beyond: dict[str, Any] = {"unclipped": True} if defense.unclipped else {}
    return {**vars(defense.traits), **beyond, "role": str(defense.role), "knowledge": followed, **images, **spent}


def _followed(defense: Any, card: DataCard) -> list[Knowledge]:
    """Return what gradients of a defense can be followed, beyond the identity's: those that it has and does not refuse.

    A defense may be refused whoever attacks it, or an attacker whatever its budget; that is not asked here.
    """
    has = {Knowledge.FULL: defense.traits.differentiable, Knowledge.SMOOTH: defense.smoothable()}
    asked = {one: Setting(card, ThreatModel(Norm.LINF, 8 / 255, one), defense.traits) for one in has if has[one]}
    return [knowledge for knowledge, setting in asked.items() if defense.refuses(setting) is None]


def _mode_refusal(name: str, defense: Any, setting: Setting, attack: Any) -> str | None:
    """Return why a gradient mode or fixed randomness cannot be had, or None."""
    knowledge = setting.threat.knowledge
    if knowledge in (Knowledge.FULL, Knowledge.SURROGATE) and not defense.traits.differentiable:
        return (
            f"{name} is not differentiable by its own account, so `{knowledge}` has no gradient to follow; "
            f"use knowledge: {_strongest(defense)}"
        )
    if knowledge is Knowledge.SMOOTH and not defense.smoothable():
        return (
            f"{name} has no smooth version: it moves by no signs, or none that it lets an attacker smooth; "
            f"use knowledge: {_strongest(defense)}"
        )
    if setting.threat.fixed and not defense.traits.random:
        return f"{name} draws no random numbers that could be fixed"
    if setting.threat.fixed and not attack.by_example:
        return (
            "an attack that narrows its batch by itself cannot be told whose random numbers are whose; use pgd or apgd"
        )
    return None


def _strongest(defense: Any) -> str:
    """Return the knowledge by which most of a defense can be followed."""
    if defense.traits.oracle:
        return Knowledge.OBLIVIOUS.value
    if defense.traits.differentiable:
        return Knowledge.FULL.value
    return (Knowledge.SMOOTH if defense.smoothable() else Knowledge.BPDA).value


def _title(dataset: Spec) -> str:
    options = ", ".join(f"{key} {value}" for key, value in dataset.params.items() if key != "content")
    return f"{dataset.use} ({options})" if options else dataset.use
