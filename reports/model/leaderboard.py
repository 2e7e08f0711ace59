"""From frames to the one value that every renderer shows: sections, boards, rows, entries."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.store.read.frames import Results, results
from harness.store.read.provenance import Provenance, SuiteFacts, provenance
from harness.store.tend.published import Reference, published
from harness.suite.reread import reread
from reports.cell import Entry, entries_of
from reports.flags.evidence import Evidence
from reports.model.board import Board
from reports.model.certified import Certified, certified
from reports.model.grouping import Content, contents
from reports.model.row import Attacked, Group, Row, Worst
from reports.model.shortfall import Own, additions, lacks_of
from reports.stats.paired import detectable, neighbours, places

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.core.metric import MetricColumn
    from harness.core.minimum import Lack, Minimum
    from harness.store.read.summaries import Shares
    from harness.suite.reread import Reread
    from reports.attention.study import Study


class Judgements(NamedTuple):
    """What the repeats of a suite's cells say, by the cell's key, and the rule that makes verdicts of them."""

    shares: Mapping[tuple[str, ...], Shares]
    plurality: Mapping[tuple[str, ...], Shares]
    decision: str


@dataclass(frozen=True)
class Section:
    """A suite: its boards, and every cell of it in the suite's order.

    Attributes:
        homeless: refused cells whose threat model no other cell shares, so that their budget is not known.
        elsewhere: attacks on the suite's rows that other suites have.
        ruled: the decision rule that the suite asks for; ``suite.decision`` is the one that is applied.
        certified: what certificates say; no part of any board.
    """

    suite: SuiteFacts
    boards: tuple[Board, ...]
    entries: tuple[Entry, ...]
    homeless: tuple[Entry, ...]
    certified: tuple[Certified, ...] = ()
    elsewhere: tuple[Entry, ...] = ()
    ruled: str = ""

    @property
    def rule(self) -> str:
        """Name the decision rule that is applied, and the suite's own where that is another."""
        if self.ruled in ("", self.suite.decision):
            return self.suite.decision
        return f"{self.suite.decision}, in place of the suite's own {self.ruled}"

    @property
    def unfinished(self) -> int:
        """How many cells can be measured and have not been, or not wholly."""
        return sum(entry.unfinished for entry in self.entries)


@dataclass(frozen=True)
class Leaderboard:
    """All that a report shows.

    Attributes:
        studies: what purification does to attention, where that was read too.
        results: the frames that it comes from.
        asked: the sections that were asked for, by name; see ``reports.sections``.
        made: what those of others made, so that each is asked once.
    """

    sections: tuple[Section, ...]
    provenance: Provenance
    studies: tuple[Study, ...] = ()
    results: Results | None = field(default=None, compare=False, repr=False)
    asked: tuple[tuple[str, Any], ...] = ()
    made: dict[tuple[str, str, str], Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def metrics(self) -> tuple[MetricColumn, ...]:
        """The columns of the metrics that its suites ask for."""
        return self.results.columns if self.results else ()


def read_leaderboard(
    url: str, suite: str | None = None, decision: str | None = None, *, own: bool = False
) -> Leaderboard:
    """Read a database; with a ``decision`` repeats are judged by it, in place of each suite's own rule.

    With ``own`` only what was run and computed here is shown.

    Raises:
        UserError: if there is no such database, no such suite in it or no such decision.
    """
    with _uncollected():
        frames = results(url, suite, decision, own=own)
        origin = provenance(frames.store, suite, frames.others, own=own)
        return leaderboard(frames, origin, published(frames.store), decision)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector away while many objects are made that all stay: it would visit them over and over."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def leaderboard(
    frames: Results, origin: Provenance, references: Sequence[Reference] = (), decision: str | None = None
) -> Leaderboard:
    """Arrange frames into boards; nothing is left out, whatever its status."""
    entries = entries_of(frames, origin)
    sections: list[Section] = []
    for facts in origin.suites:
        mine = [entry for entry in entries if entry.suite == facts.name and not entry.elsewhere]
        related = [entry for entry in entries if entry.suite == facts.name and entry.elsewhere]
        applied = replace(facts, decision=decision or facts.decision)
        asked = reread(facts.text)
        judged = Judgements(frames.shares, frames.plurality(facts.name), applied.decision)
        boards = _boards(mine, related, judged, f"b{len(sections) + 1}", asked)
        beside = tuple(replace(board, published=_beside(board, references, origin)) for board in boards)
        homeless = tuple(one for one in mine if not one.clean and not one.certified and one.norm is None)
        sections.append(
            Section(
                applied,
                beside,
                tuple(mine),
                homeless,
                certified=certified(mine, frames.radii),
                elsewhere=tuple(related),
                ruled=facts.decision,
            )
        )
    return Leaderboard(tuple(sections), origin, results=frames)


def _beside(board: Board, references: Sequence[Reference], origin: Provenance) -> tuple[Reference, ...]:
    """Return the published figures on a board's dataset, by its registered name or the suite's, and budget."""
    facts = [origin.cells.get(entry.id or "") for entry in board.entries] if references else []
    names = {board.dataset, *(str(cell.spec["dataset"]["use"]) for cell in facts if cell)}
    return tuple(one for one in references if one.dataset in names and one.beside(board.norm, board.eps))


def _boards(
    entries: Sequence[Entry],
    related: Sequence[Entry],
    judged: Judgements,
    prefix: str,
    asked: Reread,
) -> list[Board]:
    """Return the boards in order of appearance."""
    boards: list[Board] = []
    own = Own.of(entries)
    for content in contents(entries, related):
        listed = {(e.attack, e.threat_model): Attacked(e.attack, e.threat_model, e.knowledge) for e in content.attacked}
        columns, anchor = tuple(listed.values()), f"{prefix}-{len(boards) + 1}"
        rows = _rows(content, columns, judged, anchor, asked.minimum)
        at = (content.dataset, content.classifier, content.norm, content.eps)
        board = Board(anchor, entries[0].suite, *at, columns, rows, minimum=asked.minimum)
        boards.append(_resolved(_completed(board, own, asked)))
    return boards


