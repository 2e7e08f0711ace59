"""What a database holds, as tidy pandas frames; the decision rule and the intervals are applied here, when reading.

Cells and verdicts are read from the aggregates of results, so that they take seconds where outcomes are counted in
millions; the outcomes themselves are read when ``examples`` is asked for.
"""

from __future__ import annotations

import json
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from sqlalchemy import Select, Text, cast, func, select
from statsmodels.stats.proportion import proportion_confint

from harness.core.errors import UserError, nearest
from harness.core.result import MEASURES, Cost
from harness.core.spec import short
from harness.store.aggregates import bits_of, sums
from harness.store.store import Store
from harness.store.tables import CellRow, ComponentRow, MemberRow, OutcomeRow, ResultRow, SuiteRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Row

    Shares = np.ndarray[Any, np.dtype[np.float64]]

_SHARES = [name for name in vars(Cost()) if name != "images"]

_NAMES = ["dataset", "classifier", "defense", "attack", "threat_model"]

#: the columns of ``cells`` that are measured; costs are per image
SUMMARY = (
    ["status", "n", "n_repeats", "faults", "accuracy", "low", "high", *MEASURES]
    + [f"defense_{name}" for name in _SHARES]
    + [f"attack_{name}" for name in _SHARES]
)

#: how the repeats of a random defense become one verdict per example
DECISIONS = ("mean", "any", "majority")


def decide(share: Shares, decision: str) -> Shares:
    """Return the verdict per example, 0 to 1, from the share of its repeats that were correct.

    ``mean``: that share. ``any``: 1 only if no repeat was wrong (any failure breaks it). ``majority``: 1 if more
    than half of the repeats were correct.

    Raises:
        UserError: if there is no such decision.
    """
    if decision == "mean":
        return share
    if decision == "any":
        return np.asarray(share == 1.0, float)
    if decision == "majority":
        return np.asarray(share > 0.5, float)
    raise UserError(f"expected a decision of {', '.join(DECISIONS)}, got {decision!r}; {nearest(decision, DECISIONS)}")


class Interval(NamedTuple):
    """A share with its interval, all in [0, 1]."""

    share: float
    low: float
    high: float


def wilson(score: float, n: int, confidence: float = 0.95) -> Interval:
    """Return the Wilson score interval (Wilson 1927) of ``score`` successes among ``n`` examples.

    ``score`` is a sum of verdicts and may be fractional under the decision ``mean``: the interval is then that of
    a proportion over ``n`` examples, which is never too narrow, since the spread of averaged verdicts is at most
    that of single ones. The uncertainty meant is that of the choice of examples.
    """
    if not 0 <= score <= n or n < 1:
        raise ValueError(f"expected a score between 0 and n >= 1, got {score} of {n}")
    low, high = proportion_confint(score, n, alpha=1 - confidence, method="wilson")
    return Interval(score / n, float(low), float(high))


class Results:
    """What a database holds of one suite, or of all, each in the version that was run last.

    Attributes:
        cells: a row per cell of a suite, refused and unfinished ones included: accuracy with its 95 % Wilson
            interval under the suite's decision rule, means of the metrics, costs per image.
        verdicts: of each finished cell, by suite and the suite's names for its parts: the verdict per place.
    """

    def __init__(self, store: Store, suites: Sequence[int]) -> None:
        self._store = store
        self._suites = suites
        self._members = _members(store, suites)
        tallies, self.verdicts = _Reader(store, suites).tallies(self._members)
        members = self._members.drop(columns=["cell"])
        summary = pd.DataFrame(tallies, columns=SUMMARY, index=members.index)
        summary[["low", "high"]] = _intervals(summary)
        head = ["suite", "id", *_NAMES, "norm", "eps", "knowledge", "status", "reason"]
        cells = pd.concat([members, summary], axis=1)
        self.cells: pd.DataFrame = cells[head + [column for column in cells if column not in head]]

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Yield the three frames: ``cells``, ``examples``, ``costs``."""
        yield from (self.cells, self.examples, self.costs)

    @cached_property
    def examples(self) -> pd.DataFrame:
        """A row per cell, example and repeat: prediction, correctness, metrics."""
        query = (
            select(ResultRow.cell, ResultRow.id.label("result_id"), OutcomeRow)
            .join(OutcomeRow, OutcomeRow.result == ResultRow.id)
            .where(read_results(self._suites))
            .order_by(ResultRow.cell, OutcomeRow.place, OutcomeRow.repeat)
        )
        return self._titled(_frame(self._store, query).drop(columns=["result", "result_id"]))

    @cached_property
    def costs(self) -> pd.DataFrame:
        """A row per measured slice of a cell: the totals that the costs per image come from."""
        hidden = ["weights", "correct", "faults", "sums", "code"]
        columns = [column for column in ResultRow.__table__.columns if column.name not in hidden]
        query = select(*columns).where(read_results(self._suites))
        query = query.order_by(ResultRow.cell, ResultRow.start, ResultRow.first_repeat)
        return self._titled(_frame(self._store, query).drop(columns=["id"]))

    def _titled(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Put the suite's names before rows that have a cell."""
        titles = self._members[["cell", "id", "suite", *_NAMES]]
        return titles.merge(frame, on="cell").drop(columns="cell")


