"""The decision rules, the interval and the frames, against sums done by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from measured import measurements, metric, outcomes, row
from statsmodels.stats.proportion import proportion_confint

from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import Declaration, Member
from harness.core.errors import UserError
from harness.core.job import Evaluate
from harness.core.result import Cost, Done, Outcome
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.read.frames import results, wilson
from harness.store.read.summaries import decide
from harness.store.write.store import Store


@pytest.mark.parametrize(
    ("decision", "expected"),
    [("mean", [1.0, 2 / 3, 1 / 3, 0.0]), ("any", [1.0, 0.0, 0.0, 0.0]), ("majority", [1.0, 1.0, 0.0, 0.0])],
)
def test_the_decision_makes_one_verdict_per_example(decision, expected):
    share = np.array([sum(digit == "1" for digit in word) / 3 for word in ["111", "011", "001", "000"]])
    assert list(decide(share, decision)) == pytest.approx(expected)


def test_half_is_no_majority():
    assert list(decide(np.array([0.5]), "majority")) == [0.0]


def test_an_unknown_decision_is_refused():
    with pytest.raises(UserError, match="did you mean 'majority'"):
        decide(np.array([1.0]), "majorty")


@pytest.mark.parametrize(
    ("score", "n", "low", "high"),
    [(10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (50, 100, 0.4038, 0.5962), (7.5, 10, 0.4422, 0.9191)],
)
def test_wilson_against_known_figures(score, n, low, high):
    found = wilson(score, n)
    assert (found.share, found.low, found.high) == (
        score / n,
        pytest.approx(low, abs=1e-4),
        pytest.approx(high, abs=1e-4),
    )


def test_wilson_agrees_with_statsmodels():
    score, n = np.meshgrid(np.arange(0, 41, 0.5), [41.0, 128.0, 1000.0])
    low, high = proportion_confint(score, n, alpha=0.1, method="wilson")
    found = wilson(score, n, confidence=0.9)
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("score", "n"), [(11, 10), (-1, 10), (0, 0)])
def test_wilson_refuses_what_is_no_share(score, n):
    with pytest.raises(ValueError, match="expected a score between 0 and n"):
        wilson(score, n)


def cell(defense: str, *, attacked: bool = False) -> Cell:
    return Cell(
        dataset=Spec.of("dataset", "digits", 1, {}),
        classifier=Spec.of("classifier", "trained", 1, {}),
        defense=Spec.of("defense", defense, 1, {}),
        attack=Spec.of("attack", "pgd", 1, {}) if attacked else None,
        threat=ThreatModel(Norm.LINF, 0.2, Knowledge.BPDA) if attacked else None,
        seed=0,
        subset_seed=0,
        labels=Labels("digits", "cnn", defense, *(("pgd", "bpda") if attacked else ())),
    )


#: what the suite asks for; the sizes of perturbations are never measured
MAE = Spec.of("recipe", "mae", 1, {"net": {"decoder_depth": 3, "decoder_heads": 2}})
AMV, DISTANCES = metric("amv", MAE), metric("distances")


def declare(store: Store, *members: Member, n_examples: int = 4, repeats: int = 2, metrics=(AMV, DISTANCES)) -> None:
    store.declare(Declaration("toy", "A toy", "", "mean", n_examples, repeats, 2, members, metrics))


def measure(store: Store, what: Cell, shard: Shard, first: int, words: list[str], fault: str | None = None) -> None:
    """Record a word per example of the shard, a digit per repeat from ``first`` on."""
    job = Evaluate(what, shard, first, first + len(words[0]))
    rows = [
        row(shard.start + i, shard.start + i, first + r, 3, 3, digit == "1", fault, **variation(0.5 * r))
        for i, word in enumerate(words)
        for r, digit in enumerate(word)
    ]
    images = len(rows)
    cost = Cost(images, 1.0 * images, 2 * images, 3 * images, 4 * images)
    crafted = Cost(shard.size, 10.0 * shard.size, 20 * shard.size, 20 * shard.size, 0, 5_000_000, 2)
    done = Done(outcomes=outcomes(rows), measurements=measurements(rows, [AMV]), defense_cost=cost)
    done = replace(done, attack_cost=crafted if what.attack else None)
    assert store.finish(store.queue.claim(job), job, done)


def variation(last: float | None) -> dict[str, float | None]:
    """What the metric of attention gives: a number after the defense, and nothing else that varies."""
    return {
        "amv_adversarial_last": 0.0,
        "amv_adversarial_mean": 0.0,
        "amv_purified_last": last,
        "amv_purified_mean": 0.0,
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "runs.db"), create=True)


def path_of(store: Store) -> str:
    assert store.engine.url.database
    return store.engine.url.database


def test_every_cell_is_a_row_whatever_its_status(store):
    whole, half, none_yet = cell("whole"), cell("half"), cell("none-yet")
    refused = Member(Labels("digits", "cnn", "sign", "pgd", "full"), None, False, "the Jacobian is the identity")
    declare(store, *(Member(one.labels, one, random=True) for one in (whole, half, none_yet)), refused)
    for start in (0, 2):
        measure(store, whole, Shard(start // 2, start, start + 2), 0, ["11", "01"])
    measure(store, half, Shard(0, 0, 2), 0, ["11", "11"])
    cells = results(path_of(store)).cells.set_index("defense")
    assert list(cells["status"]) == ["done", "partial", "missing", "skipped"]
    assert list(cells["n"]) == [4, 2, 0, 0]
    assert cells.loc["sign", "reason"] == "the Jacobian is the identity"
    assert cells.loc["whole", "accuracy"] == pytest.approx(0.75)
    assert cells.loc["whole", "n_repeats"] == 2
    assert cells.loc["whole", "amv_purified_last"] == pytest.approx(0.25)
    assert pd.isna(cells.loc["whole", "linf"])
    assert cells.loc["whole", "defense_evaluations"] == pytest.approx(4.0)
    assert pd.isna(cells.loc["whole", "attack_seconds"])
    assert cells.loc["whole", "id"] == whole.digest[:12]


def test_all_repeats_must_be_there_for_a_cell_to_be_done(store):
    one = cell("a")
    declare(store, Member(one.labels, one, random=True), n_examples=2)
    measure(store, one, Shard(0, 0, 2), 0, ["1", "1"])
    assert list(results(path_of(store)).cells["status"]) == ["partial"]
    measure(store, one, Shard(0, 0, 2), 1, ["0", "1"])
    (row,) = results(path_of(store)).cells.to_dict("records")
    assert (row["status"], row["accuracy"], row["n_repeats"]) == ("done", 0.75, 2)


def test_a_vote_over_the_repeats_wants_more_for_the_label_than_for_any_other_class(store):
    """Three votes of five are a majority too, two against one, one and one a plurality alone, two each are none."""
    voted, partly, still = cell("voted"), cell("partly"), cell("still")
    members = [Member(one.labels, one, random=one is not still) for one in (voted, partly, still)]
    declare(store, *members, n_examples=4, repeats=5)
    for what, size, votes in (
        (voted, 5, [(3, 3, 3, 5, 5), (3, 3, 5, 7, 8), (3, 3, 5, 5, 8), (7, 7, 7, 7, 7)]),
        (partly, 3, [(3, 3, 3)] * 4),
        (still, 1, [(3,)] * 4),
    ):
        job = Evaluate(what, Shard(0, 0, 4), 0, size)
        outcomes = tuple(
            Outcome(place, place, repeat, 3, vote, vote == 3)
            for place, every in enumerate(votes)
            for repeat, vote in enumerate(every)
        )
        assert store.finish(store.queue.claim(job), job, Done(outcomes=outcomes, defense_cost=Cost(4 * size)))
    (found,) = results(path_of(store)).plurality("toy").items()
    assert found[0][:4] == ("toy", "digits", "cnn", "voted")
    assert found[1].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert results(path_of(store)).shares[found[0]].tolist() == pytest.approx([0.6, 0.4, 0.4, 0.0])


def test_a_defense_without_random_draws_needs_one_repeat(store):
    one = cell("fixed")
    declare(store, Member(one.labels, one, random=False), n_examples=2, repeats=5)
    measure(store, one, Shard(0, 0, 2), 0, ["1", "0"])
    (row,) = results(path_of(store)).cells.to_dict("records")
    assert (row["status"], row["n"], row["n_repeats"], row["accuracy"]) == ("done", 2, 1, 0.5)


def test_a_suite_that_asks_for_less_reads_only_that(store):
    one = cell("a")
    declare(store, Member(one.labels, one, random=True))
    measure(store, one, Shard(0, 0, 2), 0, ["11", "10"])
    measure(store, one, Shard(1, 2, 4), 0, ["00", "00"])
    declare(store, Member(one.labels, one, random=True), n_examples=2, repeats=1)
    (row,) = results(path_of(store)).cells.to_dict("records")
    assert (row["status"], row["n"], row["accuracy"]) == ("done", 2, 1.0)


def test_results_beyond_what_the_suite_asks_for_leave_its_cell_missing(store):
    one = cell("a")
    declare(store, Member(one.labels, one, random=True))
    measure(store, one, Shard(1, 2, 4), 0, ["11", "11"])
    declare(store, Member(one.labels, one, random=True), n_examples=2)
    assert list(results(path_of(store)).cells["status"]) == ["missing"]


def test_crafting_is_paid_once_for_all_repeats_of_a_slice(store):
    one = cell("a", attacked=True)
    declare(store, Member(one.labels, one, random=True), n_examples=2)
    measure(store, one, Shard(0, 0, 2), 0, ["1", "1"])
    measure(store, one, Shard(0, 0, 2), 1, ["1", "1"])
    found = results(path_of(store))
    (row,) = found.cells.to_dict("records")
    assert (row["attack_seconds"], row["attack_forwards"]) == (10.0, 20.0)
    assert (row["attack_peak_memory"], row["attack_batch_size"]) == (5_000_000, 2)
    assert pd.isna(row["defense_peak_memory"])  # nobody watched
    assert (row["defense_seconds"], row["norm"], row["eps"], row["knowledge"]) == (1.0, "Linf", 0.2, "bpda")
    assert len(found.costs) == 2
    assert len(found.examples) == 4


def test_faults_are_counted(store):
    one = cell("a")
    declare(store, Member(one.labels, one, random=True), n_examples=1)
    measure(store, one, Shard(0, 0, 1), 0, ["00"], fault="out of budget")
    assert list(results(path_of(store)).cells["faults"]) == [2]


def test_a_number_that_is_not_finite_is_a_fault_of_its_metric_and_no_part_of_the_mean(store):
    one = cell("a")
    declare(store, Member(one.labels, one, random=True), n_examples=2)
    rows = [row(place, place, repeat, 3, 3, True, None, **variation(0.25)) for place in (0, 1) for repeat in (0, 1)]
    rows[3] = rows[3].but(amv_purified_last=None)
    job = Evaluate(one, Shard(0, 0, 2), 0, 2, (AMV.spec,))
    done = Done((), outcomes(rows), Cost(images=4), measurements=measurements(rows, [AMV]))
    assert store.finish(store.queue.claim(job), job, done)
    found = results(path_of(store))
    (seen,) = found.cells.to_dict("records")
    assert (seen["status"], seen["accuracy"], seen["faults"]) == ("done", 1.0, 1)
    assert seen["amv_purified_last"] == 0.25
    ((key, broken),) = found.broken.items()
    assert key[3] == "a"
    assert {fault: counts.tolist() for fault, counts in broken.items()} == {"amv_purified_last not finite": [0, 1]}
    assert found.examples["fault"].isna().all()  # its verdict is as good as any
    assert found.examples["amv_purified_last"].isna().tolist() == [False, False, False, True]


def test_a_metric_has_columns_where_a_suite_asks_for_it_and_there_alone(store):
    one = cell("a")
    declare(store, Member(one.labels, one, random=True))
    measure(store, one, Shard(0, 0, 2), 0, ["11", "01"])
    declare(store, Member(one.labels, one, random=True), metrics=(DISTANCES,))
    found = results(path_of(store))
    assert [column.name for column in found.columns] == ["linf", "l2"]
    assert {"linf", "l2"} <= set(found.cells) & set(found.examples)
    assert not [name for frame in (found.cells, found.examples) for name in frame if name.startswith("amv")]
    declare(store, Member(one.labels, one, random=True), metrics=())
    assert results(path_of(store)).columns == ()
    assert "linf" not in results(path_of(store)).cells
    declare(store, Member(one.labels, one, random=True), metrics=(AMV,))
    assert results(path_of(store)).cells["amv_purified_last"].tolist() == [0.25]


def test_the_mean_radius_is_over_the_examples_that_a_suite_asks_for_of_a_cell_with_a_certificate(store):
    labels = Labels("digits", "cnn", "a", certificate="smoothing")
    certified = replace(cell("a"), certificate=Spec.of("certificate", "smoothing", 1, {}), labels=labels)
    none_yet = replace(certified, seed=1, labels=replace(labels, defense="b"))
    members = [Member(one.labels, one, random=False) for one in (cell("a"), certified, none_yet)]
    radii = (0.5, 0.0, 1.0, 8.0)
    seen = tuple(Outcome(place, place, 0, 3, 3, True, radius=radius) for place, radius in enumerate(radii))
    job = Evaluate(certified, Shard(0, 0, 4), 0, 1)
    declare(store, *members)
    assert results(path_of(store)).cells["radius"].isna().all()
    assert store.finish(store.queue.claim(job), job, Done((), seen, defense_cost=Cost(images=4)))
    measure(store, cell("a"), Shard(0, 0, 2), 0, ["1", "1"])
    for n, mean in ((4, 2.375), (3, 0.5)):
        declare(store, *members, n_examples=n)
        np.testing.assert_array_equal(results(path_of(store)).cells["radius"], [np.nan, mean, np.nan])


def test_an_empty_database_has_empty_frames(store):
    found = results(path_of(store))
    assert [len(frame) for frame in found] == [0, 0, 0]


def test_an_unknown_suite_is_a_sentence(store):
    declare(store)
    with pytest.raises(UserError, match="did you mean 'toy'"):
        results(path_of(store), "tpy")


def test_the_variation_of_every_layer_and_head_is_a_row(tmp_path):
    by_head, looked_at = metric("amv-by-head", MAE), cell("none")
    store = Store.open(str(tmp_path / "runs.db"), create=True)
    members = [Member(one.labels, one, False) for one in (looked_at, cell("blur"))]
    declare(store, *members, metrics=(AMV, by_head))
    values = np.arange(2 * 24, dtype="<f4").reshape(2, 2, 2, 3, 2)  # place, image, matrix norm, layer, head
    rows = [row(9, place, 0, 3, 3, True, amv_by_head=values[place]) for place in range(2)]
    job = Evaluate(looked_at, Shard(0, 0, 2), 0, 1, (by_head.spec,))
    done = Done((), outcomes(rows), Cost(images=2), measurements=measurements(rows, [by_head]))
    assert store.finish(store.queue.claim(job), job, done)
    measure(store, cell("blur"), Shard(0, 0, 2), 0, ["1", "1"])
    heads = results(str(tmp_path / "runs.db")).heads
    assert len(heads) == values.size
    keys = ["place", "image", "matrix_norm", "layer", "head"]
    at = heads.set_index(keys)["amv"]
    assert at[1, "purified", "frobenius", 3, 1] == values[1, 1, 0, 2, 0]
    assert at[0, "adversarial", "spectral", 1, 2] == values[0, 0, 1, 0, 1]
    assert set(heads["defense"]) == {"none"}


def test_without_such_a_metric_there_are_no_rows_by_head(tmp_path):
    store = Store.open(str(tmp_path / "runs.db"), create=True)
    declare(store, Member(cell("none").labels, cell("none"), False))
    measure(store, cell("none"), Shard(0, 0, 2), 0, ["1", "1"])
    found = results(str(tmp_path / "runs.db"))
    assert found.heads.empty
    assert "amv_by_head" not in found.examples


def test_a_part_holds_what_the_suite_asks_for_of_the_first_places(store):
    fixed, lot, other = cell("fixed"), cell("lot"), cell("other")
    members = [Member(one.labels, one, random=one is not fixed) for one in (fixed, lot, other)]
    declare(store, *members)
    for one in (fixed, lot, other):
        for start in (0, 2):
            measure(store, one, Shard(start // 2, start, start + 2), 0, ["101", "011"])
    ids = [fixed.digest[:12], lot.digest[:12]]
    part = results(path_of(store)).part("toy", ids, 3)
    seen = {(row["id"], row["place"], row["repeat"]): row["correct"] for row in part.to_dict("records")}
    assert seen == {
        **{(ids[0], place, 0): place != 1 for place in range(3)},  # draws nothing: one repeat is all
        **{
            (ids[1], place, repeat): (place, repeat) not in {(0, 1), (1, 0), (2, 1)}
            for place in range(3)
            for repeat in (0, 1)
        },
    }
    assert part["amv_purified_last"].tolist() == [0.5 * repeat for repeat in part["repeat"]]
    assert part["l2"].isna().all()


def test_a_part_of_no_cells_is_empty(store):
    declare(store, Member(cell("a").labels, cell("a"), random=True))
    assert results(path_of(store)).part("toy", [], 3).empty
