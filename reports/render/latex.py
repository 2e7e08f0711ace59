"""The leaderboard as LaTeX tables (booktabs), to be input into a paper."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING

from reports import format as numbers
from reports.model.columns import FACTS, IN_SHORT, Fact
from reports.model.row import Group

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reports.cell import Accuracy, Entry
    from reports.model.certified import Certified
    from reports.model.leaderboard import Board, Leaderboard
    from reports.model.row import Row, Worst

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
    "\N{MICRO SIGN}": r"\textmu{}",
    "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
}


def escaped(text: str) -> str:
    """Return text that LaTeX sets as it is, on one line."""
    return "".join(_ESCAPES.get(letter, letter) for letter in re.sub(r"\s+", " ", text))


def latex(leaderboard: Leaderboard) -> str:
    r"""Return one table per board and one of the cells behind it; needs ``\usepackage{booktabs}``."""
    blocks = [r"% needs \usepackage{booktabs}; wide tables may want \resizebox or a landscape page"]
    for section in leaderboard.sections:
        for board in section.boards:
            blocks += [_board(board), _cells(board)]
        blocks += map(_certified, section.certified)
        if section.homeless:
            blocks.append("\n".join(f"% {escaped(_reason(entry))}" for entry in section.homeless))
    return "\n\n".join(blocks) + "\n"


def _board(board: Board) -> str:
    head = ["rank", "defense", "clean", "worst case", *map(str, board.columns), "time", "evaluations"]
    ranked = [row for row in board.rows if not row.reference]
    marks = _marks(board)
    body: list[str] = []
    for block in board.blocks:
        body += [r"\midrule"] if body else []
        if block.group in (Group.BELOW, Group.OTHER):
            body.append(_line([rf"\multicolumn{{{len(head)}}}{{l}}{{\emph{{{escaped(block.title)}}}}}"]))
        body += [_row(row, marks) for row in block.rows]
    notes = [f"{board.resolution[0].upper()}{board.resolution[1:]}."] if board.resolution else []
    notes += [f"{board.minimum.sentence}."] if board.below else []
    notes += [f"{row.defense}: {row.unranked}{_lacking(row)}." for row in ranked if row.unranked]
    notes += [
        f"* {row.defense}: {row.caveat}; rows beside it may have been attacked harder." for row in ranked if row.caveat
    ]
    notes += [f"{row.defense} {row.remark}." for row in ranked if row.remark]
    notes += [f"{row.defense} {row.sources}." for row in board.rows if row.sources]
    notes += [f"{_reason(entry)}." for entry in board.notes]
    notes += [f"{mark}: {name} ({_where(board, name)})." for name, mark in marks.items()]
    caption = f"{board.title}. Accuracy in per cent with its 95 % Wilson interval; time and evaluations per image."
    table = _table(head, body, " ".join([caption, *notes]), left=2)
    lines = board.additions.text.splitlines()
    return "\n".join(
        [
            table,
            *(["% add to the suite, so that all rows are ranked:"] if lines else []),
            *(f"% {one}" for one in lines),
        ]
    )


def _lacking(row: Row) -> str:
    return f"; it lacks {row.missing}" if row.missing else ""


def _certified(certified: Certified) -> str:
    head = ["defense", "certificate", *(f"{radius:g}" for radius in certified.radii)]
    body = []
    for line in certified.lines:
        shares = [_share(one) for one in (*line.shares, line.abstained) if one]
        shares = shares or [escaped(line.entry.state), *["--"] * len(certified.radii)]
        mean = "--" if line.mean is None else numbers.measure(line.mean)
        body.append(_line([escaped(line.entry.defense), escaped(line.entry.attack), *shares, mean]))
    notes = [f"{_reason(entry)}." for entry in certified.reasons]
    caption = (
        f"{certified.title}. Share in per cent that is right and certified within a radius, with its 95 % interval."
    )
    return _table([*head, "abstained", "mean radius"], body, " ".join([caption, *notes]), left=2)


def _marks(board: Board) -> dict[str, str]:
    """Return a letter for each flag that fired on the board."""
    names = dict.fromkeys(flag.name for row in board.rows for flag in row.flagged())
    return dict(zip(names, string.ascii_lowercase, strict=False))


def _where(board: Board, name: str) -> str:
    """Say on which rows a flag fired, with its figures."""
    found = [(row, flag) for row in board.rows for flag in row.flagged() if flag.name == name]
    return ", ".join(" ".join(filter(None, (row.defense, flag.figure))) for row, flag in found)


def _row(row: Row, marks: Mapping[str, str]) -> str:
    rank = row.place if row.rank else "ref." if row.reference else numbers.NOTHING
    fired = ",".join(marks[flag.name] for flag in row.flagged())
    above = rf"\textsuperscript{{{fired}}}" if fired else ""
    worst = (_worst(row.bound, row.worst) if row.worst else "--") + above
    cells = [escaped(rank), escaped(row.defense), _accuracy(row.clean), worst, *map(_accuracy, row.attacked)]
    cells += [_fact(fact, row.clean) for fact in IN_SHORT]
    return _line(cells)


def _cells(board: Board) -> str:
    head = ["cell", "defense", "attack", "threat model", "accuracy", *(fact.title for fact in FACTS)]
    spans = _spans(5)
    body = [
        _line(
            [
                rf"\texttt{{{entry.id}}}" if entry.id else "--",
                *map(escaped, (entry.defense, entry.attack, entry.threat_model)),
                _accuracy(entry),
                *(_fact(fact, entry) for fact in FACTS),
            ]
        )
        for entry in board.entries
    ]
    return _table(head, body, f"The cells behind {board.title}.", left=4, above=spans)


def _spans(skip: int) -> str:
    widths: dict[str, int] = {}
    for fact in FACTS:
        widths[fact.group] = widths.get(fact.group, 0) + 1
    cells = [""] * skip + [rf"\multicolumn{{{width}}}{{c}}{{{escaped(group)}}}" for group, width in widths.items()]
    return _line(cells)


def _reason(entry: Entry) -> str:
    where = f"{entry.defense}, {entry.attack} {entry.threat_model}: {entry.state}"
    return f"{where} ({entry.reason})" if entry.reason else where


def _accuracy(entry: Entry | None) -> str:
    if entry is None:
        return "--"
    if entry.accuracy is None:
        return escaped(entry.state)
    return _share(entry.accuracy) + ("" if entry.done else f" ({escaped(entry.state)})")


def _worst(bound: str, worst: Worst) -> str:
    floor = rf" {{\scriptsize {escaped(worst.floor)}}}" if worst.floor else ""
    return escaped(bound) + _share(worst.accuracy) + floor


def _share(accuracy: Accuracy) -> str:
    low, high = numbers.percent(accuracy.low), numbers.percent(accuracy.high)
    return rf"{numbers.percent(accuracy.share)} {{\scriptsize [{low}, {high}]}}"


def _fact(fact: Fact, entry: Entry | None) -> str:
    return escaped(fact.of(entry)) if entry else "--"


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _table(head: Sequence[str], body: Sequence[str], caption: str, left: int, above: str = "") -> str:
    shape = "l" * left + "r" * (len(head) - left)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(caption)}}}",
            rf"\begin{{tabular}}{{{shape}}}",
            r"\toprule",
            *([above] if above else []),
            _line(map(escaped, head)),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )
