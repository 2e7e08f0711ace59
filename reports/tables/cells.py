"""Every cell of a suite, a row each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.core.table import Cell, Code, Column, Line, Note, Table
from reports import format as numbers
from reports.model.columns import facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.core.metric import MetricColumn
    from reports.cell import Entry


def _id(entry: Entry) -> Cell:
    return Cell(Code(entry.id), f"f-{entry.id}") if entry.id else Cell()


def _threat(entry: Entry) -> str | None:
    if entry.clean:
        return None
    if entry.certified:
        return "certificate"
    return f"{entry.threat_model}, of {entry.origin}" if entry.elsewhere else entry.threat_model


def _accuracy(entry: Entry) -> Cell:
    """Return the accuracy, beside it what the attack says that it has left."""
    title = "what the attack itself says is left, which is not believed"
    claimed = "" if entry.claimed is None else f"claimed {numbers.percent(entry.claimed)}"
    return Cell(entry.accuracy, notes=(Note(claimed, title),) if claimed and entry.accuracy else ())


def _state(entry: Entry) -> Cell:
    return Cell(entry.state)


#: before and after the numbers
_WHAT = (
    Column("id", "cell", value=_id),
    Column("defense", "defense", value=lambda entry: entry.defense),
    Column("dataset", "dataset", value=lambda entry: entry.dataset, beneath="defense"),
    Column("classifier", "classifier", value=lambda entry: entry.classifier, beneath="defense"),
    Column("attack", "attack", value=lambda entry: entry.attack),
    Column("threat_model", "threat model", value=_threat, beneath="attack"),
    Column("status", "status", value=_state),
    Column("n", "examples", "count", value=lambda entry: entry.n),
    Column("repeats", "repeats", "count", value=lambda entry: entry.repeats, beneath="n"),
    Column("accuracy", "accuracy", "percent", value=_accuracy),
)
_LAST = Column("faults", "faults", "count", value=lambda entry: entry.faults)


def cell_table(title: str, entries: Sequence[Entry], metrics: Sequence[MetricColumn]) -> Table:
    """Return the table; what has no numbers says why."""
    columns = (*_WHAT, *(replace(column, splits=True) for column in facts(metrics)), _LAST)
    return Table(title, columns, _lines(columns, entries), dense=True)


def _lines(columns: Sequence[Column], entries: Sequence[Entry]) -> Iterator[Line]:
    last = None
    for entry in entries:
        found = (column.of(entry) for column in columns)
        cells = tuple(one if isinstance(one, Cell) else Cell(one) for one in found)
        reason = "" if entry.accuracy else entry.reason or "not measured yet"
        yield Line(cells, anchor=entry.anchor, begins=last not in (None, entry.row), reason=reason)
        last = entry.row
