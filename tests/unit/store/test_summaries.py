"""Tallies against the outcomes themselves, for suites that ask for less, for more, and for other decisions."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
from measured import measurements, metric, outcomes, row

from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import Declaration, Member
from harness.core.job import Evaluate
from harness.core.result import Cost, Done
from harness.core.spec import Spec
from harness.store.read.frames import results
from harness.store.write.store import Store

#: suite -> decision, examples, repeats
SUITES = {"as-run": ("mean", 23, 3), "less": ("any", 17, 2), "more": ("majority", 40, 3), "once": ("mean", 20, 1)}
NAMES = ["suite", "defense"]
METRICS = (metric("distances"), metric("amv", Spec.of("recipe", "mae", 1, {})))
MEASURES = [column.name for one in METRICS for column in one.columns]


def cell(name: str) -> Cell:
    spec = {kind: Spec.of(kind, kind, 1, {}) for kind in ("dataset", "classifier")}
    labels = Labels("digits", "cnn", name)
    return Cell(**spec, defense=Spec.of("defense", name, 1, {}), attack=None, threat=None, seed=0, subset_seed=0,
                labels=labels)  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Results in slices of all sizes, some of them missing, the repeats at once or one after the other.

    Returns:
        A path, and what was not finite of metrics: defense, what was wrong, place and repeat.
    """
    draw = random.Random(0)
    path = str(tmp_path_factory.mktemp("tallies") / "runs.db")
    store = Store.open(path, create=True)
    cells = [cell(f"d{number}") for number in range(12)]
    lost = []
    members = tuple(Member(one.labels, one, random=True) for one in cells)
    for name, (decision, examples, repeats) in SUITES.items():
        store.declare(Declaration(name, "", "", decision, examples, repeats, 10, members, METRICS))
    for number, one in enumerate(cells):
        for shard in Shard.slices(23, draw.choice([5, 10, 23])):
            for first, end in draw.choice([[(0, 3)], [(0, 1), (1, 3)]]):
                if number % 3 and shard.index and draw.random() < 0.3:
                    continue
                taken = draw.sample(METRICS, draw.choice([0, 1, 2]))
                names = [column.name for each in taken for column in each.columns]
                measured = [
                    row(place, place, repeat, 1, int(draw.random() < 0.7), correct=draw.random() < 0.7,
                        fault=draw.choice(["late", "early"]) if draw.random() < 0.2 else None,
                        **{name: draw.random() if draw.random() < 0.9 else None for name in names})
                    for place in range(shard.start, shard.stop)
                    for repeat in range(first, end)
                ]  # fmt: skip
                known = (draw.randrange(3), draw.randrange(1, 4))
                peak = {0: (None, None), 1: (0, 2)}.get(number, draw.choice([(None, None), known]))
                cost = Cost(len(measured), draw.random(), draw.randrange(1000), 2, 3, *peak)
                job = Evaluate(one, shard, first, end, tuple(each.spec for each in taken))
                done = Done(outcomes=outcomes(measured), measurements=measurements(measured, taken), defense_cost=cost)
                assert store.finish(store.queue.claim(job), job, done)
                lost += [(one.labels.defense, f"{name} not finite", each.place, each.repeat)
                         for each in measured for name in names if getattr(each, name) is None]  # fmt: skip
    return path, lost


@pytest.fixture(scope="module")
def found(lab):
    return results(lab[0])


@pytest.fixture(scope="module")
def wanted(found):
    """The outcomes that each suite asks for."""
    rules = pd.DataFrame.from_dict(SUITES, "index", columns=["decision", "wanted", "times"])
    rows = found.examples.merge(rules, left_on="suite", right_index=True)
    return rows[(rows["place"] < rows["wanted"]) & (rows["repeat"] < rows["times"])]


@pytest.fixture(scope="module")
def lost(lab):
    """The numbers of metrics that were not finite, of those that each suite asks for."""
    rows = pd.DataFrame(lab[1], columns=["defense", "fault", "place", "repeat"])
    rules = pd.DataFrame(
        [(name, examples, times) for name, (_, examples, times) in SUITES.items()], columns=["suite", "wanted", "times"]
    )
    whole = rows.merge(rules, how="cross")
    return whole[(whole["place"] < whole["wanted"]) & (whole["repeat"] < whole["times"])]


@pytest.fixture(scope="module")
def cells(found):
    return found.cells.set_index(NAMES)


