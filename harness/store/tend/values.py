"""Values: what the columns of a database may hold, and which hold something else.

A server refuses most of it; an SQLite file takes any value in any column.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Boolean, Float, Integer, LargeBinary, String, case, func, or_, select, type_coerce

from harness.core.registry import TABLES
from harness.core.result import MOST_OUTCOMES
from harness.store.read.origins import Kind, identity
from harness.store.tables import (
    ArtifactRow,
    AttemptRow,
    CellRow,
    CodeRow,
    ComponentRow,
    EnvironmentRow,
    JobRow,
    OriginRow,
    ReferenceRow,
    ResultRow,
    SuiteRow,
    TableBase,
    WeightsRow,
)
from harness.store.types import Moment, Real
from harness.store.write.queue import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Column, ColumnElement, Connection

#: kinds of artifacts that are files
FILES = ("weights", "adversarial")

HEX = re.compile("[0-9a-f]{64}")

#: what stands in columns whose words this programme chooses
WORDS: dict[Any, tuple[str, ...]] = {
    ComponentRow.kind: (*TABLES, "recipe", "threat_model"),
    JobRow.kind: ("train", "craft", "evaluate", "measure"),
    JobRow.status: STATUSES,
    AttemptRow.status: STATUSES,
    SuiteRow.decision: ("mean", "any", "majority"),
    OriginRow.kind: tuple(Kind),
    ArtifactRow.kind: FILES,
}

#: columns that name something by the digest of its content
DIGESTS: tuple[Any, ...] = (
    CodeRow.digest,
    ComponentRow.digest,
    CellRow.digest,
    EnvironmentRow.digest,
    JobRow.digest,
    WeightsRow.digest,
    SuiteRow.digest,
    ArtifactRow.digest,
    ArtifactRow.sha256,
)

#: columns with the least and the most that they may hold: what a suite may ask for
RANGES: tuple[tuple[str, Any, int, int], ...] = (
    ("suites: n_examples", SuiteRow.n_examples, 1, 10_000_000),
    ("suites: repeats", SuiteRow.repeats, 1, 10_000_000),
    ("suites: shard_size", SuiteRow.shard_size, 1, 10_000_000),
    ("suites: n_examples times repeats", SuiteRow.n_examples * SuiteRow.repeats, 1, MOST_OUTCOMES),
    ("results: start", ResultRow.start, 0, 10_000_000),
    ("results: places", ResultRow.stop - ResultRow.start, 1, 10_000_000),
    ("results: first_repeat", ResultRow.first_repeat, 0, 10_000_000),
    ("results: repeats", ResultRow.stop_repeat - ResultRow.first_repeat, 1, 10_000_000),
    ("jobs: start", JobRow.start, 0, 10_000_000),
    ("jobs: places", JobRow.stop - JobRow.start, 1, 10_000_000),
    ("jobs: first_repeat", JobRow.first_repeat, 0, 10_000_000),
    ("jobs: repeats", JobRow.stop_repeat - JobRow.first_repeat, 1, 10_000_000),
    ("published: clean", ReferenceRow.clean, 0, 1),
    ("published: robust", ReferenceRow.robust, 0, 1),
    ("published: eps", ReferenceRow.eps, 0, 10**6),
    ("attempts: seconds", AttemptRow.seconds, 0, 10**10),
    ("artifacts: bytes", ArtifactRow.bytes, 0, 2**62),
)

#: how SQLite keeps a column's values
STORED: dict[type[Any], tuple[str, ...]] = {
    Boolean: ("integer",),
    Integer: ("integer",),
    Float: ("real", "integer"),
    Real: ("real", "integer"),
    Moment: ("text",),
    JSON: ("text",),
    LargeBinary: ("blob",),
    String: ("text",),
}


def values(connection: Connection) -> Iterator[str]:
    """Yield a sentence for each column with values that it may not have: words, digests, ranges, types."""
    identity(connection)
    for column, known in WORDS.items():
        query = select(column, func.count()).where(column.is_not(None), column.not_in(known)).group_by(column)
        for value, rows in connection.execute(query):
            yield f"{column.table.name}: {rows} of {column.name} {value!r}, expected one of {', '.join(known)}"
    for column in DIGESTS:
        for (value,) in connection.execute(select(column).where(column.is_not(None)).distinct()):
            if not (isinstance(value, str) and HEX.fullmatch(value)):
                yield f"{column.table.name}: expected 64 hexadecimal digits as {column.name}, got {value!r:.80}"
    for name, figure, least, most in RANGES:
        rows = connection.execute(select(func.count()).where(or_(figure < least, figure > most))).scalar_one()
        if rows:
            yield f"{name}: {rows} not between {least} and {most}"
    yield from _types(connection)


def _types(connection: Connection) -> Iterator[str]:
    """Hold values against the types of their columns, which SQLite does not, and JSON against what it is to be."""
    sqlite = connection.dialect.name == "sqlite"
    for table in TableBase.metadata.sorted_tables:
        looks = dict(_kinds(table.columns, sqlite))
        counted = [func.sum(case((wrong, 1), else_=0)) for wrong in looks.values()]
        rows = connection.execute(select(*counted).select_from(table)).one() if counted else ()
        for said, number in zip(looks, rows, strict=True):
            if number:
                yield f"{table.name}: {number} of {said}"


def _kinds(columns: Iterable[Column[Any]], sqlite: bool) -> Iterator[tuple[str, ColumnElement[bool]]]:
    """Yield what is to be said of columns, with the condition that it is so."""
    for column in columns:
        is_json = isinstance(column.type, JSON)
        if sqlite:
            kinds = next(kinds for kind, kinds in STORED.items() if isinstance(column.type, kind))
            mistaken = column.is_not(None) & func.typeof(column).not_in(kinds)
            yield f"{column.name} are no {' or '.join(kinds)}", mistaken
        if is_json:
            raw = type_coerce(column, String)
            valid = case((func.json_valid(raw) == 1, func.json_type(raw)), else_="none")
            kind = valid if sqlite else func.json_typeof(column)
            yield f"{column.name} are no mappings in JSON", column.is_not(None) & (kind != "object")
