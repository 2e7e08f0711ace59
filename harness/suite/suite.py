"""Suite: a checked file, with the cells that it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.cell import Cell, Shard
from harness.core.declaration import Declaration, Member

if TYPE_CHECKING:
    from harness.core.errors import Problem
    from harness.core.local import Code
    from harness.core.metric import AskedMetric
    from harness.core.spec import Spec
    from harness.suite.schema import EvaluationRules, Execution


@dataclass(frozen=True)
class Suite:
    """A validated file.

    Attributes:
        name: what the database files the results under.
        title: heading of the report; empty where none was given.
        text: the YAML text, as it was read.
        source: the file that it came from.
        evaluation: how much is measured, and the seeds.
        metrics: what is measured besides correctness and cost.
        execution: what a job may take.
        members: the points of the grid in order, impossible ones included.
        doubts: what is odd about the file and no mistake, for a person to look at.
        code: files of the user's own that its entries name.
    """

    name: str
    title: str
    text: str
    source: str
    evaluation: EvaluationRules
    metrics: tuple[AskedMetric, ...]
    execution: Execution
    members: tuple[Member, ...]
    doubts: tuple[Problem, ...] = ()
    code: tuple[Code, ...] = ()

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells that can be run, each once even where two names stand for the same one."""
        return tuple({one.cell.digest: one.cell for one in self.members if one.cell is not None}.values())

    @property
    def shards(self) -> list[Shard]:
        """The slices that every cell's examples are cut into."""
        return Shard.slices(self.evaluation.n_examples, self.evaluation.shard_size)

    def metrics_of(self, cell: Cell) -> tuple[Spec, ...]:
        """Return the metrics of a cell; one with a certificate judges no image that could be measured."""
        return () if cell.certificate is not None else tuple(metric.spec for metric in self.metrics)

    def repeats(self, member: Member) -> int:
        """Return how many fresh evaluations a member gets: a defense that is not random needs one."""
        return self.evaluation.repeats if member.random else 1

    def declaration(self) -> Declaration:
        """Return the suite as the store keeps it."""
        return Declaration(
            name=self.name,
            title=self.title,
            text=self.text,
            decision=self.evaluation.decision,
            n_examples=self.evaluation.n_examples,
            repeats=self.evaluation.repeats,
            shard_size=self.evaluation.shard_size,
            members=self.members,
            metrics=self.metrics,
            code=self.code,
        )
