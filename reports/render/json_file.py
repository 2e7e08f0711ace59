"""The leaderboard in plain values, for other programmes: a mapping per board, its rows in their order, unrounded."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.cell import Accuracy, Entry
    from reports.model.leaderboard import Board, Leaderboard
    from reports.model.row import Row


def boards_json(leaderboard: Leaderboard) -> list[dict[str, Any]]:
    """Return the boards of every suite.

    Accuracies have ``share``, ``low`` and ``high`` in [0, 1], and ``n``, the number of examples. ``group`` says where a
    row stands, and rows of different groups are not to be compared.
    """
    return [_board(section.suite.name, board) for section in leaderboard.sections for board in section.boards]


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
    return {
        "defense": row.defense,
        "rank": row.rank,
        "tied": list(row.tied),
        "group": str(row.group),
        "not_ranked": row.unranked,
        "lacks": row.missing,
        "clean": _accuracy(row.clean.accuracy if row.clean else None),
        "worst_case": _accuracy(row.worst.accuracy if row.worst else None),
        "smallest": row.worst.smallest if row.worst else None,
        "attacked": [_attack(entry) for entry in row.attacked if entry is not None],
        "fired": {flag.name: flag.sentence for flag in row.flagged()},
        "computed_in": row.foreign,
    }


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
