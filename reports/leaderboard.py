"""From frames to the one value that every renderer shows: sections, boards, rows, entries."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.store.frames import Results, results, wilson
from harness.store.provenance import Provenance, SuiteFacts, provenance
from harness.store.published import Reference, published
from reports.certified import Certified, certified
from reports.contents import Content, contents
from reports.entry import Accuracy, Entry, entry_of
from reports.evidence import Evidence, State
from reports.numbers import percent, radius
from reports.row import Column, Row, Worst
from reports.statistics import detectable, neighbours, places

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

    from harness.store.tallies import Shares
    from reports.attention import Study
    from reports.evidence import Flag


#: defenses that are shown the clean image, where their traits were not recorded
ORACLES = frozenset({"amv-oracle"})


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
        """What its number of examples can show; without a worst case why there is none, where that is known."""
        if not self.examples:
            return self._checks_alone
        if self.detectable is None:
            return f"{self.examples} examples can show no difference, however large"
        said = f"smallest difference that {self.examples} examples can show: {percent(self.detectable)} points"
        tied = any(row.tied for row in self.rows)
        return said + ("; = shares its place with rows that they do not tell apart" if tied else "")

    @property
    def _checks_alone(self) -> str:
        """Why nothing counts though something was attacked: all of it is checks; empty otherwise."""
        checks = [entry for row in self.rows for entry in row.checks]
        if self.norm is not None or not checks:
            return ""
        wide = {f"{entry.norm} {radius(entry.eps)}" for entry in checks if entry.unbounded and entry.eps is not None}
        why = [f"a budget without a bound ({', '.join(sorted(wide))})"] if wide else []
        why += ["known randomness"] if any(not entry.unbounded for entry in checks) else []
        return (
            f"clean input only: all attacks are checks, of {' or '.join(why)}, and count for no worst case; "
            "8 of 255 grey levels is an eps of 8/255"
        )

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

    @property
    def untested(self) -> tuple[tuple[str, tuple[Flag, ...]], ...]:
        """What nobody could look at, and in which rows: those that lack the same are named together."""
        lacking: dict[tuple[Flag, ...], list[Row]] = {}
        for row in self.rows:
            if row.evidence.attacks:
                lacking.setdefault(row.flagged(State.UNTESTED), []).append(row)
        defenses = [row for row in self.rows if not row.reference]
        return tuple(
            ("every defense" if len(rows) > 1 and rows == defenses else ", ".join(row.defense for row in rows), flags)
            for flags, rows in lacking.items()
            if flags
        )


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
    """

    sections: tuple[Section, ...]
    provenance: Provenance
    studies: tuple[Study, ...] = ()


def read_leaderboard(url: str, suite: str | None = None, decision: str | None = None) -> Leaderboard:
    """Read a database; with a ``decision`` repeats are judged by it, in place of each suite's own rule.

    Raises:
        UserError: if there is no such database, no such suite in it or no such decision.
    """
    with _uncollected():
        frames = results(url, suite, decision)
        return leaderboard(frames, provenance(url, suite, frames.others), published(url), decision)


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
    entries = _entries(frames, origin)
    sections: list[Section] = []
    for facts in origin.suites:
        mine = [entry for entry in entries if entry.suite == facts.name and not entry.elsewhere]
        related = [entry for entry in entries if entry.suite == facts.name and entry.elsewhere]
        applied = replace(facts, decision=decision or facts.decision)
        boards = _boards(mine, related, frames.shares, applied.decision, f"b{len(sections) + 1}")
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
    return Leaderboard(tuple(sections), origin)


def _beside(board: Board, references: Sequence[Reference], origin: Provenance) -> tuple[Reference, ...]:
    """Return the published figures on a board's dataset, by its registered name or the suite's, and budget."""
    facts = [origin.cells.get(entry.id or "") for entry in board.entries] if references else []
    names = {board.dataset, *(str(cell.spec["dataset"]["use"]) for cell in facts if cell)}
    return tuple(one for one in references if one.dataset in names and one.beside(board.norm, board.eps))


def _entries(frames: Results, origin: Provenance) -> list[Entry]:
    """Return an entry per row, of the suites and then of what is related to them."""
    seen: dict[str, int] = {}
    found = []
    records = [*_records(frames.cells), *(_records(frames.related) if len(frames.related) else [])]
    undefended = {(record["suite"], record["defense"]) for record in records if record["defense_use"] == "none"}
    oracles = {(record["suite"], record["defense"]) for record in records if record["defense_use"] in ORACLES}
    traits = {record["id"]: facts.traits or {} for record in records if (facts := origin.cells.get(record["id"]))}
    pixels = {(record["suite"], record["dataset"]): traits.get(record["id"], {}).get("pixels") for record in records}
    for position, record in enumerate(records):
        cell = record["id"]
        name = cell or f"refused-{position + 1}"
        seen[name] = seen.get(name, 0) + 1
        anchor = f"c-{name}" if seen[name] == 1 else f"c-{name}-{seen[name]}"
        facts = origin.cells.get(cell) if cell else None
        row = (record["suite"], record["defense"])
        own = bool(facts and facts.spec["defense"]["params"].get("own_classifier"))
        oracle = traits.get(cell, {}).get("oracle", row in oracles)
        flags = {"undefended": row in undefended, "oracle": oracle, "own_classifier": own}
        names = ("suite", "dataset", "classifier", "defense", "attack", "threat_model")
        key = tuple(record[name] for name in (*names, *(("elsewhere", "id") if record.get("elsewhere") else ())))
        size = pixels[record["suite"], record["dataset"]]
        found.append(entry_of(record, anchor, facts, pixels=size, notes=frames.notes.get(key), **flags))
    return found


