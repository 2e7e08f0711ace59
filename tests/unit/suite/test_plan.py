"""Plans: what is left, why, and in which order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.artifacts import Folder
from harness.core.cell import Cell, Labels, Shard
from harness.core.code_hashes import code_of, craft_code
from harness.core.declaration import Member
from harness.core.errors import UserError
from harness.core.result import Artifact, Cost, Done, Outcome
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.write.store import Store
from harness.suite.plan import PlanVerdict, make_plan, selection
from harness.suite.schema import EvaluationRules, Execution
from harness.suite.suite import Suite

RECIPE = Spec.of("recipe", "cnn", 1, {"steps": 3}, label="toy-cnn")


def cell(defense="none", *, knowledge=Knowledge.OBLIVIOUS, steps=5, attacked=True):
    return Cell(
        dataset=Spec.of("dataset", "digits", 1, {}),
        classifier=Spec.of("classifier", "recipe", 1, {}, {"recipe": RECIPE}),
        defense=Spec.of("defense", defense, 1, {}),
        attack=Spec.of("attack", "pgd", 1, {"steps": steps}) if attacked else None,
        threat=ThreatModel(Norm.LINF, 0.2, knowledge) if attacked else None,
        seed=0,
        subset_seed=0,
        labels=Labels("digits", "cnn", defense, *(("pgd", knowledge.value) if attacked else ())),
    )


def suite(*cells, random=False, members=(), **evaluation):
    rules = EvaluationRules(**{"n_examples": 10, "shard_size": 4, **evaluation})
    return Suite(
        "toy",
        "",
        "",
        "toy.yaml",
        rules,
        (),
        Execution(),
        (*(Member(c.labels, c, random) for c in cells), *members),
    )


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "runs.db"), create=True)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "home")


def measure(store, made, *jobs, sha256="a" * 64):
    store.declare(made.declaration())
    weights = Artifact(RECIPE.digest, "weights", sha256, 1)
    store.queue.post(jobs, store.queue.seen())
    for job in jobs:
        places = range(job.shard.start, job.shard.stop)
        repeats = range(job.first_repeat, job.stop_repeat)
        seen = tuple(Outcome(place, place, repeat, 1, 1, True) for place in places for repeat in repeats)
        done = Done((weights,), seen, Cost(images=1), code=code_of(job.cell))
        assert store.finish(store.queue.claim(job), job, done)


def left(plan):
    return [
        (job.shard.start, job.shard.stop, job.first_repeat, job.stop_repeat)
        for planned in plan.cells
        for job in planned.evaluations
    ]


def test_without_a_database_everything_has_to_be_run(folder):
    plan = make_plan(suite(cell(attacked=False), cell()), None, folder)
    assert [planned.verdict for planned in plan.cells] == [PlanVerdict.RUN] * 2
    assert [job.kind for job in plan.jobs] == ["train"] + ["craft"] * 3 + ["evaluate"] * 6
    assert left(plan)[:3] == [(0, 4, 0, 1), (4, 8, 0, 1), (8, 10, 0, 1)]


def test_what_is_needed_and_there_already_is_told_apart_from_what_is_to_be_done(folder):
    made = suite(cell(), n_examples=4)
    train, craft, evaluate = make_plan(made, None, folder).jobs
    folder.place("weights", train.digest, b"a file is enough")
    plan = make_plan(made, None, folder)
    assert (plan.jobs, plan.at_hand) == ((craft, evaluate), (train,))
    folder.save("adversarial", craft.digest, {}, {"weights": {}, "code": craft_code(craft.cell)})
    plan = make_plan(made, None, folder)
    assert (plan.jobs, plan.at_hand) == ((evaluate,), (train, craft))


def test_an_oblivious_attack_is_crafted_once_for_all_defenses(folder):
    shared = make_plan(suite(cell("none"), cell("blur")), None, folder)
    assert len(shared.jobs_of("craft")) == 3
    apart = make_plan(
        suite(cell("none", knowledge=Knowledge.BPDA), cell("blur", knowledge=Knowledge.BPDA)), None, folder
    )
    assert len(apart.jobs_of("craft")) == 6


def test_what_is_measured_is_done_and_what_is_not_is_left(store, folder):
    made = suite(cell())
    jobs = make_plan(made, store, folder).jobs_of("evaluate")
    measure(store, made, jobs[1])
    plan = make_plan(made, store, folder)
    assert plan.cells[0].reason == "4 of 10 outcomes are there"
    assert left(plan) == [(0, 4, 0, 1), (8, 10, 0, 1)]
    measure(store, made, jobs[0], jobs[2])
    plan = make_plan(made, store, folder)
    assert (plan.cells[0].verdict, plan.jobs) == (PlanVerdict.DONE, ())


def test_asking_for_more_examples_computes_only_the_new_ones(store, folder):
    made = suite(cell())
    measure(store, made, *make_plan(made, store, folder).jobs_of("evaluate"))
    assert left(make_plan(suite(cell(), n_examples=13), store, folder)) == [(10, 12, 0, 1), (12, 13, 0, 1)]


def test_asking_for_more_repeats_computes_only_the_new_ones(store, folder):
    made = suite(cell(), random=True, repeats=2)
    measure(store, made, *make_plan(made, store, folder).jobs_of("evaluate"))
    more = left(make_plan(suite(cell(), random=True, repeats=5), store, folder))
    assert more == [(0, 4, 2, 5), (4, 8, 2, 5), (8, 10, 2, 5)]


def test_a_limit_is_a_part_of_the_whole(store, folder):
    made = suite(cell())
    few = make_plan(made, store, folder, limit=3)
    assert left(few) == [(0, 4, 0, 1)]
    measure(store, made, *few.jobs_of("evaluate"))
    assert make_plan(made, store, folder, limit=4).jobs == ()
    assert left(make_plan(made, store, folder)) == [(4, 8, 0, 1), (8, 10, 0, 1)]


def test_a_changed_parameter_makes_the_cell_stale_and_says_what_changed(store, folder):
    made = suite(cell())
    measure(store, made, *make_plan(made, store, folder).jobs_of("evaluate"))
    plan = make_plan(suite(cell(steps=7)), store, folder)
    assert plan.cells[0].verdict is PlanVerdict.STALE
    assert "attack.params.steps 5 -> 7" in plan.cells[0].reason
    assert len(left(plan)) == 3


def test_changed_weights_make_the_cell_stale(store, folder):
    made = suite(cell())
    folder.path("weights", RECIPE.digest).parent.mkdir(parents=True)
    folder.path("weights", RECIPE.digest).write_bytes(b"other weights")
    jobs = make_plan(made, store, folder).jobs_of("evaluate")
    measure(store, made, *jobs)
    plan = make_plan(made, store, folder)
    assert (plan.cells[0].verdict, plan.cells[0].reason) == (
        PlanVerdict.STALE,
        "the weights it was measured with have changed",
    )
    measure(store, made, *plan.jobs_of("evaluate"), sha256=folder.sha256("weights", RECIPE.digest))
    assert make_plan(made, store, folder).cells[0].verdict is PlanVerdict.DONE


def test_titles_and_the_decision_change_nothing(store, folder):
    made = suite(cell())
    measure(store, made, *make_plan(made, store, folder).jobs_of("evaluate"))
    other = replace(made, title="another", evaluation=made.evaluation.model_copy(update={"decision": "any"}))
    assert make_plan(other, store, folder).jobs == ()


def test_a_failure_is_told_in_the_next_plan(store, folder):
    made = suite(cell())
    store.declare(made.declaration())
    job = make_plan(made, store, folder).jobs_of("evaluate")[0]
    assert store.queue.end(store.queue.claim(job), "failed", "the moon was full")
    assert make_plan(made, store, folder).cells[0].reason == "failed before: the moon was full"


def test_a_refused_cell_is_skipped_with_its_reason(folder):
    refused = Member(Labels("digits", "cnn", "odd", "pgd", "full"), None, False, "it cannot be")
    plan = make_plan(suite(cell(), members=[refused]), None, folder)
    assert (plan.cells[1].verdict, plan.cells[1].reason) == (PlanVerdict.SKIPPED, "it cannot be")


def test_only_chooses_cells(folder):
    plan = make_plan(suite(cell("none"), cell("mae-pure")), None, folder, only="defense=mae-*|dmae, attack=pgd")
    assert [planned.verdict for planned in plan.cells] == [PlanVerdict.SKIPPED, PlanVerdict.RUN]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("defence=none", "did you mean 'defense'"),
        ("none", "expected --only as key=pattern"),
        ("defense=nobody", "matches none"),
    ],
)
def test_a_wrong_choice_is_a_sentence(folder, text, sentence):
    with pytest.raises(UserError, match=sentence):
        make_plan(suite(cell()), None, folder, only=text)


def test_no_choice_chooses_all():
    assert selection(None)(Labels("a", "b", "c"))


def test_a_limit_below_one_is_refused(folder):
    with pytest.raises(UserError, match="at least 1 example, got 0"):
        make_plan(suite(cell()), None, folder, limit=0)


def test_slices_cover_every_place_once():
    assert [(s.start, s.stop) for s in Shard.slices(5, 2)] == [(0, 2), (2, 4), (4, 5)]


# ---------------------------------------------------------------------- recipes that stand on others

BASE = Spec.of("recipe", "cnn", 1, {"steps": 4}, label="base")
ASIDE = Spec.of("recipe", "mae", 1, {"steps": 9}, label="aside")
TUNED = Spec.of("recipe", "mae", 1, {"steps": 5}, {"classifier": BASE, "init": ASIDE}, label="tuned")


def tuned(**how):
    return replace(cell(**how), defense=Spec.of("defense", "blur", 1, {}, {"net": TUNED}))


def keep(folder, recipe, content, **stood_on):
    """Lay weights of a recipe into the folder; what they stand on is told by hash."""
    return folder.save("weights", recipe.digest, {"w": torch.tensor([content])}, {"weights": stood_on}).sha256


def trainings(plan):
    return [str(job) for job in plan.jobs_of("train")]


def test_what_a_recipe_stands_on_is_trained_before_it(folder):
    plan = make_plan(suite(tuned()), None, folder)
    assert trainings(plan) == ["aside", "base", "tuned", "toy-cnn"]
    job = next(job for job in plan.jobs if str(job) == "tuned")
    assert set(job.needs) == {BASE.digest, ASIDE.digest}


def test_weights_that_are_there_need_nothing_before_them(folder):
    keep(folder, TUNED, 1.0)
    plan = make_plan(suite(tuned()), None, folder)
    assert trainings(plan) == ["toy-cnn"]
    assert [str(job) for job in plan.at_hand] == ["tuned"]


def test_weights_that_stand_on_weights_that_have_changed_are_trained_again(folder, store):
    base, aside = keep(folder, BASE, 1.0), keep(folder, ASIDE, 1.0)
    keep(folder, RECIPE, 1.0)
    sha256 = keep(folder, TUNED, 1.0, **{BASE.digest: base, ASIDE.digest: aside})
    made = suite(tuned(attacked=False))
    assert trainings(make_plan(made, store, folder)) == []
    jobs = make_plan(made, store, folder).jobs_of("evaluate")
    store.declare(made.declaration())
    for job in jobs:
        seen = tuple(Outcome(place, place, 0, 1, 1, True) for place in range(job.shard.start, job.shard.stop))
        weights = (Artifact(TUNED.digest, "weights", sha256, 1),)
        done = Done(weights, seen, Cost(images=1), code=code_of(job.cell))
        assert store.finish(store.queue.claim(job), job, done)
    assert make_plan(made, store, folder).cells[0].verdict is PlanVerdict.DONE
    keep(folder, ASIDE, 2.0)
    plan = make_plan(made, store, folder)
    assert (plan.cells[0].verdict, plan.cells[0].reason) == (
        PlanVerdict.STALE,
        "the weights it was measured with have changed",
    )
    assert trainings(plan) == ["tuned"]
    assert {str(job) for job in plan.at_hand} == {"toy-cnn", "aside", "base"}


def test_weights_that_stand_on_what_is_trained_anew_are_trained_again(folder):
    keep(folder, TUNED, 1.0)
    both = replace(tuned(), classifier=Spec.of("classifier", "recipe", 1, {}, {"recipe": BASE}))
    plan = make_plan(suite(both), None, folder)
    assert trainings(plan) == ["aside", "base", "tuned"]
    assert plan.at_hand == ()


def test_examples_that_were_crafted_against_outdated_weights_are_crafted_again(folder):
    base, other = keep(folder, BASE, 1.0), keep(folder, ASIDE, 1.0)
    cnn = keep(folder, RECIPE, 1.0)
    stood_on = {BASE.digest: base, ASIDE.digest: other}
    sha256 = keep(folder, TUNED, 1.0, **stood_on)
    made = suite(tuned(knowledge=Knowledge.BPDA), n_examples=4)
    (craft,) = make_plan(made, None, folder).jobs_of("craft")
    crafted_on = {TUNED.digest: sha256, RECIPE.digest: cnn}
    folder.save("adversarial", craft.digest, {}, {"weights": crafted_on, "code": craft_code(craft.cell)})
    assert make_plan(made, None, folder).jobs_of("craft") == []
    keep(folder, BASE, 2.0)
    assert make_plan(made, None, folder).jobs_of("craft") == [craft]
