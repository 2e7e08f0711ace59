"""Origins: which databases the rows of this one come from, what may be read of theirs, and how to be rid of it.

Results that were computed elsewhere stand beside ours and change none of them. They rank once a share of them was
computed again here and found equal.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, select, union, update

from harness.core.errors import UserError, nearest
from harness.core.spec import short
from harness.store.database import file_of, insert_new
from harness.store.tables import (
    ArrivalRow,
    ArtifactRow,
    AttemptRow,
    CellRow,
    ConfirmationRow,
    EnvironmentRow,
    JobRow,
    MeasureRow,
    MemberRow,
    OriginRow,
    OutcomeRow,
    ResultRow,
    SuiteRow,
    WeightsRow,
)
from harness.store.write.record import Arrival

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from harness.store.write.store import Store

#: share of a cell's results that must have been computed again here before it ranks, and at least one of each arrival
CONFIRMED = 0.05


class Kind(StrEnum):
    """What a database is to this one: itself, another of ours whose results count as computed here, or a stranger's."""

    HERE = "here"
    OWN = "own"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Origin:
    """A database that results came from.

    Attributes:
        id: its number here.
        database: the name that it gave itself.
        kind: what it is to this one.
        name: of the file that it came from last, or the URL.
        sha256: of that file as it was then; None where it was a server.
        arrived_at: when, by our clock.
        cells: how many cells there are results of.
        results: how many results.
        adopted: of how many of those cells a share was computed again here and found equal.
        suites: how many suites are its.
    """

    id: int
    database: str
    kind: Kind
    name: str
    sha256: str | None
    arrived_at: datetime
    cells: int
    results: int
    adopted: int
    suites: int

    def __str__(self) -> str:
        """Name it, as people can tell it from others."""
        return f"{self.name} ({short(self.database)})"


def identity(connection: Connection) -> str:
    """Return the name that a database gave itself.

    Raises:
        UserError: if it has none, or several.
    """
    found = connection.scalars(select(OriginRow.database).where(OriginRow.kind == Kind.HERE)).all()
    if len(found) != 1:
        raise UserError(f"expected a database that has one name of its own, got {len(found)}; restore a copy")
    return found[0]


def arrive(connection: Connection, source: Engine, database: str, *, own: bool) -> Arrival:
    """Record that a database is merged; return what its rows are to be marked with.

    Args:
        connection: to the target.
        source: what is merged.
        database: the name of the source.
        own: whether what was computed there counts as computed here.
    """
    kind = Kind.OWN if own else Kind.FOREIGN
    insert_new(connection, OriginRow, [{"database": database, "kind": kind}])
    known = select(OriginRow.id).where(OriginRow.database == database, OriginRow.kind == kind)
    origin = connection.execute(known).scalar_one()
    path = file_of(source.url)
    told = {
        "name": source.url.render_as_string() if path is None else path.name,
        "sha256": None if path is None else _sha256(path),
        "arrived_at": datetime.now(UTC),
    }
    key = connection.execute(insert(ArrivalRow).values(origin=origin, **told)).inserted_primary_key
    if key is None:
        raise RuntimeError("expected the database to number the arrival")
    return Arrival(key[0], None if own else origin, database)


