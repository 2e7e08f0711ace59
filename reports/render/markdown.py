"""A report as Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.core.table import Code, Heading, Item, Link, Notes, Plot, Table
from reports.flags.glossary import COMPARED, MEANINGS, STATES
from reports.format import NOTHING, words
from reports.model.columns import DECISIONS, legend
from reports.model.row import Group
from reports.sections import MARKDOWN
from reports.sections.drawing import Drawings, FlagsInFull
from reports.sections.made import made
from reports.tables.board import board_table
from reports.tables.describe import from_elsewhere, measured

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.core.table import Cell, Column, Line
    from reports.model.board import Board
    from reports.model.leaderboard import Leaderboard, Section
    from reports.sections.made import OurPart


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", " ".join(text.split()))


def markdown(report: Leaderboard) -> str:
    """Return the whole report."""
    blocks = ["# Leaderboard"]
    for section in report.sections:
        blocks += _suite(report, section)
    meanings = "\n".join(f"- **{one.name}**: {escaped(one.sentence)} ({escaped(one.source)})" for one in MEANINGS)
    said = "\n".join(f"- **{escaped(one.word)}**: {escaped(one.sentence)}" for one in legend(report.metrics))
    blocks += ["## What the flags mean", f"{STATES} {COMPARED}", meanings, "## What the words mean", said]
    if when := measured(report.provenance):
        blocks.append(f"Measured {when}.")
    return "\n\n".join(blocks) + "\n"


def _suite(report: Leaderboard, section: Section) -> Iterator[str]:
    suite = section.suite
    yield f"## {escaped(suite.title or suite.name)}"
    rule = DECISIONS.get(suite.decision, suite.decision)
    yield f"Suite {escaped(suite.name)}; decision {escaped(section.rule)}: {escaped(rule)}."
    if suite.origin:
        yield escaped(from_elsewhere(suite))
    for board in section.boards:
        yield from _board(board)
        yield from _made(report, section, board)
    yield from _made(report, section)


def _made(report: Leaderboard, section: Section, board: Board | None = None) -> Iterator[str]:
    """Yield the sections of a suite, or below a board."""
    for one in made(report, MARKDOWN, section, board):
        if one.failure:
            yield escaped(one.failure)
        for part in one.parts:
            level = "###" if board is None else "####"
            yield from [f"{level} {escaped(part.text)}"] if isinstance(part, Heading) else _part(part)


def _board(board: Board) -> Iterator[str]:
    """Yield a board's rows, a table for those that may be compared: the ranked with the reference, then the others."""
    table = board_table(board)
    yield f"### {escaped(board.title)}"
    apart = {board.heading(group) for group in (Group.BELOW, Group.OTHER)}
    yield pipes(table.columns, (line for line in table.lines if line.block.title not in apart))
    for block, lines in table.blocks:
        if block.title in apart:
            yield f"#### {_sentence(block.title)}"
            yield pipes(table.columns, lines)
    if board.below:
        yield f"{escaped(board.minimum.sentence)}."
    if board.additions.text:
        yield "Add to the suite, so that all of them are ranked:"
        yield f"```yaml\n{board.additions.text}\n```"
    if board.resolution:
        yield f"{_sentence(board.resolution)}."
    if board.unfinished:
        yield f"Unfinished: {board.unfinished} of {len(board.entries)} cells."
    worst = [
        f"- {escaped(row.defense)}: worst case over {', '.join(f'`{cell}`' for cell in row.worst.cells)}"
        for row in board.rows
        if row.worst
    ]
    reasons = Notes([Item(f"{entry.full_name}: {entry.outcome}") for entry in board.notes])
    for listed in (worst, *map(_part, (Notes([one for row in board.rows for one in row.sentences]), reasons))):
        yield from ["\n".join(listed)] if listed else []


def _part(part: OurPart) -> list[str]:
    match part:
        case str():
            return [escaped(part)]
        case Notes():
            listed = [f"- {_lead(item)}{escaped(item.text)}" for item in part]
            return ["\n".join(listed)] if listed else []
        case Table():
            title = [f"#### {escaped(part.title)}"] if part.title else []
            return [*title, *([escaped(part.note)] if part.note else []), pipes(part.columns, part.lines)]
        case Plot():
            return _part(part.table)
        case Drawings():
            return [text for table in part.tables for text in _part(table)]
        case FlagsInFull():
            return _part(part.notes)
        case Heading():
            return [f"### {escaped(part.text)}"]


def _lead(item: Item) -> str:
    if not item.lead:
        return ""
    lead = escaped(item.lead) if item.link else f"**{escaped(item.lead)}**"
    return f"{lead} " if item.lead.endswith(".") else f"{lead}: "


def _sentence(text: str) -> str:
    return escaped(text[0].upper() + text[1:])


def pipes(columns: Sequence[Column], lines: Iterable[Line]) -> str:
    """Return a pipe table of some rows."""
    rows = ([_cell(cell, column) for column, cell in zip(columns, line.cells, strict=True)] for line in lines)
    return table(map(escaped, (column.heading for column in columns)), rows, [column.left for column in columns])


def _cell(cell: Cell, column: Column) -> str:
    if cell.value is None and not cell.notes:
        return NOTHING
    text = escaped(str(words(cell.value, column.form)))
    match cell.value:
        case Code(name) if re.fullmatch(r"[\w.-]+", name):
            text = f"`{name}`"
        case Link(_, url) if cell.value.web:
            text = f"[{text}](<{url}>)"
    return text + "".join(f" ({escaped(note.text)})" for note in cell.notes)


def table(head: Iterable[str], rows: Iterable[Sequence[str]], left: Sequence[bool]) -> str:
    """Return a pipe table; ``left`` says which columns stand left, the others stand right."""
    rule = ["---" if one else "--:" for one in left]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(head), rule, *rows])
