"""The leaderboard as Markdown: accuracies first, then every cell by id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from reports import format as numbers
from reports.attention.tables import introduction, tables
from reports.attention.verdicts import verdicts
from reports.charts.budget import curves_of
from reports.flags.glossary import COMPARED, MEANINGS, STATES
from reports.model.columns import DECISIONS, FACTS, IN_SHORT, LEGEND
from reports.model.row import Group
from reports.tables.costs import FORWARD, THROUGH, forward, prices, through
from reports.tables.decisions import RULES, judged
from reports.tables.describe import BESIDE, from_elsewhere, measured
from reports.tables.transfer import matrices

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reports.attention.study import Study
    from reports.cell import Accuracy, Entry
    from reports.model.certified import Certified
    from reports.model.leaderboard import Board, Leaderboard, Section
    from reports.model.row import Row, Worst


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", " ".join(text.split()))


def markdown(board: Leaderboard) -> str:
    """Return the whole leaderboard."""
    blocks = ["# Leaderboard"]
    for section in board.sections:
        blocks += _section(section, [study for study in board.studies if study.suite == section.suite.name])
    blocks += ["## What the flags mean", f"{STATES} {COMPARED}", _meanings(), "## What the words mean"]
    blocks.append("\n".join(f"- **{escaped(word)}**: {escaped(sentence)}" for word, sentence in LEGEND))
    if when := measured(board.provenance):
        blocks.append(f"Measured {when}.")
    return "\n\n".join(blocks) + "\n"


def _section(section: Section, studies: Sequence[Study]) -> list[str]:
    suite = section.suite
    blocks = [f"## {escaped(suite.title or suite.name)}"]
    rule = DECISIONS.get(suite.decision, suite.decision)
    blocks.append(f"Suite {escaped(suite.name)}; decision {escaped(section.rule)}: {escaped(rule)}.")
    blocks += [f"{escaped(from_elsewhere(suite))}"] if suite.origin else []
    for board in section.boards:
        blocks += [
            f"### {escaped(board.title)}",
            *_blocks(board),
            *_notes(board),
            *_published(board),
            *_flags(board),
            *_judged(board),
            *_transfers(board),
            *_prices(board),
        ]
    for table_ in section.certified:
        blocks += [f"### {escaped(table_.title)}", certified_table(table_)]
        blocks += [_reasons(table_.reasons)] if table_.reasons else []
    if section.homeless:
        blocks += ["### Refused, on no board", _reasons(section.homeless)]
    blocks += _curves(section)
    for study in studies:
        blocks += _study(study)
    if suite.disputes:
        blocks += [f"### {BESIDE}", "\n".join(f"- {escaped(str(one))}" for one in suite.disputes)]
    blocks += ["### Every cell", _cells((*section.entries, *section.elsewhere))]
    return blocks


def _study(study: Study) -> list[str]:
    blocks = [f"### What purification does to attention: {escaped(study.title)}", escaped(introduction(study))]
    found = [
        f"- **{escaped(f'{one.defense}, {one.column}: {one.answer}')}.** {escaped(' '.join(one.reasons))}"
        for one in verdicts(study)
    ]
    if found:
        blocks.append("\n".join(found))
    for one in tables(study):
        head = [*one.labels, *(f"{column.title}, {column.under}".strip(", ") for column in one.columns)]
        rows = [[escaped(text) for text in (*line.labels, *map(" ".join, line.cells))] for line in one.lines]
        blocks += [f"#### {escaped(one.title)}", escaped(one.note), table(map(escaped, head), rows, len(one.labels))]
    return blocks


def _blocks(board: Board) -> list[str]:
    """Return a board's rows, a table for those that may be compared: the ranked with the reference, then the others."""
    found = [board_table(board, [row for row in board.rows if row.group in (Group.RANKED, Group.REFERENCE)])]
    for block in board.blocks:
        if block.group in (Group.BELOW, Group.OTHER):
            found += [f"#### {_sentence(block.title)}", board_table(board, block.rows)]
        if block.group is Group.BELOW:
            found.append("\n".join(f"- {escaped(f'{row.defense} lacks {row.missing}')}" for row in block.rows))
            found.append(f"{escaped(board.minimum.sentence)}.")
        if block.group is Group.BELOW and board.additions.text:
            found += ["Add to the suite, so that all of them are ranked:", f"```yaml\n{board.additions.text}\n```"]
    return found


