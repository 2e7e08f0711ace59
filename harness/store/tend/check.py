"""Check: whether a database says of itself what its rows say; reads it at one moment and writes nothing."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import func, select

from harness.core.cell import Labels, cell_digest
from harness.core.contracts import Traits
from harness.core.declaration import RULES, suite_digest
from harness.core.errors import UserError
from harness.core.job import evaluation_digest
from harness.core.local import is_code
from harness.core.metric import NAME, MetricColumn
from harness.core.minimum import Effort
from harness.core.rectangle import Rectangle, unmeasured
from harness.core.result import Cost
from harness.core.roles import Role
from harness.core.spec import Spec, digest_of, short
from harness.core.threat import Knowledge, ThreatModel
from harness.store.read.snapshot import snapshot
from harness.store.tables import (
    LABELS,
    ArtifactRow,
    AttemptRow,
    CellRow,
    CodeRow,
    ComponentRow,
    EnvironmentRow,
    JobRow,
    MeasureRow,
    MemberRow,
    OriginRow,
    OutcomeRow,
    ResultRow,
    SuiteRow,
    TableBase,
    WeightsRow,
)
from harness.store.tend.doubts import doubts
from harness.store.tend.truth import Truths
from harness.store.tend.values import FILES, HEX, values
from harness.store.write.aggregates import aggregate, numbers_of, sums_of_numbers
from harness.store.write.record import set_digest
from harness.store.write.store import PARTS, Store, cell_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Column, Connection, Row, Select

    from harness.artifacts import Folder

    Look = Callable[[Connection], Iterator[str]]

#: findings of a kind that are told one by one
MOST = 20

#: lengths of the axes of a metric's columns
SHAPE = re.compile(r"([1-9][0-9]{0,5}(,[1-9][0-9]{0,5}){0,7})?")

#: figures of a result besides its outcomes
SECONDS = ("defense_seconds", "attack_seconds")
COSTS = tuple(f"{side}_{name}" for side in ("defense", "attack") for name in vars(Cost()))


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        counts: how many rows were looked at, by table, and how many files.
        findings: a sentence for everything that is wrong; at most ``MOST`` of a kind, and then how many more.
        doubts: a sentence for every cell that a fault which has been mended since could have touched.
    """

    counts: Mapping[str, int]
    findings: tuple[str, ...]
    doubts: tuple[str, ...] = ()


def check(url: str, folder: Folder, say: Callable[[str], object] = lambda _: None) -> Checked:
    """Look for damage.

    Args:
        url: a path of an SQLite file or an SQLAlchemy URL.
        folder: where artifacts are; a file that is not there is no damage.
        say: is told what is being looked at, for somebody who waits.

    Raises:
        UserError: if there is no such database, or it cannot be opened at all.
    """
    files = _Files(folder)
    with snapshot(_open(url).engine) as connection:
        found = (*findings(connection, say), *_told("artifacts", files.look(connection)))
        say("looking for mended faults")
        doubtful = _doubtful(connection)
        names = () if found else ("suites", "cells", "attempts", "results", "outcomes")
        counts = {name: _count(connection, name) for name in names}
    return Checked({**counts, "artifact files": files.seen}, found, doubtful)


def findings(connection: Connection, say: Callable[[str], object] = lambda _: None) -> tuple[str, ...]:
    """Return a sentence for everything in a database that is not what it says; of a kind at most ``MOST``.

    Args:
        connection: on which the database is seen at one moment.
        say: is told what is being looked at, for somebody who waits.
    """
    looks: dict[str, Look] = {
        "the file": _file,
        "values": values,
        "references": _orphans,
        "digests": _digests,
        "cells": _cells,
        "suites": _suites,
        "jobs": _jobs,
        "weights": _weights,
        "results": partial(_results, say),
        "measures": _measures,
        "labels": _labels,
        "overlaps": _overlaps,
    }
    found: list[str] = []
    for title, look in looks.items():
        say(f"looking at {title}")
        said = list(_told(title, look(connection)))
        found += said
        if said and title == "values":  # the rest would be read by values that are none
            break
    return tuple(found)


