"""From frames to the one value that every renderer shows: sections, boards, rows, entries."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.store.frames import Results, results, wilson
from harness.store.provenance import Provenance, SuiteFacts, provenance
from harness.store.published import Reference, published
from reports.entry import Accuracy, Entry, entry_of
from reports.evidence import Evidence, State
from reports.numbers import percent, radius
from reports.placing import Place, places
from reports.trust import FOLLOWED, flags_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from harness.store.tallies import Shares
    from reports.evidence import Flag


#: defenses that are shown the clean image, where their traits were not recorded
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
    """

    accuracy: Accuracy
    cells: tuple[str, ...]
    anchor: str


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
        rank: place by worst case, from 1; equals share a place; None where the row cannot be ranked.
        unranked: why not.
        transferred: cells whose examples were crafted on something else; they count for the worst case.
        elsewhere: attacks on the same row that other suites have; they count for it too.
        checks: cells that count for no worst case: of fixed randomness, or without a bound.
        stale: attacks that other suites have and that count for nothing, since the weights were others.
        evidence: what the flags are judged by.
    """

    defense: str
    reference: bool
    clean: Entry | None
    attacked: tuple[Entry | None, ...]
    worst: Worst | None
    adaptive: bool
    rank: int | None
    unranked: str
    transferred: tuple[Entry, ...] = ()
    elsewhere: tuple[Entry, ...] = ()
    checks: tuple[Entry, ...] = ()
    stale: tuple[Entry, ...] = ()
    evidence: Evidence = field(kw_only=True, compare=False, repr=False)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All cells that the suite has of the row, clean input first, checks last."""
        return (*self.wanted, *(entry for entry in self.checks if not entry.elsewhere))

    @property
    def wanted(self) -> tuple[Entry, ...]:
        """Those of them that the worst case waits for."""
        return tuple(entry for entry in (self.clean, *self.attacked, *self.transferred) if entry)

    @property
    def unfinished(self) -> int:
        """How many of those can be measured and have not been, or not wholly."""
        return sum(entry.unfinished for entry in self.wanted)

    @cached_property
    def flags(self) -> tuple[Flag, ...]:
        """What to know of the row before believing its figure, fired or not."""
        return flags_of(self.evidence)

    def flagged(self, state: str = State.FIRED) -> tuple[Flag, ...]:
        """Return the flags in a state."""
        return tuple(flag for flag in self.flags if flag.state == state)

    @property
    def warning(self) -> str:
        """Name the flags that fired, each with its figure; or nothing."""
        return ", ".join(flag.text for flag in self.flagged())

    @property
    def sources(self) -> str:
        """Which attacks of other suites the worst case is over as well, with what each leaves; or nothing."""
        told = [f"{one.title} ({percent(one.accuracy.share)})" for one in self.elsewhere if one.accuracy]
        left_out = [one.title for one in self.stale]
        said = [f"also counts {', '.join(told)}"] if told else []
        said += [f"does not count {', '.join(left_out)}, measured with other weights"] if left_out else []
        return "; ".join(said)

    @property
    def bound(self) -> str:
        """What stands before the worst case: a sign where it is an upper bound only, else nothing."""
        return "\N{LESS-THAN OR EQUAL TO} " if self.unfinished else ""

    @property
    def caveat(self) -> str:
        """Why the row was attacked less than others on its board, or nothing: a refused attack lowers no number.

        One that knows no more than another that is finished is not missed: a defense without signs has none to smooth.
        """
        best = max((FOLLOWED.get(str(entry.knowledge), 0) for entry in self.evidence.knowing), default=0)
        refused = sorted(
            {str(one.knowledge) for one in self.attacked if one and one.status == "skipped" and _more(one, best)}
        )
        return f"not attacked in {', '.join(refused)}: refused" if refused and not self.reference else ""

    @property
    def remark(self) -> str:
        """What sets the row apart from the others, or nothing: it may not stand on the board's classifier."""
        own = any(entry.own_classifier for entry in self.entries)
        return "brings a classifier of its own; oblivious attackers see the board's" if own else ""

    @property
    def place(self) -> str:
        """The rank, with a star where the row has a caveat; empty where there is none."""
        return f"{self.rank}{'*' if self.caveat else ''}" if self.rank else ""

    @property
    def standing(self) -> str:
        """The rank, or why there is none."""
        return self.place or self.unranked


@dataclass(frozen=True)
class Board:
    """What can be compared: one dataset, one classifier, one budget; a row per defense.

    Attributes:
        published: figures from elsewhere on the same dataset and budget, whatever their classifier; never ranked.
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

    @property
    def title(self) -> str:
        """Name what is compared."""
        return f"{self.dataset} / {self.classifier} / {self.budget}"

    @property
    def budget(self) -> str:
        """Name the budget."""
        return "clean input only" if self.norm is None or self.eps is None else f"{self.norm} {radius(self.eps)}"

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
        elsewhere: attacks on the suite's rows that other suites have.
        ruled: the decision rule that the suite asks for; ``suite.decision`` is the one that is applied.
    """

    suite: SuiteFacts
    boards: tuple[Board, ...]
    entries: tuple[Entry, ...]
    homeless: tuple[Entry, ...]
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
    """All that a report shows."""

    sections: tuple[Section, ...]
    provenance: Provenance


def read_leaderboard(url: str, suite: str | None = None, decision: str | None = None) -> Leaderboard:
    """Read a database; with a ``decision`` repeats are judged by it, in place of each suite's own rule.

    Raises:
        UserError: if there is no such database, no such suite in it or no such decision.
    """
    frames = results(url, suite, decision)
    return leaderboard(frames, provenance(url, suite, frames.others), published(url), decision)


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
        sections.append(Section(applied, beside, tuple(mine), homeless, tuple(related), facts.decision))
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
    for place in places(entries, related):
        listed = {(e.attack, e.threat_model): Column(e.attack, e.threat_model, e.knowledge) for e in place.attacked}
        columns, anchor = tuple(listed.values()), f"{prefix}-{len(boards) + 1}"
        rows = _rows(place, columns, shares, decision, anchor)
        at = (place.dataset, place.classifier, place.norm, place.eps)
        boards.append(Board(anchor, entries[0].suite, *at, columns, rows))
    return boards


def _rows(
    place: Place, columns: Sequence[Column], shares: Mapping[tuple[str, ...], Shares], decision: str, anchor: str
) -> tuple[Row, ...]:
    """Return the rows: ranked ones by worst case, then those without a rank, the reference last."""
    rows = [_row(name, mine, columns, shares, decision) for name, mine in place.rows().items()]
    worst = _worst(rows, anchor)
    rows = [_standing(row, one) for row, one in zip(rows, worst, strict=True)]
    rows.sort(key=lambda row: (row.reference, bool(row.unranked), -row.worst.accuracy.share if row.worst else 1.0))
    ranked = [row.worst.accuracy.share for row in rows if row.worst and not row.unranked]
    return tuple(
        replace(row, rank=1 + sum(share > row.worst.accuracy.share for share in ranked))
        if row.worst and not row.unranked
        else row
        for row in rows
    )


def _row(
    defense: str, mine: Place, columns: Sequence[Column], shares: Mapping[tuple[str, ...], Shares], decision: str
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


def _more(entry: Entry, best: int) -> bool:
    """Whether an attack would have followed more of the defense than the best that did; who knows no name, might."""
    return FOLLOWED.get(str(entry.knowledge), len(FOLLOWED)) > best


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
        found[place] = Worst(Accuracy(share, low, high, wide), ids, f"{anchor}-w{place + 1}")
    return found
