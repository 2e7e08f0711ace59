"""Columns: what the tables of a report show, each declared once; every format writes what stands here.

A number that a board is to have is a line in ``BOARD``, one of every cell a column of a metric, which declares it,
or one of ``DEFENSE`` and ``ATTACK``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from harness.core.minimum import MINIMA
from harness.core.table import Cell, Column
from reports import format as numbers
from reports.model.row import Group
from reports.model.values import Estimated, Flags, Peak, Rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harness.core.metric import MetricColumn
    from harness.core.table import Form
    from reports.cell import Entry, Price
    from reports.model.board import Board
    from reports.model.row import Attacked, Row


# ---------------------------------------------------------------------- the numbers of a cell


#: how a metric's column is written, by the format that it declares
FORMS: dict[str, Form] = {"number": "measure", "percent": "percent", "count": "count"}


def _measured(column: MetricColumn) -> Column:
    def value(entry: Entry) -> float | None:
        return entry.measures.get(column.name)

    form, legend = FORMS[column.format], column.legend
    return Column(column.name, column.title, form, column.group, column.unit, value, legend, column.group)


@dataclass(frozen=True)
class Costs:
    """What a defense or an attack takes: per image, but for the last two, which are of a batch."""

    seconds: Column
    forwards: Column
    backwards: Column
    evaluations: Column
    peak_memory: Column
    batch_size: Column

    def __iter__(self) -> Iterator[Column]:
        """Yield them in the order of the tables."""
        yield from (self.seconds, self.forwards, self.backwards, self.evaluations, self.peak_memory, self.batch_size)

    def peak(self, entry: Entry) -> Peak | None:
        """Return the peak memory with its batch size; None where it was not measured."""
        memory = self.peak_memory.of(entry)
        return None if memory is None else Peak(memory, self.batch_size.of(entry))


def _costs(side: str, of: Callable[[Entry], Price]) -> Costs:
    def column(name: str, form: Form, per: str, word: str, legend: str) -> Column:
        return Column(
            f"{side}_{name}",
            {"seconds": "time"}.get(name, name.replace("_", " ")),
            form,
            f"{side}, per {per}",
            value=lambda entry: getattr(of(entry), name),
            legend=legend if side == "defense" else "",
            word=word,
        )

    return Costs(
        column(
            "seconds",
            "seconds",
            "image",
            "time",
            "Wall time per image: of purifying and classifying for the defense, of crafting for the attack.",
        ),
        column("forwards", "count", "image", "forwards, backwards", "Passes through any network per image."),
        column("backwards", "count", "image", "", ""),
        column(
            "evaluations",
            "count",
            "image",
            "evaluations",
            "Forward passes through the defense's own networks per image, known as NFE for diffusion.",
        ),
        column(
            "peak_memory",
            "memory",
            "batch",
            "peak memory, batch size",
            "The most memory that was needed beyond what was in use when the work began, so that the networks "
            "themselves do not count: of the GPU, or of the whole process where a CPU did the work. It is that of a "
            "batch of as many images as stand beside it, the largest if there were several; MB are millions of bytes. "
            "A dash where it is not known.",
        ),
        column("batch_size", "count", "batch", "", ""),
    )


DEFENSE = _costs("defense", lambda entry: entry.defense_cost)
ATTACK = _costs("attack", lambda entry: entry.attack_cost)


def facts(metrics: Iterable[MetricColumn]) -> tuple[Column, ...]:
    """Return the numbers of a cell in the order of the tables: what metrics measured, and costs."""
    return (*map(_measured, metrics), *DEFENSE, *ATTACK)


def told(column: Column, entry: Entry | None) -> str:
    """Write a number of a cell, or a dash where there is none."""
    return str(numbers.words(column.of(entry) if entry else None, column.form))


def linked(column: Column, entry: Entry | None) -> Cell:
    """Return a number of a cell with the way to it."""
    return Cell(column.of(entry), entry.anchor) if entry else Cell()


# ---------------------------------------------------------------------- the rows of a board


def _rank(row: Row) -> Rank:
    nothing = "ref." if row.group is Group.REFERENCE else numbers.NOTHING
    return Rank(row.rank, row.place or nothing, row.tied, row.p)


def _worst(row: Row) -> Cell:
    if row.worst is None:
        return Cell(Estimated())
    worst = Estimated(row.worst.accuracy, row.worst.smallest, row.bound, row.worst.floor)
    return Cell(worst, row.worst.anchor, strong=row.rank is not None)


def _flags(row: Row) -> Flags:
    return Flags(row.flagged(), row.flagged("untested"), row.flagged("clear"), bool(row.evidence.attacks))


def figure(entry: Entry | None) -> Cell:
    """Return a cell's accuracy, or its state; nothing where the suite has no such cell."""
    return entry.figure if entry else Cell()


