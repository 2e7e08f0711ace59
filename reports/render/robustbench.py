"""The leaderboard as files of RobustBench's ``model_info``: ``<dataset>/<norm>/<Model>.json``.

What was attacked less than its suite's minimum asks lies apart: ``not-ranked/<dataset>/<norm>/<Model>.json``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.core.spec import digest_of
from harness.core.threat import BALLS
from reports.format import radius
from reports.model.row import Group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.store.read.provenance import Provenance
    from reports.cell import Entry
    from reports.model.board import Board
    from reports.model.leaderboard import Leaderboard, Section
    from reports.model.row import Row

#: folder of what was attacked less than is asked
APART = "not-ranked"

#: longest name of a folder or file, ending aside
_LONGEST = 100


def model_info(leaderboard: Leaderboard) -> dict[str, str]:
    """Return the text of each file by its path under ``model_info``.

    A row is there if it is ranked, or if it is the classifier without a defense, and all its cells are finished; in
    the ball of a norm, that is: its cards know no other threat. One that was attacked less than its suite's minimum
    asks is there too, in a folder apart, which no table of RobustBench reads.
    ``clean_acc``, ``autoattack_acc`` and ``external`` are in per cent, as text, as RobustBench has them:

    - ``external``, there the best known evaluation, is the worst case per example over all attacks of the row;
    - ``autoattack_acc`` is there only where AutoAttack was run on the defense as a whole;
    - ``unreliable`` is said where a row was attacked less than others or than is asked, or where a flag warns of a weak
      attack;
    - what a measurement does not tell (title, authors, venue, link) is left empty.
    """
    rows = [
        (section, board, row)
        for section in leaderboard.sections
        for board in section.boards
        for row in board.rows
        if board.norm in BALLS and row.worst and not row.unfinished and row.group is not Group.OTHER
    ]
    places = [_place(board, row, leaderboard.provenance) for _, board, row in rows]
    taken = Counter(place.casefold() for place in places)
    files = {}
    for (section, board, row), place in zip(rows, places, strict=True):
        # a name that would be another one's is told apart by what the row is, so that it stays the same
        mark = f"-{_telling(board, row)}" if taken[place.casefold()] > 1 else ""
        card = _card(section, board, row, leaderboard.provenance)
        files[f"{place}{mark}.json"] = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    return files


def safe(name: str) -> str:
    """Return a name that is no path, whatever it was: letters, digits, ``_``, ``-`` and ``.``, no dot in front."""
    return re.sub(r"^\.|[^A-Za-z0-9_.-]", "_", name)[:_LONGEST] or "_"


def _place(board: Board, row: Row, origin: Provenance) -> str:
    """Return the path of a row's file without its ending."""
    place = f"{safe(_dataset(board, row, origin))}/{safe(str(board.norm))}/{safe(f'{row.defense}_{board.classifier}')}"
    return f"{APART}/{place}" if row.group is Group.BELOW else place


def _dataset(board: Board, row: Row, origin: Provenance) -> str:
    """Return the registered name of the dataset, whatever the suite calls it."""
    specs = [spec for entry in row.entries if (spec := _spec(entry, origin))]
    return str(specs[0]["dataset"]["use"]) if specs else board.dataset


def _spec(entry: Entry, origin: Provenance) -> Mapping[str, Any]:
    facts = origin.cells.get(entry.id or "")
    return facts.spec if facts else {}


def _telling(board: Board, row: Row) -> str:
    return digest_of([board.suite, board.dataset, board.classifier, board.norm, board.eps, row.defense])[:8]


def _card(section: Section, board: Board, row: Row, origin: Provenance) -> dict[str, Any]:
    card: dict[str, Any] = {
        "link": "",
        "name": row.defense,
        "authors": "",
        "additional_data": "",
        "number_forward_passes": _passes(row.clean),
        "dataset": _dataset(board, row, origin),
        "venue": "",
        "architecture": board.classifier,
        "eps": radius(board.eps) if board.eps is not None else "",
        "clean_acc": _percent(row.clean.accuracy.share) if row.clean and row.clean.accuracy else "",
        "reported": "",
    }
    auto = [entry.accuracy.share for entry in row.attacked if entry and entry.accuracy and _whole(entry, row, origin)]
    if auto:
        card["autoattack_acc"] = _percent(min(auto))
    if row.worst:
        card["external"] = _percent(row.worst.accuracy.share)
    unreliable = bool(row.lacks or row.caveat or _warnings(row))
    return {**card, "unreliable": unreliable, "footnote": _footnote(section, row)}


def _whole(entry: Entry, row: Row, origin: Provenance) -> bool:
    """Whether AutoAttack met all of what defends: an oblivious attack does so only where nothing does."""
    spec = _spec(entry, origin)
    return bool(spec) and spec["attack"]["use"] == "autoattack" and (entry.adaptive or row.reference)


def _passes(clean: Entry | None) -> int | float | str:
    """Return the forward passes per image that the defense takes on clean input."""
    forwards = clean.defense_cost.forwards if clean else None
    if forwards is None:
        return ""
    return round(forwards) if abs(forwards - round(forwards)) < 1e-9 else round(forwards, 2)


def _footnote(section: Section, row: Row) -> str:
    entries = row.evidence.counted
    attacks = ", ".join(entry.title for entry in entries if not entry.clean)
    repeats = max(entry.repeats for entry in entries)
    said = (
        f"Measured by purebench. Examples: {entries[0].n}; repeats: {repeats}; decision: {section.suite.decision}; "
        f"external is the worst case per example over clean input, {attacks}."
    )
    flags = f"flags: {row.warning}" if row.warning else ""
    below = f"not ranked, {row.unranked}: it lacks {row.missing}" if row.lacks else ""
    return " ".join([said, *(f"{one[0].upper()}{one[1:]}." for one in (below, row.caveat, row.remark, flags) if one)])


def _warnings(row: Row) -> bool:
    """Whether a flag says more than what kind of a defense it is."""
    return any(not (flag.trait or flag.low) for flag in row.flagged())


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
