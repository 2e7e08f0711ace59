"""A comparison in words: for a terminal, as Markdown, as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from reports import format as numbers
from reports.render.markdown import escaped
from reports.render.markdown import table as pipes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reports.cell import Accuracy
    from reports.compare.comparison import Comparison, Finding, Pair
    from reports.compare.metrics import Ends, Measure

#: cells that are named one by one where something is true of some only
_MOST = 3

#: below this a p-value is not written out
_SMALL = 0.001

#: colours in the terminal, by how a cell of a table begins
_COLOURS = {"second better": "green", "second worse": "red", "not comparable": "yellow"}

HOW = (
    "accuracy in % with its 95 % Wilson interval; difference: second less first, in points, with its 95 % bootstrap "
    "interval on the shared examples; p: exact sign-flip test on these (of verdicts 0 and 1: McNemar's), corrected by "
    "Holm's rule over all pairs here; called better or worse at p of 0.05 at most; shows: the smallest difference that "
    "the test finds in 80 % of cases, taken by itself"
)

HOW_MEASURED = (
    "metrics: difference of means with its 95 % bootstrap interval over examples; costs: per image, with a 95 % "
    "bootstrap interval over measured slices"
)


def lines(found: Comparison) -> Iterator[str]:
    """Yield what differs besides the numbers, a line each."""
    yield f"first: {found.first}"
    yield f"second: {found.second}"
    if not found.settings:
        yield f"settings: the same in all {len(found.cells)} cells"
    for title, findings in (("settings", found.settings), ("weights", found.weights)):
        for one in findings:
            yield f"{title}: {one.sentence} ({_where(one, len(found.cells))})"
    for pair in found.rows:
        for sentence in pair.below:
            yield f"{pair.name}: {sentence}"
    for sentence in found.environment:
        yield f"measured in other environments: {sentence}"
    for title, alone in (("first", found.only_first), ("second", found.only_second)):
        if alone:
            yield f"only in the {title}: {_some(alone)}"


def _where(finding: Finding, cells: int) -> str:
    if len(finding.cells) == cells:
        return "in all cells" if cells > 1 else "in the only cell"
    return f"in {len(finding.cells)} of {cells} cells: {_some(finding.cells)}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST
    return "; ".join(names[:_MOST]) + (f"; and {more} more" if more > 0 else "")


# ---------------------------------------------------------------------- numbers


def points(difference: float) -> str:
    """Write a difference of shares in points with its sign: ``+3.2``."""
    return f"{100 * difference:+.1f}"


def probability(p: float) -> str:
    """Write a p-value: ``0.031``, or ``< 0.001``."""
    return f"< {_SMALL:g}" if p < _SMALL else f"{p:.3f}"


def said(pair: Pair) -> str:
    """Say what the numbers of a pair tell."""
    if pair.reasons:
        return f"not comparable: {'; '.join(pair.reasons)}"
    return "no difference shown" if pair.outcome == "undecided" else f"second {pair.outcome}"


def _share(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return numbers.NOTHING
    return f"{numbers.percent(accuracy.share)} {numbers.interval(accuracy.low, accuracy.high)}"


def _cells(pair: Pair) -> list[str]:
    """Return a pair's line of a table."""
    difference = numbers.NOTHING if pair.difference is None else points(pair.difference)
    if pair.found:
        difference += f" [{points(pair.found.low)}, {points(pair.found.high)}]"
    shows = pair.detectable
    return [
        pair.name,
        _share(pair.first),
        _share(pair.second),
        difference,
        numbers.NOTHING if pair.p is None else probability(pair.p),
        numbers.NOTHING if shows is None else numbers.percent(shows),
        said(pair),
    ]


_HEAD = ("first", "second", "difference", "p", "shows", "what it tells")


def _ends(ends: Ends | None, one: Measure) -> str:
    return (
        ""
        if ends is None or ends[0] == ends[1]
        else f" [{numbers.FORMS[one.fact.form](ends[0])}, {numbers.FORMS[one.fact.form](ends[1])}]"
    )


