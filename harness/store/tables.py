"""The tables: who says so (origins), what was asked (suites, cells), tried (jobs, attempts), measured (results).

Rows of ``results`` and ``outcomes`` are immutable facts. Of an attempt only its end is ever written; what changes
while work is done is the row of its job.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from harness.core.cell import Labels
from harness.store.types import Moment, Real

#: an integer below 2^63; SQLite's are so wide anyway
_WIDE = BigInteger().with_variant(Integer(), "sqlite")


class TableBase(DeclarativeBase):
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


# ---------------------------------------------------------------------- who says so


class OriginRow(TableBase):
    """A database that rows come from: this one, one of our own elsewhere, or a stranger's.

    ``kind`` is ``here``, ``own`` or ``foreign``; see ``harness.store.read.origins``. ``database`` is the name that a
    database gives itself at random when it is made. A copy of a file has the name of what it was copied from.
    """

    __tablename__ = "origins"
    __table_args__ = (UniqueConstraint("database", "kind", name="uq_origins"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    database: Mapped[str]
    kind: Mapped[str]


class ArrivalRow(TableBase):
    """A merge that brought rows of another database: from which file, with which content, and when by our clock.

    ``sha256`` is None where the source was a server.
    """

    __tablename__ = "arrivals"

    id: Mapped[int] = mapped_column(primary_key=True)
    origin: Mapped[int] = mapped_column(ForeignKey("origins.id"))
    name: Mapped[str]
    sha256: Mapped[str | None]
    arrived_at: Mapped[datetime]


# ---------------------------------------------------------------------- what was asked


class ComponentRow(TableBase):
    """A dataset, classifier, defense, attack, threat model, metric or recipe: all that its digest is made of."""

    __tablename__ = "components"

    digest: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    use: Mapped[str]
    version: Mapped[int]
    spec: Mapped[dict[str, Any]]


class CellRow(TableBase):
    """A cell by its identity: the components, by digest, and the seeds.

    ``random`` and ``traits`` say what the defense is, for who reads without building it, and take no part in the
    identity: ``traits`` has those of its contract by name, ``unclipped`` where it is, ``knowledge``, what an attacker
    can follow through it, ``pixels``, the values of an image, ``classes``, how many labels there are, and ``effort``,
    what the attack spends on one image. None, or without some of these, in cells that were last run before they were
    recorded.

    ``current`` says which of its results are read, where there are some of different weights or code: those that a run
    measured last, or found to be of the weights and the code at hand. It is a set of another origin only where nothing
    was measured here. ``adopted`` is that set once a share of it was computed again here and found equal.
    """

    __tablename__ = "cells"

    digest: Mapped[str] = mapped_column(primary_key=True)
    dataset: Mapped[str] = mapped_column(ForeignKey("components.digest"))
    classifier: Mapped[str] = mapped_column(ForeignKey("components.digest"))
    defense: Mapped[str] = mapped_column(ForeignKey("components.digest"))
    attack: Mapped[str | None] = mapped_column(ForeignKey("components.digest"))
    threat: Mapped[str | None] = mapped_column(ForeignKey("components.digest"))
    surrogate: Mapped[str | None] = mapped_column(ForeignKey("components.digest"))
    source_classifier: Mapped[str | None] = mapped_column(ForeignKey("components.digest"))
    source_defense: Mapped[str | None] = mapped_column(ForeignKey("components.digest"))
    certificate: Mapped[str | None] = mapped_column(ForeignKey("components.digest"))
    seed: Mapped[int] = mapped_column(_WIDE)
    subset_seed: Mapped[int] = mapped_column(_WIDE)
    random: Mapped[bool]
    traits: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    current: Mapped[str | None] = mapped_column(ForeignKey("weights.digest"))
    adopted: Mapped[str | None] = mapped_column(ForeignKey("weights.digest"))


class CodeRow(TableBase):
    """The text of a user's own file and of what it imports beside it: for reading, never to be run.

    ``digest`` is the ``source`` of the components that came from it; ``files`` has the texts by path.
    """

    __tablename__ = "code"

    digest: Mapped[str] = mapped_column(primary_key=True)
    main: Mapped[str]
    files: Mapped[dict[str, str]] = mapped_column(JSON)


class SuiteRow(TableBase):
    """A suite as it was run: the text, and the rules that are applied when reading.

    An edited suite is a row of its own under the same name; ``declared_at`` is when it was run last, and the row
    with the latest one is what reports show. ``arrival`` is None for one that was run here: it goes before all others.
    ``metrics`` has the columns of each metric that it asks for, by the metric's digest.
    """

    __tablename__ = "suites"
    __table_args__ = (UniqueConstraint("name", "digest", name="uq_suites"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    digest: Mapped[str]
    title: Mapped[str]
    text: Mapped[str]
    decision: Mapped[str]
    n_examples: Mapped[int]
    repeats: Mapped[int]
    shard_size: Mapped[int]
    metrics: Mapped[dict[str, Any]]
    declared_at: Mapped[datetime]
    arrival: Mapped[int | None] = mapped_column(ForeignKey("arrivals.id"))


class MemberRow(TableBase):
    """A cell's place in a suite: the suite's names for its parts, as ``Labels`` has them, and whether it can be run.

    ``cell`` is None where the cell was refused; ``reason`` then says why.
    """

    __tablename__ = "members"
    __table_args__ = (
        UniqueConstraint(
            *("suite_id", "dataset", "classifier", "defense", "attack", "threat_model"),
            *("certificate", "source_defense", "source_classifier"),
            name="uq_members",
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    suite_id: Mapped[int] = mapped_column(ForeignKey("suites.id"))
    cell: Mapped[str | None] = mapped_column(ForeignKey("cells.digest"), index=True)
    threat: Mapped[str | None] = mapped_column(ForeignKey("components.digest"))
    position: Mapped[int]
    dataset: Mapped[str]
    classifier: Mapped[str]
    defense: Mapped[str]
    attack: Mapped[str]
    threat_model: Mapped[str]
    certificate: Mapped[str]
    source_defense: Mapped[str]
    source_classifier: Mapped[str]
    reason: Mapped[str | None]


#: what a suite calls the parts of a cell, in the order of ``Labels``
LABELS = tuple(getattr(MemberRow, one.name) for one in fields(Labels))


class ReferenceRow(TableBase):
    """A figure that somebody published; shown beside our own, never ranked. Shares are in [0, 1]."""

    __tablename__ = "published"
    __table_args__ = (
        UniqueConstraint("dataset", "norm", "eps", "method", "architecture", "attack", "source", name="uq_published"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset: Mapped[str]
    norm: Mapped[str]
    eps: Mapped[float]
    method: Mapped[str]
    architecture: Mapped[str]
    attack: Mapped[str]
    clean: Mapped[float | None]
    robust: Mapped[float | None]
    source: Mapped[str]
    link: Mapped[str]
    note: Mapped[str]


# ---------------------------------------------------------------------- what was tried


class EnvironmentRow(TableBase):
    """Where work was done: commit, versions, hardware, determinism flags."""

    __tablename__ = "environments"

    digest: Mapped[str] = mapped_column(primary_key=True)
    facts: Mapped[dict[str, Any]]


class JobRow(TableBase):
    """A job and how it stands: queued, running, done, failed, timeout, interrupted or skipped.

    What it does: a training has its ``recipe``; an evaluation its ``cell``, with places ``start`` to ``stop - 1``,
    repeats ``first_repeat`` to ``stop_repeat - 1`` and ``metrics``, their digests separated by commas; a craft its
    places, since several cells share it. Of a job that was recorded before these were, they may be unknown.

    ``attempt`` is the try under way or the last one, ``driver`` who made it. A driver owns a running job until
    ``lease``, in seconds of the database's own clock; after that another one may claim it.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_status", "status", "driver"),)

    digest: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    label: Mapped[str]
    recipe: Mapped[str | None]
    cell: Mapped[str | None] = mapped_column(ForeignKey("cells.digest"))
    start: Mapped[int | None]
    stop: Mapped[int | None]
    first_repeat: Mapped[int | None]
    stop_repeat: Mapped[int | None]
    metrics: Mapped[str | None]
    status: Mapped[str]
    tries: Mapped[int]
    attempt: Mapped[int | None]
    driver: Mapped[str | None]
    lease: Mapped[float | None]
    reason: Mapped[str | None]


