"""A report in plain values, for other programmes: a mapping per board, its rows in their order, unrounded."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.core.table import Cell, Heading, Notes, Plot, Table, plain
from reports.model.columns import row_columns
from reports.sections import JSON
from reports.sections.drawing import Drawings, FlagsInFull
from reports.sections.made import made

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reports.cell import Accuracy, Entry
    from reports.model.board import Board
    from reports.model.leaderboard import Leaderboard, Section
    from reports.model.row import Row
    from reports.sections.made import OurPart


def boards_json(report: Leaderboard) -> list[dict[str, Any]]:
    """Return the boards of every suite, and after them the sections that were asked for.

    Accuracies have ``share``, ``low`` and ``high`` in [0, 1], and ``n``, the number of examples. ``group`` says where a
    row stands, and rows of different groups are not to be compared. A section has its name under ``section``, and its
    ``parts``.
    """
    found = [_board(section.suite.name, board) for section in report.sections for board in section.boards]
    for section in report.sections:
        found += [one for board in (*section.boards, None) for one in _made(report, section, board)]
    return found


def _made(report: Leaderboard, section: Section, board: Board | None) -> Iterator[dict[str, Any]]:
    for one in made(report, JSON, section, board):
        where = {"suite": section.suite.name, "board": board.title if board else None}
        yield {**where, "section": one.name, "failure": one.failure, "parts": [*map(_part, one.parts)]}


def _part(part: OurPart) -> dict[str, Any]:
    match part:
        case str():
            return {"text": part}
        case Heading():
            return {"heading": part.text}
        case Notes():
            return {"notes": [asdict(item) for item in part]}
        case FlagsInFull():
            return _part(part.notes)
        case Plot():
            return {
                "plot": part.title,
                "x": part.x,
                "y": part.y,
                "series": {k: list(v) for k, v in part.series.items()},
            }
        case Drawings():
            return {"tables": [*map(_part, part.tables)]}
        case Table():
            return {
                "table": part.title,
                "note": part.note,
                "rows": [_fields(part, place) for place in range(len(part.lines))],
            }


def _fields(table: Table, place: int) -> dict[str, Any]:
    pairs = table.row(table.lines[place])
    return {name: one for column, cell in pairs for name, one in plain(column.key, cell.value).items()}


def _board(suite: str, board: Board) -> dict[str, Any]:
    return {
        "suite": suite,
        "dataset": board.dataset,
        "classifier": board.classifier,
        "norm": board.norm,
        "eps": board.eps,
        "minimum": board.minimum.name,
        "rows": [_row(row) for row in board.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for column in row_columns():
        value = column.of(row)
        found |= plain(column.key, value.value if isinstance(value, Cell) else value)
    attacked = [_attack(entry) for entry in row.attacked if entry is not None]
    found |= {"attacked": attacked, "group": str(row.group), "not_ranked": row.unranked, "lacks": row.missing}
    return {**found, "computed_in": row.foreign}


def _attack(entry: Entry) -> dict[str, Any]:
    return {
        "attack": entry.attack,
        "threat_model": entry.threat_model,
        "status": entry.state,
        "id": entry.id,
        "accuracy": _accuracy(entry.accuracy),
    }


def _accuracy(accuracy: Accuracy | None) -> dict[str, Any] | None:
    return None if accuracy is None else asdict(accuracy)
