"""Accuracy against time as a small figure; drawn by a template, so that it follows the page's colours and links."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports import numbers

if TYPE_CHECKING:
    from reports.leaderboard import Board, Row

#: of the drawing, in units that the browser scales
WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 24, 14, 44

#: height of a label and the mean width of its letters, in the same units
_LINE, _LETTER = 15.0, 6.9


@dataclass(frozen=True)
class Tick:
    """A place on an axis with its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A defense: clean accuracy above, worst case with its interval below, at its time per image."""

    name: str
    reference: bool
    x: float
    clean: float
    worst: float
    low: float
    high: float
    label_x: float
    label_y: float
    label_end: bool
    clean_anchor: str
    worst_anchor: str
    sentence: str


@dataclass(frozen=True)
class Figure:
    """Where everything stands."""

    marks: tuple[Mark, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    title: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def _y(share: float) -> float:
    return round(TOP + (1 - share) * (HEIGHT - TOP - BOTTOM), 1)


def accuracy_against_time(board: Board) -> Figure | None:
    """Place a board's defenses; None where fewer than two have an accuracy and a time."""
    shown = [(row, time) for row in board.rows if row.worst and (time := _time(row))]
    if len(shown) < 2:
        return None
    times = [time for _, time in shown]
    first = math.floor(math.log10(min(times)) - 0.15)
    last = max(math.ceil(math.log10(max(times)) + 0.15), first + 1)

    def x(time: float) -> float:
        return round(LEFT + (math.log10(time) - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)

    marks: list[Mark] = []
    for row, time in sorted(shown, key=lambda pair: (_share(pair[0]), -pair[1], pair[0].defense)):
        marks.append(_mark(row, x(time), numbers.seconds(time), marks))
    marks.reverse()  # a reader goes from the top
    x_ticks = tuple(Tick(x(10.0**power), numbers.tick(10.0**power)) for power in range(first, last + 1))
    y_ticks = tuple(Tick(_y(share / 100), str(share)) for share in range(0, 101, 25))
    return Figure(tuple(marks), x_ticks, y_ticks, board.title)


def _time(row: Row) -> float | None:
    return row.clean.defense_cost.seconds if row.clean else None


def _share(row: Row) -> float:
    return row.worst.accuracy.share if row.worst else 0.0


def _reach(label_x: float, length: float, end: bool) -> tuple[float, float]:
    """Return where a label begins and ends; one that stands at the end is set to the left of its mark."""
    return (label_x - length, label_x) if end else (label_x, label_x + length)


def _mark(row: Row, x: float, time: str, placed: list[Mark]) -> Mark:
    """Place a defense beside those placed before, from the bottom up, its label above any that it would cover."""
    if row.worst is None or row.clean is None or row.clean.accuracy is None:
        raise ValueError("expected a row with clean input and a worst case")
    length = len(row.defense) * _LETTER
    end = x + 12 + length > WIDTH - RIGHT
    label_x, label_y = (x - 10 if end else x + 10), min(_y(row.worst.accuracy.share) + 4, HEIGHT - BOTTOM - 3)
    reach = _reach(label_x, length, end)
    for other in sorted(placed, key=lambda mark: -mark.label_y):
        theirs = _reach(other.label_x, len(other.name) * _LETTER, other.label_end)
        beside = reach[1] < theirs[0] or theirs[1] < reach[0]
        if not beside and abs(other.label_y - label_y) < _LINE:
            label_y = other.label_y - _LINE
    worst, clean = row.worst.accuracy, row.clean.accuracy
    return Mark(
        name=row.defense,
        reference=row.reference,
        x=x,
        clean=_y(clean.share),
        worst=_y(worst.share),
        low=_y(worst.low),
        high=_y(worst.high),
        label_x=round(label_x, 1),
        label_y=round(label_y, 1),
        label_end=end,
        clean_anchor=row.clean.anchor,
        worst_anchor=row.worst.anchor,
        sentence=(
            f"{row.defense}: worst case {row.bound}{numbers.percent(worst.share)} "
            f"{numbers.interval(worst.low, worst.high)}, clean {numbers.percent(clean.share)}, {time} per image"
        ),
    )
