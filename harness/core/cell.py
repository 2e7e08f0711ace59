"""Cell: one resolved point of the grid; shard: a fixed slice of its examples."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.core.spec import Spec, digest_of
from harness.core.threat import Knowledge, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: between an attack's name and that of the defense its examples were crafted on, in a label, and before a classifier's
FROM, ON = " from ", " on "

#: the label of clean input, in place of an attack's name, and what stands for a threat model where there is none
CLEAN, NO_THREAT = "clean", "-"

#: parts of a cell that only some cells have; where there is none they take no part in the identity
SPECIAL = ("surrogate", "source_classifier", "source_defense", "certificate")


@dataclass(frozen=True)
class Labels:
    """The names that a suite gave to a cell's parts; titles only, no part of any identity.

    A certificate's name stands in the attack's place, without a threat model.
    """

    dataset: str
    classifier: str
    defense: str
    attack: str = CLEAN
    threat_model: str = NO_THREAT

    @property
    def certificate(self) -> str | None:
        """The certificate's name; None where there is none."""
        return self.attack if self.threat_model == NO_THREAT and self.attack != CLEAN else None

    def as_dict(self) -> dict[str, str]:
        """Return the labels by axis."""
        return dict(vars(self))

    def __str__(self) -> str:
        """Read as a path: dataset/classifier/defense/attack/threat model."""
        return "/".join(vars(self).values())


