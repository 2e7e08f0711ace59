"""The rows of a page's table; everything that is not markup of ours is escaped here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from harness.core.table import Code, Link, Share, State, order
from reports.format import NOTHING, words
from reports.model.values import Estimated, Flags, Rank

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.core.table import Cell, Column, Line, Note, Table, Words


@dataclass(frozen=True)
class Head:
    """A column of a page's table.

    Attributes:
        place: which cell of a row it shows.
        beneath: the places that stand beneath it.
        edge: whether a group of columns begins with it.
    """

    column: Column
    place: int
    beneath: tuple[int, ...]
    edge: bool


def heads(table: Table) -> list[Head]:
    """Return the columns that a page shows: of a dense table some stand beneath others."""
    found: list[Head] = []
    last = ""
    for place, column in enumerate(table.columns):
        if column.below or (table.dense and column.beneath):
            continue
        under = [at for at, one in enumerate(table.columns) if table.dense and one.beneath == column.key]
        found.append(Head(column, place, tuple(under), bool(found) and column.group != last))
        last = column.group
    return found


def runs(heads: Iterable[Head]) -> list[tuple[str, int]]:
    """Return the shared headings with the number of columns under each."""
    return [(group, len(list(some))) for group, some in groupby(heads, lambda head: head.column.group)]


def prose(text: str) -> Markup:
    """Return a sentence in which `names` between ticks are set as code; everything is escaped first."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def flags_of(line: Line) -> Cell | None:
    """Return the cell whose flags stand below a row; None where nobody looked and none fired."""
    found = (cell for cell in line.cells if isinstance(cell.value, Flags) and (cell.value.looked or cell.value.fired))
    return next(found, None)


def row(table: Table, heads: list[Head], line: Line, lead: int) -> Markup:
    """Return the cells of a row; after ``lead`` ranks stands what the row is called."""
    return Markup("\n".join(_cells(table, heads, line, lead)))  # of strings that are escaped where they are made


def _cells(table: Table, heads: list[Head], line: Line, lead: int) -> Iterator[str]:
    for at, head in enumerate(heads):
        cell, edge = line.cells[head.place], " edge" if head.edge else ""
        if at < lead:
            yield _rank(cell)
            continue
        content = _content(cell, head.column, bars=bool(lead)) + _beneath(table, head, line)
        if at == lead:
            yield f'<th scope="row" class="first">{content}{"".join(map(_said, line.remarks))}</th>'
        elif line.reason and not head.column.left:
            yield f'<td class="text reason" colspan="{len(heads) - at}">{prose(line.reason)}</td>'
            return
        elif head.column.left:
            yield f'<td class="text{edge}">{content}</td>'
        else:
            value = order(cell.value)
            named = [edge.strip(), "strong" if cell.strong else "", *_state(cell)]
            shown = "" if value is None else escape(value)
            yield f'<td class="{" ".join(filter(None, named))}" data-v="{shown}">{content}</td>'


def _rank(cell: Cell) -> str:
    value = cell.value
    if not isinstance(value, Rank):
        return f'<td class="rank">{escape(value)}</td>'
    shared = f' title="shared with {escape(", ".join(value.tied))}"' if value.tied else ""
    text = escape(value.text) if value.place else f'<span class="small">{escape(value.text)}</span>'
    return f'<td class="rank" data-v="{value.order}"{shared}>{text}</td>'


def _state(cell: Cell) -> list[str]:
    return ["state", "warn" if cell.value.unfinished else ""] if isinstance(cell.value, State) else []


def _said(note: Note) -> str:
    title = f' title="{escape(note.title)}"' if note.title else ""
    return f'<span class="under{" warn" if note.warn else ""}"{title}>{escape(note.text)}</span>'


def _beneath(table: Table, head: Head, line: Line) -> str:
    if not head.beneath or line.cells[head.beneath[0]].value is None:
        return ""
    said = (str(words(line.cells[place].value, table.columns[place].form)) for place in head.beneath)
    return f'<span class="under">{escape(" / ".join(said))}</span>'


def _content(cell: Cell, column: Column, *, bars: bool) -> str:
    value, text = cell.value, words(cell.value, column.form)
    known = value.share if isinstance(value, Estimated) else value
    notes = "".join(map(_said, cell.notes))
    if bars and isinstance(known, Share):
        return _bar(cell, known, text) + notes
    main = str(escape(text.main))
    if isinstance(value, Code):
        main = f"<code>{main}</code>"
    if isinstance(value, Link) and value.web:
        main = f'<a href="{escape(value.url)}" rel="noreferrer">{main}</a>'
    elif cell.link and text.main != NOTHING:
        title = f' title="{escape(value.reason)}"' if isinstance(value, State) and value.reason else ""
        main = f'<a href="#{escape(cell.link)}"{title}>{main}</a>'
    return main + "".join(f'<span class="under">{escape(small)}</span>' for small in text.small) + notes


def _bar(cell: Cell, share: Share, text: Words) -> str:
    """Return a share as a link, with a bar that its interval covers."""
    ends = ";".join(
        f"--{name}:{100 * end:.2f}" for name, end in (("v", share.share), ("lo", share.low), ("hi", share.high))
    )
    interval, *below = text.small
    floor = "mean of the smallest shares, which luck lowers"
    return (
        f'<a class="acc{" strong" if cell.strong else ""}" href="#{escape(cell.link)}">'
        f'<span class="num">{escape(text.main)}</span>\n<span class="ci">{escape(interval)}</span>\n'
        f'<span class="span" aria-hidden="true" style="{ends}"></span></a>'
        + "".join(f'<span class="under" title="{floor}">{escape(one)}</span>' for one in below)
    )