def damage(url: str) -> str:
    """Return what is wrong with a database, the first that is found; empty where nothing is.

    For who stumbled while reading it, and wants to know whose fault that was.
    """
    try:
        with snapshot(_open(url).engine) as connection:
            return next(iter(findings(connection)), "")
    except UserError as error:
        return str(error)


def _open(url: str) -> Store:
    try:
        return Store.open(url)
    except UnicodeDecodeError as error:  # SQLite quotes what it stumbled over
        raise UserError(f"expected a purebench database at {url}, but it is damaged: restore a copy") from error


def _told(title: str, found: Iterator[str]) -> Iterator[str]:
    """Yield the first sentences, and how many more there are; what cannot even be read is one too."""
    more = 0
    try:
        for number, sentence in enumerate(found):
            if number < MOST:
                yield sentence
            else:
                more += 1
    except UserError as error:
        yield f"{title}: {error}"
    except Exception as error:  # what a stranger can write in place of a row has no end
        yield f"{title}: expected rows that can be read, got one that cannot: {type(error).__name__}: {error}"
    if more:
        yield f"{title}: {more} more like these"


def _doubtful(connection: Connection) -> tuple[str, ...]:
    """Return what is in doubt; nothing where rows cannot be read, which is told as damage."""
    try:
        return tuple(doubts(connection))
    except Exception:
        return ()


def _count(connection: Connection, name: str) -> int:
    return int(connection.execute(select(func.count()).select_from(TableBase.metadata.tables[name])).scalar_one())


def _stream(connection: Connection, query: Select[*tuple[Any, ...]], rows: int = 1000) -> Iterator[Any]:
    """Yield rows, some at a time."""
    return iter(connection.execute(query.execution_options(yield_per=rows)))


def _file(connection: Connection) -> Iterator[str]:
    if connection.dialect.name == "sqlite":
        for (said,) in connection.exec_driver_sql(f"PRAGMA integrity_check({MOST})"):
            if said != "ok":
                yield f"the file: {said}; restore a copy, or save what can be read with `sqlite3 FILE .recover`"


def _orphans(connection: Connection) -> Iterator[str]:
    """Follow every reference; PostgreSQL does so itself, an SQLite file may have been edited without."""
    pairs = [(key.parent, key.column) for table in TableBase.metadata.sorted_tables for key in table.foreign_keys]
    tables = TableBase.metadata.tables
    pairs.append((tables["jobs"].c.attempt, tables["attempts"].c.id))  # no foreign key: each names the other
    for child, parent in sorted(pairs, key=str):
        yield from _lost(connection, child, parent)


def _lost(connection: Connection, child: Column[Any], parent: Column[Any]) -> Iterator[str]:
    there = select(parent).where(parent == child).correlate(child.table).exists()
    query = select(child, func.count()).where(child.is_not(None), ~there).group_by(child).order_by(child)
    for value, rows in connection.execute(query):
        named = short(value) if isinstance(value, str) else value
        yield f"{child.table.name}: {rows} of {child.name} {named}, which is not among the {parent.table.name}"


def _digests(connection: Connection) -> Iterator[str]:
    """Compare digests with what they are made of."""
    sets = select(WeightsRow.digest, WeightsRow.hashes, WeightsRow.code, OriginRow.database)
    sets = sets.outerjoin(OriginRow, OriginRow.id == WeightsRow.origin)
    for digest, hashes, code, database in _stream(connection, sets):
        if set_digest(hashes, code, database) != digest:
            yield f"weights: the content of {short(digest)} is not what its digest says"
    for digest, main, files in _stream(connection, select(CodeRow.digest, CodeRow.main, CodeRow.files)):
        if not is_code(main, files, digest):
            yield f"code: the content of {short(digest)} is not what its digest says"
    for digest, facts in _stream(connection, select(EnvironmentRow.digest, EnvironmentRow.facts)):
        yield from _same("environments", digest, facts)
    columns = (ComponentRow.digest, ComponentRow.kind, ComponentRow.use, ComponentRow.version, ComponentRow.spec)
    for row in _stream(connection, select(*columns)):
        yield from _same("components", row.digest, row.spec)
        threat = row.kind == "threat_model"
        told = (
            ("threat_model", row.spec["norm"], 1) if threat else [row.spec[key] for key in ("kind", "use", "version")]
        )
        if tuple(told) != (row.kind, row.use, row.version):
            yield f"components: {short(row.digest)} is called {row.kind} {row.use}, its spec says otherwise"
        if not _stands(ThreatModel if threat else Spec, row.spec):
            yield f"components: {short(row.digest)} has a spec that describes no {row.kind}"


