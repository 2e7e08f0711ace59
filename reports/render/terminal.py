"""The leaderboard for a terminal."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from rich import box
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from reports import format as numbers
from reports.model.columns import IN_SHORT
from reports.model.row import Group

if TYPE_CHECKING:
    from rich.console import Console

    from reports.cell import Accuracy, Entry
    from reports.model.certified import Certified
    from reports.model.leaderboard import Board, Leaderboard
    from reports.model.row import Row

#: more than any table needs; a table that is measured within less says that it needs no more than that
WIDE = 10_000

#: characters of an attack's or a threat model's name that stand on one line
MOST = 20


def leaderboard_tables(leaderboard: Leaderboard, console: Console) -> list[Table]:
    """Return the tables of each board, and those of what is certified, to be printed by rich.

    A board has one table, or several where its attacks do not fit side by side.
    """
    found: list[Table] = []
    for section in leaderboard.sections:
        for board in section.boards:
            found += _tables(board, console)
        found += map(_certified, section.certified)
    return found


def _tables(board: Board, console: Console) -> list[Table]:
    """Return as few tables as show all attacks: the first has what ranks, below the last stands what is to be said."""
    number, unbounded = len(board.columns), console.options.update(width=WIDE)
    for parts in range(1, max(number, 1) + 1):
        ends = [round(number * part / parts) for part in range(parts + 1)]
        tables = [_table(board, slice(*pair)) for pair in pairwise(ends)]
        if all(Measurement.get(console, unbounded, table).minimum <= console.width for table in tables):
            break
    tables[-1].caption = _caption(board)
    return tables


def _caption(board: Board) -> Text:
    caption = Text("accuracy in %, below it the 95 % Wilson interval; time and network evaluations (NFE) per image")
    if board.unfinished:
        caption.append(f"; {board.unfinished} of {len(board.entries)} cells unfinished", "yellow")
    if board.resolution:
        caption.append(f"\n{board.resolution}")
    if board.below:
        caption.append(f"\n{board.minimum.sentence}")
    for row in board.rows:
        if row.unranked and not row.reference:
            caption.append(f"\n{row.defense} is not ranked: {row.unranked}")
            caption.append(f"; it lacks {row.missing}" if row.missing else "")
        if row.remark:
            caption.append(f"\n{row.defense} {row.remark}")
        if row.caveat:
            caption.append(f"\n* {row.defense}: {row.caveat}; rows beside it may have been attacked harder")
        if row.sources:
            caption.append(f"\n{row.defense} {row.sources}")
        caption.append_text(_fired(row))
    for who, flags in board.untested:
        caption.append(f"\n{who}, untested: {', '.join(flag.name for flag in flags)}")
    for entry in board.notes:
        if entry.reason:
            caption.append(f"\n{entry.defense}, {entry.attack} {entry.threat_model}: {entry.state}: {entry.reason}")
    if board.additions.text:
        caption.append(f"\nadd to the suite, so that all of them are ranked:\n{board.additions.text}")
    return caption


def _table(board: Board, columns: slice) -> Table:
    """Return a table of some of the attacks; with the first of them stands what ranks and what it costs."""
    first = columns.start == 0
    table = _plain(board.title if first else " ")
    table.add_column("#", justify="right")
    table.add_column("defense", overflow="fold", min_width=8)
    if first:
        for name in ("clean", "worst\ncase", "time,\nNFE"):
            table.add_column(name, justify="right", no_wrap=True)
    for column in board.columns[columns]:
        width = min(MOST, max(map(len, (column.attack, column.threat_model))))
        table.add_column(
            Text(f"{column.attack}\n{column.threat_model}"), justify="right", overflow="fold", min_width=max(9, width)
        )
    for block in board.blocks:
        table.add_section()
        if block.title and block.group is not Group.REFERENCE:
            table.add_row("", Text(block.title, "italic"))
        for row in block.rows:
            table.add_row(*_name(row), *(_sums(row) if first else ()), *map(_accuracy, row.attacked[columns]))
    return table


def _plain(title: str, caption: Text | None = None) -> Table:
    return Table(
        title=Text(title, "bold"),
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )


def _certified(certified: Certified) -> Table:
    caption = Text("share in % that is right and certified within an L2 radius, below it the 95 % Wilson interval")
    for entry in certified.reasons:
        caption.append(f"\n{entry.defense}, {entry.attack}: {entry.state}")
        caption.append(f": {entry.reason}" if entry.reason else "")
    table = _plain(certified.title, caption)
    for name in ("defense", "certificate"):
        table.add_column(name, overflow="fold", min_width=8)
    for radius in certified.radii:
        table.add_column(f"{radius:g}", justify="right", no_wrap=True)
    for name in ("abstained", "mean\nradius", "time,\nNFE"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in certified.lines:
        shares = [*line.shares, *([line.abstained] if line.abstained else [])]
        nothing = Text(line.entry.state, "yellow" if line.entry.unfinished else "dim")
        cells = [_share(one) for one in shares] or [nothing, *[Text(numbers.NOTHING, "dim")] * len(certified.radii)]
        mean = numbers.NOTHING if line.mean is None else numbers.measure(line.mean)
        costs = Text("\n".join(fact.of(line.entry) for fact in IN_SHORT))
        table.add_row(Text(line.entry.defense), Text(line.entry.attack), *cells, Text(mean), costs)
    return table


def _fired(row: Row) -> Text:
    """Return a line of the row's flags that fired, those that warn in colour; nothing without any."""
    line = Text(f"\n{row.defense}:" if row.flagged() else "")
    for place, flag in enumerate(row.flagged()):
        line.append(f"{',' if place else ''} {flag.text}", "" if flag.trait else "yellow")
    return line


def _name(row: Row) -> list[Text]:
    rank = Text(row.place) if row.rank else Text("ref." if row.reference else numbers.NOTHING, "dim")
    return [rank, Text(row.defense)]


def _sums(row: Row) -> list[Text]:
    """Return a row's accuracy on clean input, its worst case, and its costs."""
    worst = Text(numbers.NOTHING, "dim")
    if row.worst:
        worst = Text(row.bound, "yellow").append_text(_share(row.worst.accuracy, "bold" if row.rank else ""))
        if row.worst.floor:
            worst.append(f"\n{row.worst.floor}", "dim")
    costs = Text("\n".join(fact.of(row.clean) if row.clean else numbers.NOTHING for fact in IN_SHORT))
    return [_accuracy(row.clean), worst, costs]


def _accuracy(entry: Entry | None) -> Text:
    if entry is None:
        return Text(numbers.NOTHING, "dim")
    if entry.accuracy is None:
        return Text(entry.state, "dim" if entry.status == "skipped" else "yellow")
    text = _share(entry.accuracy)
    return text if entry.done else text.append(f"\n{entry.state}", "yellow")


def _share(accuracy: Accuracy, style: str = "") -> Text:
    text = Text(numbers.percent(accuracy.share), style)
    ends = f"{numbers.percent(accuracy.low)}{numbers.NOTHING}{numbers.percent(accuracy.high)}"
    return text.append(f"\n{ends}", "not bold dim")
