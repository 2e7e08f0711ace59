"""Cell: one resolved point of the grid; shard: a fixed slice of its examples."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.core.spec import Spec, digest_of
from harness.core.threat import Knowledge, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: the name in an attack's place where there is none, and what stands for a threat model
CLEAN, NO_THREAT = "clean", "-"

#: parts of a cell that only some cells have; where there is none they take no part in the identity
SPECIAL = ("surrogate", "source_classifier", "source_defense", "certificate")


@dataclass(frozen=True)
class Labels:
    """The names that a suite gave to a cell's parts; titles only, no part of any identity.

    Attributes:
        attack: ``clean`` where there is none, also where there is a certificate.
        threat_model: ``-`` where there is no attack.
        certificate: empty where there is none.
        source_defense: what the examples were crafted on, with ``source_classifier``; both are empty where that is what
            is judged.
    """

    dataset: str
    classifier: str
    defense: str
    attack: str = CLEAN
    threat_model: str = NO_THREAT
    certificate: str = ""
    source_defense: str = ""
    source_classifier: str = ""

    @property
    def clean(self) -> bool:
        """Whether they name clean input, which no certificate judges."""
        return self.attack == CLEAN and not self.certificate

    @property
    def source(self) -> str:
        """What the examples were crafted on, as people read it: a classifier is named where another is judged."""
        if self.source_classifier in ("", self.classifier):
            return self.source_defense
        return f"{self.source_defense} on {self.source_classifier}"

    @property
    def attack_title(self) -> str:
        """What stands in the attack's place as people read it: the certificate, or the attack with its source."""
        if self.certificate:
            return self.certificate
        return f"{self.attack} from {self.source}" if self.source_defense else self.attack

    @property
    def path(self) -> tuple[str, str, str, str, str]:
        """What people tell a suite's cells apart by: dataset, classifier, defense, attack's title, threat model."""
        return (self.dataset, self.classifier, self.defense, self.attack_title, self.threat_model)

    def as_dict(self) -> dict[str, str]:
        """Return the names by part."""
        return dict(vars(self))

    def __str__(self) -> str:
        """Read as a path: dataset/classifier/defense/attack/threat model."""
        return "/".join(self.path)


@dataclass(frozen=True)
class Cell:
    """What is measured: a defended classifier on a dataset, on clean input, under one attack, or by a certificate.

    A cell without an attack or certificate measures clean input; it is shared by all attacks on the same defense.

    Attributes:
        surrogate: the cheaper defense that an attacker of that knowledge differentiates.
        source_classifier: what the examples were crafted on, with ``source_defense``, where that is not what is judged
            (transfer).
        certificate: how a radius is certified, in place of an attack.

    Identity (law 1): the digest covers everything that changes the judgement. Left out: the number of examples and of
    repeats (asking for more adds to a cell), which metrics are asked for, the decision rule, labels, devices, workers.
    """

    dataset: Spec
    classifier: Spec
    defense: Spec
    attack: Spec | None
    threat: ThreatModel | None
    seed: int
    subset_seed: int
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
        return cell_digest(self.as_dict())

    @property
    def stream(self) -> str:
        """Names the random draws of the evaluation."""
        return self.digest

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
        named = self.labels
        labels = replace(
            named,
            classifier=named.source_classifier,
            defense=named.source_defense,
            source_classifier="",
            source_defense="",
        )
        return replace(
            self,
            classifier=self.source_classifier,
            defense=self.source_defense,
            source_classifier=None,
            source_defense=None,
            labels=labels,
        )

    @classmethod
    def from_dict(cls, told: Mapping[str, Any], labels: Labels | None = None) -> Cell:
        """Build the cell whose ``as_dict`` this is."""
        optional = {name: part for name in ("attack", *SPECIAL) if (part := told.get(name))}
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
        if not self.threat.adaptive:
            made_of["defense"] = None
        return made_of

    def components(self) -> Iterator[Spec]:
        """Yield what this cell is made of: dataset, classifier and defense, and what else it has."""
        special = (getattr(self, name) for name in SPECIAL)
        parts = (self.dataset, self.classifier, self.defense, self.attack, *special)
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


def cell_digest(spec: Mapping[str, Any]) -> str:
    """Return the digest of what a cell is made of; once it had a probe too, and digests stay what they were."""
    return digest_of({**spec, "probe": None})


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