def _stands(kind: type[Spec] | type[ThreatModel], spec: dict[str, Any]) -> bool:
    """Whether a spec describes something of its kind, and nothing else."""
    try:
        return kind.from_dict(spec).as_dict() == spec
    except Exception:
        return False


def _same(table: str, digest: str, content: object) -> Iterator[str]:
    if digest_of(content) != digest:
        yield f"{table}: the content of {short(digest)} is not what its digest says"


def _cells(connection: Connection) -> Iterator[str]:
    specs: dict[str, Any] = dict(connection.execute(select(ComponentRow.digest, ComponentRow.spec)).all())
    for row in _stream(connection, select(*CellRow.__table__.columns)):
        whole = all(getattr(row, part) in specs for part in PARTS if getattr(row, part) is not None)  # else an orphan
        if whole and cell_digest(cell_spec(row, specs)) != row.digest:
            yield f"cells: the content of {short(row.digest)} is not what its digest says"
        if row.traits is not None and not _known(row.traits):
            yield f"cells: the traits of {short(row.digest)} are not those of a defense"


def _known(traits: Mapping[str, Any]) -> bool:
    """Whether traits have what a report reads of them, as far as they were recorded; see ``CellRow``."""
    effort, knowledge = traits.get("effort", {}), traits.get("knowledge", [])
    numbers = [traits.get(name, 1) for name in ("pixels", "classes")]
    return (
        all(type(traits.get(one.name)) in (bool, int) for one in fields(Traits))
        and isinstance(knowledge, list)
        and set(knowledge) <= set(Knowledge)
        and all(type(number) is int and number > 0 for number in numbers)
        and isinstance(effort, dict)
        and effort.keys() <= {one.name for one in fields(Effort)}
        and traits.get("role", Role.PURIFIER) in tuple(Role)
    )


def _suites(connection: Connection) -> Iterator[str]:
    listed = select(MemberRow.suite_id, *LABELS, func.coalesce(MemberRow.cell, MemberRow.reason))
    ordered = connection.execute(listed.order_by(MemberRow.suite_id, MemberRow.position)).all()
    members = {
        suite: [(*Labels(*names).path, cell) for _, *names, cell in rows]
        for suite, rows in groupby(ordered, lambda row: row.suite_id)
    }
    metrics = set(connection.scalars(select(ComponentRow.digest).where(ComponentRow.kind == "metric")))
    for row in _stream(connection, select(*SuiteRow.__table__.columns)):
        rules = {**{name: getattr(row, name) for name in RULES}, "metrics": sorted(row.metrics)}
        if suite_digest(rules, members.get(row.id, [])) != row.digest:
            yield f"suites: the text, rules or members of {row.name} (number {row.id}) are not what its digest says"
        for digest, columns in row.metrics.items():
            if not _shown(columns):
                yield f"suites: the columns of metric {short(digest)} in {row.name} (number {row.id}) are none"
            if digest not in metrics:
                yield f"suites: {row.name} (number {row.id}) asks for metric {short(digest)}, which is no component"


def _shown(columns: Any) -> bool:
    """Whether these are the columns of a metric."""
    try:
        return bool(columns) and all(MetricColumn.from_dict(one).as_dict() == one for one in columns)
    except Exception:
        return False


