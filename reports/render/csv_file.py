"""The leaderboard as one tidy CSV file: a row per cell and per worst case, numbers unrounded."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from harness.core.printable import inert
from harness.core.table import Cell, Plot, Table, fields
from reports.model.columns import facts, row_columns
from reports.model.row import Group
from reports.render.robustbench import safe
from reports.sections import CSV
from reports.sections.drawing import Drawings
from reports.sections.made import made

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TextIO

    from harness.core.metric import MetricColumn
    from reports.cell import Accuracy, Entry
    from reports.flags.evidence import Flag
    from reports.model.board import Board
    from reports.model.certified import Line
    from reports.model.leaderboard import Leaderboard
    from reports.model.row import Row
    from reports.sections.made import OurPart

_BEFORE = (
    *("suite", "row", "dataset", "classifier", "defense", "attack", "threat_model", "norm", "eps", "knowledge"),
    "radius",
    *("id", "status", "reason", "rank", "decision", "n", "repeats", "accuracy", "low", "high"),
)
_AFTER = (
    *("faults", "claimed", "elsewhere", "fired", "untested", "flag", "figure"),
    *("tied", "p"),  # of a rank: the defenses that share it, and the p-value of the comparison that gave it
    "smallest",  # of a worst case: the mean of the smallest verdicts that were seen, a lower bound
    *("standing", "minimum", "lacks", "add"),  # of a row: its group, what is asked, what it lacks, what to add
    "origin",  # the database that it was computed in, where that is another
)


class Cells:
    """Writes rows of cells, none of which a spreadsheet takes for a formula; begins with the head."""

    def __init__(self, file: TextIO, head: Sequence[str]) -> None:
        self.writer = csv.DictWriter(file, head, lineterminator="\n")
        self.writerow({name: name for name in head})

    def writerow(self, row: Mapping[str, object]) -> None:
        """Write a row."""
        self.writer.writerow({key: inert(value) for key, value in row.items()})

    def writerows(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Write several."""
        for row in rows:
            self.writerow(row)


def csv_text(report: Leaderboard) -> str:
    """Return the file's text.

    ``row`` is ``cell`` for a measurement and ``worst case`` for what all attacks together leave of a defense on a
    board; the ``id`` of the latter lists the ids of its cells, separated by blanks, and ``fired`` and ``untested`` its
    flags, separated by semicolons. ``standing`` is the group that it stands in: ``ranked``, ``below the minimum``,
    ``not ranked`` or ``reference``, and rows of different groups are not to be compared; ``minimum`` names what the
    suite asks for, ``lacks`` says what a row has not met of it, and ``add`` has the lines that add it to the suite,
    under their keys. ``flag`` is one of its flags: ``status`` says whether it fired, ``figure`` its number, and
    ``reason`` what was seen or what to add. ``elsewhere`` names the suite that a cell is taken from, if it is not the
    suite's own; ``claimed`` is the accuracy that an attack said to have left. Times are in seconds, memory in bytes.
    What a certificate says has a row for each radius, ``certified``: such a share is right within that distance in L2,
    and ``attack`` names the certificate.
    """
    known = (*_BEFORE, *(column.key for column in facts(report.metrics)), *_AFTER)
    rows = (_figures(row) for section in report.sections for board in section.boards for row in board.rows)
    further = dict.fromkeys(name for row in rows for name in row if name not in known)
    text = io.StringIO()
    Cells(text, (*known, *further)).writerows(_lines(report))
    return text.getvalue()


def _lines(report: Leaderboard) -> Iterator[dict[str, object]]:
    for section in report.sections:
        yield from (_cell(entry, report.metrics) for entry in (*section.entries, *section.elsewhere))
        for board in section.boards:
            for row in board.rows:
                yield _worst(board, row, section.suite.decision)
                yield from (_flag(board, row, flag) for flag in row.flags if row.evidence.attacks or flag.fired)
        for table in section.certified:
            for line in table.lines:
                pairs = zip(table.radii, line.shares, strict=False)  # without shares where nothing was measured
                yield from (_certified(line, *pair) for pair in pairs)


