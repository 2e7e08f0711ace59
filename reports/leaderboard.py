"""From frames to the one value that every renderer shows: sections, boards, rows, entries."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.store.frames import Results, results, wilson
from harness.store.provenance import Provenance, SuiteFacts, provenance
from harness.store.published import Reference, published
from reports.certified import Certified, certified
from reports.entry import Accuracy, Entry, entry_of
from reports.numbers import percent, radius
from reports.statistics import detectable, neighbours, places

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

    from harness.store.tallies import Shares
    from reports.attention import Study

    Verdicts = Mapping[tuple[str, ...], Shares]

    #: the cells of a row: clean input, then an entry per column of the board
    _Line = tuple[Entry | None, ...]


#: defenses that are shown the clean image; those of plug-ins stay unranked too, since no adaptive attack meets them
ORACLES = frozenset({"amv-oracle"})


@dataclass(frozen=True)
class Column:
    """An attack under a threat model, by the suite's names."""

    attack: str
    threat_model: str
    knowledge: str | None

    def __str__(self) -> str:
        """Name both."""
        return f"{self.attack} {self.threat_model}"


@dataclass(frozen=True)
class Worst:
    """The accuracy that is left when each example meets the attack that suits it worst; clean input is one of them.

    Attributes:
        accuracy: the mean over examples of the smallest verdict over ``cells``.
        cells: the ids of the cells it comes from.
        anchor: the fragment on the page where they are listed.
        verdicts: the smallest verdicts, an example each.
    """

    accuracy: Accuracy
    cells: tuple[str, ...]
    anchor: str
    verdicts: Shares = field(repr=False, compare=False)


@dataclass(frozen=True)
class Row:
    """A defense on a board.

    Attributes:
        reference: whether it is the classifier without a defense, which is compared with and not ranked.
        clean: the cell on clean input.
        attacked: an entry per column of the board; None where the suite has no such cell.
        worst: None until clean input and at least one attack are measured. While cells are unfinished it is an
            upper bound: another attack can only lower it.
        adaptive: whether an attack that knows of the defense is finished.
        rank: place by worst case, from 1, see ``reports.statistics.places``; None where the row cannot be ranked.
        unranked: why not.
        tied: the defenses that share the place: the numbers cannot tell their group's first from them.
        p: of the comparison that gave the row its place, corrected; None without one.
    """

    defense: str
    reference: bool
    clean: Entry | None
    attacked: tuple[Entry | None, ...]
    worst: Worst | None
    adaptive: bool
    rank: int | None
    unranked: str
    tied: tuple[str, ...] = ()
    p: float | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All cells of the row, clean input first."""
        return tuple(entry for entry in (self.clean, *self.attacked) if entry)

    @property
    def unfinished(self) -> int:
        """How many cells can be measured and have not been, or not wholly."""
        return sum(entry.unfinished for entry in self.entries)

    @property
    def bound(self) -> str:
        """What stands before the worst case: a sign where it is an upper bound only, else nothing."""
        return "\N{LESS-THAN OR EQUAL TO} " if self.unfinished else ""

    @property
    def caveat(self) -> str:
        """Why the row was attacked less than others on its board, or nothing: a refused attack lowers no number."""
        refused = sorted({str(entry.knowledge) for entry in self.attacked if entry and entry.status == "skipped"})
        return f"not attacked in {', '.join(refused)}: refused" if refused and not self.reference else ""

    @property
    def remark(self) -> str:
        """What sets the row apart from the others, or nothing: it may not stand on the board's classifier."""
        own = any(entry.own_classifier for entry in self.entries)
        return "brings a classifier of its own; oblivious attackers see the board's" if own else ""

    @property
    def place(self) -> str:
        """The rank, with ``=`` where others share it and a star where there is a caveat; empty where there is none."""
        return f"{self.rank}{'=' if self.tied else ''}{'*' if self.caveat else ''}" if self.rank else ""

    @property
    def standing(self) -> str:
        """The rank, or why there is none."""
        return self.place or self.unranked