def test_every_status_is_there(cells):
    assert set(cells["status"]) == {"done", "partial"}


def test_examples_repeats_and_faults_are_counted(cells, wanted, lost):
    rows = wanted.groupby(NAMES)
    assert cells["n"].to_dict() == rows["place"].nunique().to_dict()
    assert cells["n_repeats"].to_dict() == (rows["repeat"].max() + 1).to_dict()
    beside = lost.groupby(NAMES).size()
    assert (beside > 0).sum() > len(cells) / 2
    assert cells["faults"].to_dict() == rows["fault"].count().add(beside, fill_value=0).to_dict()
    sizes = {name: examples * repeats for name, (_, examples, repeats) in SUITES.items()}
    whole = {key: size == sizes[key[0]] for key, size in rows.size().items()}
    assert (cells["status"] == "done").to_dict() == whole


def test_faults_are_told_by_what_was_wrong_and_where(found, wanted, lost):
    names = [*NAMES, "fault", "place"]
    rows = pd.concat([wanted.loc[wanted["fault"].notna(), names], lost[names]])
    told = rows.groupby(names).size()
    seen = {
        (*names, fault, place): count
        for key, broken in found.broken.items()
        for names in [(key[0], key[3])]
        for fault, counts in broken.items()
        for place, count in enumerate(counts.tolist())
        if count
    }
    assert set(rows["fault"]) == {"late", "early", *(f"{name} not finite" for name in MEASURES)}
    assert seen == told.to_dict()


def test_accuracy_is_the_mean_of_the_verdicts(cells, wanted):
    share = wanted.groupby([*NAMES, "place"])["correct"].mean()
    verdict = {
        "as-run": share["as-run"],
        "less": (share["less"] == 1).astype(float),
        "more": (share["more"] > 0.5).astype(float),
        "once": share["once"],
    }
    for suite, verdicts in verdict.items():
        expected = verdicts.groupby("defense").mean()
        assert cells.loc[suite, "accuracy"].to_dict() == pytest.approx(expected.to_dict())


def test_finished_cells_have_a_verdict_per_place(found, cells):
    done = cells[cells["status"] == "done"]
    assert {(key[0], key[3]) for key in found.verdicts} == set(done.index)
    for (suite, *_, defense, _, _), verdicts in found.verdicts.items():
        assert len(verdicts) == SUITES[suite][1]
        assert verdicts.mean() == pytest.approx(cells.loc[(suite, defense), "accuracy"])


def test_metrics_are_means_over_what_was_measured(cells, wanted):
    expected = wanted.groupby(NAMES)[MEASURES].mean().loc[cells.index]
    assert expected.isna().any(axis=None)
    assert expected.notna().any().all()
    np.testing.assert_allclose(cells[MEASURES].astype(float), expected.astype(float), rtol=1e-12)


def test_costs_are_per_image_of_every_result_that_a_suite_reads(found, cells):
    rules = pd.DataFrame.from_dict(SUITES, "index", columns=["decision", "wanted", "times"])
    rows = found.costs.merge(rules, left_on="suite", right_index=True)
    rows = rows[(rows["start"] < rows["wanted"]) & (rows["first_repeat"] < rows["times"])]
    total = rows.groupby(NAMES)[["defense_seconds", "defense_forwards", "defense_images"]].sum().loc[cells.index]
    for name in ("defense_seconds", "defense_forwards"):
        np.testing.assert_allclose(cells[name], total[name] / total["defense_images"], rtol=1e-12)
    assert cells["attack_seconds"].isna().all()


def test_a_cells_peak_is_the_largest_that_is_known_with_its_batch_size(found, cells):
    rules = pd.DataFrame.from_dict(SUITES, "index", columns=["decision", "wanted", "times"])
    rows = found.costs.merge(rules, left_on="suite", right_index=True)
    rows = rows[(rows["start"] < rows["wanted"]) & (rows["first_repeat"] < rows["times"])]
    names = ["defense_peak_memory", "defense_batch_size"]
    expected = {}
    for key, mine in rows.groupby(NAMES):
        pairs = [tuple(pair) for pair in mine[names].dropna().itertuples(index=False)]
        expected[key] = max(pairs, default=(None, None))
    told = {key: tuple(None if pd.isna(one) else one for one in row) for key, *row in cells[names].itertuples()}
    assert told == expected
    assert {None, 0.0, 2.0} <= {peak for peak, _ in told.values()}
    assert cells["attack_peak_memory"].isna().all()