def _of_clean(column: Column, short: str = "", beneath: str = "") -> Column:
    """Return a cost of a row, which is that of clean input."""
    plain = replace(column, group="", unit="per image", legend="", short=short, beneath=beneath, own_line=True)
    return replace(plain, value=lambda row: linked(column, row.clean))


#: stands in ``BOARD`` for the attacks of the board, a column each
ATTACKS = Column("attacked", "")

#: what a board shows of a row
BOARD = (
    Column(
        "rank",
        "rank",
        value=_rank,
        short="#",
        topic="trust",
        legend="By worst case; a row that is not significantly worse than the first of those above it shares its place "
        "(=). Tested are all pairs of ranked rows, on the same examples, at 5 % in all after Holm's correction: by "
        "exact sign-flip tests (of verdicts 0 and 1: McNemar's), and of estimated worst cases by Student's test of the "
        "examples' differences, with what is uncertain about the strongest attack added. Such a test of two rows finds "
        "the difference that stands below the board in 80 % of cases, if they disagree as often as neighbours do. "
        "A row is ranked when it has met the minimum that its suite names; one that has not stands apart, with what it "
        "lacks, since beside a row that was attacked harder its figure says nothing.",
    ),
    Column("defense", "defense", value=lambda row: row.defense),
    Column("clean", "clean", "percent", value=lambda row: figure(row.clean), own_line=True),
    Column(
        "worst_case",
        "worst case",
        "percent",
        unit="per example",
        value=_worst,
        short="worst\ncase",
        topic="trust",
        legend="What is left where each example meets the attack that suits it worst, of clean input and all attacks "
        "on it within the budget that the database holds, whichever suite has them and wherever their examples were "
        "crafted; the mean over examples, never the smallest of the averages. Of a defense without randomness that is "
        "each example's smallest verdict. Of a random one the smallest share of a few repeats has luck in it, and the "
        "more of it the more attacks there are; so the figure is estimated, by a model of the repeats and by attacks "
        "that other repeats have chosen, such that a further attack lowers it only by what it really takes. The mean "
        "of the smallest shares stands beside it (\N{GREATER-THAN OR EQUAL TO}), a lower bound. Attacks without a "
        "bound or with known randomness are checks, and take no part. While attacks of the suite are unfinished it is "
        "an upper bound (\N{LESS-THAN OR EQUAL TO}).",
    ),
    ATTACKS,
    _of_clean(DEFENSE.seconds, short="time"),
    _of_clean(DEFENSE.evaluations, short="NFE", beneath=DEFENSE.seconds.key),
    Column("flags", "flags", value=lambda row: Cell(_flags(row), row.flags_anchor), topic="trust", below=True),
)


def board_columns(board: Board) -> tuple[Column, ...]:
    """Return the columns of a board, in place of ``ATTACKS`` one for each of its attacks."""
    attacks = tuple(_attacked(place, attack) for place, attack in enumerate(board.columns))
    return tuple(one for column in BOARD for one in (attacks if column is ATTACKS else (column,)))