def _jobs(connection: Connection) -> Iterator[str]:
    for row in _stream(connection, select(*JobRow.__table__.columns)):
        places = _places(row)
        metrics = row.metrics.split(",") if row.metrics else []
        if places is not None and evaluation_digest(row.cell, *places, metrics) != row.digest:
            yield f"jobs: what {row.label} evaluates is not what its digest says"
        if row.kind == "train" and row.recipe not in (None, row.digest):
            yield f"jobs: the recipe of {row.label} is not what its digest says"
    with_result = select(AttemptRow.job).join(ResultRow, ResultRow.attempt == AttemptRow.id)
    done = (JobRow.kind == "evaluate") & (JobRow.status == "done") & JobRow.digest.not_in(with_result)
    for row in connection.execute(select(*JobRow.__table__.columns).where(done).order_by(JobRow.label)).all():
        if not _accounted(connection, row):
            yield f"jobs: {row.label} is done, but what it measured is not among the results"
    join = select(ResultRow.id, AttemptRow.id, AttemptRow.status).join(AttemptRow, AttemptRow.id == ResultRow.attempt)
    for result, attempt, status in connection.execute(join.where(AttemptRow.status != "done").order_by(ResultRow.id)):
        yield f"results: {result} is of attempt {attempt}, which ended as {status}"
    of = select(ResultRow.id, ResultRow.cell, JobRow.cell.label("asked"), JobRow.kind)
    of = of.join(AttemptRow, AttemptRow.id == ResultRow.attempt).join(JobRow, JobRow.digest == AttemptRow.job)
    for row in connection.execute(of.where(ResultRow.cell != func.coalesce(JobRow.cell, ""))):
        asked = f"cell {short(row.asked)}" if row.asked else f"a job to {row.kind}"
        yield f"results: {row.id} is of cell {short(row.cell)}, but its attempt was at {asked}"


def _places(job: Row[Any]) -> Rectangle | None:
    """Return what an evaluation was to measure; None where that is not known, and of other jobs."""
    places = [getattr(job, name) for name in Rectangle._fields]
    return None if job.kind != "evaluate" or None in places else Rectangle(*places)


def _accounted(connection: Connection, job: Row[Any]) -> bool:
    """Whether a job without a result of its own came second: all that it measured is there from others."""
    columns = [getattr(ResultRow, name) for name in Rectangle._fields]
    there = [Rectangle(*row) for row in connection.execute(select(*columns).where(ResultRow.cell == job.cell))]
    asked = _places(job)
    return bool(there) if asked is None else not list(unmeasured(asked, there))


def _weights(connection: Connection) -> Iterator[str]:
    """Hold the hashes of weights that results were measured with against the files that were recorded."""
    known: dict[str, set[str]] = {}
    kept = select(ArtifactRow.digest, ArtifactRow.sha256).where(ArtifactRow.kind == "weights")
    for digest, sha256 in _stream(connection, kept):
        known.setdefault(digest, set()).add(sha256)
    for digest, hashes in _stream(connection, select(WeightsRow.digest, WeightsRow.hashes)):
        for recipe, sha256 in hashes.items():
            if not (HEX.fullmatch(recipe) and HEX.fullmatch(sha256)):
                yield f"weights: expected hashes by digest in {short(digest)}, got {recipe!r:.80}: {sha256!r:.80}"
            elif sha256 not in known.get(recipe, {sha256}):
                yield f"weights: {short(digest)} has {short(sha256)} of recipe {short(recipe)}, which no file had"


def _results(say: Callable[[str], object], connection: Connection) -> Iterator[str]:
    """Compare what results say of their outcomes with the outcomes, one result at a time."""
    total = _count(connection, "results")
    query = select(*ResultRow.__table__.columns).order_by(ResultRow.id)
    for number, row in enumerate(_stream(connection, query, 100)):
        if number % 100 == 0:
            say(f"looking at results: {number} of {total}")
        mine = connection.execute(select(*OutcomeRow.__table__.columns).where(OutcomeRow.result == row.id)).all()
        problem = _amiss(row, mine)
        if problem:
            yield f"results: {row.id} (cell {short(row.cell)}, places {row.start} to {row.stop - 1}): {problem}"