class AttemptRow(TableBase):
    """One try at a job: who, where, when, how it ended; ``batch_size`` is what fitted into the memory."""

    __tablename__ = "attempts"

    id: Mapped[int] = mapped_column(primary_key=True)
    job: Mapped[str] = mapped_column(ForeignKey("jobs.digest"), index=True)
    suite: Mapped[int | None] = mapped_column(ForeignKey("suites.id"))
    status: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    driver: Mapped[str]
    batch_size: Mapped[int | None]
    seconds: Mapped[float | None]
    environment: Mapped[str | None] = mapped_column(ForeignKey("environments.digest"))
    arrival: Mapped[int | None] = mapped_column(ForeignKey("arrivals.id"))


class ArtifactRow(TableBase):
    """A checkpoint or an adversarial batch that was made or used: what made it, and the hash of its content.

    The digest of weights is that of the component of kind ``recipe`` that they were trained by.
    """

    __tablename__ = "artifacts"

    digest: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    label: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    first_seen: Mapped[datetime]
    arrival: Mapped[int | None] = mapped_column(ForeignKey("arrivals.id"))


# ---------------------------------------------------------------------- what was measured


class WeightsRow(TableBase):
    """A set of weights that something was measured with, the code and the origin: what shares all counts together.

    ``hashes`` has content hashes by recipe digest, ``code`` hashes of sources by role (``harness.core.code_hashes``).
    Code is None where it is not known, as of what was measured before it was kept. ``origin`` is None for what counts
    as computed here.
    """

    __tablename__ = "weights"

    digest: Mapped[str] = mapped_column(primary_key=True)
    hashes: Mapped[dict[str, Any]]
    code: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    origin: Mapped[int | None] = mapped_column(ForeignKey("origins.id"))


