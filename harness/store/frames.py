"""What a database holds, as tidy pandas frames; the decision rule and the intervals are applied here, when reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from sqlalchemy import Select, select
from statsmodels.stats.proportion import proportion_confint

from harness.core.errors import UserError, nearest
from harness.core.result import MEASURES, Cost
from harness.core.spec import short
from harness.store.store import Store
from harness.store.tables import CellRow, MemberRow, OutcomeRow, ResultRow, SuiteRow

if TYPE_CHECKING:
    from collections.abc import Hashable

_SHARES = [name for name in vars(Cost()) if name != "images"]

#: the columns of ``cells`` that are measured; costs are per image
SUMMARY = (
    ["status", "n", "n_repeats", "faults", "accuracy", "low", "high", *MEASURES]
    + [f"defense_{name}" for name in _SHARES]
    + [f"attack_{name}" for name in _SHARES]
)

#: how the repeats of a random defense become one verdict per example
DECISIONS = ("mean", "any", "majority")


class Results(NamedTuple):
    """Three tidy frames.

    Attributes:
        cells: a row per cell of a suite, refused and unfinished ones included: accuracy with its 95 % Wilson
            interval under the suite's decision rule, means of the metrics, costs per image.
        examples: a row per cell, example and repeat: prediction, correctness, metrics.
        costs: a row per measured slice of a cell: the totals that the costs per image come from.
    """

    cells: pd.DataFrame
    examples: pd.DataFrame
    costs: pd.DataFrame


def decide(correct: pd.Series[Any], by: list[pd.Series[Any]], decision: str) -> pd.Series[Any]:
    """Return the verdict per example, 0 to 1, from its correctness in each repeat.

    ``mean``: the share of repeats that were correct. ``any``: 1 only if no repeat was wrong (any failure breaks
    it). ``majority``: 1 if more than half of the repeats were correct.
    """
    share = correct.astype(float).groupby(by, sort=False).mean()
    if decision == "mean":
        return share
    if decision == "any":
        return (share == 1.0).astype(float)
    if decision == "majority":
        return (share > 0.5).astype(float)
    raise UserError(f"expected a decision of {', '.join(DECISIONS)}, got {decision!r}; {nearest(decision, DECISIONS)}")


@dataclass(frozen=True)
class Interval:
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


def results(url: str, suite: str | None = None) -> Results:
    """Return what a database holds.

    Args:
        url: a path of an SQLite file or an SQLAlchemy URL.
        suite: only this suite; every suite if None.

    Raises:
        UserError: if there is no such database or no such suite in it.
    """
    store = Store.open(url)
    suites = _frame(store, select(SuiteRow))
    if suite is not None and suite not in set(suites["name"]):
        raise UserError(f"expected a suite in {url}, got {suite!r}; {nearest(suite, suites['name'])}")
    if suite is not None:
        suites = suites[suites["name"] == suite]
    names = ["dataset", "classifier", "defense", "attack", "threat_model"]
    members = _frame(store, select(MemberRow).order_by(MemberRow.suite_id, MemberRow.position))
    members = members.merge(
        suites[["id", "name", "decision", "n_examples", "repeats"]].rename(
            columns={"id": "suite_id", "name": "suite", "n_examples": "wanted_examples", "repeats": "wanted_repeats"}
        ),
        on="suite_id",
    )
    specs = _frame(
        store,
        select(
            CellRow.digest,
            CellRow.defense.label("defense_use"),
            CellRow.norm,
            CellRow.eps,
            CellRow.knowledge,
            CellRow.random,
        ),
    )
    members = members.merge(specs, left_on="cell", right_on="digest", how="left").drop(columns="digest")
    members["id"] = [short(cell) if isinstance(cell, str) else None for cell in members["cell"]]

    mine = [digest for digest in dict.fromkeys(members["cell"]) if isinstance(digest, str)]
    outcomes = _frame(store, select(OutcomeRow).order_by(OutcomeRow.cell, OutcomeRow.place, OutcomeRow.repeat))
    outcomes = outcomes[outcomes["cell"].isin(mine)]
    rows = _frame(store, select(ResultRow).order_by(ResultRow.cell, ResultRow.start, ResultRow.first_repeat))
    rows = rows[rows["cell"].isin(mine)]
    # where a cell was measured with several weights of one recipe, the latest ones are read
    latest = rows.sort_values("id").groupby("cell")["weights_digest"].transform("last").reindex(rows.index)
    rows = rows[rows["weights_digest"] == latest]
    outcomes = outcomes[outcomes["result"].isin(rows["id"])]

    by_cell = dict(iter(outcomes.groupby("cell", sort=False)))
    costs_by_cell = dict(iter(rows.groupby("cell", sort=False)))
    summaries = [
        _summary(member, by_cell.get(member["cell"]), costs_by_cell.get(member["cell"]))
        for member in members.to_dict("records")
    ]
    summary = pd.DataFrame(summaries, columns=SUMMARY, index=members.index)
    cells = pd.concat([members, summary], axis=1)
    head = ["suite", "id", *names, "norm", "eps", "knowledge", "status", "reason"]
    hidden = {"suite_id", "position", "cell"}
    cells = cells[head + [column for column in cells if column not in {*head, *hidden}]]

    title = members[["cell", "id", "suite", *names]].rename(columns={"id": "cell_id"})
    examples = title.merge(outcomes.drop(columns=["id", "result"]), on="cell").drop(columns="cell")
    costs = title.merge(rows.drop(columns=["id", "weights", "weights_digest"]), on="cell").drop(columns="cell")
    return Results(cells, *(frame.rename(columns={"cell_id": "id"}) for frame in (examples, costs)))


def _frame(store: Store, query: Select[*tuple[Any, ...]]) -> pd.DataFrame:
    with store.engine.connect() as connection:
        return pd.read_sql(query, connection)


def _summary(member: dict[Hashable, Any], outcomes: pd.DataFrame | None, rows: pd.DataFrame | None) -> dict[str, Any]:
    """Return one cell's numbers; a cell without any has a status and nothing else."""
    if not isinstance(member["cell"], str):
        return {"status": "skipped", "n": 0, "n_repeats": 0, "faults": 0}
    if outcomes is None or rows is None:
        return {"status": "missing", "n": 0, "n_repeats": 0, "faults": 0}
    repeats = int(member["wanted_repeats"]) if member["random"] else 1
    outcomes = outcomes[(outcomes["place"] < member["wanted_examples"]) & (outcomes["repeat"] < repeats)]
    rows = rows[(rows["start"] < member["wanted_examples"]) & (rows["first_repeat"] < repeats)]
    if outcomes.empty:  # all that was measured lies beyond what the suite asks for now
        return {"status": "missing", "n": 0, "n_repeats": 0, "faults": 0}
    verdicts = decide(outcomes["correct"], [outcomes["place"]], member["decision"])
    n = len(verdicts)
    interval = wilson(round(float(verdicts.sum()), 9), n)
    complete = len(outcomes) == member["wanted_examples"] * repeats
    summary = {
        "status": "done" if complete else "partial",
        "n": n,
        "n_repeats": int(outcomes["repeat"].max()) + 1,
        "faults": int(outcomes["fault"].notna().sum()),
        "accuracy": interval.share,
        "low": interval.low,
        "high": interval.high,
        **{name: _mean(outcomes[name]) for name in MEASURES},
    }
    for side, images in (("defense", rows["defense_images"]), ("attack", rows["attack_images"])):
        # an attack on a slice is recorded with each of the slice's results, and paid once
        paid = rows if side == "defense" else rows.drop_duplicates(["start", "stop"])
        total = images.loc[paid.index].sum()
        for name in _SHARES:
            summary[f"{side}_{name}"] = float(paid[f"{side}_{name}"].sum() / total) if total else None
    return summary


def _mean(values: pd.Series[Any]) -> float | None:
    known = values.dropna()
    return float(known.astype(float).mean()) if len(known) else None
