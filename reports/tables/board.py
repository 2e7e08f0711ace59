"""The table of a board: a row per defense, those that may be compared in a block of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.table import Block, Cell, Line, Table
from reports.model.columns import board_columns
from reports.model.row import Group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reports.model.board import Board


def board_table(board: Board) -> Table:
    """Return the table: the ranked, those attacked less than is asked, those without a rank, the reference."""
    return Table(board.title, board_columns(board), _lines(board))


def _lines(board: Board) -> Iterator[Line]:
    columns = board_columns(board)
    for row in board.rows:
        found = (column.of(row) for column in columns)
        cells = tuple(one if isinstance(one, Cell) else Cell(one) for one in found)
        block = Block(board.heading(row.group), row.group is Group.REFERENCE)
        yield Line(cells, block, quiet=row.reference, remarks=row.remarks)