class ResultRow(TableBase):
    """What a successful attempt measured on some repeats of a shard: costs and aggregates; outcomes have a table.

    A recipe names its checkpoint, but another machine may train other weights from it, and a component may be edited:
    results of different weights or code are kept apart by ``weights``, and the cell says which are read.

    ``correct`` and ``faults`` say again what the outcomes say, so that a leaderboard need not read millions of rows: a
    bit per place and repeat (place by place, first bit highest, the last byte padded with zeros), and how many have a
    fault. ``purebench db check`` compares them with the outcomes.
    ``code`` holds the hashes of the code that measured it, by role. They are others than those that it counts under
    only where both were shown to give the same results, or somebody said so (``run --keep-old-code``).
    ``notes`` is what was seen of the attack as it was made, and what it claimed: by name the mean and the number of
    what that is the mean of; shown, never judged by. It is None where nobody looked, and empty where there was nothing
    to see, as of an attack without gradients.
    ``arrival`` is the merge that brought it; None for what was measured into this database.
    """

    __tablename__ = "results"
    __table_args__ = (
        UniqueConstraint("cell", "weights", "start", "stop", "first_repeat", "stop_repeat", name="uq_results"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    cell: Mapped[str] = mapped_column(ForeignKey("cells.digest"))
    weights: Mapped[str] = mapped_column(ForeignKey("weights.digest"))
    attempt: Mapped[int] = mapped_column(ForeignKey("attempts.id"))
    start: Mapped[int]
    stop: Mapped[int]
    first_repeat: Mapped[int]
    stop_repeat: Mapped[int]
    correct: Mapped[bytes]
    faults: Mapped[int]
    code: Mapped[dict[str, Any]]
    notes: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    defense_images: Mapped[int]
    defense_seconds: Mapped[float]
    defense_forwards: Mapped[int] = mapped_column(BigInteger)
    defense_backwards: Mapped[int] = mapped_column(BigInteger)
    defense_evaluations: Mapped[int] = mapped_column(BigInteger)
    defense_peak_memory: Mapped[int | None] = mapped_column(BigInteger)
    defense_batch_size: Mapped[int | None]
    attack_images: Mapped[int | None]
    attack_seconds: Mapped[float | None]
    attack_forwards: Mapped[int | None] = mapped_column(BigInteger)
    attack_backwards: Mapped[int | None] = mapped_column(BigInteger)
    attack_evaluations: Mapped[int | None] = mapped_column(BigInteger)
    attack_peak_memory: Mapped[int | None] = mapped_column(BigInteger)
    attack_batch_size: Mapped[int | None]
    arrival: Mapped[int | None] = mapped_column(ForeignKey("arrivals.id"))


class ConfirmationRow(TableBase):
    """A result of another origin that was computed again here and found equal."""

    __tablename__ = "confirmations"

    result: Mapped[int] = mapped_column(ForeignKey("results.id"), primary_key=True, autoincrement=False)
    confirmed_at: Mapped[datetime]


class OutcomeRow(TableBase):
    """One example in one repeat."""

    __tablename__ = "outcomes"
    __table_args__ = ({"sqlite_with_rowid": False},)

    result: Mapped[int] = mapped_column(ForeignKey("results.id"), primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    repeat: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    example: Mapped[int]
    label: Mapped[int]
    prediction: Mapped[int]
    correct: Mapped[bool]
    fault: Mapped[str | None]
    radius: Mapped[float | None]


class MeasureRow(TableBase):
    """What a metric gave of a result: a number, or an array, of each of its places and repeats.

    ``set`` names the networks and the code that it was taken with; of several the one of the latest attempt is read.
    ``names`` are the metric's columns, separated by commas, ``shape`` likewise the lengths of a column's axes, empty of
    plain numbers. ``numbers`` are by column, place and repeat, one after the other: doubles, lowest byte first, of a
    column with axes single ones; not a number where it was not finite. ``sums`` says again of each column the count,
    sum and sum of squares of those that are finite (doubles); empty of a column with axes.
    """

    __tablename__ = "measures"

    result: Mapped[int] = mapped_column(ForeignKey("results.id"), primary_key=True, autoincrement=False)
    metric: Mapped[str] = mapped_column(ForeignKey("components.digest"), primary_key=True)
    set: Mapped[str] = mapped_column(ForeignKey("weights.digest"), primary_key=True)
    attempt: Mapped[int] = mapped_column(ForeignKey("attempts.id"))
    names: Mapped[str]
    shape: Mapped[str]
    sums: Mapped[bytes]
    numbers: Mapped[bytes]
    arrival: Mapped[int | None] = mapped_column(ForeignKey("arrivals.id"))
