"""What is known of a suite's rows from elsewhere: other suites' attacks, traits of defenses, notes on attacks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import select, update

from harness.core.cell import Cell, Labels, Shard
from harness.core.contracts import Traits
from harness.core.declaration import Declaration, Member
from harness.core.job import Evaluate
from harness.core.result import Artifact, Cost, Done, Outcome
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.read.frames import results
from harness.store.read.latest import within
from harness.store.read.provenance import provenance
from harness.store.tables import CellRow, ResultRow
from harness.store.tend.merge import merge
from harness.store.write.store import Store

TRAITS = {**vars(Traits(random=True, differentiable=True, votes=3)), "knowledge": ["full"]}


def cell(defense: str = "mae", steps: int | None = 20, **changed) -> Cell:
    labels = Labels("digits", "cnn", defense, *((f"pgd-{steps}", "bpda") if steps else ()))
    plain = Cell(
        dataset=Spec.of("dataset", "digits", 1, {}),
        classifier=Spec.of("classifier", "recipe", 1, {}),
        defense=Spec.of("defense", defense, 1, {}),
        attack=Spec.of("attack", "pgd", 1, {"steps": steps}) if steps else None,
        threat=ThreatModel(Norm.LINF, 0.1, Knowledge.BPDA) if steps else None,
        seed=0,
        subset_seed=0,
        labels=labels,
    )
    return replace(plain, **changed)


def declare(store: Store, name: str, *cells: Cell, n: int = 4, repeats: int = 2, traits=None) -> None:
    members = tuple(Member(one.labels, one, True, traits=traits) for one in cells)
    store.declare(Declaration(name, "", f"name: {name}", "mean", n, repeats, 4, members))


def measure(store: Store, what: Cell, *words: str, start: int = 0, first: int = 0, notes=None) -> None:
    job = Evaluate(what, Shard(start // 4, start, start + len(words)), first, first + len(words[0]))
    seen = [
        Outcome(start + place, start + place, first + repeat, 1, 1, digit == "1")
        for place, word in enumerate(words)
        for repeat, digit in enumerate(word)
    ]
    cost = Cost(len(seen), 1.0, 1)
    done = Done((Artifact("d" * 64, "weights", "a" * 64, 9),), tuple(seen), cost, cost if what.attack else None)
    assert store.finish(store.queue.claim(job), job, replace(done, notes=notes))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "runs.db")


@pytest.fixture
def store(path):
    return Store.open(path, create=True)


def test_another_suites_attack_on_a_row_is_read_by_what_this_one_asks_for(store, path):
    declare(store, "mine", cell(steps=None), cell())
    declare(store, "other", cell(steps=50), n=6, repeats=3)
    measure(store, cell(steps=50), "110", "100", "000", "111", "111", "111")
    found = results(path, "mine")
    (row,) = found.related.to_dict("records")
    assert (row["suite"], row["elsewhere"], row["attack"], row["defense"]) == ("mine", "other", "pgd-50", "mae")
    assert (row["status"], row["n"], row["n_repeats"], row["accuracy"]) == ("done", 4, 2, pytest.approx(2.5 / 4))
    key = ("mine", "digits", "cnn", "mae", "pgd-50", "bpda", "other", cell(steps=50).digest[:12])
    assert list(found.shares[key]) == [1.0, 0.5, 0.0, 1.0]
    assert found.others == [cell(steps=50).digest]
    assert list(found.cells["attack"]) == ["clean", "pgd-20"]
    assert "elsewhere" not in found.cells
    assert list(provenance(path, "mine", found.others).cells) == sorted(
        one.digest[:12] for one in (cell(steps=None), cell(), cell(steps=50))
    )


def test_each_of_two_suites_is_related_to_the_other(store, path):
    declare(store, "mine", cell())
    declare(store, "other", cell(steps=50))
    for one in (cell(), cell(steps=50)):
        measure(store, one, "11", "11", "11", "11")
    related = results(path).related
    assert list(zip(related["suite"], related["elsewhere"], strict=True)) == [("mine", "other"), ("other", "mine")]


def test_clean_input_other_rows_and_what_is_not_measured_are_not_related(store, path):
    declare(store, "mine", cell(steps=None), cell())
    strangers = [cell("other"), cell(steps=9, subset_seed=1), cell(steps=None, seed=1), cell(steps=5)]
    named = [replace(one, labels=replace(one.labels, attack=f"a{k}")) for k, one in enumerate(strangers)]
    declare(store, "other", *named)
    for one in strangers[:3]:
        measure(store, one, "11", "11", "11", "11")
    assert len(results(path, "mine").related) == 0


def test_a_part_of_an_attack_is_a_share_at_each_place_that_it_met(store, path):
    declare(store, "mine", cell(), n=6, repeats=2)
    measure(store, cell(), "11", "10", start=0)
    measure(store, cell(), "0", start=3)
    (share,) = results(path).shares.values()
    np.testing.assert_array_equal(share, [1.0, 0.5, np.nan, 0.0, np.nan, np.nan])
    assert results(path).verdicts == {}


def test_a_decision_that_is_asked_for_is_applied(store, path):
    declare(store, "mine", cell())
    measure(store, cell(), "11", "10", "01", "00")
    assert [results(path, None, rule).cells["accuracy"][0] for rule in ("mean", "any", "majority")] == [0.5, 0.25, 0.25]
    assert list(results(path, None, "any").cells["decision"]) == ["any"]


# ---------------------------------------------------------------------- traits


def traits(path):
    with Store.open(path).engine.connect() as connection:
        return list(connection.scalars(select(CellRow.traits)))


def test_traits_are_kept_and_are_no_part_of_the_suite_or_the_cell(store, path):
    declare(store, "mine", cell(), traits=TRAITS)
    assert traits(path) == [TRAITS]
    assert provenance(path).cells[cell().digest[:12]].traits == TRAITS
    one, other = (Member(cell().labels, cell(), True, traits=told) for told in (TRAITS, None))
    assert one == other


def test_a_cell_from_before_there_were_traits_learns_them_when_it_is_run_again(store, path):
    declare(store, "mine", cell())
    assert traits(path) == [None]
    declare(store, "mine", cell(), traits=TRAITS)
    assert traits(path) == [TRAITS]
    declare(store, "mine", cell(), traits={"random": False})  # what is known stays
    assert traits(path) == [TRAITS]


def test_it_learns_those_that_came_later_and_keeps_the_others(store, path):
    declare(store, "mine", cell(), traits=TRAITS)
    declare(store, "mine", cell(), traits={"random": None, "classes": 10})
    assert traits(path) == [{**TRAITS, "classes": 10}]


def test_a_merge_tells_the_traits_that_were_not_known(store, path, tmp_path):
    declare(store, "mine", cell(), cell("known"), traits=None)
    with store.engine.begin() as connection:
        kept = {"random": False}
        connection.execute(update(CellRow).where(CellRow.digest == cell("known").digest).values(traits=kept))
    there = Store.open(str(tmp_path / "there.db"), create=True)
    declare(there, "mine", cell(), cell("known"), cell("new"), traits=TRAITS)
    merge([str(tmp_path / "there.db")], path, own=True)
    with store.engine.connect() as connection:
        found = dict(connection.execute(select(CellRow.digest, CellRow.traits)).all())
    told = {**TRAITS, **kept}  # what is known stays, what was not is told
    assert found == {cell().digest: TRAITS, cell("known").digest: told, cell("new").digest: TRAITS}


def test_a_cell_whose_traits_were_recorded_in_part_learns_the_others(store, path):
    declare(store, "mine", cell(), traits={"random": False})
    declare(store, "mine", cell(), traits={**TRAITS, "effort": {"steps": 20}})
    assert traits(path) == [{**TRAITS, "random": False, "effort": {"steps": 20}}]


# ---------------------------------------------------------------------- notes


def test_notes_are_put_together_and_those_of_one_slice_count_once(store, path):
    declare(store, "mine", cell(), n=4, repeats=2)
    measure(store, cell(), "1", "1", notes={"zero": (0.5, 10)})
    measure(store, cell(), "1", "1", first=1, notes={"zero": (0.5, 10)})
    measure(store, cell(), "1", "1", start=2, notes={"zero": (0.0, 30), "late": (2.0, 1)})
    (noted,) = results(path).notes.values()
    assert noted == {"zero": (pytest.approx(0.125), 40), "late": (2.0, 1)}


def test_nothing_to_note_is_not_the_same_as_nobody_looking(store, path, tmp_path):
    declare(store, "mine", cell(), cell(steps=9))
    for one, notes in ((cell(), None), (cell(steps=9), {})):
        measure(store, one, "11", "11", "11", "11", notes=notes)
    merge([path], str(tmp_path / "all.db"), own=True)
    for where in (path, str(tmp_path / "all.db")):
        assert [noted for _, noted in sorted(results(where).notes.items())] == [{}]
        with Store.open(where).engine.connect() as connection:
            assert list(connection.scalars(select(ResultRow.cell).where(ResultRow.notes.is_(None)))) == [cell().digest]


def test_too_many_cells_for_a_query_are_asked_for_by_what_they_are(store, monkeypatch):
    declare(store, "mine", cell(steps=None), cell(), cell(steps=9))
    monkeypatch.setattr("harness.store.read.latest.MOST", 1)
    with store.engine.connect() as connection:
        asked = [select(CellRow.digest).where(within(CellRow.digest, some)) for some in ([], ["x"], ["x", "y"])]
        assert [len(connection.execute(query).all()) for query in asked] == [0, 0, 2]