def _measure(name: str, one: Measure) -> list[str]:
    """Return a metric's or a cost's line of a table."""
    sides = [
        numbers.NOTHING if value is None else numbers.FORMS[one.fact.form](value) + _ends(ends, one)
        for value, ends in ((one.first, one.first_ends), (one.second, one.second_ends))
    ]
    difference = numbers.NOTHING
    if one.ends and one.first is not None and one.second is not None:
        difference = f"{one.second - one.first:+.3g} [{one.ends[0]:+.3g}, {one.ends[1]:+.3g}]"
    return [name, one.fact.heading, *sides, difference]


def _tables(found: Comparison) -> Iterator[tuple[str, list[str], list[list[str]], int]]:
    """Yield title, head, lines and how many columns stand left of each table."""
    ranked, below = ([pair for pair in found.rows if bool(pair.below) is apart] for apart in (False, True))
    for title, name, pairs in (
        ("Worst cases", "worst case", ranked),
        ("Worst cases that rank nowhere: attacked less than their suite asks", "worst case", below),
        ("Cells", "cell", found.cells),
    ):
        if pairs:
            yield title, [name, *_HEAD], [_cells(pair) for pair in pairs], 1
    rows = [_measure(pair.name, one) for pair in found.cells for one in pair.measures]
    if rows:
        head = ["cell", "measure", "first", "second", "difference"]
        yield "Metrics and costs", head, rows, 2


# ---------------------------------------------------------------------- three ways to write it


def terminal(found: Comparison) -> list[Text | Table]:
    """Return what rich prints: lines, then tables."""
    shown: list[Text | Table] = [Text(line) for line in lines(found)]
    for title, head, rows, left in _tables(found):
        table = Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
        for place, name in enumerate(head):
            words = place < left or name == _HEAD[-1]
            table.add_column(name, justify="left" if words else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(text, _style(text)) for text in row))
        shown.append(table)
    return [*shown, *(Text(one, "dim") for one in _how(found))]


def _how(found: Comparison) -> list[str]:
    return [HOW, HOW_MEASURED] if any(pair.measures for pair in found.cells) else [HOW]


def _style(text: str) -> str:
    return next((colour for words, colour in _COLOURS.items() if text.startswith(words)), "")


def markdown(found: Comparison) -> str:
    """Return the comparison as Markdown."""
    blocks = ["# Comparison", "\n".join(f"- {escaped(line)}" for line in lines(found))]
    for title, head, rows, left in _tables(found):
        blocks += [
            f"## {title}",
            pipes(head, [list(map(escaped, row)) for row in rows], [place < left for place in range(len(head))]),
        ]
    return "\n\n".join([*blocks, *(f"{escaped(one[0].upper() + one[1:])}." for one in _how(found))]) + "\n"


def as_json(found: Comparison) -> str:
    """Return the comparison as JSON; shares and differences are in [0, 1] and [-1, 1], what is not known is null."""
    whole = {
        "first": found.first,
        "second": found.second,
        "settings": [{"differs": one.sentence, "cells": one.cells} for one in found.settings],
        "weights": [{"differs": one.sentence, "cells": one.cells} for one in found.weights],
        "environment": found.environment,
        "worst_cases": [_pair(pair) for pair in found.rows],
        "cells": [_pair(pair) for pair in found.cells],
        "only_first": found.only_first,
        "only_second": found.only_second,
    }
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"


def _pair(pair: Pair) -> dict[str, Any]:
    test = pair.found
    return {
        "name": pair.name,
        "first": vars(pair.first) if pair.first else None,
        "second": vars(pair.second) if pair.second else None,
        "difference": pair.difference,
        "outcome": pair.outcome,
        "reasons": pair.reasons,
        **({"below": pair.below} if pair.below else {}),
        "test": {
            "n": test.n,
            "low": test.low,
            "high": test.high,
            "discordance": test.discordance,
            "p": test.p,
            "p_corrected": pair.p,
            "detectable": pair.detectable,
        }
        if test
        else None,
        **({"measures": {one.fact.key: _numbers(one) for one in pair.measures}} if pair.measures else {}),
    }


def _numbers(one: Measure) -> dict[str, Any]:
    return {name: value for name, value in vars(one).items() if name != "fact"}
