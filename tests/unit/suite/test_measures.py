"""Plans of metrics: they come and go without anything being judged anew, and what is taken is of what was judged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from measured import measurements, metric, outcomes, row

from harness.artifacts import Folder
from harness.core.cell import Cell, Labels
from harness.core.code_hashes import code_of, craft_code, metric_code
from harness.core.declaration import Member
from harness.core.job import Measure
from harness.core.result import Artifact, Cost, Done
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.tables import ResultRow
from harness.store.write.store import Store
from harness.suite.plan import PlanVerdict, make_plan
from harness.suite.schema import EvaluationRules, Execution
from harness.suite.suite import Suite

NET = Spec.of("recipe", "cnn", 1, {"steps": 3}, label="toy-cnn")
MAE = Spec.of("recipe", "mae", 1, {"net": {"use": "mae"}}, label="toy-mae")
DISTANCES, AMV, RECONSTRUCTION = metric("distances"), metric("amv", MAE), metric("reconstruction", MAE)


def cell(*, attacked=True, certified=False):
    names = ("pgd", "oblivious") if attacked else ()
    return Cell(
        dataset=Spec.of("dataset", "digits", 1, {}),
        classifier=Spec.of("classifier", "recipe", 1, {}, {"recipe": NET}),
        defense=Spec.of("defense", "none", 1, {}),
        attack=Spec.of("attack", "pgd", 1, {"steps": 5}) if attacked else None,
        threat=ThreatModel(Norm.LINF, 0.2, Knowledge.OBLIVIOUS) if attacked else None,
        certificate=Spec.of("certificate", "smoothing", 1, {}) if certified else None,
        seed=0,
        subset_seed=0,
        labels=Labels("digits", "cnn", "none", *names, certificate="smoothing" if certified else ""),
    )


def suite(*metrics, cells=None, **evaluation):
    rules = EvaluationRules(**{"n_examples": 10, "shard_size": 4, **evaluation})
    members = tuple(Member(one.labels, one, False) for one in cells or [cell()])
    return Suite("toy", "", "", "toy.yaml", rules, metrics, Execution(), members)


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "runs.db"), create=True)


@pytest.fixture
def folder(tmp_path):
    """Networks and the adversarial batches of the suite, as far as a plan looks at them."""
    made = Folder(tmp_path / "home")
    for recipe in (NET, MAE):
        made.place("weights", recipe.digest, b"a file is enough")
    weights = {NET.digest: made.sha256("weights", NET.digest)}
    for craft in make_plan(suite(), None, made).jobs_of("craft"):
        made.save("adversarial", craft.digest, {}, {"weights": weights, "code": craft_code(craft.cell)})
    return made


def run(store, folder, made, **options):
    """Do what a plan has to do, as workers would."""
    store.declare(made.declaration())
    plan = make_plan(made, store, folder, **options)
    asked = {one.spec: one for one in made.metrics}
    artifacts = tuple(
        Artifact(recipe.digest, "weights", folder.sha256("weights", recipe.digest), 1) for recipe in (NET, MAE)
    )
    hashes = {one.digest: one.sha256 for one in artifacts}
    store.queue.post(plan.jobs, store.queue.seen())
    for job in [one for planned in plan.cells for one in planned.evaluations]:
        places, repeats = range(job.shard.start, job.shard.stop), range(job.first_repeat, job.stop_repeat)
        mine = [asked[spec] for spec in job.metrics]
        names = [column.name for one in mine for column in one.columns]
        rows = [row(n, n, repeat, 1, 1, True, **dict.fromkeys(names, 0.5)) for n in places for repeat in repeats]
        given = tuple(
            replace(
                taken,
                weights={part.digest: hashes[part.digest] for part in one.spec.stands_on()},
                code=metric_code(one.spec),
            )
            for one, taken in zip(mine, measurements(rows, mine), strict=True)
        )
        done = Done(artifacts, measurements=given)
        if not isinstance(job, Measure):
            done = replace(done, outcomes=outcomes(rows), defense_cost=Cost(images=1), code=code_of(job.cell))
        assert store.finish(store.queue.claim(job), job, done)
    assert make_plan(made, store, folder, **options).jobs == ()


def asked(plan):
    """What a plan has to judge or measure: kind, places, repeats, and metrics by name."""
    return [
        (
            *(job.kind, job.shard.start, job.shard.stop, job.first_repeat, job.stop_repeat),
            sorted(metric.use for metric in job.metrics),
        )
        for planned in plan.cells
        for job in planned.evaluations
    ]


SHARDS = ((0, 4, 0, 1), (4, 8, 0, 1), (8, 10, 0, 1))


def test_what_is_judged_first_has_all_metrics_taken_with_it(store, folder):
    plan = make_plan(suite(DISTANCES, AMV), store, folder)
    assert asked(plan) == [("evaluate", *shard, ["amv", "distances"]) for shard in SHARDS]
    assert [job.kind for job in plan.jobs] == ["evaluate"] * 3
    assert {job.digest for job in plan.at_hand if job.kind == "train"} == {NET.digest, MAE.digest}


def test_a_metric_that_is_dropped_leaves_every_cell_done(store, folder):
    run(store, folder, suite(DISTANCES, AMV))
    for metrics in ((AMV,), (DISTANCES,), ()):
        plan = make_plan(suite(*metrics), store, folder)
        assert ([planned.verdict for planned in plan.cells], plan.jobs) == ([PlanVerdict.DONE], ())


def test_a_metric_that_comes_is_taken_of_what_was_judged_and_nothing_is_judged_anew(store, folder):
    run(store, folder, suite(DISTANCES))
    made = suite(DISTANCES, AMV)
    plan = make_plan(made, store, folder)
    assert asked(plan) == [("measure", *shard, ["amv"]) for shard in SHARDS]
    assert [job.kind for job in plan.jobs] == ["measure"] * 3
    assert (plan.cells[0].verdict, plan.cells[0].reason) == (PlanVerdict.RUN, "to be measured: amv")
    (version,) = {one.version.digest for one in store.covered([cell().digest])[cell().digest]}
    assert {job.version for job in plan.jobs} == {version}
    run(store, folder, made)
    assert make_plan(made, store, folder).cells[0].verdict is PlanVerdict.DONE


def test_adversarial_examples_that_are_gone_are_crafted_again_for_a_metric(store, folder):
    run(store, folder, suite(DISTANCES))
    second = make_plan(suite(), None, Folder(folder.root / "elsewhere")).jobs_of("craft")[1]
    folder.path("adversarial", second.digest).unlink()
    plan = make_plan(suite(DISTANCES, AMV), store, folder)
    assert [job.kind for job in plan.jobs] == ["craft", *["measure"] * 3]
    assert plan.jobs[0].digest == second.digest


def test_of_clean_input_a_metric_needs_no_examples(store, folder):
    clean = cell(attacked=False)
    run(store, folder, suite(DISTANCES, cells=[clean]))
    plan = make_plan(suite(AMV, RECONSTRUCTION, cells=[clean]), store, folder)
    assert asked(plan) == [("measure", *shard, ["amv", "reconstruction"]) for shard in SHARDS]
    assert {job.kind for job in (*plan.jobs, *plan.at_hand)} == {"measure", "train"}


def test_other_weights_of_the_probe_mean_its_metrics_are_taken_again_and_nothing_is_judged_anew(store, folder):
    made = suite(DISTANCES, AMV, RECONSTRUCTION)
    run(store, folder, made)
    folder.place("weights", MAE.digest, b"another training")
    plan = make_plan(made, store, folder)
    assert asked(plan) == [("measure", *shard, ["amv", "reconstruction"]) for shard in SHARDS]
    run(store, folder, made)
    folder.place("weights", MAE.digest, b"a file is enough")  # what was taken last is what is read
    assert len(asked(make_plan(made, store, folder))) == 3


def test_other_options_of_the_probe_make_other_metrics(store, folder):
    run(store, folder, suite(DISTANCES, AMV))
    plan = make_plan(suite(DISTANCES, metric("amv", MAE, mask_ratio=0.75)), store, folder)
    assert asked(plan) == [("measure", *shard, ["amv"]) for shard in SHARDS]


def test_other_code_of_a_metric_means_it_is_taken_again_and_nothing_is_judged_anew(store, folder, monkeypatch):
    made = suite(DISTANCES, AMV)
    run(store, folder, made)
    known = metric_code(AMV.spec)
    assert set(known) == {"metric", "metric.probe"}
    for role in known:
        edited = {**known, role: "tree:edited"}
        monkeypatch.setattr(
            "harness.suite.plan.metric_code", lambda spec, told=edited: told if spec == AMV.spec else metric_code(spec)
        )
        assert asked(make_plan(made, store, folder)) == [("measure", *shard, ["amv"]) for shard in SHARDS]
        assert make_plan(made, store, folder, keep_old_code=True).jobs == ()


def test_more_examples_are_judged_with_all_metrics(store, folder):
    run(store, folder, suite(DISTANCES, AMV, n_examples=4))
    plan = make_plan(suite(DISTANCES, AMV), store, folder)
    assert asked(plan) == [("evaluate", *shard, ["amv", "distances"]) for shard in SHARDS[1:]]


def test_more_examples_and_a_metric_more_are_two_kinds_of_jobs(store, folder):
    run(store, folder, suite(DISTANCES, n_examples=4))
    plan = make_plan(suite(DISTANCES, AMV), store, folder)
    assert asked(plan) == [
        *(("evaluate", *shard, ["amv", "distances"]) for shard in SHARDS[1:]),
        ("measure", *SHARDS[0], ["amv"]),
    ]


def test_what_a_suite_does_not_look_at_needs_no_metrics(store, folder):
    run(store, folder, suite(DISTANCES))
    plan = make_plan(suite(DISTANCES, AMV), store, folder, limit=4)
    assert asked(plan) == [("measure", *SHARDS[0], ["amv"])]


def test_results_of_a_job_that_were_cut_are_measured_as_the_job_judged_them(store, folder):
    """The examples are in a batch for the job, whichever results its outcomes are in."""
    run(store, folder, suite(DISTANCES), limit=4)
    with store.engine.begin() as connection:  # as if others had judged a place in between
        connection.exec_driver_sql("DELETE FROM measures")
        columns = [column.name for column in ResultRow.__table__.columns if column.name not in ("id", "start", "stop")]
        copied = ", ".join(columns)
        for start, stop in ((0, 1), (1, 4)):
            part = f"SELECT {start}, {stop}, {copied} FROM results WHERE id = 1"
            connection.exec_driver_sql(f"INSERT INTO results (start, stop, {copied}) {part}")
        connection.exec_driver_sql("UPDATE outcomes SET result = CASE WHEN place = 0 THEN 2 ELSE 3 END")
        connection.exec_driver_sql("DELETE FROM results WHERE id = 1")
    plan = make_plan(suite(DISTANCES), store, folder, limit=4)
    assert asked(plan) == [("measure", *SHARDS[0], ["distances"])]
    run(store, folder, suite(DISTANCES), limit=4)


def test_a_certificate_has_no_metrics(store, folder):
    made = suite(DISTANCES, AMV, cells=[cell(attacked=False, certified=True), cell(attacked=False)])
    plan = make_plan(made, store, folder)
    assert asked(plan) == [
        *(("evaluate", *shard, []) for shard in SHARDS),
        *(("evaluate", *shard, ["amv", "distances"]) for shard in SHARDS),
    ]
    run(store, folder, made)
    assert asked(make_plan(replace(made, metrics=(RECONSTRUCTION,)), store, folder)) == [
        ("measure", *shard, ["reconstruction"]) for shard in SHARDS
    ]