@dataclass(frozen=True)
class Cell:
    """What is measured: a defended classifier on a dataset, on clean input, under one attack, or by a certificate.

    A cell without an attack or certificate measures clean input; it is shared by all attacks on the same defense.

    Attributes:
        surrogate: the cheaper defense that an attacker of that knowledge differentiates.
        source_classifier: what the examples were crafted on, with ``source_defense``, where that is not what is judged
            (transfer).
        certificate: how a radius is certified, in place of an attack.

    Identity (law 1): the digest covers everything that changes the measurement. Left out: the number of
    examples and of repeats (asking for more adds to a cell), the decision rule, labels, devices, workers.
    """

    dataset: Spec
    classifier: Spec
    defense: Spec
    attack: Spec | None
    threat: ThreatModel | None
    seed: int
    subset_seed: int
    probe: Spec | None = None
    surrogate: Spec | None = None
    source_classifier: Spec | None = None
    source_defense: Spec | None = None
    certificate: Spec | None = None
    labels: Labels = field(default=Labels("", "", ""), compare=False)

    def __post_init__(self) -> None:
        """Hold the invariants of what goes with what."""
        if (self.attack is None) != (self.threat is None):
            raise ValueError("expected an attack with a threat model, or neither (a clean cell)")
        knowledge = self.threat.knowledge if self.threat else None
        if (self.surrogate is not None) != (knowledge is Knowledge.SURROGATE):
            raise ValueError("expected a surrogate with the knowledge surrogate, and with no other")
        if (self.source_classifier is None) != (self.source_defense is None):
            raise ValueError("expected a classifier and a defense that examples were crafted on, or neither")
        if self.attack is None and self.source_classifier is not None:
            raise ValueError("expected an attack with what its examples were crafted on")
        if self.attack is not None and self.certificate is not None:
            raise ValueError("expected an attack or a certificate, got both")

    @cached_property
    def digest(self) -> str:
        """The identity of the measurement."""
        return digest_of(self.as_dict())

    @cached_property
    def stream(self) -> str:
        """Names the random draws of the evaluation; the probe measures and must not change what is drawn."""
        return digest_of({**self.as_dict(), "probe": None})

    def as_dict(self) -> dict[str, Any]:
        """Return what the digest is made of, in plain JSON types."""
        return {
            "dataset": self.dataset.as_dict(),
            "classifier": self.classifier.as_dict(),
            "defense": self.defense.as_dict(),
            "attack": self.attack.as_dict() if self.attack else None,
            "threat": self.threat.as_dict() if self.threat else None,
            "seed": self.seed,
            "subset_seed": self.subset_seed,
            "probe": self.probe.as_dict() if self.probe else None,
            **{name: part.as_dict() for name in SPECIAL if (part := getattr(self, name)) is not None},
        }

    @property
    def transferred(self) -> bool:
        """Whether its examples were crafted on another classifier or defense than the one that is judged."""
        return self.source_classifier is not None

    def origin(self) -> Cell:
        """Return the cell whose adversarial examples this one judges: itself, unless they were transferred."""
        if self.source_classifier is None or self.source_defense is None:
            return self
        classifier, defense = self.source_classifier, self.source_defense
        attack = self.labels.attack.split(FROM)[0]
        labels = replace(self.labels, attack=attack, classifier=classifier.label, defense=defense.label)
        return replace(
            self, classifier=classifier, defense=defense, source_classifier=None, source_defense=None, labels=labels
        )

    @classmethod
    def from_dict(cls, told: Mapping[str, Any], labels: Labels | None = None) -> Cell:
        """Build the cell whose ``as_dict`` this is."""
        optional = {name: part for name in ("attack", "probe", *SPECIAL) if (part := told.get(name))}
        return cls(
            dataset=Spec.from_dict(told["dataset"]),
            classifier=Spec.from_dict(told["classifier"]),
            defense=Spec.from_dict(told["defense"]),
            threat=ThreatModel.from_dict(told["threat"]) if told["threat"] else None,
            seed=told["seed"],
            subset_seed=told["subset_seed"],
            labels=labels or Labels("", "", ""),
            **{"attack": None, **{name: Spec.from_dict(part) for name, part in optional.items()}},
        )

    def crafted_against(self) -> dict[str, Any] | None:
        """Return what adversarial examples of this cell depend on, or None on clean input.

        An oblivious attack does not depend on the defense, so all defenses share its examples (law 7).
        """
        if self.attack is None or self.threat is None:
            return None
        made_of = self.as_dict()
        del made_of["probe"]
        if not self.threat.adaptive:
            made_of["defense"] = None
        return made_of

    def components(self) -> Iterator[Spec]:
        """Yield what this cell is made of: dataset, classifier and defense, and what else it has."""
        special = (getattr(self, name) for name in SPECIAL)
        parts = (self.dataset, self.classifier, self.defense, self.attack, self.probe, *special)
        yield from (spec for spec in parts if spec)

    def networks(self) -> Iterator[Spec]:
        """Yield the recipes of the networks that this cell runs, each once."""
        found = {recipe.digest: recipe for spec in self.components() for recipe in spec.stands_on()}
        yield from found.values()

    def recipes(self) -> Iterator[Spec]:
        """Yield every recipe behind this cell, each once: what one stands on comes before it."""
        found: dict[str, Spec] = {}
        for recipe in self.networks():
            _collect(recipe, found)
        yield from found.values()


def _collect(recipe: Spec, found: dict[str, Spec]) -> None:
    if recipe.digest not in found:
        for other in recipe.stands_on():
            _collect(other, found)
        found[recipe.digest] = recipe


@dataclass(frozen=True)
class Shard:
    """A fixed slice of a cell's examples: the unit that is scheduled, committed and retried.

    Attributes:
        index: position of the slice, from 0.
        start: first place in the cell's subset.
        stop: one past the last place.
    """

    index: int
    start: int
    stop: int

    @staticmethod
    def slices(n_examples: int, shard_size: int) -> list[Shard]:
        """Cut the first ``n_examples`` places into slices of ``shard_size`` (the last may be shorter)."""
        starts = range(0, n_examples, shard_size)
        return [Shard(index, start, min(start + shard_size, n_examples)) for index, start in enumerate(starts)]

    @property
    def size(self) -> int:
        """The number of examples."""
        return self.stop - self.start