def section_files(report: Leaderboard) -> dict[str, str]:
    """Return the tables of the sections that were asked for, a file each, by ``sections/<section>-<number>.csv``."""
    found: dict[str, list[tuple[dict[str, object], Table]]] = {}
    for section in report.sections:
        for board in (*section.boards, None):
            for one in made(report, CSV, section, board):
                where: dict[str, object] = {"suite": section.suite.name, "board": board.title if board else None}
                found.setdefault(one.name.rpartition(":")[2], []).extend(
                    (where, table) for part in one.parts for table in _tables(part)
                )
    return {
        f"sections/{safe(name)}-{number}.csv": _table(where, table)
        for name, tables in found.items()
        for number, (where, table) in enumerate(tables, 1)
    }


def _tables(part: OurPart) -> tuple[Table, ...]:
    match part:
        case Table():
            return (part,)
        case Plot():
            return (part.table,)
        case Drawings():
            return part.tables
        case _:
            return ()


def _table(where: dict[str, object], table: Table) -> str:
    lines = [{**where, "table": table.title, **record} for record in table.records]
    text = io.StringIO()
    Cells(text, list(dict.fromkeys(name for line in lines for name in line))).writerows(lines)
    return text.getvalue()


def _cell(entry: Entry, metrics: Sequence[MetricColumn]) -> dict[str, object]:
    return {
        "suite": entry.suite,
        "row": "cell",
        "dataset": entry.dataset,
        "classifier": entry.classifier,
        "defense": entry.defense,
        "attack": entry.attack,
        "threat_model": entry.threat_model,
        "norm": entry.norm,
        "eps": entry.eps,
        "knowledge": entry.knowledge,
        "id": entry.id,
        "status": entry.status,
        "reason": entry.reason,
        "decision": entry.decision,
        "repeats": entry.repeats,
        "faults": entry.faults,
        "claimed": entry.claimed,
        "elsewhere": entry.elsewhere,
        "origin": entry.computed_in or None,
        **_share(entry.accuracy, entry.n),
        **{column.key: column.of(entry) for column in facts(metrics)},
    }


def _certified(line: Line, radius: float, share: Accuracy) -> dict[str, object]:
    names = ("suite", "dataset", "classifier", "defense", "attack", "threat_model", "id", "status", "reason")
    told = {name: getattr(line.entry, name) for name in names}
    return {**told, "row": "certified", "norm": "L2", "radius": radius, **_share(share, share.n)}


def _worst(board: Board, row: Row, decision: str) -> dict[str, object]:
    return {
        **_place(board, row),
        "row": "worst case",
        "id": " ".join(row.worst.cells) if row.worst else None,
        "status": "upper bound" if row.unfinished else "done",
        "reason": row.unranked or None,
        "standing": str(row.group),
        "minimum": board.minimum.name,
        "lacks": row.missing or None,
        "origin": row.foreign or None,
        "add": board.additions.text if row.group is Group.BELOW else None,
        "decision": decision,
        **_figures(row),
    }


def _figures(row: Row) -> dict[str, object]:
    """Return the columns of a board that have no lines of their own."""
    values = ((column.key, column.of(row)) for column in row_columns() if not column.own_line)
    told = (fields(key, one.value if isinstance(one, Cell) else one) for key, one in values)
    return {name: value for one in told for name, value in one.items()}


def _flag(board: Board, row: Row, flag: Flag) -> dict[str, object]:
    return {
        **_place(board, row),
        "row": "flag",
        "id": " ".join(entry.id for entry in flag.cells if entry.id),
        "status": str(flag.state),
        "reason": flag.sentence,
        "flag": flag.name,
        "figure": flag.value,
    }


def _place(board: Board, row: Row) -> dict[str, object]:
    names = {"suite": board.suite, "dataset": board.dataset, "classifier": board.classifier, "defense": row.defense}
    return {**names, "norm": board.norm, "eps": board.eps}


def _share(accuracy: Accuracy | None, n: int) -> dict[str, object]:
    if accuracy is None:
        return {"n": n}
    return {"n": n, "accuracy": accuracy.share, "low": accuracy.low, "high": accuracy.high}