def results(url: str, suite: str | None = None) -> Results:
    """Return what a database holds.

    Args:
        url: a path of an SQLite file or an SQLAlchemy URL.
        suite: only this suite; every suite if None.

    Raises:
        UserError: if there is no such database or no such suite in it.
    """
    store = Store.open(url)
    latest = latest_suites(store)
    if suite is not None and suite not in latest:
        raise UserError(f"expected a suite in {url}, got {suite!r}; {nearest(suite, latest)}")
    return Results(store, [row.id for row in latest.values() if suite in (None, row.name)])


def latest_suites(store: Store) -> dict[str, SuiteRow]:
    """Return the version of each suite that was run last, in the order of the suites' first runs."""
    with store.session() as session:
        rows = list(session.scalars(select(SuiteRow).order_by(SuiteRow.id)))
    found = {row.name: row for row in rows}
    for row in rows:
        if row.declared_at > found[row.name].declared_at:
            found[row.name] = row
    return found


def latest_results() -> Select[int]:
    """Return a query of the newest result of each cell: its weights are the ones that are read."""
    return select(func.max(ResultRow.id)).group_by(ResultRow.cell)


def read_results(suites: Sequence[int]) -> Any:
    """Return the condition that a result is of these suites and of the weights that are read."""
    newest = select(ResultRow.cell, ResultRow.weights).where(ResultRow.id.in_(latest_results())).subquery()
    same = select(newest.c.cell).where(newest.c.cell == ResultRow.cell, newest.c.weights == ResultRow.weights)
    mine = select(MemberRow.cell).where(MemberRow.suite_id.in_(suites))
    return ResultRow.cell.in_(mine) & same.exists()


def _frame(store: Store, query: Select[*tuple[Any, ...]]) -> pd.DataFrame:
    with store.engine.connect() as connection:
        return pd.read_sql(query, connection)


def _members(store: Store, suites: Sequence[int]) -> pd.DataFrame:
    """Return a row per member: names, budget, what the suite wants of it."""
    wanted = (
        select(
            SuiteRow.name.label("suite"),
            MemberRow.cell,
            *(getattr(MemberRow, name) for name in _NAMES),
            MemberRow.reason,
            MemberRow.threat,
            SuiteRow.decision,
            SuiteRow.n_examples.label("wanted_examples"),
            SuiteRow.repeats.label("wanted_repeats"),
            CellRow.random,
            CellRow.defense.label("defense_use"),
        )
        .join(SuiteRow, SuiteRow.id == MemberRow.suite_id)
        .outerjoin(CellRow, CellRow.digest == MemberRow.cell)
        .where(MemberRow.suite_id.in_(suites))
        .order_by(MemberRow.suite_id, MemberRow.position)
    )
    members = _frame(store, wanted)
    with store.engine.connect() as connection:
        defenses = dict(
            connection.execute(
                select(ComponentRow.digest, ComponentRow.use).where(ComponentRow.kind == "defense")
            ).all()
        )
        threats: dict[str, dict[str, Any]] = dict(
            connection.execute(
                select(ComponentRow.digest, ComponentRow.spec).where(ComponentRow.kind == "threat_model")
            ).all()
        )
    members["defense_use"] = members["defense_use"].map(defenses)
    members["id"] = [short(cell) if isinstance(cell, str) else None for cell in members["cell"]]
    for key in ("norm", "eps", "knowledge"):
        members[key] = members["threat"].map({digest: spec[key] for digest, spec in threats.items()})
    return members.drop(columns="threat")


