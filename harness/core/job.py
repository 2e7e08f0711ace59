"""Job: a unit of work that a worker does: train a network, craft examples, evaluate a shard, take metrics of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness.core import local
from harness.core.spec import Spec, digest_of, short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.core.cell import Cell, Shard
    from harness.core.local import Code


@dataclass(frozen=True)
class Train:
    """Train the network of a recipe; its digest names the checkpoint."""

    recipe: Spec
    kind = "train"

    @property
    def digest(self) -> str:
        """The recipe's digest."""
        return self.recipe.digest

    @property
    def needs(self) -> tuple[str, ...]:
        """Digests of the jobs that must have ended well before: those of the recipes that this one stands on."""
        return tuple(dict.fromkeys(recipe.digest for recipe in self.recipe.stands_on()))

    def __str__(self) -> str:
        """Name the recipe as people see it."""
        return self.recipe.label or short(self.digest)


@dataclass(frozen=True)
class Craft:
    """Craft the adversarial examples of one shard; defenses share them where the attack is oblivious."""

    cell: Cell
    shard: Shard
    kind = "craft"

    @cached_property
    def digest(self) -> str:
        """The identity of the adversarial batch: all that made it, and which examples."""
        return digest_of({"craft": self.cell.crafted_against(), "start": self.shard.start, "stop": self.shard.stop})

    @cached_property
    def stream(self) -> str:
        """Names the attack's random draws: all that made the batch but not which examples are in it."""
        return digest_of({"craft": self.cell.crafted_against()})

    @property
    def needs(self) -> tuple[str, ...]:
        """An oblivious attack needs the classifier alone, an adaptive one the defense's networks too."""
        oblivious = self.cell.threat is not None and not self.cell.threat.adaptive
        defense = self.cell.surrogate or self.cell.defense
        victim = [self.cell.classifier] if oblivious else [self.cell.classifier, defense]
        victim += [self.cell.attack] if self.cell.attack else []
        return tuple(dict.fromkeys(recipe.digest for spec in victim for recipe in spec.stands_on()))

    def __str__(self) -> str:
        """Name what is attacked, with what, and which shard."""
        labels = self.cell.labels
        adaptive = self.cell.threat is not None and self.cell.threat.adaptive
        victim = f"{labels.defense}+{labels.classifier}" if adaptive else labels.classifier
        return f"{labels.attack} {labels.threat_model} on {victim} #{self.shard.index}"


@dataclass(frozen=True)
class Evaluate:
    """Evaluate repeats ``first_repeat`` to ``stop_repeat - 1`` of one shard of a cell, and take metrics of it."""

    cell: Cell
    shard: Shard
    first_repeat: int
    stop_repeat: int
    metrics: tuple[Spec, ...] = ()
    kind = "evaluate"

    @cached_property
    def digest(self) -> str:
        """The identity of the work: which places and repeats of the cell, and which metrics."""
        metrics = [metric.digest for metric in self.metrics]
        return evaluation_digest(
            self.cell.digest, self.shard.start, self.shard.stop, self.first_repeat, self.stop_repeat, metrics
        )

    @property
    def craft(self) -> Craft | None:
        """The job that makes the examples to judge; None on clean input."""
        return None if self.cell.attack is None else Craft(self.cell.origin(), self.shard)

    @property
    def networks(self) -> tuple[Spec, ...]:
        """The recipes of the networks that it runs, those that metrics look through included, each once."""
        every = [*self.cell.networks(), *(recipe for metric in self.metrics for recipe in metric.stands_on())]
        return tuple({recipe.digest: recipe for recipe in every}.values())

    @property
    def needs(self) -> tuple[str, ...]:
        """Every network, and the adversarial batch."""
        trained = tuple(recipe.digest for recipe in self.networks)
        return trained if self.craft is None else (*trained, self.craft.digest)

    def __str__(self) -> str:
        """Name the cell and the shard."""
        return f"{self.cell.labels} #{self.shard.index}"


def evaluation_digest(
    cell: str, start: int, stop: int, first_repeat: int, stop_repeat: int, metrics: Sequence[str] = ()
) -> str:
    """Return the digest of an evaluation of places ``start`` to ``stop - 1`` of a cell, in repeats, with metrics."""
    told = {"cell": cell, "start": start, "stop": stop, "repeats": [first_repeat, stop_repeat]}
    return digest_of({**told, "metrics": sorted(metrics)} if metrics else told)


@dataclass(frozen=True)
class Measure(Evaluate):
    """Take metrics of what was evaluated before, in the same places and repeats, from the same adversarial batch.

    ``version`` is the set of weights and code of the results that they are taken of, by digest.
    """

    version: str = ""
    kind = "measure"

    @cached_property
    def digest(self) -> str:
        """The identity of the work."""
        return digest_of({"measure": super().digest, "version": self.version})

    def __str__(self) -> str:
        """Name the metrics, the cell and the shard."""
        names = ", ".join(metric.label or metric.use for metric in self.metrics)
        return f"{names} of {self.cell.labels} #{self.shard.index}"


Job = Train | Craft | Evaluate | Measure


def plugins(job: Job) -> frozenset[str]:
    """Return whose code a job runs besides purebench's: distributions, before a slash in names, and files by hash."""
    todo = _components(job)
    found = {f"{local.LOCAL}{source}" for source in local.sources(todo)}
    while todo:
        spec = todo.pop()
        distribution, slash, _ = spec.use.rpartition("/")
        found |= {distribution} if slash else set()
        todo += [part for _, part in spec.parts]
    return frozenset(found)


def code(job: Job) -> tuple[Code, ...]:
    """Return the files of the user's own that a job runs, as this process knows them."""
    found = (local.known(source) for source in sorted(local.sources(_components(job))))
    return tuple(one for one in found if one is not None)


def _components(job: Job) -> list[Spec]:
    if isinstance(job, Train):
        return [job.recipe]
    return [*job.cell.components(), *(job.metrics if isinstance(job, Evaluate) else ())]


@dataclass(frozen=True)
class Terms:
    """How a job is done, which must change no number but by the order of additions.

    Attributes:
        batch_size: images at a time; None: the whole shard.
        device: ``cpu``, ``cuda``, or ``auto``: a GPU where there is one.
        precision: of images and networks, ``float32`` or ``float64``.
        code: files of the user's own that it runs.
    """

    batch_size: int | None = None
    device: str = "cpu"
    precision: str = "float32"
    code: tuple[Code, ...] = ()