def board_table(board: Board, rows: Iterable[Row]) -> str:
    """Return a row per defense."""
    head = [
        "rank",
        "defense",
        "clean",
        "worst case",
        *map(str, board.columns),
        "time per image",
        "evaluations per image",
        "flags",
    ]
    lines = []
    for row in rows:
        cells = [escaped(_standing(row)), escaped(row.defense), _accuracy(row.clean)]
        cells.append(_worst(row, row.worst) if row.worst else numbers.NOTHING)
        cells += map(_accuracy, row.attacked)
        cells += [fact.of(row.clean) if row.clean else numbers.NOTHING for fact in IN_SHORT]
        cells.append(escaped(row.warning) or numbers.NOTHING)
        lines.append(cells)
    return table(map(escaped, head), lines, left=2)


def certified_table(certified: Certified) -> str:
    """Return what certificates say of a dataset and classifier: a row per defense and certificate."""
    head = ["defense", "certificate", *(f"L2 {radius:g}" for radius in certified.radii)]
    head += ["abstained", "mean radius", "time per image", "evaluations per image"]
    rows = []
    for line in certified.lines:
        shares = [*map(_share, line.shares), *([_share(line.abstained)] if line.abstained else [])]
        shares += [line.entry.state, *[numbers.NOTHING] * len(certified.radii)] if not shares else []
        cells = [escaped(line.entry.defense), escaped(line.entry.attack), *shares]
        cells.append(numbers.NOTHING if line.mean is None else numbers.measure(line.mean))
        rows.append([*cells, *(fact.of(line.entry) for fact in IN_SHORT)])
    return table(map(escaped, head), rows, left=2)


def _standing(row: Row) -> str:
    if row.group is Group.BELOW and not row.unfinished:
        return numbers.NOTHING  # the title of its table says so
    return row.standing if row.rank or row.reference else f"not ranked: {row.standing}"


def _notes(board: Board) -> list[str]:
    blocks = [f"{_sentence(board.resolution)}."] if board.resolution else []
    if board.unfinished:
        blocks.append(f"Unfinished: {board.unfinished} of {len(board.entries)} cells.")
    worst = [
        f"- {escaped(row.defense)}: worst case over {', '.join(f'`{cell}`' for cell in row.worst.cells)}"
        + (f"; {escaped(row.sources)}" if row.sources else "")
        for row in board.rows
        if row.worst
    ]
    if worst:
        blocks.append("\n".join(worst))
    caveats = [
        f"- \\* {escaped(row.defense)}: {escaped(row.caveat)}; rows beside it may have been attacked harder"
        for row in board.rows
        if row.caveat
    ]
    if caveats:
        blocks.append("\n".join(caveats))
    remarks = [f"- {escaped(row.defense)} {escaped(row.remark)}" for row in board.rows if row.remark]
    if remarks:
        blocks.append("\n".join(remarks))
    if board.notes:
        blocks.append(_reasons(board.notes))
    return blocks


def _flags(board: Board) -> list[str]:
    lines = []
    for row in board.rows:
        lines += [f"- {escaped(row.defense)}, **{flag.name}**: {escaped(flag.sentence)}" for flag in row.flagged()]
    for who, flags in board.untested:
        missing = [f"{flag.name} ({escaped(flag.sentence)})" for flag in flags]
        lines.append(f"- {escaped(who)}, untested: {'; '.join(missing)}")
    return ["#### How far the rows can be trusted", "\n".join(lines)] if lines else []


def _meanings() -> str:
    return "\n".join(f"- **{one.name}**: {escaped(one.sentence)} ({escaped(one.source)})" for one in MEANINGS)


def _judged(board: Board) -> list[str]:
    lines = judged(board)
    if not lines:
        return []
    head = ["defense", "repeats", *(f"{side}: {rule}" for side in ("clean", "worst case") for rule in RULES)]
    head += [f"smallest: {rule}" for rule in DECISIONS]
    rows = [
        [
            escaped(one.defense),
            str(one.repeats),
            *(_optional(side[rule]) for side in (one.clean, one.worst) for rule in RULES),
            *(numbers.percent(one.smallest[rule]) for rule in DECISIONS),
        ]
        for one in lines
    ]
    return ["#### How repeats are judged", table(head, rows, left=1)]


def _transfers(board: Board) -> list[str]:
    blocks = []
    for matrix in matrices(board):
        head = ["crafted on \\ judged on", *map(escaped, matrix.columns)]
        rows = [[escaped(line.source), *map(_accuracy, line.entries)] for line in matrix.lines]
        blocks += [f"#### Transfer of {escaped(matrix.title)}", table(head, rows, left=1)]
    return blocks