class _Reader:
    """Turns results into numbers, one member after the other."""

    def __init__(self, store: Store, suites: Sequence[int]) -> None:
        self.store = store
        columns = ["cell", "start", "stop", "first_repeat", "stop_repeat", "correct", "faults", "id"]
        costs = [f"{side}_{name}" for side in ("defense", "attack") for name in vars(Cost())]
        query = (
            select(*(getattr(ResultRow, name) for name in (*columns, *costs)), cast(ResultRow.sums, Text).label("sums"))
            .where(read_results(suites))
            .order_by(ResultRow.cell, ResultRow.start, ResultRow.first_repeat)
        )
        with store.engine.connect() as connection:
            rows: Any = connection.execute(query).all()
        self.measured: dict[str, list[Row[Any]]] = {
            cell: list(mine) for cell, mine in groupby(rows, attrgetter("cell"))
        }

    def tallies(self, members: pd.DataFrame) -> tuple[list[dict[str, Any]], dict[tuple[str, ...], Shares]]:
        """Return each member's numbers, and the verdicts of those that are finished."""
        tallies, verdicts = [], {}
        member: Any
        for member in members.itertuples(index=False):
            places, repeats = int(member.wanted_examples), int(member.wanted_repeats) if member.random else 1
            rows = self.measured.get(member.cell, []) if isinstance(member.cell, str) else []
            rows = [row for row in rows if row.start < places and row.first_repeat < repeats]
            if not rows:
                status = "missing" if isinstance(member.cell, str) else "skipped"
                tallies.append({"status": status, "n": 0, "n_repeats": 0, "faults": 0})
                continue
            bits = _bits(rows, places, repeats)
            seen = bits >= 0
            times = seen.sum(1)
            verdict = decide((bits == 1).sum(1)[times > 0] / times[times > 0], member.decision)
            complete = bool(seen.all())
            if complete:
                verdicts[(member.suite, *(getattr(member, name) for name in _NAMES))] = verdict
            tallies.append(
                {
                    "status": "done" if complete else "partial",
                    "n": len(verdict),
                    "n_repeats": int(np.flatnonzero(seen.any(0))[-1]) + 1,
                    "accuracy": float(verdict.sum()) / len(verdict),
                    **self._means(rows, places, repeats),
                    **_costs(rows),
                }
            )
        return tallies, verdicts

    def _means(self, rows: Sequence[Row[Any]], places: int, repeats: int) -> dict[str, Any]:
        """Return the means of the metrics, and how many faults there were."""
        totals: dict[str, tuple[float, float]] = {}
        faults = 0
        for row in rows:
            here, found = row.faults, json.loads(row.sums)
            if row.stop > places or row.stop_repeat > repeats:
                here, found = self._within(row.id, places, repeats)
            faults += here
            for name, (count, total, _) in found.items():
                before = totals.get(name, (0, 0.0))
                totals[name] = before[0] + count, before[1] + total
        return {"faults": faults, **{name: total / count for name, (count, total) in totals.items()}}

    def _within(self, result: int, places: int, repeats: int) -> tuple[int, dict[str, list[float]]]:
        """Return faults and sums of that part of a result which a suite asks for, from its outcomes."""
        query = select(OutcomeRow.fault, *(getattr(OutcomeRow, name) for name in MEASURES)).where(
            OutcomeRow.result == result, OutcomeRow.place < places, OutcomeRow.repeat < repeats
        )
        with self.store.engine.connect() as connection:
            rows = connection.execute(query).all()
        found = {name: [value for row in rows if (value := getattr(row, name)) is not None] for name in MEASURES}
        return sum(row.fault is not None for row in rows), {
            name: sums(values) for name, values in found.items() if values
        }


def _bits(rows: Sequence[Row[Any]], places: int, repeats: int) -> np.ndarray[Any, np.dtype[np.int8]]:
    """Return ``(places, repeats)``: 1 correct, 0 wrong, -1 not measured."""
    found = np.full((places, repeats), -1, np.int8)
    for row in rows:
        bits = bits_of(row.correct, row.stop - row.start, row.stop_repeat - row.first_repeat)
        target = found[row.start : row.stop, row.first_repeat : row.stop_repeat]
        target[:] = bits[: target.shape[0], : target.shape[1]]
    return found


def _costs(rows: Sequence[Row[Any]]) -> dict[str, float | None]:
    """Return costs per image; an attack on a slice is recorded with each of the slice's results, and paid once."""
    attacked = {(row.start, row.stop): row for row in reversed(rows)}.values()
    found: dict[str, float | None] = {}
    for side, paid in (("defense", rows), ("attack", attacked)):
        images = sum(getattr(row, f"{side}_images") or 0 for row in paid)
        for name in _SHARES:
            total = sum(getattr(row, f"{side}_{name}") or 0 for row in paid)
            found[f"{side}_{name}"] = total / images if images else None
    return found


def _intervals(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the Wilson intervals of all cells at once."""
    known = summary["accuracy"].notna()
    n = summary.loc[known, "n"].astype(float)
    score = (summary.loc[known, "accuracy"].astype(float) * n).round(9)
    low, high = proportion_confint(score.to_numpy(), n.to_numpy(), method="wilson") if known.any() else ([], [])
    found = pd.DataFrame(np.nan, index=summary.index, columns=["low", "high"])
    found.loc[known, "low"], found.loc[known, "high"] = low, high
    return found
