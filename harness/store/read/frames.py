"""What a database holds, as tidy pandas frames; the decision rule and the intervals are applied here, when reading.

Cells and verdicts are read from the aggregates of results, so that they take seconds where outcomes are counted in
millions; the outcomes themselves are read when ``examples`` is asked for.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri
from sqlalchemy import Select, func, select

from harness.core.cell import Labels
from harness.core.errors import UserError, nearest
from harness.core.metric import AMV_AXES
from harness.core.spec import short
from harness.store.read.latest import latest_suites, read_results
from harness.store.read.measures import asked_metrics, columns, taken
from harness.store.read.origins import origin_names
from harness.store.read.other_suites import related_members
from harness.store.read.summaries import DECISIONS, tallies
from harness.store.tables import (
    LABELS,
    CellRow,
    ComponentRow,
    MemberRow,
    OutcomeRow,
    ResultRow,
    SuiteRow,
    WeightsRow,
)
from harness.store.write.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.store.read.measures import MetricNumbers
    from harness.store.read.summaries import Shares

_NAMES = ["dataset", "classifier", "defense", "attack", "threat_model"]


#: the column of the metric that gives the AMV of each layer and head
BY_HEAD = "amv_by_head"


class Interval(NamedTuple):
    """Shares with their intervals, all in [0, 1]."""

    share: Shares
    low: Shares
    high: Shares


def wilson(score: Any, n: Any, confidence: float = 0.95) -> Interval:
    """Return the Wilson score intervals (Wilson 1927) of ``score`` successes among ``n`` examples; arrays will do.

    ``score`` is a sum of verdicts and may be fractional under the decision ``mean``: the interval is then that of
    a proportion over ``n`` examples, which is never too narrow, since the spread of averaged verdicts is at most
    that of single ones. The uncertainty meant is that of the choice of examples.
    """
    score, n = np.asarray(score, float), np.asarray(n, float)
    if not np.all((score >= 0) & (score <= n) & (n >= 1)):
        raise ValueError(f"expected a score between 0 and n >= 1, got {score} of {n}")
    share, quantile = score / n, -ndtri((1 - confidence) / 2)
    widened = 1 + quantile**2 / n
    centre = (share + quantile**2 / (2 * n)) / widened
    reach = quantile * np.sqrt(share * (1 - share) / n + quantile**2 / (4 * n**2)) / widened
    return Interval(share, np.clip(centre - reach, 0, 1), np.clip(centre + reach, 0, 1))


#: outcomes of a suite beyond which votes are not counted: it takes about a second for each million
VOTES = 2_000_000


class Results:
    """What a database holds of one suite, or of all, each in the version that was run last.

    Attributes:
        store: the database.
        cells: a row per cell of a suite, refused and unfinished ones included: accuracy with its 95 % Wilson
            interval under the suite's decision rule, the mean certified radius, means of the metrics, costs per image;
            ``origin`` names the database that it was computed in, where that is another, else None. ``attack`` is what
            stands in its place as people read it; ``attack_name``, ``certificate``, ``source_defense`` and
            ``source_classifier`` are the parts of that, the last three None where there is none.
        verdicts: of each finished cell, by suite and the suite's names for its parts: the verdict per place.
        related: a row per attack on one of the suites' rows that is measured and no member: what other suites have, and
            earlier versions. As ``cells``, under what the suite asks for, with the suite that has it as ``elsewhere``.
        others: the digests of the cells in ``related``.
        shares: of each cell with results, by suite, the suite's names for its parts and, of a related one,
            ``elsewhere`` and id: the share of repeats that were correct, per place; not a number where a place was not
            measured.
        notes: of each cell whose attack was looked at as it was made, by the same: mean and number by name.
        asked: the metrics that each suite asks for, by name: the columns of each by its digest.
        columns: the columns of all of them that are plain numbers.
        broken: of each cell with faults, by the same: by what was wrong, the number of repeats it befell, per place.
    """

    def __init__(self, store: Store, suites: Sequence[int], decision: str | None = None, *, own: bool = False) -> None:
        self.store = store
        self._suites = suites
        self._own = own
        components = _Components(store)
        self._members = components.told(_members(store, suites))
        related = components.told(related_members(store, suites))
        everything = pd.concat([self._members, related], ignore_index=True) if len(related) else self._members.copy()
        if decision is not None:
            everything["decision"] = decision
        self.others = sorted(set(related["cell"]))
        self.asked = asked_metrics(store, suites)
        self.columns = columns(self.asked.values())
        summary, verdicts, shares, notes, broken = tallies(store, suites, everything, self.others, self.asked, own=own)
        number = len(self._members)
        names = everything[["suite", *_NAMES]].to_numpy(object)
        keys = [tuple(row) for row in names[:number]]
        keys += [
            (*row, *more) for row, more in zip(names[number:], related[["elsewhere", "id"]].to_numpy(), strict=True)
        ]
        self.verdicts = {keys[row]: verdict for row, verdict in verdicts.items() if row < number}
        self.shares = {keys[row]: share for row, share in shares.items()}
        self.notes = {keys[row]: noted for row, noted in notes.items()}
        self.broken = {keys[row]: told for row, told in broken.items()}
        for place, (name, bound) in enumerate(_intervals(summary).items(), list(summary).index("accuracy") + 1):
            summary.insert(place, name, bound)
        summary.insert(list(summary).index("high") + 1, "radius", self._mean_radii(everything))
        head = ["suite", "id", *_NAMES, "norm", "eps", "knowledge", "status", "reason"]
        found = pd.concat([everything.drop(columns=["cell"]), summary], axis=1)
        found = found[head + [column for column in found if column not in head]]
        pairs = zip(found["origin"], found["n"], strict=True)
        found["origin"] = pd.Series([name if n else None for name, n in pairs], found.index, object)
        self.cells: pd.DataFrame = found[:number].drop(columns="elsewhere", errors="ignore")
        self.related: pd.DataFrame = found[number:].reset_index(drop=True)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Yield the three frames: ``cells``, ``examples``, ``costs``."""
        yield from (self.cells, self.examples, self.costs)

    def _read(self) -> Any:
        """Return the condition that a result is one of those that are read."""
        return read_results(self._suites, own=self._own)

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """The specs of the metrics that the suites ask for, by digest."""
        digests = sorted({digest for metrics in self.asked.values() for digest in metrics})
        query = select(ComponentRow.digest, ComponentRow.spec).where(ComponentRow.digest.in_(digests))
        with self.store.engine.connect() as connection:
            return dict(connection.execute(query).all())

    @cached_property
    def examples(self) -> pd.DataFrame:
        """A row per cell, example and repeat: prediction, correctness, metrics."""
        shown = [column for column in OutcomeRow.__table__.columns if column.name != "result"]
        query = (
            select(ResultRow.cell, *shown)
            .join(OutcomeRow, OutcomeRow.result == ResultRow.id)
            .where(self._read())
            .order_by(ResultRow.cell, OutcomeRow.place, OutcomeRow.repeat)
        )
        return self._with_metrics(self._titled(_frame(self.store, query)))

    def _with_metrics(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Put what metrics gave beside rows that have suite, id, place and repeat."""
        frames = []
        for suite in self.asked:
            ids = set(rows.loc[rows["suite"] == suite, "id"])
            measured = self._measured(suite, sorted(ids))
            if len(measured):
                frames.append(measured.assign(suite=suite))
        keys = ["suite", "id", "place", "repeat"]
        whole = rows.merge(pd.concat(frames, ignore_index=True), on=keys, how="left") if frames else rows
        missing = [column.name for column in self.columns if column.name not in whole]
        whole[missing] = np.nan
        return whole

    def _measured(self, suite: str, ids: Sequence[str]) -> pd.DataFrame:
        """Return what the metrics of a suite gave of cells: a row per cell, place and repeat."""
        members = self._members[(self._members["suite"] == suite) & self._members["id"].isin(ids)]
        digests = dict(zip(members["id"], members["cell"], strict=True))
        keys = ["id", "place", "repeat"]
        whole: pd.DataFrame | None = None
        for digest, its in self.asked[suite].items():
            if any(column.axes for column in its):
                continue
            parts = []
            for one, cell in self._taken(digests, digest):
                numbers = dict(zip(one.names, one.numbers.reshape(len(one.names), -1), strict=True))
                parts.append(pd.DataFrame({"id": cell, **_grid(one), **numbers}))
            if parts:
                metric = pd.concat(parts, ignore_index=True)
                whole = metric if whole is None else whole.merge(metric, on=keys, how="outer")
        return pd.DataFrame(columns=keys) if whole is None else whole

    def _taken(self, digests: Mapping[str, str], metric: str) -> Iterator[tuple[MetricNumbers, str]]:
        """Yield what a metric gave of the results that are read of some cells, with the cell's id."""
        ids = {digest: cell for cell, digest in digests.items()}
        query = select(ResultRow.id, ResultRow.cell).where(self._read(), ResultRow.cell.in_(sorted(ids)))
        with self.store.engine.connect() as connection:
            cells = dict(connection.execute(query).all())
        for one in taken(self.store, sorted(cells), [metric]):
            yield one, ids[cells[one.result]]

    @cached_property
    def heads(self) -> pd.DataFrame:
        """A row per cell, example, repeat, image, matrix norm, layer and head: ``amv``, where it was measured."""
        parts = []
        for suite in self.asked:
            members = self._members[(self._members["suite"] == suite) & self._members["cell"].notna()]
            for cell in dict.fromkeys(members["id"]):
                rows, values = self._by_head(suite, str(cell))
                if len(rows):
                    axes = {**AMV_AXES, "layer": range(1, values.shape[3] + 1), "head": range(1, values.shape[4] + 1)}
                    index = pd.MultiIndex.from_product([range(len(rows)), *axes.values()], names=["row", *axes])
                    long = pd.Series(values.ravel(), index, name="amv").reset_index()
                    picked = rows.iloc[long.pop("row").to_numpy()].reset_index(drop=True)
                    parts.append(pd.concat([picked.assign(id=cell, suite=suite), long], axis=1))
        names = ["id", "suite", "place", "repeat", *AMV_AXES, "layer", "head", "amv"]
        whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)
        return self._members[["id", "suite", *_NAMES]].merge(whole[names], on=["id", "suite"])

    def _by_head(self, suite: str, cell: str) -> tuple[pd.DataFrame, Shares]:
        """Return the AMV by head of a cell: ``place`` and ``repeat`` of each row, and the numbers of each."""
        members = self._members[(self._members["suite"] == suite) & (self._members["id"] == cell)]
        cells = dict(zip(members["id"], members["cell"], strict=True))
        rows, values = [], []
        for digest, its in self.asked[suite].items():
            for one, _ in self._taken(cells, digest) if [column.name for column in its] == [BY_HEAD] else ():
                numbers = one.numbers.reshape(-1, *one.numbers.shape[3:])
                finite = np.isfinite(numbers).reshape(len(numbers), -1).all(1)
                rows.append(pd.DataFrame({name: axis[finite] for name, axis in _grid(one).items()}))
                values.append(numbers[finite].astype(float))
        if not rows:
            return pd.DataFrame({"place": [], "repeat": []}, dtype=np.int64), np.zeros((0, 2, 2, 0, 0))
        return pd.concat(rows, ignore_index=True), np.concatenate(values)

    @cached_property
    def radii(self) -> pd.DataFrame:
        """A row per example of a cell with a certificate: prediction (-1 where it abstains), correctness, radius.

        Only such cells are read, and only the examples that their suite asks for.
        """
        certified = select(CellRow.digest).where(CellRow.certificate.is_not(None))
        columns = (OutcomeRow.place, OutcomeRow.label, OutcomeRow.prediction, OutcomeRow.correct, OutcomeRow.radius)
        query = (
            select(ResultRow.cell, *columns)
            .join(OutcomeRow, OutcomeRow.result == ResultRow.id)
            .where(self._read(), ResultRow.cell.in_(certified), OutcomeRow.repeat == 0)
            .order_by(ResultRow.cell, OutcomeRow.place)
        )
        members = self._members[["cell", "id", "suite", *_NAMES, "wanted_examples"]]
        found = members.merge(_frame(self.store, query), on="cell")
        found = found[found["place"] < found["wanted_examples"]]
        return found.drop(columns=["cell", "wanted_examples"]).reset_index(drop=True)

    def _mean_radii(self, members: pd.DataFrame) -> Shares:
        """Return the mean certified radius of each member that has a certificate; not a number of the others."""
        means: dict[Any, float] = {}
        if members["certificate"].notna().any():
            means = self.radii.astype({"radius": float}).groupby(["suite", "id"])["radius"].mean().to_dict()
        keys = zip(members["suite"], members["id"], strict=True)
        return np.array([means.get(key, np.nan) for key in keys], float)

    def plurality(self, suite: str) -> dict[tuple[str, ...], Shares]:
        """Return what a vote over all repeats says of each cell of a suite that has several: its verdict per place.

        1 where the label has more votes than any other class, else 0; by the cell's key, as in ``shares``. Only cells
        whose outcomes are complete have one, and none of a suite that has more than ``VOTES`` outcomes to count.
        """
        mine = self._members[(self._members["suite"] == suite) & self._members["random"].eq(True)]
        mine = mine[mine["cell"].notna() & (mine["wanted_repeats"] > 1)]
        if mine.empty or (mine["wanted_examples"] * mine["wanted_repeats"]).sum() > VOTES:
            return {}
        examples, repeats = (int(mine[name].iloc[0]) for name in ("wanted_examples", "wanted_repeats"))
        votes = (OutcomeRow.prediction == OutcomeRow.label).label("right")
        query = (
            select(ResultRow.cell, OutcomeRow.place, votes, OutcomeRow.prediction, func.count().label("votes"))
            .join(OutcomeRow, OutcomeRow.result == ResultRow.id)
            .where(self._read(), ResultRow.cell.in_(sorted(set(mine["cell"]))))
            .where(OutcomeRow.place < examples, OutcomeRow.repeat < repeats)
            .group_by(ResultRow.cell, OutcomeRow.place, OutcomeRow.label, OutcomeRow.prediction)
        )
        counted = _frame(self.store, query)
        most = counted.groupby(["cell", "place", counted["right"].astype(bool)])["votes"].max().unstack(fill_value=0)
        most = most.reindex(columns=[False, True], fill_value=0)
        verdicts = (most[True] > most[False]).astype(float)
        totals = counted.groupby("cell")["votes"].sum()
        whole = {cell for cell, number in totals.items() if number == examples * repeats}
        keys = zip(mine["cell"], mine[["suite", *_NAMES]].itertuples(index=False, name=None), strict=True)
        return {key: verdicts.loc[cell].to_numpy() for cell, key in keys if cell in whole}

    def part(self, suite: str, ids: Sequence[str], places: int) -> pd.DataFrame:
        """A row per cell, place and repeat of some cells, as far as the suite asks for them: ``correct`` and metrics.

        Args:
            suite: whose cells; it says how many examples and repeats count.
            ids: the cells, as ``cells`` has them.
            places: only the first so many.
        """
        rows = self._part(suite, ids, places)
        measured = self._measured(suite, ids)
        whole = rows.merge(measured, on=["id", "place", "repeat"], how="left")
        names = [column.name for column in columns([self.asked[suite]])]
        whole[[name for name in names if name not in whole]] = np.nan
        return whole.astype(dict.fromkeys(names, float))

    def part_by_head(self, suite: str, cell: str, places: int) -> tuple[pd.DataFrame, Shares]:
        """The AMV by head of one cell: ``place`` and ``repeat`` of each row, and ``(row, *AMV_AXES, layer, head)``.

        Args:
            suite: as in ``part``.
            cell: its id.
            places: only the first so many.
        """
        rows, values = self._by_head(suite, cell)
        asked = self._part(suite, [cell], places)[["place", "repeat"]]
        kept = rows.reset_index().merge(asked, on=["place", "repeat"]).sort_values(["place", "repeat"])
        return kept[["place", "repeat"]].reset_index(drop=True), values[kept["index"].to_numpy(np.int64)]

    def _part(self, suite: str, ids: Sequence[str], places: int) -> pd.DataFrame:
        mine = self._members[(self._members["suite"] == suite) & self._members["id"].isin(ids)]
        found = []
        for random, cells in mine.groupby(mine["random"].eq(True)):
            first = cells.iloc[0]
            repeats = int(first["wanted_repeats"]) if random else 1
            query = (
                select(ResultRow.cell, OutcomeRow.place, OutcomeRow.repeat, OutcomeRow.correct)
                .join(OutcomeRow, OutcomeRow.result == ResultRow.id)
                .where(
                    self._read(),
                    ResultRow.cell.in_(sorted(set(cells["cell"]))),
                    OutcomeRow.place < min(places, int(first["wanted_examples"])),
                    OutcomeRow.repeat < repeats,
                )
                .order_by(ResultRow.cell, OutcomeRow.place, OutcomeRow.repeat)
            )
            found.append(_frame(self.store, query))
        if not found:
            return pd.DataFrame(columns=["id", "place", "repeat", "correct"])
        rows = pd.concat(found, ignore_index=True)
        rows.insert(0, "id", [short(cell) for cell in rows.pop("cell")])
        return rows

    @cached_property
    def costs(self) -> pd.DataFrame:
        """A row per measured slice of a cell: the totals that the costs per image come from."""
        hidden = ["weights", "correct", "faults", "code", "arrival"]
        columns = [column for column in ResultRow.__table__.columns if column.name not in hidden]
        query = select(*columns).where(self._read())
        query = query.order_by(ResultRow.cell, ResultRow.start, ResultRow.first_repeat)
        return self._titled(_frame(self.store, query).drop(columns=["id"]))

    def _titled(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Put the suite's names before rows that have a cell."""
        titles = self._members[["cell", "id", "suite", *_NAMES]]
        return titles.merge(frame, on="cell").drop(columns="cell")


def results(url: str, suite: str | None = None, decision: str | None = None, *, own: bool = False) -> Results:
    """Return what a database holds.

    Args:
        url: a path of an SQLite file or an SQLAlchemy URL.
        suite: only this suite; every suite if None.
        decision: how repeats are judged, in place of each suite's own rule.
        own: only what was run and computed here.

    Raises:
        UserError: if there is no such database, no such suite in it or no such decision.
    """
    if decision is not None and decision not in DECISIONS:
        told = ", ".join(DECISIONS)
        raise UserError(f"expected a decision of {told}, got {decision!r}; {nearest(decision, DECISIONS)}")
    store = Store.open(url)
    latest = latest_suites(store, own=own)
    if suite is not None and suite not in latest:
        raise UserError(f"expected a suite in {url}, got {suite!r}; {nearest(suite, latest)}")
    return Results(store, [row.id for row in latest.values() if suite in (None, row.name)], decision, own=own)


def _grid(one: MetricNumbers) -> dict[str, Any]:
    """Return place and repeat of each number of a metric, as they follow each other."""
    places, repeats = np.indices(one.numbers.shape[1:3]).reshape(2, -1)
    return {"place": places + one.rectangle.start, "repeat": repeats + one.rectangle.first_repeat}


def _frame(store: Store, query: Select[*tuple[Any, ...]]) -> pd.DataFrame:
    with store.engine.connect() as connection:
        return pd.read_sql(query, connection)


def _members(store: Store, suites: Sequence[int]) -> pd.DataFrame:
    """Return a row per member: names, budget, what the suite wants of it."""
    wanted = (
        select(
            SuiteRow.name.label("suite"),
            MemberRow.cell,
            *LABELS,
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
    return _frame(store, wanted)


class _Components:
    """What the components of members are, read once: defenses and threat models by digest, origins by cell."""

    def __init__(self, store: Store) -> None:
        def by_digest(kind: str, column: Any) -> dict[str, Any]:
            query = select(ComponentRow.digest, column).where(ComponentRow.kind == kind)
            return dict(connection.execute(query).all())

        with store.engine.connect() as connection:
            self.defenses = by_digest("defense", ComponentRow.use)
            self.threats = by_digest("threat_model", ComponentRow.spec)
        self.origins = _origins(store)

    def told(self, members: pd.DataFrame) -> pd.DataFrame:
        """Say them in words: the attack's title, the defense's registered name, the parts of the threat model."""
        threats = self.threats.items()
        names = members[[one.key for one in LABELS]].itertuples(index=False, name=None)
        members["attack_name"] = members["attack"]
        members["attack"] = pd.Series([Labels(*row).attack_title for row in names], members.index, object)
        for part in ("certificate", "source_defense", "source_classifier"):
            members[part] = pd.Series([name or None for name in members[part]], members.index, object)
        members["defense_use"] = members["defense_use"].map(self.defenses)
        members["id"] = [short(cell) if isinstance(cell, str) else None for cell in members["cell"]]
        for key in ("norm", "eps", "knowledge"):
            members[key] = members["threat"].map({digest: spec[key] for digest, spec in threats})
        members["fixed"] = members["threat"].map({digest: spec.get("fixed", False) for digest, spec in threats})
        members["fixed"] = members["fixed"].eq(True)
        members["origin"] = pd.Series([self.origins.get(cell) for cell in members["cell"]], members.index, object)
        return members.drop(columns="threat")


def _origins(store: Store) -> dict[str, str]:
    """Return where what may be read of cells comes from, by cell, where that is not here."""
    query = select(CellRow.digest, WeightsRow.origin).join(WeightsRow, WeightsRow.digest == CellRow.current)
    with store.engine.connect() as connection:
        names = origin_names(connection)
        rows: Any = connection.execute(query.where(WeightsRow.origin.is_not(None)))
        return {cell: names.get(origin, str(origin)) for cell, origin in rows}


def _intervals(summary: pd.DataFrame) -> dict[str, Shares]:
    """Return the Wilson intervals of all cells at once; not a number where nothing was measured."""
    known = summary["accuracy"].notna().to_numpy()
    n = summary["n"].to_numpy(float)[known]
    score = (summary["accuracy"].to_numpy(float)[known] * n).round(9)
    found = {"low": np.full(len(summary), np.nan), "high": np.full(len(summary), np.nan)}
    _, found["low"][known], found["high"][known] = wilson(score, n)
    return found