def row_columns() -> tuple[Column, ...]:
    """Return the columns that every board has."""
    return tuple(column for column in BOARD if column is not ATTACKS)


def _attacked(place: int, attack: Attacked) -> Column:
    return Column(
        f"{attack.attack} {attack.threat_model}",
        attack.attack,
        "percent",
        unit=attack.known_as,
        value=lambda row: figure(row.attacked[place]),
        own_line=True,
        splits=True,
    )


# ---------------------------------------------------------------------- what the words mean


class Word(NamedTuple):
    """What a word of the tables means.

    Attributes:
        topic: the page of ``purebench help`` that says more.
    """

    word: str
    sentence: str
    topic: str = ""


_FIRST = (
    Word(
        "accuracy",
        "Share of examples that the defended classifier gets right, in per cent. The harness judges it after the "
        "attack: it checks that the proposed image is within range and budget and evaluates it afresh through the "
        "whole defense; what the attack claims is not used.",
    ),
    Word(
        "[low, high]",
        "The 95 % Wilson score interval of that share: the uncertainty from which examples were chosen, at the number "
        "of examples in the table.",
    ),
)

_OF_CELLS = (
    Word(
        "minimum",
        " ".join(f"{one.sentence}." for one in MINIMA.values())
        + " Attacks of any suite count that were made on the row itself, with fresh randomness, on all its examples; "
        "what is met beyond them lowers the row and asks nothing of others.",
        "trust",
    ),
    Word("reference", "The classifier without a defense: the line that a defense has to rise above."),
    Word(
        "certified",
        "A certificate says within which L2 distance of an image no attack whatever changes the class of the smoothed "
        "classifier: the one that the defended classifier gives most often under Gaussian noise. Each radius is right "
        "but for a small probability, an option of the certificate. The share at a radius counts the examples "
        "that are right and certified within it; it is a lower bound, where attacks give upper ones, and of the "
        "smoothed classifier alone.",
        "trust",
    ),
    Word(
        "abstained, mean radius",
        "The share of examples of which the certificate says nothing, since no class had more than half of the votes "
        "for certain; they count as wrong. The mean is over all examples, with 0 where the class is wrong or nothing "
        "is said.",
    ),
    Word("oblivious", "The attacker sees the classifier alone and does not know that there is a defense.", "suites"),
    Word(
        "bpda",
        "The attacker runs the defense forwards and takes its derivative for the identity (straight-through).",
        "suites",
    ),
    Word("full", "The attacker differentiates through the defense exactly.", "suites"),
    Word(
        "refused",
        "The cell cannot be measured in a way that means something; the reason stands beside it, and it counts "
        "neither for nor against the defense.",
    ),
    Word(
        "missing, partial",
        "The cell can be measured and has not been, or not on all examples and repeats; running the suite again "
        "completes it.",
    ),
    Word(
        "examples, repeats",
        "How many images were judged, and in how many fresh evaluations each; a defense that draws no random numbers "
        "needs one.",
    ),
)

_LAST = (
    Word(
        "faults",
        "Outcomes that broke a rule: proposals that are not finite, out of range or over budget; logits, purified "
        "images or measures that are not finite. The flags say which, and in what share.",
    ),
)


def legend(metrics: Iterable[MetricColumn]) -> list[Word]:
    """Return what the words of the tables mean, those of columns among them."""
    return [*_FIRST, *_explained(BOARD), *_OF_CELLS, *_explained(facts(metrics)), *_LAST]


def _explained(columns: Iterable[Column]) -> list[Word]:
    return [Word(one.word or one.title, one.legend, one.topic) for one in columns if one.legend]


#: how the repeats of a random defense become one verdict per example
DECISIONS = {
    "mean": "an example counts as the share of its repeats that were correct",
    "any": "an example counts as correct only if no repeat was wrong",
    "majority": "an example counts as correct if more than half of its repeats were correct",
}
