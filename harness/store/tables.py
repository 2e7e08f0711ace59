"""The tables: what was asked (suites, cells), what was tried (attempts), what was measured (results, outcomes).

Rows of ``results`` and ``outcomes`` are immutable facts; of an attempt only its end is ever written.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, ForeignKey, Index, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from harness.store.types import Moment, Real


class Table(DeclarativeBase):
    """Base of all tables; constraints have names, so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: Moment, float: Real, dict[str, Any]: JSON}


class SuiteRow(Table):
    """A suite as it was run: the text, and the rules that are applied when reading."""

    __tablename__ = "suites"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    text: Mapped[str]
    decision: Mapped[str]
    n_examples: Mapped[int]
    repeats: Mapped[int]
    shard_size: Mapped[int]
    declared_at: Mapped[datetime]


class CellRow(Table):
    """A cell by its identity, with all that the digest is made of."""

    __tablename__ = "cells"

    digest: Mapped[str] = mapped_column(primary_key=True)
    dataset: Mapped[str] = mapped_column(index=True)
    classifier: Mapped[str]
    defense: Mapped[str]
    attack: Mapped[str | None]
    norm: Mapped[str | None]
    eps: Mapped[float | None]
    knowledge: Mapped[str | None]
    seed: Mapped[int]
    random: Mapped[bool]
    spec: Mapped[dict[str, Any]]


class MemberRow(Table):
    """A cell's place in a suite: the suite's names for its parts, and whether it can be run at all.

    ``cell`` is None where the cell was refused; ``reason`` then says why.
    """

    __tablename__ = "members"
    __table_args__ = (
        UniqueConstraint("suite_id", "dataset", "classifier", "defense", "attack", "threat_model", name="uq_members"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    suite_id: Mapped[int] = mapped_column(ForeignKey("suites.id"))
    cell: Mapped[str | None] = mapped_column(ForeignKey("cells.digest"), index=True)
    position: Mapped[int]
    dataset: Mapped[str]
    classifier: Mapped[str]
    defense: Mapped[str]
    attack: Mapped[str]
    threat_model: Mapped[str]
    reason: Mapped[str | None]


class EnvironmentRow(Table):
    """Where work was done: commit, versions, hardware, determinism flags."""

    __tablename__ = "environments"

    digest: Mapped[str] = mapped_column(primary_key=True)
    facts: Mapped[dict[str, Any]]


class AttemptRow(Table):
    """One try at a job: who, where, when, how it ended."""

    __tablename__ = "attempts"

    id: Mapped[int] = mapped_column(primary_key=True)
    job: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    label: Mapped[str]
    cell: Mapped[str | None] = mapped_column(ForeignKey("cells.digest"), index=True)
    status: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    driver: Mapped[str]
    seconds: Mapped[float | None]
    environment: Mapped[str | None] = mapped_column(ForeignKey("environments.digest"))


class ArtifactRow(Table):
    """A checkpoint or an adversarial batch that was made or used: what made it, and the hash of its content."""

    __tablename__ = "artifacts"

    digest: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    label: Mapped[str]
    bytes: Mapped[int]
    first_seen: Mapped[datetime]


class ResultRow(Table):
    """What a successful attempt measured on some repeats of a shard: costs here, outcomes in their own table.

    A recipe names its checkpoint, but another machine may train other weights from it: results of different
    weights are kept apart by ``weights_digest``, and the latest weights are what is read.
    """

    __tablename__ = "results"
    __table_args__ = (
        UniqueConstraint("cell", "weights_digest", "start", "stop", "first_repeat", "stop_repeat", name="uq_results"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    cell: Mapped[str] = mapped_column(ForeignKey("cells.digest"), index=True)
    attempt: Mapped[int] = mapped_column(ForeignKey("attempts.id"))
    start: Mapped[int]
    stop: Mapped[int]
    first_repeat: Mapped[int]
    stop_repeat: Mapped[int]
    weights: Mapped[dict[str, Any]]
    weights_digest: Mapped[str]
    defense_images: Mapped[int]
    defense_seconds: Mapped[float]
    defense_forwards: Mapped[int]
    defense_backwards: Mapped[int]
    defense_evaluations: Mapped[int]
    attack_images: Mapped[int | None]
    attack_seconds: Mapped[float | None]
    attack_forwards: Mapped[int | None]
    attack_backwards: Mapped[int | None]
    attack_evaluations: Mapped[int | None]


class OutcomeRow(Table):
    """One example in one repeat."""

    __tablename__ = "outcomes"
    __table_args__ = (Index("ix_outcomes_cell", "cell", "place", "repeat"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    result: Mapped[int] = mapped_column(ForeignKey("results.id"), index=True)
    cell: Mapped[str] = mapped_column(ForeignKey("cells.digest"))
    example: Mapped[int]
    place: Mapped[int]
    repeat: Mapped[int]
    label: Mapped[int]
    prediction: Mapped[int]
    correct: Mapped[bool]
    fault: Mapped[str | None]
    linf: Mapped[float | None]
    l2: Mapped[float | None]
    reconstruction_clean: Mapped[float | None]
    reconstruction_adversarial: Mapped[float | None]
    reconstruction_purified: Mapped[float | None]
    amv_adversarial_last: Mapped[float | None]
    amv_adversarial_mean: Mapped[float | None]
    amv_purified_last: Mapped[float | None]
    amv_purified_mean: Mapped[float | None]
