"""Which sections a format shows, and the parts of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.components import Section
from harness.core import local, session
from harness.core.errors import UserError
from harness.core.registry import find
from harness.core.table import Heading, Part, checked
from reports.sections import ORDER, TABLE
from reports.sections.drawing import Drawings, FlagsInFull

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.core.registry import RegistryEntry
    from reports.model.board import Board
    from reports.model.leaderboard import Leaderboard
    from reports.model.leaderboard import Section as Suite

#: what built-in sections may be made of
OurPart = Part | Drawings | FlagsInFull


@dataclass(frozen=True)
class Made:
    """A section of a suite or of one of its boards.

    Attributes:
        name: as it was asked for.
        failure: why a section of somebody else's has no parts; empty where it has.
    """

    name: str
    parts: tuple[OurPart, ...]
    failure: str = ""


def sections(names: Sequence[str]) -> tuple[tuple[str, Any], ...]:
    """Return the sections of these names, each built.

    Args:
        names: registered ones, ``distribution/name`` of what is installed, ``./file.py:Class``, or ``session:name``.

    Raises:
        UserError: if one is unknown, cannot be imported, or is no section.
    """
    return tuple((name, _built(_entry(name))) for name in dict.fromkeys(names))


def _entry(name: str) -> RegistryEntry:
    written = local.written(name)
    if written:
        path, attribute = written
        return local.entry("section", attribute, local.read(Path(path), path))
    return session.find("section", name) if session.is_session(name) else find("section", name)


def _built(entry: RegistryEntry) -> Any:
    component = entry.load()
    if all(getattr(component, name) is getattr(Section, name) for name in ("of_board", "of_suite")):
        raise UserError(
            f"expected the section {entry.name!r} to be a harness.Section, but it has no of_board or of_suite"
        )
    try:
        return component(component.Options())
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"expected the section {entry.name!r} to be built without options, but: {said}") from error


def made(report: Leaderboard, form: str, suite: Suite, board: Board | None = None) -> Iterator[Made]:
    """Yield what a format shows below a board, or below all boards of a suite; sections without parts are left out.

    What fails in a section of ours fails the report, since the database may be damaged; see law 6. What fails in one
    of somebody else's is a sentence in its place.
    """
    asked = dict(report.asked)
    for name, forms in ORDER:
        if name in asked or form in forms:
            parts = tuple(_parts(asked.get(name) or _built(find("section", name)), report, suite, board))
            if parts:
                yield Made(name, parts)
    for name in asked:
        if name not in TABLE:
            found = made_by_others(report, name, suite, board)
            if found.parts or found.failure:
                yield found


def made_by_others(report: Leaderboard, name: str, suite: Suite, board: Board | None) -> Made:
    """Return what a section of somebody else's makes; it is asked once for all formats."""
    key = (name, suite.suite.name, board.anchor if board else "")
    if key not in report.made:
        report.made[key] = _made_by_others(dict(report.asked)[name], report, name, suite, board)
    found: Made = report.made[key]
    return found


def _made_by_others(section: Any, report: Leaderboard, name: str, suite: Suite, board: Board | None) -> Made:
    try:
        parts = tuple(map(checked, _parts(section, report, suite, board)))
    except Exception as error:
        said = str(error) if isinstance(error, UserError) else f"it raised {type(error).__name__}: {error}"
        where = f"{suite.suite.name}, {board.title}" if board else suite.suite.name
        return Made(name, (), f"The section {name} of {where} is not here: {said}")
    return Made(name, (Heading(section.title), *parts) if section.title and parts else parts)


def _parts(section: Any, report: Leaderboard, suite: Suite, board: Board | None) -> Iterable[Any]:
    found = section.of_suite(suite, report) if board is None else section.of_board(board, suite, report)
    return found or ()


def failures(report: Leaderboard) -> Iterator[str]:
    """Yield why sections that were asked for are not there, a sentence each."""
    for suite in report.sections:
        for board in (*suite.boards, None):
            others = (name for name, _ in report.asked if name not in TABLE)
            yield from filter(None, (made_by_others(report, name, suite, board).failure for name in others))
