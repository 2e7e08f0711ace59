"""Plans where code has changed: what is measured anew, what is kept, and what is read."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from harness.artifacts import Folder
from harness.cli.render import plan_jobs
from harness.core.cell import Cell, Labels
from harness.core.code_hashes import UNREADABLE, code_of, craft_code, read_groups, training_code
from harness.core.declaration import Member
from harness.core.result import Artifact, Cost, Done, Outcome
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.read.latest import read_results
from harness.store.tables import ResultRow
from harness.store.write.store import Store
from harness.suite.plan import PlanVerdict, make_plan
from harness.suite.schema import EvaluationRules, Execution
from harness.suite.suite import Suite

DATA = Spec.of("dataset", "digits", 1, {})
PARAMS = {"steps": 3, "net": {"use": "cnn"}, "objective": {"use": "classify"}}
RECIPE = Spec.of("recipe", "cnn", 1, PARAMS, {"dataset": DATA}, label="toy-cnn")


def cell(*, attacked=True):
    return Cell(
        dataset=DATA,
        classifier=Spec.of("classifier", "recipe", 1, {}, {"recipe": RECIPE}),
        defense=Spec.of("defense", "none", 1, {}),
        attack=Spec.of("attack", "pgd", 1, {}) if attacked else None,
        threat=ThreatModel(Norm.LINF, 0.2, Knowledge.OBLIVIOUS) if attacked else None,
        seed=0,
        subset_seed=0,
        labels=Labels("digits", "cnn", "none", *(("pgd", "oblivious") if attacked else ())),
    )


def suite(*cells, **evaluation):
    rules = EvaluationRules(**{"n_examples": 10, "shard_size": 4, **evaluation})
    members = tuple(Member(one.labels, one, False) for one in cells)
    return Suite("toy", "", "", "toy.yaml", rules, (), Execution(), members)


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "runs.db"), create=True)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "home")


def measure(store, made, *jobs, **code):
    """Do evaluations, by the code that is at hand but for these roles; ``unknown``: by nobody knows which."""
    store.declare(made.declaration())
    weights = Artifact(RECIPE.digest, "weights", "a" * 64, 1)
    store.queue.post(jobs, store.queue.seen())
    for job in jobs:
        seen = tuple(Outcome(place, place, 0, 1, 1, True) for place in range(job.shard.start, job.shard.stop))
        by = {} if code == {"unknown": True} else {**code_of(job.cell), **code}
        assert store.finish(store.queue.claim(job), job, Done((weights,), seen, Cost(images=1), code=by))


def left(plan):
    return [(job.shard.start, job.shard.stop) for planned in plan.cells for job in planned.evaluations]


def trainings(plan):
    return [str(job) for job in plan.jobs_of("train")]


def read(store):
    """What a report reads of the suite's cell: how many outcomes, and by which attack's code."""
    with store.engine.connect() as connection:
        rows = connection.execute(
            select(ResultRow.start, ResultRow.stop, ResultRow.code).where(read_results([1]))
        ).all()
    return sum(row.stop - row.start for row in rows), {row.code.get("attack") for row in rows}


@pytest.mark.parametrize("role", ["dataset", "classifier", "classifier.recipe", "defense", "attack", "victim", "judge"])
def test_a_cell_whose_code_has_changed_is_stale_whatever_is_edited(store, folder, role):
    made = suite(cell())
    jobs = make_plan(made, store, folder).jobs_of("evaluate")
    measure(store, made, *jobs, **{role: "tree:0"})
    plan = make_plan(made, store, folder)
    assert plan.cells[0].verdict is PlanVerdict.STALE
    assert plan.cells[0].reason.startswith("its code has changed since: ")
    assert role.partition(".")[0] in plan.cells[0].reason
    assert plan.jobs_of("evaluate") == jobs
    measure(store, made, *jobs)
    assert make_plan(made, store, folder).cells[0].verdict is PlanVerdict.DONE


def test_results_of_edited_code_are_kept_apart_and_those_of_the_code_at_hand_are_read(store, folder):
    made = suite(cell())
    jobs = make_plan(made, store, folder).jobs_of("evaluate")
    measure(store, made, *jobs, attack="tree:0")
    assert read(store) == (10, {"tree:0"})
    measure(store, made, jobs[0])
    now = code_of(cell())["attack"]
    assert read(store) == (4, {now})
    assert left(make_plan(made, store, folder)) == [(4, 8), (8, 10)]


def test_whoever_takes_an_edit_back_reads_what_was_measured_before_it(store, folder):
    made = suite(cell())
    jobs = make_plan(made, store, folder).jobs_of("evaluate")
    measure(store, made, *jobs)
    measure(store, made, jobs[0], attack="tree:0")
    assert read(store) == (4, {"tree:0"})
    plan = make_plan(made, store, folder)
    assert plan.cells[0].verdict is PlanVerdict.DONE
    store.read(plan.versions)
    assert read(store) == (10, {code_of(cell())["attack"]})


def test_more_examples_of_an_edited_cell_are_all_computed_anew(store, folder):
    made = suite(cell())
    measure(store, made, *make_plan(made, store, folder).jobs_of("evaluate"), defense="tree:0")
    more = make_plan(suite(cell(), n_examples=12), store, folder)
    assert left(more) == [(0, 4), (4, 8), (8, 12)]


def test_who_knows_that_old_code_does_the_same_keeps_what_it_made_and_adds_to_it(store, folder):
    made = suite(cell())
    measure(store, made, *make_plan(made, store, folder).jobs_of("evaluate"), attack="tree:0")
    plan = make_plan(made, store, folder, keep_old_code=True)
    assert plan.cells[0].verdict is PlanVerdict.DONE
    assert plan.cells[0].reason == "10 outcomes are there, though its code has changed since: attack pgd"
    wider = suite(cell(), n_examples=12)
    plan = make_plan(wider, store, folder, keep_old_code=True)
    assert left(plan) == [(10, 12)]
    store.kept = plan.versions
    measure(store, wider, *plan.jobs_of("evaluate"))
    assert make_plan(wider, store, folder, keep_old_code=True).jobs == ()
    assert make_plan(wider, store, folder).cells[0].verdict is PlanVerdict.STALE


def test_what_was_measured_before_code_was_kept_stands_but_nothing_is_added_to_it(store, folder):
    made = suite(cell())
    measure(store, made, *make_plan(made, store, folder).jobs_of("evaluate"), unknown=True)
    assert make_plan(made, store, folder).cells[0].verdict is PlanVerdict.DONE
    wider = suite(cell(), n_examples=12)
    plan = make_plan(wider, store, folder)
    assert plan.cells[0].verdict is PlanVerdict.STALE
    assert plan.cells[0].reason.startswith("it was measured before its code was kept")
    assert left(plan) == [(0, 4), (4, 8), (8, 12)]
    assert left(make_plan(wider, store, folder, keep_old_code=True)) == [(10, 12)]
    measure(store, wider, *plan.jobs_of("evaluate")[:1])
    assert left(make_plan(wider, store, folder)) == [(4, 8), (8, 12)]


def test_hashes_that_were_shown_to_give_the_same_results_are_one(store, folder, monkeypatch):
    made = suite(cell())
    jobs = make_plan(made, store, folder).jobs_of("evaluate")
    measure(store, made, *jobs[:2], attack="tree:0")
    now = code_of(cell())["attack"]
    monkeypatch.setattr("harness.core.code_hashes.equal_groups", lambda: read_groups(f"tree:0 {now}"))
    plan = make_plan(made, store, folder)
    assert left(plan) == [(8, 10)]
    measure(store, made, *plan.jobs_of("evaluate"))
    assert read(store) == (10, {"tree:0", now})


def test_a_batch_of_other_code_or_of_nobody_knows_which_is_crafted_again(folder):
    made = suite(cell(), n_examples=4)
    folder.place("weights", RECIPE.digest, b"a file is enough")
    (craft,) = make_plan(made, None, folder).jobs_of("craft")
    by = craft_code(craft.cell)
    for code in ({"code": {**by, "attack": "tree:0"}}, {"code": {**by, "victim": "tree:0"}}, {}):
        folder.save("adversarial", craft.digest, {}, {"weights": {}, **code})
        assert make_plan(made, None, folder).jobs_of("craft") == [craft]
        assert make_plan(made, None, folder, keep_old_code=True).jobs_of("craft") == []
    folder.save("adversarial", craft.digest, {}, {"weights": {}, "code": {**by, "defense": "tree:0"}})
    assert make_plan(made, None, folder).jobs_of("craft") == []


def test_a_network_that_other_code_trained_is_trained_again_and_one_of_nobody_knows_which_stands(folder):
    made = suite(cell(attacked=False), n_examples=4)
    about, now = {"recipe": RECIPE.as_dict(), "weights": {}}, training_code(RECIPE)
    for role in ("loop", "objective", "net", "dataset"):
        folder.save("weights", RECIPE.digest, {}, {**about, "code": {**now, role: "tree:0"}})
        assert trainings(make_plan(made, None, folder)) == ["toy-cnn"]
        assert trainings(make_plan(made, None, folder, keep_old_code=True)) == []
    for code in ({"code": now}, {}):
        folder.save("weights", RECIPE.digest, {}, {**about, **code})
        assert trainings(make_plan(made, None, folder)) == []


def test_a_component_whose_source_cannot_be_read_is_named(folder, monkeypatch):
    def unreadable(target, *_, **__):
        return UNREADABLE if "pgd" in target else "tree:1"

    monkeypatch.setattr("harness.core.code_hashes.source_hash", unreadable)
    plan = make_plan(suite(cell()), None, folder)
    assert plan.unreadable == ("attack pgd",)
    assert any("the source of attack pgd cannot be read" in line for line in plan_jobs(plan))
