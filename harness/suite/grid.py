"""From points of the matrix to cells, or to the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.core.cell import Cell, Labels
from harness.core.contracts import DataCard, Setting, refusal
from harness.core.spec import Spec
from harness.core.threat import Knowledge
from harness.store.store import Member
from harness.suite.schema import CLEAN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.core.errors import Problem
    from harness.core.threat import ThreatModel
    from harness.suite.components import Resolved
    from harness.suite.schema import Block, Evaluation, Metrics
    from harness.suite.source import Document, Path

PROBE_VERSION = 1


@dataclass(frozen=True)
class Shelf:
    """The checked entries of a suite, by name; entries with mistakes are absent."""

    datasets: dict[str, Resolved] = field(default_factory=dict)
    classifiers: dict[str, Resolved] = field(default_factory=dict)
    defenses: dict[str, Resolved] = field(default_factory=dict)
    attacks: dict[str, Resolved] = field(default_factory=dict)
    threat_models: dict[str, ThreatModel] = field(default_factory=dict)

    def has(self, labels: Labels) -> bool:
        """Answer whether all that a point names is there."""
        return (
            labels.dataset in self.datasets
            and labels.classifier in self.classifiers
            and labels.defense in self.defenses
            and (
                labels.attack == CLEAN or (labels.attack in self.attacks and labels.threat_model in self.threat_models)
            )
        )


def probe_spec(metrics: Metrics, recipe: Spec | None) -> Spec | None:
    """Return the identity of what is measured besides correctness: metrics, and the probe that some look through."""
    names = sorted(set(metrics.names))
    if metrics.probed is not None and recipe is not None:
        params = {"mask_ratio": metrics.probed.mask_ratio, "masks": metrics.probed.masks, "names": names}
        return Spec.of("probe", recipe.use, PROBE_VERSION, params, {"recipe": recipe}, label=recipe.label)
    return Spec.of("probe", "none", PROBE_VERSION, {"names": names}) if names else None


class Grid:
    """Makes members of points, and keeps every problem that it meets.

    Points that name an entry with mistakes are passed over: those mistakes have been noted already.
    """

    def __init__(self, shelf: Shelf, evaluation: Evaluation | None, probe: Spec | None, document: Document) -> None:
        self.shelf = shelf
        self.evaluation = evaluation
        self.probe = probe
        self.document = document
        self.problems: list[Problem] = []

    def members(self, points: Mapping[Labels, int], blocks: Mapping[int, Block]) -> tuple[Member, ...]:
        """Return a member per point, in order; ``points`` maps each to the block that named it."""
        members = []
        for labels, position in points.items():
            if self.shelf.has(labels):
                members.append(self._member(labels, position, blocks[position]))
        self.problems += self._too_few_images(points)
        self.problems = list(dict.fromkeys(self.problems))
        return tuple(members)

    def _member(self, labels: Labels, position: int, block: Block) -> Member:
        defense = self.shelf.defenses[labels.defense]
        attack = None if labels.attack == CLEAN else self.shelf.attacks[labels.attack]
        threat = None if labels.attack == CLEAN else self.shelf.threat_models[labels.threat_model]
        cell = Cell(
            dataset=self.shelf.datasets[labels.dataset].spec,
            classifier=self.shelf.classifiers[labels.classifier].spec,
            defense=defense.spec,
            attack=attack.spec if attack else None,
            threat=threat,
            seed=self.evaluation.seed if self.evaluation else 0,
            subset_seed=self.evaluation.subset_seed if self.evaluation else 0,
            probe=self.probe,
            labels=labels,
        )
        self.problems += self._other_data(cell)
        random = bool(defense.built.traits.random)
        reason = self._refusal(labels)
        if reason is None:
            return Member(labels, cell, random)
        if block.impossible == "error":
            sentence = f"expected a possible cell, got {labels}: {reason.rstrip('.')}"
            remedy = "exclude the cell or write `impossible: skip` in the block"
            self.problems.append(self.document.problem(("matrix", position), sentence, remedy))
        return Member(labels, None, random, reason, threat)

    def _refusal(self, labels: Labels) -> str | None:
        if self.shelf.defenses[labels.defense].built.traits.stateful:
            return (
                f"{labels.defense} keeps state by its own account, so what it does to an image would depend on which "
                "images share its job; let it begin anew in each call of purify"
            )
        if labels.attack == CLEAN:
            return None
        attack, defense = self.shelf.attacks[labels.attack].built, self.shelf.defenses[labels.defense].built
        setting = Setting(self._card(labels.dataset), self.shelf.threat_models[labels.threat_model], defense.traits)
        reason: str | None = refusal(attack, setting) or defense.refuses(setting)
        if reason is None and setting.threat.knowledge is Knowledge.FULL and not defense.traits.differentiable:
            return f"{labels.defense} is not differentiable by its own account, so `full` has no gradient to follow"
        return reason

    def _card(self, dataset: str) -> DataCard:
        card: DataCard = self.shelf.datasets[dataset].built.card
        return card

    def _other_data(self, cell: Cell) -> Iterator[Problem]:
        """Say which recipes of a cell trained on other data than the cell's."""
        labels = cell.labels
        standing: list[tuple[Path, Spec]] = [
            (self.shelf.classifiers[labels.classifier].path, cell.classifier),
            (self.shelf.defenses[labels.defense].path, cell.defense),
        ]
        if cell.attack is not None:
            standing.append((self.shelf.attacks[labels.attack].path, cell.attack))
        named = [((*path, "params", role), part) for path, spec in standing for role, part in spec.parts]
        if cell.probe is not None:
            named += [(("metrics", "probe", role), part) for role, part in cell.probe.parts]
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


def _title(dataset: Spec) -> str:
    options = ", ".join(f"{key} {value}" for key, value in dataset.params.items() if key != "content")
    return f"{dataset.use} ({options})" if options else dataset.use