def _amiss(row: Row[Any], outcomes: Sequence[Any]) -> str:
    """Return what is wrong with a result, or nothing."""
    rectangle = Rectangle(row.start, row.stop, row.first_repeat, row.stop_repeat)
    if rectangle.places <= 0 or rectangle.size != len(outcomes):
        return f"expected {rectangle.size} outcomes, got {len(outcomes)}"
    try:
        found = aggregate(outcomes, *rectangle)
    except ValueError as error:
        return str(error)
    if row.notes is not None and not all(map(_noted, row.notes.values())):
        return "its notes are no means with numbers"
    figures = [*(getattr(row, name) for name in SECONDS), *(one.radius for one in outcomes)]
    if any(value is not None and not math.isfinite(value) for value in figures):
        return "a figure is not finite"
    if any((getattr(row, name) or 0) < 0 for name in COSTS):
        return "a cost is negative"
    if any(one.label < 0 for one in outcomes):
        return "a label is negative"
    if any(one.correct != (one.prediction == one.label) for one in outcomes):
        return "an outcome is called correct and its prediction is not the label, or the other way round"
    wrong = [name for name, value in found._asdict().items() if value != getattr(row, name)]
    return f"{' and '.join(wrong)} not as the outcomes have it" if wrong else ""


def _measures(connection: Connection) -> Iterator[str]:
    """Hold what metrics gave against what was asked, against the results that it is of, and sums against numbers."""
    asked = _asked_columns(connection)
    edges = [getattr(ResultRow, name) for name in Rectangle._fields]
    of = (ComponentRow.kind, AttemptRow.status, JobRow.cell.label("attempted"), JobRow.metrics, ResultRow.cell)
    query = select(*MeasureRow.__table__.columns, *of, *edges)
    query = query.join(ResultRow, ResultRow.id == MeasureRow.result)
    query = query.join(AttemptRow, AttemptRow.id == MeasureRow.attempt).join(JobRow, JobRow.digest == AttemptRow.job)
    query = query.join(ComponentRow, ComponentRow.digest == MeasureRow.metric).order_by(MeasureRow.result)
    taken: set[tuple[int, str]] = set()
    shapes: dict[str, str] = {}
    for row in _stream(connection, query, 100):
        taken.add((row.result, row.metric))
        problem = _mismeasured(row, asked.get(row.metric, []))
        if not problem and shapes.setdefault(row.metric, row.shape) != row.shape:
            problem = f"its shape is {row.shape}, that of another result {shapes[row.metric]}"
        if problem:
            yield f"measures: {short(row.metric)} of result {row.result}: {problem}"
    jobs = select(ResultRow.id, JobRow.metrics).join(AttemptRow, AttemptRow.id == ResultRow.attempt)
    jobs = jobs.join(JobRow, JobRow.digest == AttemptRow.job).join(CellRow, CellRow.digest == ResultRow.cell)
    jobs = jobs.where(JobRow.metrics != "", CellRow.certificate.is_(None)).order_by(ResultRow.id)
    for result, metrics in _stream(connection, jobs):
        for metric in metrics.split(","):
            if (result, metric) not in taken:
                yield f"measures: expected {short(metric)} of result {result}, whose job took it, got none"


def _asked_columns(connection: Connection) -> dict[str, list[list[MetricColumn]]]:
    """Return the columns of each metric as suites have them."""
    asked: dict[str, list[list[MetricColumn]]] = {}
    for metrics in connection.scalars(select(SuiteRow.metrics)):
        for digest, columns in metrics.items():
            if _shown(columns):
                asked.setdefault(digest, []).append([MetricColumn.from_dict(one) for one in columns])
    return asked


def _mismeasured(row: Row[Any], asked: list[list[MetricColumn]]) -> str:
    """Return what is wrong with what a metric gave of a result, or nothing; ``asked`` has its columns by suite."""
    rectangle = Rectangle(*(getattr(row, name) for name in Rectangle._fields))
    names = row.names.split(",")
    if row.kind != "metric":
        return f"it is of a component of kind {row.kind}, expected a metric"
    if row.status != "done":
        return f"it is of an attempt that ended as {row.status}"
    if row.attempted != row.cell or (row.metrics and row.metric not in row.metrics.split(",")):
        return "its attempt was not to take it"
    if not all(map(NAME.fullmatch, names)) or not SHAPE.fullmatch(row.shape):
        return "it has no names or shape of columns"
    shape = [int(length) for length in row.shape.split(",") if length]
    told = [([column.name for column in columns], len(columns[0].axes)) for columns in asked]
    if told and (names, len(shape)) not in told:
        return "its columns are not those that a suite asks for"
    wanted = rectangle.size * len(names) * (4 * math.prod(shape) if shape else 8)
    if len(row.numbers) != wanted:
        return f"expected {wanted} bytes of numbers, got {len(row.numbers)}"
    if rectangle.size and sums_of_numbers(numbers_of(row.numbers, len(names), shape, rectangle)) != row.sums:
        return "sums not as the numbers have it"
    return ""