def _records(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows with None for what pandas writes as not-a-number."""
    columns = [column.astype(object).where(column.notna(), None).tolist() for _, column in cells.items()]
    names = [str(name) for name in cells]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _boards(
    entries: Sequence[Entry],
    related: Sequence[Entry],
    shares: Mapping[tuple[str, ...], Shares],
    decision: str,
    prefix: str,
) -> list[Board]:
    """Return the boards in order of appearance."""
    boards: list[Board] = []
    for content in contents(entries, related):
        listed = {(e.attack, e.threat_model): Column(e.attack, e.threat_model, e.knowledge) for e in content.attacked}
        columns, anchor = tuple(listed.values()), f"{prefix}-{len(boards) + 1}"
        rows = _rows(content, columns, shares, decision, anchor)
        at = (content.dataset, content.classifier, content.norm, content.eps)
        boards.append(_resolved(Board(anchor, entries[0].suite, *at, columns, rows)))
    return boards


def _resolved(board: Board) -> Board:
    """Return a board with what its examples can show: by how often ranked neighbours disagree, or at most."""
    n = max((row.worst.accuracy.n for row in board.rows if row.worst), default=0)
    if not n:
        return board
    ranked = [row.worst.verdicts for row in board.rows if row.worst and row.rank]
    return replace(board, examples=n, detectable=detectable(n, neighbours(ranked)))


def _rows(
    content: Content, columns: Sequence[Column], shares: Mapping[tuple[str, ...], Shares], decision: str, anchor: str
) -> tuple[Row, ...]:
    """Return the rows: ranked ones by worst case, then those without a rank, the reference last."""
    rows = [_row(name, mine, columns, shares, decision) for name, mine in content.rows().items()]
    worst = _worst(rows, anchor)
    rows = [_standing(row, one) for row, one in zip(rows, worst, strict=True)]
    rows.sort(key=lambda row: (row.reference, bool(row.unranked), -row.worst.accuracy.share if row.worst else 1.0))
    return tuple(_placed(rows))


def _placed(rows: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows with their places; those that are ranked come first, by worst case."""
    ranked = [row for row in rows if row.worst and not row.unranked]
    found = places([row.worst.verdicts for row in ranked if row.worst])
    for row, place in zip(ranked, found, strict=True):
        yield replace(row, rank=place.rank, tied=tuple(ranked[other].defense for other in place.tied), p=place.p)
    yield from rows[len(ranked) :]


def _row(
    defense: str, mine: Content, columns: Sequence[Column], shares: Mapping[tuple[str, ...], Shares], decision: str
) -> Row:
    """Return a row that knows neither its worst case nor its rank."""
    met = {(entry.attack, entry.threat_model): entry for entry in mine.attacked}
    reference = any(entry.undefended for entry in (*mine.clean, *mine.attacked, *mine.transferred, *mine.checks))
    direct = [*mine.attacked, *(entry for entry in mine.elsewhere if not entry.transferred)]
    crafted = [*mine.transferred, *(entry for entry in mine.elsewhere if entry.transferred)]
    judged = [_judged(listed, shares) for listed in (direct, crafted, mine.checks)]
    return Row(
        defense=defense,
        reference=reference,
        clean=next(iter(mine.clean), None),
        attacked=tuple(met.get((one.attack, one.threat_model)) for one in columns),
        worst=None,
        adaptive=False,
        rank=None,
        unranked="",
        transferred=tuple(mine.transferred),
        elsewhere=tuple(mine.elsewhere),
        checks=tuple(mine.checks),
        stale=tuple(mine.stale),
        evidence=Evidence(reference, decision, shares, next(iter(_judged(mine.clean, shares)), None), *judged),
    )


def _judged(entries: Sequence[Entry], shares: Mapping[tuple[str, ...], Shares]) -> tuple[Entry, ...]:
    """Return what is finished; of another suite's cells, what has begun, since each example of it counts."""
    return tuple(entry for entry in entries if entry.key in shares and (entry.done or entry.elsewhere))


def _standing(row: Row, worst: Worst | None) -> Row:
    """Tell a row its worst case, and why it cannot be ranked if it cannot."""
    adaptive = any(entry.adaptive for entry in row.evidence.attacks)
    if row.reference:
        unranked = "reference"
    elif any(entry.oracle for entry in row.entries):
        unranked = "analysis only: it is shown the clean image"
    elif not adaptive:
        unranked = "no finished adaptive attack"
    elif row.unfinished:
        unranked = f"{row.unfinished} of {len(row.wanted)} cells unfinished"
    else:
        unranked = "" if worst else "clean input refused or not in the suite"
    return replace(row, worst=worst, adaptive=adaptive, unranked=unranked)


def _worst(rows: Sequence[Row], anchor: str) -> list[Worst | None]:
    """Return for each row the mean over examples of the smallest verdict (law 4: never the smallest of the means).

    None until clean input and at least one attack are measured.
    """
    known = {
        place: row.evidence.worst(row.evidence.counted)
        for place, row in enumerate(rows)
        if row.evidence.clean and len(row.evidence.counted) > 1
    }
    n = [len(one) for one in known.values()]
    interval = wilson([round(float(one.sum()), 9) for one in known.values()], n)
    found: list[Worst | None] = [None] * len(rows)
    for place, share, low, high, wide in zip(known, *(bound.tolist() for bound in interval), n, strict=True):
        ids = tuple(entry.id for entry in rows[place].evidence.counted if entry.id)
        found[place] = Worst(Accuracy(share, low, high, wide), ids, f"{anchor}-w{place + 1}", known[place])
    return found