def _completed(board: Board, own: Own, asked: Reread) -> Board:
    """Return a board with what would have to be added to the suite so that all its rows are ranked."""
    if not board.below or board.norm is None or board.eps is None:
        return board
    where = (board.dataset, board.classifier, board.norm, board.eps)
    return replace(board, additions=additions(board.below, own, asked, where))


def _resolved(board: Board) -> Board:
    """Return a board with what its examples can show: by how often ranked neighbours disagree, or at most."""
    n = max((row.worst.accuracy.n for row in board.rows if row.worst), default=0)
    if not n:
        return board
    ranked = [row.worst.case for row in board.rows if row.worst and row.rank]
    return replace(board, examples=n, detectable=detectable(n, neighbours(ranked)))


def _rows(
    content: Content,
    columns: Sequence[Attacked],
    judged: Judgements,
    anchor: str,
    minimum: Minimum,
) -> tuple[Row, ...]:
    """Return the rows, group by group and within them by worst case."""
    rows = [_row(name, mine, columns, judged) for name, mine in content.rows().items()]
    worst = _worst(rows, anchor)
    rows = [_standing(row, one, minimum, content.norm) for row, one in zip(rows, worst, strict=True)]
    groups = list(Group)
    rows.sort(key=lambda row: (groups.index(row.group), -row.worst.accuracy.share if row.worst else 1.0))
    return tuple(replace(row, flags_anchor=f"{anchor}-t{place}") for place, row in enumerate(_placed(rows), 1))


def _placed(rows: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows with their places; those that are ranked come first, by worst case."""
    ranked = [row for row in rows if row.worst and not row.unranked]
    found = places([row.worst.case for row in ranked if row.worst])
    for row, place in zip(ranked, found, strict=True):
        yield replace(row, rank=place.rank, tied=tuple(ranked[other].defense for other in place.tied), p=place.p)
    yield from rows[len(ranked) :]


def _row(defense: str, mine: Content, columns: Sequence[Attacked], judged: Judgements) -> Row:
    """Return a row that knows neither its worst case nor its rank."""
    met = {(entry.attack, entry.threat_model): entry for entry in mine.attacked}
    reference = any(entry.undefended for entry in (*mine.clean, *mine.attacked, *mine.transferred, *mine.checks))
    direct = [*mine.attacked, *(entry for entry in mine.elsewhere if not entry.transferred)]
    crafted = [*mine.transferred, *(entry for entry in mine.elsewhere if entry.transferred)]
    listed = (mine.clean, direct, crafted, mine.checks)
    clean, attacks, transfers, checks = (_judged(some, judged.shares) for some in listed)
    return Row(
        defense=defense,
        reference=reference,
        clean=next(iter(mine.clean), None),
        attacked=tuple(met.get((one.attack, one.threat_model)) for one in columns),
        worst=None,
        rank=None,
        unranked="",
        transferred=tuple(mine.transferred),
        elsewhere=tuple(mine.elsewhere),
        checks=tuple(mine.checks),
        stale=tuple(mine.stale),
        evidence=Evidence(
            reference=reference,
            decision=judged.decision,
            shares=judged.shares,
            clean=next(iter(clean), None),
            attacks=attacks,
            transfers=transfers,
            checks=checks,
            plurality=judged.plurality,
        ),
    )


def _judged(entries: Sequence[Entry], shares: Mapping[tuple[str, ...], Shares]) -> tuple[Entry, ...]:
    """Return what is finished; of another suite's cells, what has begun, since each example of it counts."""
    return tuple(entry for entry in entries if entry.key in shares and (entry.done or entry.elsewhere))


def _standing(row: Row, worst: Worst | None, minimum: Minimum, norm: str | None) -> Row:
    """Tell a row its worst case, and why it cannot be ranked if it cannot."""
    lacks: tuple[Lack, ...] = ()
    if row.reference:
        unranked = "reference"
    elif any(entry.oracle for entry in row.entries):
        unranked = "analysis only: it is shown the clean image"
    elif row.foreign:
        unranked = f"computed in {row.foreign} and not again here; see `purebench verify --origin`"
    elif norm is None:
        unranked = "no attack in the suite"
    elif row.unfinished:
        lacks = lacks_of(row.evidence, (entry for entry in row.attacked if entry), minimum, norm)
        unranked = f"{row.unfinished} of {len(row.wanted)} cells unfinished"
    elif row.evidence.fault:
        unranked = row.evidence.fault
    elif lacks := lacks_of(row.evidence, (), minimum, norm):
        unranked = f"attacked less than {minimum.name} asks"
    else:
        unranked = row.evidence.too_few or ("" if worst else "clean input refused or not in the suite")
    return replace(row, worst=worst, unranked=unranked, lacks=lacks)


def _worst(rows: Sequence[Row], anchor: str) -> list[Worst | None]:
    """Return for each row the mean over examples of what is left (law 4: never the smallest of the means).

    None until clean input and at least one attack are measured.
    """
    found: list[Worst | None] = []
    for place, row in enumerate(rows):
        if not row.evidence.clean or len(row.evidence.counted) < 2:
            found.append(None)
            continue
        case = row.evidence.worst_case()
        ids = tuple(entry.id for entry in row.evidence.counted if entry.id)
        found.append(Worst(case.accuracy, float(case.smallest.mean()), ids, f"{anchor}-w{place + 1}", case))
    return found
