"""The leaderboard as one tidy CSV file: a row per cell and per worst case, numbers unrounded."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from harness.core.printable import inert
from reports.model.columns import FACTS
from reports.model.row import Group

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TextIO

    from reports.cell import Accuracy, Entry
    from reports.flags.evidence import Flag
    from reports.model.certified import Line
    from reports.model.leaderboard import Board, Leaderboard
    from reports.model.row import Row

HEAD = (
    *("suite", "row", "dataset", "classifier", "defense", "attack", "threat_model", "norm", "eps", "knowledge"),
    "radius",
    *("id", "status", "reason", "rank", "decision", "n", "repeats", "accuracy", "low", "high"),
    *(fact.key for fact in FACTS),
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
        self.writer.writeheader()

    def writerow(self, row: Mapping[str, object]) -> None:
        """Write a row."""
        self.writer.writerow({key: inert(value) for key, value in row.items()})

    def writerows(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Write several."""
        for row in rows:
            self.writerow(row)


def csv_text(board: Leaderboard) -> str:
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
    text = io.StringIO()
    writer = Cells(text, HEAD)
    for section in board.sections:
        writer.writerows(map(_cell, (*section.entries, *section.elsewhere)))
        for one in section.boards:
            for row in one.rows:
                writer.writerow(_worst(one, row, section.suite.decision))
                writer.writerows(_flag(one, row, flag) for flag in row.flags if row.evidence.attacks or flag.fired)
        for table in section.certified:
            for line in table.lines:
                pairs = zip(table.radii, line.shares, strict=False)  # without shares where nothing was measured
                writer.writerows(_certified(line, *pair) for pair in pairs)
    return text.getvalue()


def _cell(entry: Entry) -> dict[str, object]:
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
        **{fact.key: fact.value(entry) for fact in FACTS},
    }


def _certified(line: Line, radius: float, share: Accuracy) -> dict[str, object]:
    names = ("suite", "dataset", "classifier", "defense", "attack", "threat_model", "id", "status", "reason")
    told = {name: getattr(line.entry, name) for name in names}
    return {**told, "row": "certified", "norm": "L2", "radius": radius, **_share(share, share.n)}


def _worst(board: Board, row: Row, decision: str) -> dict[str, object]:
    worst = row.worst
    return {
        **_place(board, row),
        "row": "worst case",
        "id": " ".join(worst.cells) if worst else None,
        "status": "upper bound" if row.unfinished else "done",
        "reason": row.unranked or None,
        "rank": row.rank,
        "tied": " ".join(row.tied) or None,
        "p": row.p,
        "standing": str(row.group),
        "minimum": board.minimum.name,
        "lacks": row.missing or None,
        "origin": row.foreign or None,
        "add": board.additions.text if row.group is Group.BELOW else None,
        "decision": decision,
        "fired": "; ".join(flag.text for flag in row.flagged()),
        "untested": "; ".join(flag.name for flag in row.flagged("untested")),
        **_share(worst.accuracy if worst else None, worst.accuracy.n if worst else 0),
        "smallest": worst.smallest if worst else None,
    }


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