@dataclass(frozen=True)
class Board:
    """What can be compared: one dataset, one classifier, one budget; a row per defense.

    Attributes:
        published: figures from elsewhere on the same dataset and budget, whatever their classifier; never ranked.
        examples: that the worst cases are over; 0 without any.
        detectable: the smallest difference of two worst cases that so many examples show; None where none is shown.
    """

    anchor: str
    suite: str
    dataset: str
    classifier: str
    norm: str | None
    eps: float | None
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    published: tuple[Reference, ...] = ()
    examples: int = 0
    detectable: float | None = None

    @property
    def title(self) -> str:
        """Name what is compared."""
        return f"{self.dataset} / {self.classifier} / {self.budget}"

    @property
    def budget(self) -> str:
        """Name the budget."""
        return "clean input only" if self.norm is None or self.eps is None else f"{self.norm} {radius(self.eps)}"

    @property
    def resolution(self) -> str:
        """What its number of examples can show; empty without a worst case."""
        if not self.examples:
            return ""
        if self.detectable is None:
            return f"{self.examples} examples can show no difference, however large"
        said = f"smallest difference that {self.examples} examples can show: {percent(self.detectable)} points"
        tied = any(row.tied for row in self.rows)
        return said + ("; = shares its place with rows that they do not tell apart" if tied else "")

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All cells of the board, row by row."""
        return tuple(entry for row in self.rows for entry in row.entries)

    @property
    def notes(self) -> tuple[Entry, ...]:
        """The cells that are not done: refused, missing, partial."""
        return tuple(entry for entry in self.entries if not entry.done)

    @property
    def unfinished(self) -> int:
        """How many cells can be measured and have not been, or not wholly."""
        return sum(entry.unfinished for entry in self.entries)


@dataclass(frozen=True)
class Section:
    """A suite: its boards, and every cell of it in the suite's order.

    Attributes:
        homeless: refused cells whose threat model no other cell shares, so that their budget is not known.
        certified: what certificates say; no part of any board.
    """

    suite: SuiteFacts
    boards: tuple[Board, ...]
    entries: tuple[Entry, ...]
    homeless: tuple[Entry, ...]
    certified: tuple[Certified, ...] = ()

    @property
    def unfinished(self) -> int:
        """How many cells can be measured and have not been, or not wholly."""
        return sum(entry.unfinished for entry in self.entries)


@dataclass(frozen=True)
class Leaderboard:
    """All that a report shows.

    Attributes:
        studies: what purification does to attention, where that was read too.
    """

    sections: tuple[Section, ...]
    provenance: Provenance
    studies: tuple[Study, ...] = ()


def read_leaderboard(url: str, suite: str | None = None) -> Leaderboard:
    """Read a database.

    Raises:
        UserError: if there is no such database or no such suite in it.
    """
    return leaderboard(results(url, suite), provenance(url, suite), published(url))


def leaderboard(frames: Results, origin: Provenance, references: Sequence[Reference] = ()) -> Leaderboard:
    """Arrange frames into boards; nothing is left out, whatever its status."""
    entries = _entries(frames.cells, origin)
    sections: list[Section] = []
    for facts in origin.suites:
        mine = [entry for entry in entries if entry.suite == facts.name]
        met = [entry for entry in mine if not entry.certified]
        boards, homeless = _boards(met, frames.verdicts, f"b{len(sections) + 1}")
        beside = [replace(board, published=_beside(board, references, origin)) for board in boards]
        sections.append(
            Section(facts, tuple(beside), tuple(mine), tuple(homeless), certified=certified(mine, frames.radii))
        )
    return Leaderboard(tuple(sections), origin)


def _beside(board: Board, references: Sequence[Reference], origin: Provenance) -> tuple[Reference, ...]:
    """Return the published figures on a board's dataset, by its registered name or the suite's, and budget."""
    facts = [origin.cells.get(entry.id or "") for entry in board.entries] if references else []
    names = {board.dataset, *(str(cell.spec["dataset"]["use"]) for cell in facts if cell)}
    return tuple(
        one
        for one in references
        if one.dataset in names and one.norm == board.norm and math.isclose(one.eps, board.eps or 0.0, rel_tol=1e-6)
    )


def _entries(cells: pd.DataFrame, origin: Provenance) -> list[Entry]:
    """Return an entry per row."""
    seen: dict[str, int] = {}
    found = []
    records = _records(cells)
    undefended = {(record["suite"], record["defense"]) for record in records if record["defense_use"] == "none"}
    oracles = {(record["suite"], record["defense"]) for record in records if record["defense_use"] in ORACLES}
    for position, record in enumerate(records):
        cell = record["id"]
        name = cell or f"refused-{position + 1}"
        seen[name] = seen.get(name, 0) + 1
        anchor = f"c-{name}" if seen[name] == 1 else f"c-{name}-{seen[name]}"
        facts = origin.cells.get(cell) if cell else None
        row = (record["suite"], record["defense"])
        failure = facts.failure if facts else None
        own = bool(facts and facts.spec["defense"]["params"].get("own_classifier"))
        flags = {"undefended": row in undefended, "oracle": row in oracles, "own_classifier": own}
        found.append(entry_of(record, anchor, failure, **flags))
    return found


def _records(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows with None for what pandas writes as not-a-number."""
    columns = [column.astype(object).where(column.notna(), None).tolist() for _, column in cells.items()]
    names = [str(name) for name in cells]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _boards(entries: Sequence[Entry], verdicts: Verdicts, prefix: str) -> tuple[list[Board], list[Entry]]:
    """Return the boards in order of appearance, and the refused cells that fit on none."""
    homeless = [entry for entry in entries if not entry.clean and entry.norm is None]
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        if not entry.clean and entry.norm is not None:
            groups.setdefault((entry.dataset, entry.classifier, entry.norm, entry.eps), []).append(entry)
    attacked = {key[:2] for key in groups}
    for entry in entries:
        if entry.clean and (entry.dataset, entry.classifier) not in attacked:
            groups.setdefault((entry.dataset, entry.classifier, None, None), [])
    at_rest: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if entry.clean:
            at_rest.setdefault((entry.dataset, entry.classifier), []).append(entry)
    boards: list[Board] = []
    for (dataset, classifier, norm, eps), group in groups.items():
        clean = at_rest.get((dataset, classifier), [])
        columns = tuple(
            {(e.attack, e.threat_model): Column(e.attack, e.threat_model, e.knowledge) for e in group}.values()
        )
        anchor = f"{prefix}-{len(boards) + 1}"
        rows = _rows(clean, group, columns, verdicts, anchor)
        board = Board(anchor, entries[0].suite, dataset, classifier, norm, eps, columns, rows)
        boards.append(_resolved(board))
    return boards, homeless