def _labels(connection: Connection) -> Iterator[str]:
    """Hold examples and labels against the datasets that are at hand."""
    specs: dict[str, Any] = dict(
        connection.execute(select(ComponentRow.digest, ComponentRow.spec).where(ComponentRow.kind == "dataset")).all()
    )
    truths = Truths()
    query = select(ResultRow.id, CellRow.dataset, CellRow.subset_seed)
    query = query.join(CellRow, CellRow.digest == ResultRow.cell).order_by(ResultRow.id)
    for result, dataset, subset_seed in connection.execute(query).all():
        truth = truths.of(dataset, specs[dataset], subset_seed)
        if truth is not None:
            columns = (OutcomeRow.place, OutcomeRow.example, OutcomeRow.label, OutcomeRow.prediction)
            seen = np.array(connection.execute(select(*columns).where(OutcomeRow.result == result)).all(), np.int64)
            places, examples, labels, predictions = seen.T
            if places.max() >= len(truth.labels):
                yield f"results: {result} has place {places.max()} of {len(truth.labels)} images"
            elif (truth.examples[places] != examples).any() or (truth.labels[places] != labels).any():
                yield f"results: {result} has examples or labels that are not those of its dataset"
            elif predictions.max() >= truth.classes:
                yield f"results: {result} has class {predictions.max()} of {truth.classes}"


def _noted(pair: Any) -> bool:
    """Whether a note is a mean and the number of what that is the mean of."""
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(one, int | float) and math.isfinite(one) for one in pair)
        and pair[1] >= 0
    )


def _overlaps(connection: Connection) -> Iterator[str]:
    """Look for places and repeats of a cell that are counted twice."""
    one, other = ResultRow.__table__.alias(), ResultRow.__table__.alias()
    query = (
        select(one.c.id, other.c.id, one.c.cell)
        .join(other, (one.c.cell == other.c.cell) & (one.c.weights == other.c.weights) & (one.c.id < other.c.id))
        .where(one.c.start < other.c.stop, other.c.start < one.c.stop)
        .where(one.c.first_repeat < other.c.stop_repeat, other.c.first_repeat < one.c.stop_repeat)
    )
    for first, second, cell in connection.execute(query.order_by(one.c.id, other.c.id)):
        yield f"results: {first} and {second} of cell {short(cell)} overlap, so that outcomes are counted twice"


class _Files:
    """The artifact files that are here."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.seen = 0

    def look(self, connection: Connection) -> Iterator[str]:
        """Compare the files with the hashes that were recorded."""
        query = select(ArtifactRow.kind, ArtifactRow.digest, ArtifactRow.sha256).order_by(
            ArtifactRow.kind, ArtifactRow.digest
        )
        for (kind, digest), rows in groupby(connection.execute(query), lambda row: (row.kind, row.digest)):
            known = {row.sha256 for row in rows}
            if kind not in FILES or not HEX.fullmatch(digest):  # as is told among the values; no path is made of it
                continue
            try:
                found = self.folder.sha256(kind, digest)
            except OSError as error:
                yield f"artifacts: expected to read {self.folder.path(kind, digest)}, got {error}"
                continue
            self.seen += found is not None
            if found is not None and found not in known:
                yield (
                    f"artifacts: {self.folder.path(kind, digest)} has sha256 {short(found)}, and not "
                    f"{' or '.join(map(short, sorted(known)))}, which was recorded; delete it and run again"
                )
