"""The leaderboard for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from reports import numbers
from reports.facts import IN_SHORT

if TYPE_CHECKING:
    from reports.certified import Certified
    from reports.entry import Accuracy, Entry
    from reports.leaderboard import Board, Leaderboard
    from reports.row import Row


def leaderboard_tables(leaderboard: Leaderboard) -> list[Table]:
    """Return a table per board, and those of what is certified, to be printed by rich."""
    found: list[Table] = []
    for section in leaderboard.sections:
        found += [*map(_table, section.boards), *map(_certified, section.certified)]
    return found


def _table(board: Board) -> Table:
    caption = Text("accuracy in %, below it the 95 % Wilson interval; time and network evaluations (NFE) per image")
    if board.unfinished:
        caption.append(f"; {board.unfinished} of {len(board.entries)} cells unfinished", "yellow")
    if board.resolution:
        caption.append(f"\n{board.resolution}")
    for row in board.rows:
        if row.unranked and not row.reference:
            caption.append(f"\n{row.defense} is not ranked: {row.unranked}")
        if row.remark:
            caption.append(f"\n{row.defense} {row.remark}")
        if row.caveat:
            caption.append(f"\n* {row.defense}: {row.caveat}; rows beside it may have been attacked harder")
        if row.sources:
            caption.append(f"\n{row.defense} {row.sources}")
        caption.append_text(_flags(row))
    for entry in board.notes:
        if entry.reason:
            caption.append(f"\n{entry.defense}, {entry.attack} {entry.threat_model}: {entry.state}: {entry.reason}")
    table = _plain(board.title, caption)
    table.add_column("#", justify="right")
    table.add_column("defense", overflow="fold", min_width=8)
    table.add_column("clean", justify="right", no_wrap=True)
    for column in board.columns:
        table.add_column(Text(f"{column.attack}\n{column.threat_model}"), justify="right", overflow="fold", min_width=9)
    table.add_column("worst\ncase", justify="right", no_wrap=True)
    table.add_column("time,\nNFE", justify="right", no_wrap=True)
    for row in board.rows:
        if row.reference:
            table.add_section()
        table.add_row(*_cells(row))
    return table


def _plain(title: str, caption: Text) -> Table:
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


def _flags(row: Row) -> Text:
    """Return a line of the row's flags, those that warn in colour; nothing where no attack tells anything."""
    fired, missing = row.flagged(), row.flagged("untested")
    line = Text()
    if fired or (missing and row.evidence.attacks):
        line.append(f"\n{row.defense}:")
        for place, flag in enumerate(fired):
            line.append(f"{',' if place else ''} {flag.text}", "" if flag.trait else "yellow")
        if missing:
            line.append(f"{';' if fired else ''} untested: {', '.join(flag.name for flag in missing)}")
    return line


def _cells(row: Row) -> list[Text]:
    rank = Text(row.place) if row.rank else Text("ref." if row.reference else numbers.NOTHING, "dim")
    worst = Text(numbers.NOTHING, "dim")
    if row.worst:
        worst = Text(row.bound, "yellow").append_text(_share(row.worst.accuracy, "bold" if row.rank else ""))
    costs = Text("\n".join(fact.of(row.clean) if row.clean else numbers.NOTHING for fact in IN_SHORT))
    return [rank, Text(row.defense), _accuracy(row.clean), *map(_accuracy, row.attacked), worst, costs]


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
