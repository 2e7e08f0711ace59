"""Cell: one resolved point of the grid; shard: a fixed slice of its examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.core.spec import Spec, digest_of
from harness.core.threat import Knowledge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.threat import ThreatModel


@dataclass(frozen=True)
class Labels:
    """The names that a suite gave to a cell's parts; titles only, no part of any identity."""

    dataset: str
    classifier: str
    defense: str
    attack: str = "clean"
    threat_model: str = "-"

    def as_dict(self) -> dict[str, str]:
        """Return the labels by axis."""
        return dict(vars(self))

    def __str__(self) -> str:
        """Read as a path: dataset/classifier/defense/attack/threat model."""
        return "/".join(vars(self).values())


@dataclass(frozen=True)
class Cell:
    """What is measured: a defended classifier on a dataset, on clean input or under one attack.

    A cell without an attack measures clean input; it is shared by all attacks on the same defense.

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
    labels: Labels = field(default=Labels("", "", ""), compare=False)

    def __post_init__(self) -> None:
        """Hold the one invariant: an attack has a threat model and clean input has none."""
        if (self.attack is None) != (self.threat is None):
            raise ValueError("expected an attack with a threat model, or neither (a clean cell)")

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
        }

    def crafted_against(self) -> dict[str, Any] | None:
        """Return what adversarial examples of this cell depend on, or None on clean input.

        An oblivious attack does not depend on the defense, so all defenses share its examples (law 7).
        """
        return None if self.attack is None else crafted_against(self.as_dict())

    def networks(self) -> Iterator[Spec]:
        """Yield the recipes of the networks that this cell runs, each once."""
        parts = (self.dataset, self.classifier, self.defense, self.attack, self.probe)
        found = {recipe.digest: recipe for spec in parts if spec for recipe in spec.stands_on()}
        yield from found.values()

    def recipes(self) -> Iterator[Spec]:
        """Yield every recipe behind this cell, each once: what one stands on comes before it."""
        found: dict[str, Spec] = {}
        for recipe in self.networks():
            _collect(recipe, found)
        yield from found.values()


def crafted_against(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what adversarial examples depend on, of what the digest of an attacked cell is made of."""
    made_of = {name: part for name, part in spec.items() if name != "probe"}
    if spec["threat"]["knowledge"] == Knowledge.OBLIVIOUS:
        made_of["defense"] = None
    return made_of


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
