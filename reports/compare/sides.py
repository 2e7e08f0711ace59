"""Contestants: the cells that a word on the command line names, with all that a comparison asks about them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError, nearest
from harness.store.read.frames import Results, results
from harness.store.read.latest import latest_suites
from harness.store.read.provenance import CellFacts, Provenance, SuiteFacts, provenance
from harness.store.write.store import Store
from reports.model.leaderboard import Leaderboard, leaderboard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.store.read.summaries import Shares
    from reports.cell import Entry
    from reports.model.board import Board
    from reports.model.row import Row, Worst

#: a URL up to its database's name: the colons in it are none of ours
_URL = re.compile(r"(?P<database>[A-Za-z][\w+]*://[^/]*/[^:]*)(?::(?P<rest>.*))?")


@dataclass(frozen=True)
class Contestant:
    """A cell of one side.

    Attributes:
        entry: its numbers.
        suite: the suite that asks for it.
        facts: what it is and where it was measured; None where it was refused.
        verdicts: per example; None where it is not finished.
        board: where it is ranked; None for clean input and for what fits on none.
        row: its row there.
    """

    entry: Entry
    suite: SuiteFacts
    facts: CellFacts | None
    verdicts: Shares | None
    board: Board | None
    row: Row | None

    def __str__(self) -> str:
        """Name the cell by its parts."""
        return self.beside(self)

    def beside(self, other: Contestant, *, row: bool = False) -> str:
        """Name a pair of cells, or of their rows, by the parts; both names where these are not the same."""
        where, what = _names_of(self, row), _names_of(other, row)
        *front, last = (one if one == two else f"{one}|{two}" for one, two in zip(where, what, strict=True))
        return f"{'/'.join(front)}, {last}"

    @property
    def worst(self) -> Worst | None:
        """The worst case of its row."""
        return self.row.worst if self.row else None

    @property
    def spec(self) -> Mapping[str, Any]:
        """What the cell's digest is made of; empty where it was refused."""
        return self.facts.spec if self.facts else {}


@dataclass(frozen=True)
class Contestants:
    """One side of a comparison.

    Attributes:
        cells: in the order of the suites.
        frames: the numbers behind them.
        origin: where these come from.
    """

    cells: tuple[Contestant, ...]
    frames: Results
    origin: Provenance

    @classmethod
    def of(cls, word: str, db: str | None = None) -> Contestants:
        """Read what a word names: ``DATABASE[:SUITE[/DEFENSE]]``, or ``SUITE[/DEFENSE]`` of the database ``db``.

        Raises:
            UserError: if there is no such database, no such suite in it, or no such defense in that.
        """
        url, rest = (db, word) if db is not None else split(word)
        suite, defense = _names(url, rest)
        frames = results(url, suite)
        origin = provenance(url, suite, frames.others)
        cells = tuple(_contestants(leaderboard(frames, origin), frames))
        chosen = tuple(one for one in cells if defense in (None, one.entry.defense))
        if not chosen and defense is not None:
            known = {one.entry.defense for one in cells}
            raise UserError(f"expected a defense of {suite} in {url}, got {defense!r}; {nearest(defense, known)}")
        return cls(chosen, frames, origin)

    def behind(self, row: Row) -> Iterator[Contestant]:
        """Yield the finished attacked cells of a row."""
        wanted = {entry.anchor for entry in row.evidence.counted if not entry.clean}
        return (one for one in self.cells if one.entry.anchor in wanted)


def _names_of(one: Contestant, row: bool) -> tuple[str, ...]:
    entry, budget = one.entry, one.board.budget if one.board else ""
    attacked = "clean" if entry.clean else f"{entry.attack} {entry.threat_model}"
    return (*entry.row, budget if row else attacked)


def split(word: str) -> tuple[str, str]:
    """Return the database that a word names, and what stands behind its colon.

    A file that is called like the whole word goes before; a URL's own colons are left alone.
    """
    url = _URL.fullmatch(word)
    if url is not None:
        return url["database"], url["rest"] or ""
    if Path(word).exists() or ":" not in word:
        return word, ""
    database, _, rest = word.rpartition(":")
    return database, rest


def _names(url: str, rest: str) -> tuple[str | None, str | None]:
    """Return the suite and the defense that a word names; both kinds of names may have slashes in them.

    Raises:
        UserError: if there is no such suite.
    """
    if not rest:
        return None, None
    known = latest_suites(Store.open(url))
    for end in range(len(rest), 0, -1):
        if rest[:end] in known and rest[end : end + 1] in ("", "/"):
            return rest[:end], rest[end + 1 :] or None
    name = rest.partition("/")[0]
    raise UserError(f"expected a suite in {url}, got {name!r}; {nearest(name, known)}")


def _contestants(board: Leaderboard, frames: Results) -> Iterator[Contestant]:
    for section in board.sections:
        home = {
            entry.anchor: (one, row)
            for one in section.boards
            for row in one.rows
            for entry in row.wanted
            if not entry.clean
        }
        for entry in section.entries:
            facts = board.provenance.cells.get(entry.id or "")
            yield Contestant(
                entry, section.suite, facts, frames.verdicts.get(entry.key), *home.get(entry.anchor, (None, None))
            )