def _curves(section: Section) -> list[str]:
    blocks = []
    for plot in curves_of(section):
        head = ["defense", *(f"{plot.norm} {numbers.radius(eps)}" if eps else "clean" for eps in plot.radii)]
        rows = []
        for curve in plot.curves:
            at = {point.eps: _share(point.accuracy) for point in curve.points}
            rows.append([escaped(curve.name), *(at.get(eps, numbers.NOTHING) for eps in plot.radii)])
        blocks += [f"#### Accuracy against eps: {escaped(plot.title)}", table(map(escaped, head), rows, left=1)]
    return blocks


def _sentence(text: str) -> str:
    return escaped(text[0].upper() + text[1:])


def _published(board: Board) -> list[str]:
    if not board.published:
        return []
    head = ["method", "architecture", "attack", "clean", "robust", "source", "note"]
    rows = []
    for one in board.published:
        shares = [numbers.NOTHING if share is None else numbers.percent(share) for share in (one.clean, one.robust)]
        source = f"[{escaped(one.source)}](<{one.link}>)" if one.web else escaped(one.source)
        rows.append([*map(escaped, (one.method, one.architecture, one.attack)), *shares, source, escaped(one.note)])
    return ["Published elsewhere, not ranked:", table(head, rows, left=3)]


def _prices(board: Board) -> list[str]:
    found = prices(board)
    if found is None:
        return []
    memory = "peak memory at batch size"
    head = ["defense", *(fact.title for fact in FORWARD), memory]
    for column in found.columns:
        head += [f"{column}: {title}" for title in (*(fact.title for fact in THROUGH), memory)]
    rows = [
        [escaped(line.defense), *forward(line), *(text for entry in line.attacked for text in through(entry))]
        for line in found.lines
    ]
    said = "To purify and classify an image, and to attack it with its defense taken into account:"
    blocks = ["#### What it costs", said, table(map(escaped, head), rows, left=1)]
    return [*blocks, escaped(found.note)] if found.note else blocks


def _reasons(entries: Iterable[Entry]) -> str:
    return "\n".join(
        f"- {escaped(f'{entry.defense}, {entry.attack} {entry.threat_model}')}: {entry.state}"
        + (f": {escaped(entry.reason)}" if entry.reason else "")
        for entry in entries
    )


def _accuracy(entry: Entry | None) -> str:
    if entry is None:
        return numbers.NOTHING
    if entry.accuracy is None:
        return entry.state
    return _share(entry.accuracy) + ("" if entry.done else f" ({entry.state})")


def _worst(row: Row, worst: Worst) -> str:
    return " ".join(filter(None, (row.bound + _share(worst.accuracy), worst.floor)))


def _optional(accuracy: Accuracy | None) -> str:
    return _share(accuracy) if accuracy else numbers.NOTHING


def _share(accuracy: Accuracy) -> str:
    return f"{numbers.percent(accuracy.share)} \\{numbers.interval(accuracy.low, accuracy.high)[:-1]}\\]"


def _cells(entries: Iterable[Entry]) -> str:
    head = ["cell", "dataset", "classifier", "defense", "attack", "threat model", "status", "examples", "repeats"]
    head += ["accuracy", *(f"{fact.group}: {fact.title}" for fact in FACTS), "faults"]
    rows = [
        [
            f"`{entry.id}`" if entry.id else numbers.NOTHING,
            *map(escaped, (entry.dataset, entry.classifier, entry.defense, entry.attack, _threat(entry), entry.state)),
            str(entry.n),
            str(entry.repeats),
            _share(entry.accuracy) + _claimed(entry) if entry.accuracy else numbers.NOTHING,
            *(fact.of(entry) for fact in FACTS),
            str(entry.faults),
        ]
        for entry in entries
    ]
    return table(head, rows, left=7)


def _threat(entry: Entry) -> str:
    return f"{entry.threat_model}, of {entry.origin}" if entry.elsewhere else entry.threat_model


def _claimed(entry: Entry) -> str:
    return "" if entry.claimed is None else f" (claimed {numbers.percent(entry.claimed)})"


def table(head: Iterable[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """Return a pipe table; the first ``left`` columns stand left, the others right."""
    names = list(head)
    rule = ["---" if place < left else "--:" for place in range(len(names))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [names, rule, *rows])
