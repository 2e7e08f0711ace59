"""Two databases, suites or rows side by side: what differs in their settings, then in their numbers.

Cells are matched by the names that suites give to their parts. Of what each side has only one of (suite, dataset,
classifier, defense), the name does not matter; attacks that go by other names are matched by what they are.

Numbers are called different or not only where they answer the same question: the same examples under the same attack
within the same budget, judged by the same rule. Elsewhere they stand side by side without a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from harness.core.spec import canonical_json, differences, short
from reports.compare.metrics import Measure, measures
from reports.compare.sides import Contestant, Contestants
from reports.stats.paired import ALPHA, Paired, detectable, holm, paired, paired_worst

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from harness.store.read.summaries import Shares
    from reports.cell import Accuracy, Entry

#: rules under which a verdict depends on how many repeats there are
_STRICTER_WITH_REPEATS = ("any", "majority")


@dataclass(frozen=True)
class Finding:
    """Something that differs, and the cells in which it does."""

    sentence: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """A cell, or a row's worst case, on both sides.

    Attributes:
        name: its parts by the suites' names; both names where they differ.
        first: its accuracy; None where it has none.
        second: likewise.
        reasons: why the two are not comparable; empty where they are.
        found: the paired test on the examples, where they are.
        p: of that test, corrected over all pairs of the comparison.
        measures: metrics and costs, where they are asked for.
        below: of worst cases: what a side has not met of the minimum that its suite asks for; such a figure ranks
            nowhere, even where the two can be compared.
    """

    name: str
    first: Accuracy | None
    second: Accuracy | None
    reasons: tuple[str, ...]
    found: Paired | None = None
    p: float | None = None
    measures: tuple[Measure, ...] = ()
    below: tuple[str, ...] = ()

    @property
    def difference(self) -> float | None:
        """The second accuracy less the first, in [-1, 1]; None where one is missing."""
        return None if self.first is None or self.second is None else self.second.share - self.first.share

    @property
    def outcome(self) -> str:
        """``better`` or ``worse``, meaning the second; ``undecided``; or ``not comparable``."""
        if self.found is None or self.p is None:
            return "not comparable"
        if self.p > ALPHA:
            return "undecided"
        return "better" if self.found.difference > 0 else "worse"

    @property
    def detectable(self) -> float | None:
        """The smallest difference that the test shows with power 0.8 by itself; None where there is none."""
        return detectable(self.found.n, min(1.0, self.found.discordance)) if self.found else None


@dataclass(frozen=True)
class Comparison:
    """All that a comparison shows.

    Attributes:
        first: as it was named.
        second: likewise.
        settings: what the matched cells are made of, where that differs.
        weights: networks of one recipe whose content differs.
        environment: where the matched cells were measured, where that differs.
        rows: the worst cases.
        cells: the matched cells.
        only_first: cells without a counterpart.
        only_second: likewise.
    """

    first: str
    second: str
    settings: tuple[Finding, ...]
    weights: tuple[Finding, ...]
    environment: tuple[str, ...]
    rows: tuple[Pair, ...]
    cells: tuple[Pair, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]


def compare(first: str, second: str, db: str | None = None, *, metrics: bool = False) -> Comparison:
    """Compare what two words name, see ``reports.compare.sides.Contestants``.

    Args:
        first: ``DATABASE[:SUITE[/DEFENSE]]``, or ``SUITE[/DEFENSE]`` where ``db`` is told.
        second: likewise.
        db: the database of both.
        metrics: whether to compare metrics and costs too, for which every outcome is read.

    Raises:
        UserError: if a word names nothing, or nothing of the one has a counterpart in the other.
    """
    sides = Contestants.of(first, db), Contestants.of(second, db)
    pairs, alone = _matched(*sides)
    if not pairs:
        there = [", ".join(sorted({str(one) for one in side.cells})[:3]) or "no cells" for side in sides]
        raise UserError(
            f"expected {first} and {second} to have cells in common by the names of their parts, but the first has "
            f"{there[0]} and the second {there[1]}; name suites, or rows as SUITE/DEFENSE"
        )
    cells = [_cell(*pair) for pair in pairs]
    rows = list(_rows(*sides, pairs))
    tested = [pair.found.p for pair in (*rows, *cells) if pair.found]
    corrected = iter(holm(tested).tolist())
    rows, cells = (
        [replace(pair, p=next(corrected)) if pair.found else pair for pair in some] for some in (rows, cells)
    )
    if metrics:
        measured = measures(pairs, *(side.frames for side in sides))
        cells = [replace(cell, measures=found) for cell, found in zip(cells, measured, strict=True)]
    return Comparison(
        first,
        second,
        _findings(pairs, _settings),
        _findings(pairs, _weights),
        tuple(_environment(pairs, *sides)),
        tuple(rows),
        tuple(cells),
        *(tuple(str(one) for one in side) for side in alone),
    )


# ---------------------------------------------------------------------- who is compared with whom

_Match = tuple[Contestant, Contestant]


def _matched(first: Contestants, second: Contestants) -> tuple[list[_Match], tuple[list[Contestant], list[Contestant]]]:
    """Return the pairs in the order of the first, and those that are left on either side."""
    axes = [axis for axis in ("suite", "dataset", "classifier", "defense") if not _single(axis, first, second)]

    def by_name(one: Contestant) -> Any:
        return (*(getattr(one.entry, axis) for axis in axes), one.entry.attack, one.entry.threat_model)

    def by_content(one: Contestant) -> Any:
        attacked = _met(one) if one.spec else id(one)
        return (*(getattr(one.entry, axis) for axis in axes), attacked)

    left = list(first.cells), list(second.cells)
    pairs: list[_Match] = []
    for key in (by_name, by_content):
        there = {key(one): one for one in reversed(left[1])}
        found = [(one, other) for one in left[0] if (other := there.pop(key(one), None)) is not None]
        taken = {id(one) for pair in found for one in pair}
        left = tuple([one for one in side if id(one) not in taken] for side in left)  # type: ignore[assignment]
        pairs += found
    order = {id(one): place for place, one in enumerate(first.cells)}
    return sorted(pairs, key=lambda pair: order[id(pair[0])]), left


def _single(axis: str, *sides: Contestants) -> bool:
    """Whether each side has one value on an axis, so that it tells no cells apart."""
    return all(len({getattr(one.entry, axis) for one in side.cells}) == 1 for side in sides)


def _met(one: Contestant) -> str:
    """Name an attack and its threat model by what they are."""
    return canonical_json([one.spec["attack"], one.spec["threat"]])


# ---------------------------------------------------------------------- cells


def _cell(one: Contestant, other: Contestant) -> Pair:
    reasons = [*_unmeasured(one.entry, "first"), *_unmeasured(other.entry, "second"), *_other_question(one, other)]
    return _pair(one.beside(other), one.entry.accuracy, other.entry.accuracy, reasons, one.verdicts, other.verdicts)


def _pair(
    name: str,
    first: Accuracy | None,
    second: Accuracy | None,
    reasons: Sequence[str],
    ours: Shares | None,
    theirs: Shares | None,
) -> Pair:
    found = paired(ours, theirs) if not reasons and ours is not None and theirs is not None else None
    return Pair(name, first, second, tuple(reasons), found)


def _unmeasured(entry: Entry, side: str) -> Iterator[str]:
    if not entry.done:
        yield f"{entry.state} in the {side}"


def _other_question(one: Contestant, other: Contestant) -> Iterator[str]:
    """Yield why the accuracies of two cells answer different questions."""
    yield from _other_examples(one, other)
    for part in ("attack", "threat"):
        if one.spec and other.spec:
            yield from differences({part: one.spec[part]}, {part: other.spec[part]})
    yield from _other_rule(one, other)


def _other_examples(one: Contestant, other: Contestant) -> Iterator[str]:
    if one.spec and other.spec:
        parts = ("dataset", "subset_seed")
        ours, theirs = ({part: side.spec[part] for part in parts} for side in (one, other))
        yield from differences(ours, theirs)
    if one.suite.n_examples != other.suite.n_examples:
        yield f"examples {one.suite.n_examples} -> {other.suite.n_examples}"


def _other_rule(one: Contestant, other: Contestant, *, strict: bool = False) -> Iterator[str]:
    rules = one.suite.decision, other.suite.decision
    if rules[0] != rules[1]:
        yield f"decision {rules[0]} -> {rules[1]}"
    elif (strict or rules[0] in _STRICTER_WITH_REPEATS) and one.suite.repeats != other.suite.repeats:
        yield f"repeats {one.suite.repeats} -> {other.suite.repeats}, which the decision {rules[0]} depends on"


# ---------------------------------------------------------------------- worst cases


def _rows(first: Contestants, second: Contestants, pairs: Sequence[_Match]) -> Iterator[Pair]:
    """Yield the worst cases of the rows that have a matched attacked cell in common."""
    seen = set()
    for one, other in pairs:
        mine, theirs = one.worst, other.worst
        if one.board is None or other.board is None or mine is None or theirs is None:
            continue
        key = (one.board.anchor, one.entry.defense, other.board.anchor, other.entry.defense)
        if key not in seen:
            seen.add(key)
            reasons = [
                *_unfinished(one, "first"),
                *_unfinished(other, "second"),
                *_otherwise_attacked(first, second, one, other),
            ]
            name = one.beside(other, row=True)
            found = None if reasons else paired_worst(mine.case, theirs.case)
            below = (*_below(one, "first"), *_below(other, "second"))
            yield Pair(name, mine.accuracy, theirs.accuracy, tuple(reasons), found, below=below)


def _below(one: Contestant, side: str) -> Iterator[str]:
    if one.row is not None and one.board is not None and one.row.lacks:
        yield f"the {side} was attacked less than {one.board.minimum.name} asks: it lacks {one.row.missing}"


def _unfinished(one: Contestant, side: str) -> Iterator[str]:
    if one.row is not None and one.row.unfinished:
        yield f"{one.row.unfinished} of {len(one.row.entries)} cells unfinished in the {side}"


def _otherwise_attacked(first: Contestants, second: Contestants, one: Contestant, other: Contestant) -> Iterator[str]:
    """Yield why the worst cases of two rows answer different questions."""
    yield from _other_examples(one, other)
    if one.board is None or other.board is None or one.row is None or other.row is None:
        raise ValueError("expected cells that stand on a board")
    ours, theirs = ({"norm": board.norm, "eps": board.eps} for board in (one.board, other.board))
    yield from differences(ours, theirs)
    met = [{_met(cell): cell for cell in side.behind(row)} for side, row in ((first, one.row), (second, other.row))]
    for side, name in enumerate(("first", "second")):
        lacking = [cell.entry for key, cell in met[side].items() if key not in met[1 - side]]
        only = [f"{entry.attack} {entry.threat_model}" for entry in lacking]
        if only:
            yield f"only the {name} met {', '.join(only)}"
    yield from _other_rule(one, other, strict=True)


# ---------------------------------------------------------------------- settings


def _findings(pairs: Sequence[_Match], told: Callable[[Contestant, Contestant], Iterable[str]]) -> tuple[Finding, ...]:
    """Gather sentences on pairs, each with the cells that it is true of."""
    found: dict[str, list[str]] = {}
    for one, other in pairs:
        for sentence in told(one, other):
            found.setdefault(sentence, []).append(one.beside(other))
    return tuple(Finding(sentence, tuple(cells)) for sentence, cells in found.items())


def _settings(one: Contestant, other: Contestant) -> Iterator[str]:
    for rule, name in (("decision", "decision"), ("n_examples", "examples"), ("repeats", "repeats")):
        yield from differences({name: getattr(one.suite, rule)}, {name: getattr(other.suite, rule)})
    if one.spec and other.spec:
        yield from differences(dict(one.spec), dict(other.spec))


def _weights(one: Contestant, other: Contestant) -> Iterator[str]:
    """Yield the networks that both sides have of one recipe, with other content."""
    if one.facts and other.facts:
        theirs = {weights.digest: weights for weights in other.facts.weights}
        for mine in one.facts.weights:
            if mine.digest in theirs and theirs[mine.digest].sha256 != mine.sha256:
                yield f"{mine.label} {short(mine.sha256)} -> {short(theirs[mine.digest].sha256)}"


def _environment(pairs: Sequence[_Match], *sides: Contestants) -> Iterator[str]:
    """Yield the facts of the environments in which either side was measured that are not the same."""
    facts: list[dict[str, set[str]]] = []
    for number, side in enumerate(sides):
        used = {name for pair in pairs if (mine := pair[number].facts) for name in mine.environments}
        there = [side.origin.environments[name] for name in sorted(used)]
        facts.append({key: {str(one.get(key)) for one in there} for key in chain.from_iterable(there)})
    for key in sorted({*facts[0], *facts[1]}):
        told = [", ".join(sorted(some.get(key, {"-"}))) for some in facts]
        if told[0] != told[1] and all(facts):
            yield f"{key} {told[0]} -> {told[1]}"
