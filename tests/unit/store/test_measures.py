"""What metrics gave: taken with what is judged, later or again; read by a suite, and merged."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from harness.artifacts import Folder
from harness.store.read.frames import results
from harness.store.read.measures import taken
from harness.store.read.origins import find_origin, forget
from harness.store.tables import MeasureRow, OutcomeRow, ResultRow, WeightsRow
from harness.store.tend.check import check
from harness.store.tend.merge import merge
from harness.store.write.store import Store


@pytest.fixture
def into(tmp_path):
    return str(tmp_path / "all.db")


@pytest.fixture
def sound(tmp_path):
    def look(url):
        return check(str(url), Folder(tmp_path / "artifacts")).findings == ()

    return look


@pytest.fixture
def bare(machine):
    """Makes a database of a name that was judged without metrics, in three slices, and asks for them now."""

    def make(name, **options):
        made = machine(name, **options)
        asked, made.metrics = made.metrics, ()
        made.declare()
        for start in (0, 4, 8):
            made.measure(start, start + 4)
        made.metrics = asked
        made.declare()
        return made

    return make


def read(url, *columns):
    with Store.open(str(url)).engine.connect() as connection:
        return connection.execute(select(*columns)).all()


def attacked(url, **options):
    """The figures of the cell that is attacked."""
    return results(str(url), **options).cells.set_index("attack_name").loc[["pgd"]].iloc[0]


def variation(places, repeats=(0, 1), shift=0):
    """The mean of what is seen of the even places: of the odd ones it is not finite."""
    values = [1 / (3 + place + repeat + shift) for place in places if place % 2 == 0 for repeat in repeats]
    return pytest.approx(sum(values) / len(values))


# ---------------------------------------------------------------------- taken later, and again


def test_metrics_that_are_taken_later_are_read_and_nothing_is_judged_anew(bare, sound):
    made = bare("a")
    before = attacked(made.path)
    assert before["status"] == "done"
    assert before[["linf", "amv_purified_mean"]].isna().all()
    outcomes = read(made.path, OutcomeRow.place, OutcomeRow.correct)
    for start in (0, 4, 8):
        made.take(start, start + 4)
    after = attacked(made.path)
    assert after["linf"] == pytest.approx(6.5 / 255)
    assert after["amv_purified_mean"] == variation(range(12))
    assert after["faults"] == before["faults"] + 12
    judged = ["accuracy", "n", "n_repeats", "defense_seconds", "attack_seconds", "defense_forwards"]
    assert after[judged].tolist() == before[judged].tolist()
    assert read(made.path, OutcomeRow.place, OutcomeRow.correct) == outcomes
    assert sound(made.path)


def test_results_that_have_not_been_measured_take_no_part_in_the_mean(bare):
    made = bare("a")
    made.take(4, 8)
    assert attacked(made.path)["linf"] == pytest.approx(6.5 / 255)
    made.take(0, 4)
    assert attacked(made.path)["linf"] == pytest.approx(4.5 / 255)
    examples = results(str(made.path)).examples
    assert examples.loc[examples["linf"].isna(), "place"].unique().tolist() == [8, 9, 10, 11]


def test_what_is_taken_again_with_other_code_is_read_in_place_of_the_earlier(machine, sound):
    made = machine("a")
    made.measure(0, 12)
    assert attacked(made.path)["amv_purified_mean"] == variation(range(12))
    made.metric_code = {"metric": "tree:edited"}
    made.take(0, 12, shift=1)
    assert attacked(made.path)["amv_purified_mean"] == variation(range(12), shift=1)
    assert len(read(made.path, MeasureRow.result)) == 4  # what was taken first stays
    (covered,) = next(rows for rows in made.store.covered([one.digest for one in made.cells()]).values() if rows)
    assert [one.code for one in covered.metrics] == [{"metric": "tree:edited"}] * 2
    assert {one.set for one in taken(made.store, [1])} == {
        row.set for row in read(made.path, MeasureRow.set, MeasureRow.attempt) if row.attempt == 2
    }
    example = results(str(made.path)).examples.set_index(["place", "repeat"])
    assert example.loc[(2, 1), "amv_purified_mean"] == 1 / 7
    assert sound(made.path)


def test_what_is_taken_again_through_another_probe_is_read_and_the_judgement_stays(machine, sound):
    made = machine("a")
    made.measure(0, 12)
    made.probe = "e" * 64
    made.take(0, 12, shift=2)
    assert attacked(made.path)["amv_purified_mean"] == variation(range(12), shift=2)
    assert {row.hashes.get(made.recipe) for row in read(made.path, WeightsRow.hashes)} == {None, "d" * 64, "e" * 64}
    assert len(read(made.path, ResultRow.id)) == 1
    assert sound(made.path)


def test_the_same_taken_twice_stays_as_it_was(machine):
    made = machine("a")
    made.measure(0, 12)
    before = read(made.path, *MeasureRow.__table__.columns)
    made.take(0, 12, shift=1)  # by the same code and networks
    assert read(made.path, *MeasureRow.__table__.columns) == before


def test_results_of_a_job_that_were_cut_are_each_measured(machine, sound):
    made = machine("a")
    asked, made.metrics = made.metrics, ()
    made.measure(1, 3, 0, 1)
    made.measure(0, 4)  # cut to what was not there
    made.metrics = asked
    made.take(0, 4)
    assert len(read(made.path, MeasureRow.result)) == 2 * 4
    rows = results(str(made.path)).examples
    assert rows["linf"].tolist() == [(place + 1) / 255 for place in range(4) for _ in (0, 1)]
    assert attacked(made.path)["amv_purified_mean"] == variation(range(4))
    assert sound(made.path)


def test_a_suite_that_asks_for_less_reads_that_part_of_its_results(machine):
    made = machine("a")
    made.measure(0, 12)
    made.n_examples, made.repeats = 7, 1
    made.declare()
    found = attacked(made.path)
    assert found["linf"] == pytest.approx(4 / 255)
    assert found["amv_purified_mean"] == variation(range(7), repeats=(0,))
    assert found["faults"] == 2 + 3  # two proposals were over budget; of three places it was not finite
    (broken,) = results(str(made.path)).broken.values()
    assert {name: counts.tolist() for name, counts in broken.items()} == {
        "amv_purified_mean not finite": [0, 1, 0, 1, 0, 1, 0],
        "proposal over budget": [1, 0, 0, 0, 0, 1, 0],
    }
    made.metric_code = {"metric": "tree:edited"}
    made.take(0, 12, shift=1)
    assert attacked(made.path)["amv_purified_mean"] == variation(range(7), repeats=(0,), shift=1)


# ---------------------------------------------------------------------- merged


def test_measures_come_with_the_results_that_they_are_of(machine, into, sound):
    here, there = machine("a"), machine("b")
    here.measure(0, 8)
    there.measure(4, 12)  # of which the last third is new, cut out of a larger result
    merge([str(here.path), str(there.path)], into, own=True)
    assert len(read(into, MeasureRow.result)) == 4
    assert attacked(into)["linf"] == pytest.approx(6.5 / 255)
    assert attacked(into)["amv_purified_mean"] == variation(range(12))
    assert results(into).examples["amv_adversarial_last"].tolist() == [1 / (5 + n) for n in range(12) for _ in (0, 1)]
    assert sound(into)


def test_measures_come_alone_to_results_that_are_here_already(bare, into, sound):
    here, there = bare("a"), bare("b")
    there.take(0, 4)
    there.take(8, 12)
    added = merge([str(here.path), str(there.path)], into, own=True).added
    assert [(one.results, one.outcomes) for one in added] == [(3, 24), (0, 0)]
    assert attacked(into)["linf"] == pytest.approx((2.5 + 10.5) / 2 / 255)
    assert len(read(into, ResultRow.id)) == 3
    there.take(4, 8)
    assert merge([str(there.path)], into, own=True).added[0][1:4] == (1, 0, 0)
    assert attacked(into)["amv_purified_mean"] == variation(range(12))
    assert {row.arrival for row in read(into, MeasureRow.arrival)} == {2, 3}
    assert sound(into)


def test_measures_that_were_merged_before_do_not_double(bare, machine, into):
    here, there = bare("a"), machine("b")
    here.take(0, 4)
    there.measure(0, 12)
    merge([str(here.path), str(there.path)], into, own=True)
    before = read(into, *MeasureRow.__table__.columns)
    assert len(before) == 2 * 3  # a part of each of three results, one of them as it was taken here
    merge([str(there.path), str(here.path)], into, own=True)
    assert read(into, *MeasureRow.__table__.columns) == before


def test_of_measures_of_several_codes_the_latest_is_read_after_a_merge_too(machine, into, sound):
    made = machine("a")
    made.measure(0, 12)
    made.metric_code = {"metric": "tree:edited"}
    made.take(0, 12, shift=1)
    merge([str(made.path)], into, own=True)
    assert len(read(into, MeasureRow.result)) == 4
    assert attacked(into)["amv_purified_mean"] == variation(range(12), shift=1)
    assert sound(into)


def test_a_strangers_measures_are_marked_and_are_of_their_results_alone(bare, machine, sound):
    ours, theirs = bare("ours"), machine("theirs")
    theirs.measure(0, 12)
    theirs.metric_code = {"metric": "tree:edited"}
    theirs.take(0, 12, shift=1)
    before = results(str(ours.path))
    merge([str(theirs.path)], str(ours.path))
    origin = find_origin(ours.store, "theirs.db")
    query = select(MeasureRow.arrival, WeightsRow.origin, ResultRow.arrival)
    query = query.join(WeightsRow, WeightsRow.digest == MeasureRow.set)
    with ours.store.engine.connect() as connection:
        rows = connection.execute(query.join(ResultRow, ResultRow.id == MeasureRow.result)).all()
    assert len(rows) == 4
    assert all(row[0] is not None and row[0] == row[2] and row[1] == origin.id for row in rows)
    assert results(str(ours.path)).cells.equals(before.cells)
    assert attacked(ours.path)[["linf", "amv_purified_mean"]].isna().all()
    (covered,) = (rows for rows in ours.store.covered([one.digest for one in ours.cells()]).values() if rows)
    assert [one.metrics for one in covered] == [()] * 3
    assert sound(ours.path)
    forget(ours.store, origin)
    assert read(ours.path, func.count(MeasureRow.result)) == [(0,)]
    assert sound(ours.path)


def test_a_strangers_figures_are_read_where_nothing_was_measured_here(machine, into, sound):
    theirs = machine("theirs")
    theirs.measure(0, 12)
    theirs.metric_code = {"metric": "tree:edited"}
    theirs.take(0, 12, shift=1)
    merge([str(theirs.path)], into)
    assert attacked(into)["amv_purified_mean"] == variation(range(12), shift=1)
    assert attacked(into)["origin"].startswith("theirs.db")
    before = read(into, *MeasureRow.__table__.columns)
    assert merge([str(theirs.path)], into).added[0][1:4] == (0, 0, 0)
    assert read(into, *MeasureRow.__table__.columns) == before
    assert sound(into)
