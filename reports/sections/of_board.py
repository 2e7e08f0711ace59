"""Sections below each board."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components import Section
from harness.core.table import Heading
from reports.charts.cost import figures_of
from reports.sections.drawing import Drawings, FlagsInFull
from reports.tables.costs import cost_table, prices
from reports.tables.decisions import decision_table, judged
from reports.tables.published import published_table
from reports.tables.transfer import matrices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.table import Part, Table
    from reports.model.board import Board
    from reports.model.leaderboard import Leaderboard
    from reports.model.leaderboard import Section as Suite


class Published(Section):
    """Figures that others published, on the same data and budget."""

    def of_board(self, board: Board, suite: Suite, report: Leaderboard) -> Iterator[Table]:
        """Yield the table."""
        if board.published:
            yield published_table(board.published)


class Trust(Section):
    """What each flag saw."""

    def of_board(self, board: Board, suite: Suite, report: Leaderboard) -> Iterator[Heading | FlagsInFull]:
        """Yield the flags."""
        if any(row.evidence.attacks or row.flagged() for row in board.rows):
            yield Heading("How far the rows can be trusted", topic="trust")
            yield FlagsInFull(board)


class Decisions(Section):
    """Repeats under every decision rule, side by side."""

    def of_board(self, board: Board, suite: Suite, report: Leaderboard) -> Iterator[Table]:
        """Yield the table."""
        if lines := judged(board):
            yield decision_table(lines)


class Transfer(Section):
    """What examples that were crafted on one defense do to the others."""

    def of_board(self, board: Board, suite: Suite, report: Leaderboard) -> Iterator[Table]:
        """Yield a matrix for each attack."""
        yield from (matrix.table for matrix in matrices(board))


class CostCharts(Section):
    """Accuracy against what it costs."""

    def of_board(self, board: Board, suite: Suite, report: Leaderboard) -> Iterator[Drawings]:
        """Yield the charts."""
        if plots := figures_of(board, report.provenance):
            yield Drawings("cost", tuple(plots))


class Costs(Section):
    """What the defenses cost, and what it costs to attack them."""

    def of_board(self, board: Board, suite: Suite, report: Leaderboard) -> Iterator[Part]:
        """Yield the table, and what attacks cost that are shared."""
        costs = prices(board)
        if costs:
            yield cost_table(costs)
            if costs.note:
                yield costs.note
