"""A report for a terminal."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from rich import box
from rich import table as rich
from rich.measure import Measurement
from rich.text import Text

from harness.core.table import Heading, Notes, Plot, State, Table
from reports import format as numbers
from reports.format import words
from reports.sections import TERMINAL
from reports.sections.drawing import Drawings, FlagsInFull
from reports.sections.made import made
from reports.tables.board import board_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, RenderableType

    from harness.core.table import Cell, Column
    from reports.model.board import Board
    from reports.model.leaderboard import Leaderboard, Section
    from reports.model.row import Row
    from reports.sections.made import OurPart

#: more than any table needs; a table that is measured within less says that it needs no more than that
WIDE = 10_000

#: an interval, which takes less room without its brackets
_ENDS = re.compile(r"\[(.*), (.*)\]")

#: characters of a column's heading that stand on one line
MOST = 20


def leaderboard_tables(report: Leaderboard, console: Console) -> list[RenderableType]:
    """Return the tables of each board, and the sections of the report, to be printed by rich.

    A board has one table, or several where its attacks do not fit side by side.
    """
    return list(_all(report, console))


def _all(report: Leaderboard, console: Console) -> Iterator[RenderableType]:
    for section in report.sections:
        for board in section.boards:
            yield from drawn(board_table(board), console, _caption(board))
            yield from _made(report, console, section, board)
        yield from _made(report, console, section)


def _made(
    report: Leaderboard, console: Console, section: Section, board: Board | None = None
) -> Iterator[RenderableType]:
    for one in made(report, TERMINAL, section, board):
        for part in one.parts:
            yield from _part(part, console)


def _part(part: OurPart, console: Console) -> Iterator[RenderableType]:
    match part:
        case str():
            yield Text(part)
        case Heading():
            yield Text(part.text, "bold")
        case Notes():
            yield from (Text(f"- {item.lead}: {item.text}" if item.lead else f"- {item.text}") for item in part)
        case FlagsInFull():
            yield from _part(part.notes, console)
        case Table():
            yield from drawn(part, console, Text(part.note))
        case Plot():
            yield from _part(part.table, console)
        case Drawings():
            for table in part.tables:
                yield from _part(table, console)


def _caption(board: Board) -> Text:
    caption = Text("accuracy in %, below it the 95 % Wilson interval; time and network evaluations (NFE) per image")
    if board.unfinished:
        caption.append(f"; {board.unfinished} of {len(board.entries)} cells unfinished", "yellow")
    if board.resolution:
        caption.append(f"\n{board.resolution}")
    if board.below:
        caption.append(f"\n{board.minimum.sentence}")
    for row in board.rows:
        caption.append("".join(f"\n{said}" for said in row.sentences))
        caption.append_text(_fired(row))
    for who, flags in board.untested:
        caption.append(f"\n{who}, untested: {', '.join(flag.name for flag in flags)}")
    for entry in board.notes:
        if entry.reason:
            caption.append(f"\n{entry.full_name}: {entry.outcome}")
    if board.additions.text:
        caption.append(f"\nadd to the suite, so that all of them are ranked:\n{board.additions.text}")
    return caption


def _fired(row: Row) -> Text:
    """Return a line of the row's flags that fired, those that warn in colour; nothing without any."""
    line = Text(f"\n{row.defense}:" if row.flagged() else "")
    for place, flag in enumerate(row.flagged()):
        line.append(f"{',' if place else ''} {flag.text}", "" if flag.trait else "yellow")
    return line


# ---------------------------------------------------------------------- any table


def drawn(table: Table, console: Console, caption: Text) -> list[rich.Table]:
    """Return as few tables as show all columns: what splits is dealt out, below the last stands what is to be said."""
    splits = [column for column in table.columns if column.splits]
    unbounded = console.options.update(width=WIDE)
    for parts in range(1, max(len(splits), 1) + 1):
        ends = [round(len(splits) * part / parts) for part in range(parts + 1)]
        tables = [_table(table, splits[slice(*pair)], first=pair[0] == 0) for pair in pairwise(ends)]
        if all(Measurement.get(console, unbounded, one).minimum <= console.width for one in tables):
            break
    tables[-1].caption = caption or None
    return tables


def _table(table: Table, splits: Sequence[Column], *, first: bool) -> rich.Table:
    """Return a table of some of the columns that split, last; with the first of them stands what ranks and costs."""
    found = rich.Table(
        title=Text(table.title if first else " ", "bold") if table.title else None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    plain = [column for column in table.columns if not column.splits and not column.below and not column.beneath]
    labels = [column for column in plain if column.left]
    shown = [*(plain if first else labels), *splits]
    beneath = {one.key: [other for other in table.columns if other.beneath == one.key] for one in shown}
    for column in shown:
        name = ",\n".join(_heading(one) for one in (column, *beneath[column.key]))
        if column.splits or (column.left and column.key != "rank"):
            longest = max(map(len, name.split("\n")))
            least = max(9, min(MOST, longest)) if column.splits else 8
            found.add_column(Text(name), justify="left" if column.left else "right", overflow="fold", min_width=least)
        else:
            found.add_column(Text(name), justify="right", no_wrap=True)
    for block, lines in table.blocks:
        found.add_section()
        if block.title and not block.foot:
            found.add_row("", Text(block.title, "italic"))
        for line in lines:
            cells = dict(zip((one.key for one in table.columns), line.cells, strict=True))
            found.add_row(*(_stack(cells, (column, *beneath[column.key])) for column in shown))
    return found


def _heading(column: Column) -> str:
    return column.short or "\n".join(filter(None, (column.group, column.title, column.unit)))


def _stack(cells: dict[str, Cell], columns: Sequence[Column]) -> Text:
    return Text("\n").join(_cell(cells[column.key], column) for column in columns)


def _cell(cell: Cell, column: Column) -> Text:
    said = words(cell.value, column.form)
    style = "bold" if cell.strong else "dim" if said.main in (numbers.NOTHING, "ref.") else ""
    if isinstance(cell.value, State):
        style = "yellow" if cell.value.unfinished else "dim"
    text = Text(said.main, style)
    for small in said.small:
        text.append("\n" + _ENDS.sub(rf"\1{numbers.NOTHING}\2", small), "not bold dim")
    for note in cell.notes:
        text.append(f"\n{note.text}", "yellow" if note.warn else "dim")
    return text