def leave(connection: Connection, arrival: Arrival) -> None:
    """Take back the record of a merge that brought nothing."""
    brought = (ResultRow.arrival, AttemptRow.arrival, SuiteRow.arrival, ArtifactRow.arrival)
    used = union(*(select(column).where(column.is_not(None)) for column in brought))
    connection.execute(delete(ArrivalRow).where(ArrivalRow.id == arrival.id, ArrivalRow.id.not_in(used)))
    others = select(ArrivalRow.origin)
    connection.execute(delete(OriginRow).where(OriginRow.kind != Kind.HERE, OriginRow.id.not_in(others)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def origins(store: Store) -> tuple[Origin, ...]:
    """Return the databases that something came from, in the order in which they came first."""
    last = select(func.max(ArrivalRow.id)).group_by(ArrivalRow.origin)
    query = (
        select(OriginRow, ArrivalRow)
        .join(ArrivalRow, ArrivalRow.origin == OriginRow.id)
        .where(ArrivalRow.id.in_(last))
        .order_by(OriginRow.id)
    )
    read = (CellRow.adopted == WeightsRow.digest) & (CellRow.current == WeightsRow.digest)
    arrived = select(ArrivalRow.origin, func.count()).group_by(ArrivalRow.origin)
    counts = {
        "cells": select(ArrivalRow.origin, func.count(ResultRow.cell.distinct()))
        .join(ResultRow, ResultRow.arrival == ArrivalRow.id)
        .group_by(ArrivalRow.origin),
        "results": arrived.join(ResultRow, ResultRow.arrival == ArrivalRow.id),
        "suites": arrived.join(SuiteRow, SuiteRow.arrival == ArrivalRow.id),
        "adopted": select(WeightsRow.origin, func.count()).join(CellRow, read).group_by(WeightsRow.origin),
    }
    with store.session() as session:
        counted = {name: dict(session.execute(one).all()) for name, one in counts.items()}
        return tuple(
            Origin(
                id=origin.id,
                database=origin.database,
                kind=Kind(origin.kind),
                name=arrival.name,
                sha256=arrival.sha256,
                arrived_at=arrival.arrived_at,
                **{name: found.get(origin.id, 0) for name, found in counted.items()},
            )
            for origin, arrival in session.execute(query).all()
        )


def origin_names(connection: Connection) -> dict[int, str]:
    """Return what people call origins, by number: the file that they came from last, and which database that was."""
    last = select(func.max(ArrivalRow.id)).group_by(ArrivalRow.origin)
    query = select(OriginRow.id, OriginRow.database, ArrivalRow.name)
    query = query.join(ArrivalRow, ArrivalRow.origin == OriginRow.id).where(ArrivalRow.id.in_(last))
    return {row.id: f"{row.name} ({short(row.database)})" for row in connection.execute(query)}


def find_origin(store: Store, text: str) -> Origin:
    """Return the foreign origin that a person names: by the name of its file, or the beginning of the database's name.

    Raises:
        UserError: unless it is exactly one.
    """
    foreign = [one for one in origins(store) if one.kind is Kind.FOREIGN]
    found = [one for one in foreign if text and (one.name == text or one.database.startswith(text))]
    if len(found) == 1:
        return found[0]
    if not foreign:
        raise UserError(f"expected an origin, got {text!r}, but nothing in this database comes from elsewhere")
    told = f"which names {len(found)} of them" if found else nearest(text, [one.name for one in foreign])
    raise UserError(f"expected one of {', '.join(map(str, foreign))}, got {text!r}; {told}")


def confirm(store: Store, results: Iterable[int]) -> int:
    """Record results of other origins that were computed again here and found equal; adopt the cells that have enough.

    Returns:
        How many cells were adopted by it.
    """
    rows = [{"result": number, "confirmed_at": datetime.now(UTC)} for number in results]
    with store.engine.begin() as connection:
        insert_new(connection, ConfirmationRow, rows)
        touched = select(ResultRow.cell, ResultRow.weights).where(ResultRow.id.in_([row["result"] for row in rows]))
        pairs = {tuple(row) for row in connection.execute(touched).all()}
        ready = [(cell, weights) for cell, weights in sorted(pairs) if _enough(connection, cell, weights)]
        for cell, weights in ready:
            which = update(CellRow).where(CellRow.digest == cell, CellRow.current == weights)
            connection.execute(which.values(adopted=weights))
    return len(ready)


def _enough(connection: Connection, cell: str, weights: str) -> bool:
    """Whether so many results of a cell were confirmed that it may rank."""
    query = (
        select(ResultRow.arrival, ConfirmationRow.result)
        .outerjoin(ConfirmationRow, ConfirmationRow.result == ResultRow.id)
        .where(ResultRow.cell == cell, ResultRow.weights == weights)
    )
    seen: dict[int | None, list[bool]] = defaultdict(list)
    for arrival, confirmed in connection.execute(query):
        seen[arrival].append(confirmed is not None)
    total, confirmed = sum(map(len, seen.values())), sum(map(sum, seen.values()))
    return all(map(any, seen.values())) and confirmed >= CONFIRMED * total


def forget(store: Store, origin: Origin) -> None:
    """Remove all that came from a database: its results, suites, attempts, and the cells that nothing else needs.

    Components and recipes stay: they are named by their content, and nothing is read of them alone.
    """
    arrivals = select(ArrivalRow.id).where(ArrivalRow.origin == origin.id)
    sets = select(WeightsRow.digest).where(WeightsRow.origin == origin.id)
    results = select(ResultRow.id).where(ResultRow.weights.in_(sets))
    suites = select(SuiteRow.id).where(SuiteRow.arrival.in_(arrivals))
    with store.engine.begin() as connection:
        attempts = list(connection.scalars(select(AttemptRow.id).where(AttemptRow.arrival.in_(arrivals))))
        connection.execute(update(CellRow).where(CellRow.adopted.in_(sets)).values(adopted=None))
        connection.execute(update(CellRow).where(CellRow.current.in_(sets)).values(current=None))
        connection.execute(delete(ConfirmationRow).where(ConfirmationRow.result.in_(results)))
        connection.execute(delete(MeasureRow).where(MeasureRow.result.in_(results)))
        connection.execute(delete(OutcomeRow).where(OutcomeRow.result.in_(results)))
        connection.execute(delete(ResultRow).where(ResultRow.weights.in_(sets)))
        connection.execute(delete(WeightsRow).where(WeightsRow.origin == origin.id))
        connection.execute(delete(MemberRow).where(MemberRow.suite_id.in_(suites)))
        connection.execute(update(AttemptRow).where(AttemptRow.suite.in_(suites)).values(suite=None))
        connection.execute(delete(SuiteRow).where(SuiteRow.arrival.in_(arrivals)))
        _forget_attempts(connection, attempts)
        connection.execute(delete(ArtifactRow).where(ArtifactRow.arrival.in_(arrivals)))
        connection.execute(delete(ArrivalRow).where(ArrivalRow.origin == origin.id))
        connection.execute(delete(OriginRow).where(OriginRow.id == origin.id))
        needed = (MemberRow.cell, ResultRow.cell, JobRow.cell)
        kept = union(*(select(column).where(column.is_not(None)) for column in needed))
        connection.execute(delete(CellRow).where(CellRow.digest.not_in(kept)))
        lived = select(AttemptRow.environment).where(AttemptRow.environment.is_not(None))
        connection.execute(delete(EnvironmentRow).where(EnvironmentRow.digest.not_in(lived)))


def _forget_attempts(connection: Connection, attempts: Sequence[int]) -> None:
    """Remove attempts, and the jobs that nobody else has tried."""
    for start in range(0, len(attempts), 500):
        some = attempts[start : start + 500]
        jobs = list(connection.scalars(select(JobRow.digest).where(JobRow.attempt.in_(some))))
        connection.execute(delete(AttemptRow).where(AttemptRow.id.in_(some)))
        last = select(func.max(AttemptRow.id)).where(AttemptRow.job == JobRow.digest).scalar_subquery()
        connection.execute(update(JobRow).where(JobRow.digest.in_(jobs)).values(attempt=last))
        tried = select(AttemptRow.job)
        connection.execute(delete(JobRow).where(JobRow.digest.in_(jobs), JobRow.digest.not_in(tried)))
