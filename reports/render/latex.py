"""A report as LaTeX tables (booktabs), to be input into a paper."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING

from harness.core.table import Code, Heading, Notes, Plot, Table
from reports import format as numbers
from reports.format import words
from reports.model.values import Estimated, Flags
from reports.sections import LATEX
from reports.sections.drawing import Drawings, FlagsInFull
from reports.sections.made import made
from reports.tables.board import board_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness.core.table import Cell, Column, Line
    from reports.model.board import Board
    from reports.model.leaderboard import Leaderboard, Section
    from reports.sections.made import OurPart

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "]": "{]}",
    numbers.NOTHING: "--",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{SUPERSCRIPT TWO}": "$^2$",
    "\N{MICRO SIGN}": r"\textmu{}",
    "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
}


def escaped(text: str, *, brackets: bool = True) -> str:
    """Return text that LaTeX sets as it is, on one line; within a group brackets are themselves."""
    known = _ESCAPES if brackets else {letter: to for letter, to in _ESCAPES.items() if letter not in "[]"}
    return "".join(known.get(letter, letter) for letter in re.sub(r"\s+", " ", text))


def latex(report: Leaderboard) -> str:
    r"""Return a table per board and those of the sections; needs ``\usepackage{booktabs}``. Sentences are comments."""
    blocks = [r"% needs \usepackage{booktabs}; wide tables may want \resizebox or a landscape page"]
    for section in report.sections:
        for board in section.boards:
            blocks.append(_board(board))
            blocks += _made(report, section, board)
        blocks += _made(report, section)
    return "\n\n".join(blocks) + "\n"


def _made(report: Leaderboard, section: Section, board: Board | None = None) -> Iterator[str]:
    """Yield the sections of a suite, or below a board; a heading stands before the captions after it."""
    for one in made(report, LATEX, section, board):
        if one.failure:
            yield _comment(one.failure)
        heading = ""
        for part in one.parts:
            heading = part.text if isinstance(part, Heading) else heading
            yield from _part(part, heading)


def _part(part: OurPart, heading: str) -> Iterator[str]:
    match part:
        case str():
            yield _comment(part)
        case Notes():
            yield "\n".join(_comment(f"{item.lead}: {item.text}" if item.lead else item.text) for item in part)
        case FlagsInFull():
            yield from _part(part.notes, heading)
        case Table():
            titles = [title for title in dict.fromkeys((heading, part.title, part.note)) if title]
            yield tabular(part, " ".join(f"{title.rstrip('.')}." for title in titles))
        case Plot():
            yield from _part(part.table, heading)
        case Drawings():
            for table in part.tables:
                yield from _part(table, heading)


def _comment(text: str) -> str:
    return f"% {escaped(text)}"


def _board(board: Board) -> str:
    """Return the table of a board; flags are letters beside the worst case, which the caption explains."""
    marks = _marks(board)
    notes = [f"{board.resolution[0].upper()}{board.resolution[1:]}."] if board.resolution else []
    notes += [f"{board.minimum.sentence}."] if board.below else []
    notes += [f"{said}." for row in board.rows for said in row.sentences]
    notes += [f"{entry.full_name}: {entry.outcome}." for entry in board.notes]
    notes += [f"{mark}: {name} ({_where(board, name)})." for name, mark in marks.items()]
    caption = f"{board.title}. Accuracy in per cent with its 95 % Wilson interval; time and evaluations per image."
    lines = board.additions.text.splitlines()
    lines = ["% add to the suite, so that all rows are ranked:", *(f"% {one}" for one in lines)] if lines else []
    return "\n".join([tabular(board_table(board), " ".join([caption, *notes]), marks), *lines])


def _marks(board: Board) -> dict[str, str]:
    """Return a letter for each flag that fired on the board."""
    names = dict.fromkeys(flag.name for row in board.rows for flag in row.flagged())
    return dict(zip(names, string.ascii_lowercase, strict=False))


def _where(board: Board, name: str) -> str:
    """Say on which rows a flag fired, with its figures."""
    found = [(row, flag) for row in board.rows for flag in row.flagged() if flag.name == name]
    return ", ".join(" ".join(filter(None, (row.defense, flag.figure))) for row, flag in found)


def tabular(table: Table, caption: str, marks: Mapping[str, str] | None = None) -> str:
    """Return a table; flags are ``marks`` above the estimate of their row."""
    columns = [column for column in table.columns if not column.below]
    shape = "".join("l" if column.left else "r" for column in columns)
    body: list[str] = []
    for block, lines in table.blocks:
        body += [r"\midrule"] if body else []
        if block.title and not block.foot:
            body.append(_line([rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{escaped(block.title)}}}}}"]))
        body += [_row(table, line, marks or {}) for line in lines]
    groups = (rf"\multicolumn{{{width}}}{{c}}{{{escaped(group)}}}" for group, width in table.groups)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(caption)}}}",
            rf"\begin{{tabular}}{{{shape}}}",
            r"\toprule",
            *([_line(groups)] if table.groups else []),
            _line(escaped(_heading(column)) for column in columns),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _heading(column: Column) -> str:
    return column.name if column.splits else column.title


def _row(table: Table, line: Line, marks: Mapping[str, str]) -> str:
    fired = [flag for cell in line.cells if isinstance(cell.value, Flags) for flag in cell.value.fired]
    above = rf"\textsuperscript{{{','.join(marks[flag.name] for flag in fired)}}}" if fired and marks else ""
    return _line(
        _cell(cell, column) + (above if isinstance(cell.value, Estimated) else "")
        for column, cell in table.row(line)
        if not column.below
    )


def _cell(cell: Cell, column: Column) -> str:
    said = words(cell.value, column.form)
    main = rf"\texttt{{{escaped(said.main)}}}" if isinstance(cell.value, Code) else escaped(said.main)
    small = "".join(rf" {{\scriptsize {escaped(one, brackets=False)}}}" for one in said.small)
    noted = "".join(f" ({escaped(note.text)})" for note in cell.notes)
    return main + small + noted


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