def _resolved(board: Board) -> Board:
    """Return a board with what its examples can show: by how often ranked neighbours disagree, or at most."""
    n = max((row.worst.accuracy.n for row in board.rows if row.worst), default=0)
    if not n:
        return board
    ranked = [row.worst.verdicts for row in board.rows if row.worst and row.rank]
    return replace(board, examples=n, detectable=detectable(n, neighbours(ranked)))


def _rows(
    clean: Sequence[Entry], attacked: Sequence[Entry], columns: Sequence[Column], verdicts: Verdicts, anchor: str
) -> tuple[Row, ...]:
    """Return the rows: ranked ones by worst case, then those without a rank, the reference last."""
    at_rest = {entry.defense: entry for entry in clean}
    met: dict[str, dict[tuple[str, str], Entry]] = {}
    for entry in attacked:
        met.setdefault(entry.defense, {})[entry.attack, entry.threat_model] = entry
    defenses = list(dict.fromkeys([*at_rest, *met]))
    lines = [
        (at_rest.get(defense), *(met.get(defense, {}).get((one.attack, one.threat_model)) for one in columns))
        for defense in defenses
    ]
    worst = _worst(lines, verdicts, anchor)
    rows = [_row(*one) for one in zip(defenses, lines, worst, strict=True)]
    rows.sort(key=lambda row: (row.reference, bool(row.unranked), -row.worst.accuracy.share if row.worst else 1.0))
    return tuple(_placed(rows))


def _placed(rows: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows with their places; those that are ranked come first, by worst case."""
    ranked = [row for row in rows if row.worst and not row.unranked]
    found = places([row.worst.verdicts for row in ranked if row.worst])
    for row, place in zip(ranked, found, strict=True):
        yield replace(row, rank=place.rank, tied=tuple(ranked[other].defense for other in place.tied), p=place.p)
    yield from rows[len(ranked) :]


def _row(defense: str, line: _Line, worst: Worst | None) -> Row:
    entries = [entry for entry in line if entry]
    adaptive = any(entry.adaptive for entry in entries if entry.done)
    reference = any(entry.undefended for entry in entries)
    unfinished = sum(entry.unfinished for entry in entries)
    if reference:
        unranked = "reference"
    elif any(entry.oracle for entry in entries):
        unranked = "analysis only: it is shown the clean image"
    elif not adaptive:
        unranked = "no finished adaptive attack"
    elif unfinished:
        unranked = f"{unfinished} of {len(entries)} cells unfinished"
    else:
        unranked = "" if worst else "clean input refused or not in the suite"
    return Row(defense, reference, line[0], line[1:], worst, adaptive, None, unranked)


def _worst(lines: Sequence[_Line], verdicts: Verdicts, anchor: str) -> list[Worst | None]:
    """Return for each line the mean over examples of the smallest verdict (law 4: never the smallest of the means).

    None until clean input and at least one attack are measured.
    """
    done = [[entry for entry in line if entry and entry.done] for line in lines]
    least = {
        place: np.minimum.reduce([verdicts[entry.key] for entry in entries])
        for place, (line, entries) in enumerate(zip(lines, done, strict=True))
        if line[0] and line[0].done and len(entries) > 1
    }
    n = [len(one) for one in least.values()]
    interval = wilson([round(float(one.sum()), 9) for one in least.values()], n)
    found: list[Worst | None] = [None] * len(lines)
    for place, share, low, high, wide in zip(least, *(bound.tolist() for bound in interval), n, strict=True):
        ids = tuple(entry.id for entry in done[place] if entry.id)
        found[place] = Worst(Accuracy(share, low, high, wide), ids, f"{anchor}-w{place + 1}", least[place])
    return found
