"""What a measurement's identity is made of: every part of it, and nothing else, makes cells stale."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.artifacts import Folder
from harness.core.cell import Cell
from harness.core.code_hashes import code_of, metric_code
from harness.core.metric import Measurement
from harness.core.result import Artifact, Cost, Done, Outcome
from harness.core.spec import differences
from harness.store.write.store import Store
from harness.suite.plan import PlanVerdict, make_plan

SUITE = """
name: demo
datasets:
  - name: dots
  - {name: many, use: dots, params: {n_test: 80}}
classifiers:
  - {name: small, use: trained, params: {recipe: cnn.yaml}}
  - {name: large, use: trained, params: {recipe: many.yaml}}
defenses:
  - name: none
  - {name: blur, params: {net: mae.yaml}}
attacks:
  - {name: push, params: {steps: 5}}
  - {name: shove, use: push, params: {steps: 7}}
threat_models:
  - {name: hidden, use: Linf, params: {eps: 8/255, knowledge: oblivious}}
  - {name: known, use: Linf, params: {eps: 4/255, knowledge: bpda}}
  - {name: wide, use: L2, params: {eps: 1.0, knowledge: bpda}}
matrix:
  - tie: [{datasets: [dots, many], classifiers: [small, large]}]
    exclude: [{dataset: many, defense: blur}]
evaluation: {n_examples: 4, repeats: 2, shard_size: 4}
"""


class Desk:
    """A suite on disk with all its results recorded; ``change`` edits it, ``left`` says what that made stale."""

    def __init__(self, read, folder, components):
        self.read, self.folder, self.components = read, folder, components
        self.text = SUITE
        many = (folder / "cnn.yaml").read_text().replace("{use: dots}", "{use: dots, params: {n_test: 80}}")
        (folder / "many.yaml").write_text(many)
        self.artifacts = Folder(folder / "home")
        self.store = Store.open(str(folder / "runs.db"), create=True)
        self.suite = read(SUITE)
        self.store.declare(self.suite.declaration())
        for job in make_plan(self.suite, self.store, self.artifacts).jobs_of("evaluate"):
            weights = tuple(Artifact(recipe.digest, "weights", "a" * 64, 1) for recipe in job.cell.recipes())
            seen = tuple(
                Outcome(place, place, repeat, 1, 1, True)
                for place in range(job.shard.start, job.shard.stop)
                for repeat in range(job.first_repeat, job.stop_repeat)
            )
            nothing = bytes(8 * 2 * len(seen))  # two columns of distances
            taken = tuple(
                Measurement(one.digest, ("linf", "l2"), nothing, code=metric_code(one)) for one in job.metrics
            )
            done = Done(weights, seen, Cost(images=1), code=code_of(job.cell), measurements=taken)
            self.store.finish(self.store.queue.claim(job), job, done)

    def change(self, old, new, file=None):
        """Replace a text that occurs once, in the suite or in a recipe."""
        text = self.text if file is None else (self.folder / file).read_text()
        assert text.count(old) == 1, f"expected {old!r} once"
        if file is None:
            self.text = text.replace(old, new)
        else:
            (self.folder / file).write_text(text.replace(old, new))

    def component(self, kind, name):
        return self.components[kind][name].load()

    def left(self):
        """Return the cells that a plan would measure again; all others are there in full."""
        plan = make_plan(self.read(self.text), self.store, self.artifacts)
        assert {one.verdict for one in plan.cells} <= {PlanVerdict.DONE, PlanVerdict.STALE}
        assert {job.cell.labels for job in plan.jobs_of("evaluate")} == {
            one.member.labels for one in plan.cells if one.verdict is PlanVerdict.STALE
        }
        return {one.member.labels for one in plan.cells if one.verdict is PlanVerdict.STALE}

    def those(self, wanted):
        return {member.labels for member in self.suite.members if wanted(member.labels)}


@pytest.fixture
def desk(read, folder, components):
    made = Desk(read, folder, components)
    assert made.left() == set()
    yield made
    made.store.engine.dispose()


def everything(labels):
    return True


def of(**wanted):
    return lambda labels: all(getattr(labels, axis) == name for axis, name in wanted.items())


def attacked(labels):
    return labels.attack != "clean"


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        pytest.param("eps: 1.0", "eps: 1.5", of(threat_model="wide"), id="eps"),
        pytest.param("known, use: Linf", "known, use: L2", of(threat_model="known"), id="norm"),
        pytest.param("oblivious", "bpda", of(threat_model="hidden"), id="gradient mode"),
        pytest.param("steps: 7", "steps: 8", of(attack="shove"), id="steps"),
        pytest.param("steps: 7", "steps: 7, step_size: 1/255", of(attack="shove"), id="step size"),
        pytest.param("steps: 7", "steps: 7, random_start: false", of(attack="shove"), id="random start"),
        pytest.param("mae.yaml", "mae.yaml, strength: 0.25", of(defense="blur"), id="strength"),
        pytest.param("mae.yaml", "mae.yaml, mode: hard", of(defense="blur"), id="mode"),
        pytest.param("mae.yaml", "mae.yaml, sizes: [2, 1]", of(defense="blur"), id="sizes"),
        pytest.param("shard_size: 4", "shard_size: 4, seed: 1", everything, id="seed"),
        pytest.param("shard_size: 4", "shard_size: 4, subset_seed: 1", everything, id="subset seed"),
        pytest.param("evaluation:", "metrics: {names: []}\nevaluation:", lambda labels: False, id="metrics"),
    ],
)
def test_a_part_of_the_identity_makes_exactly_the_cells_stale_that_depend_on_it(desk, old, new, stale):
    desk.change(old, new)
    assert desk.left() == desk.those(stale)


@pytest.mark.parametrize(
    ("old", "new"),
    [("steps: 10", "steps: 11"), ("{use: cnn}", "{use: cnn, width: 5}"), ("steps: 10", "steps: 10\nseed: 1")],
)
def test_another_recipe_makes_exactly_the_cells_stale_that_stand_on_its_network(desk, old, new):
    desk.change(old, new, "cnn.yaml")
    assert desk.left() == desk.those(of(classifier="small"))
    desk.change("steps: 10", "steps: 12", "mae.yaml")
    assert desk.left() == desk.those(lambda labels: labels.classifier == "small" or labels.defense == "blur")


def test_other_weights_from_the_same_recipe_make_exactly_the_cells_stale_that_used_them(desk):
    blur = next(cell.defense for cell in desk.suite.cells if cell.labels.defense == "blur")
    path = desk.artifacts.path("weights", blur.part("net").digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"trained elsewhere")
    assert desk.left() == desk.those(of(defense="blur"))


def test_other_data_makes_exactly_its_cells_stale(desk):
    desk.change("n_test: 80", "n_test: 90")
    desk.change("n_test: 80", "n_test: 90", "many.yaml")
    assert desk.left() == desk.those(of(dataset="many"))


def test_other_images_under_the_same_name_make_every_cell_stale(desk, monkeypatch):
    monkeypatch.setattr(desk.component("dataset", "dots"), "sha256", "e1" * 32)
    assert desk.left() == desk.those(everything)


@pytest.mark.parametrize(
    ("kind", "name", "stale"),
    [
        ("dataset", "dots", everything),
        ("classifier", "trained", everything),
        ("defense", "blur", of(defense="blur")),
        ("defense", "none", of(defense="none")),
        ("attack", "push", attacked),
    ],
)
def test_a_new_version_of_a_component_makes_exactly_the_cells_stale_that_have_it(desk, monkeypatch, kind, name, stale):
    monkeypatch.setattr(desk.component(kind, name), "version", 2)
    assert desk.left() == desk.those(stale)


def test_another_release_of_a_plug_in_makes_exactly_the_cells_stale_that_have_it(desk):
    entry = desk.components["attack"]["push"]
    desk.components["attack"]["push"] = replace(entry, origin="elsewhere 1.0")
    assert desk.left() == desk.those(attacked)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("shard_size: 4", "shard_size: 4, decision: any", id="decision rule"),
        pytest.param("shard_size: 4", "shard_size: 3", id="size of shards"),
        pytest.param("evaluation:", "execution: {batch_size: 1}\nevaluation:", id="batch size"),
        pytest.param("evaluation:", "execution: {retries: 9}\nevaluation:", id="retries"),
        pytest.param("evaluation:", "execution: {timeouts: {craft: 1, train: 2}}\nevaluation:", id="time limits"),
        pytest.param("name: demo", "name: demo\ntitle: Another", id="title"),
        pytest.param("name: demo", "name: other", id="name of the suite"),
        pytest.param("name: push,", "name: shake, use: push,", id="name of an attack"),
        pytest.param("{name: blur,", "{name: fog, use: blur,", id="name of a defense"),
        pytest.param("matrix:", "# a word to the reader\nmatrix:", id="comment"),
        pytest.param(
            "name: known, use: Linf, params: {eps: 4/255", "name: known, use: Linf, params: {eps: 8/510", id="spelling"
        ),
        pytest.param("mae.yaml", "mae.yaml, strength: 0.5, mode: soft", id="defaults spelled out"),
    ],
)
def test_what_changes_no_number_makes_nothing_stale(desk, old, new):
    desk.change(old, new)
    if old == "{name: blur,":
        desk.change("defense: blur", "defense: fog")
    assert desk.left() == set()


def test_the_order_of_entries_makes_nothing_stale(desk):
    lines = SUITE.splitlines()
    for first in ("  - {name: push", "  - {name: hidden", "  - name: none"):
        at = next(number for number, line in enumerate(lines) if line.startswith(first))
        lines[at], lines[at + 1] = lines[at + 1], lines[at]
    desk.text = "\n".join(lines)
    assert desk.left() == set()
    assert [one.labels for one in desk.read(desk.text).members] != [one.labels for one in desk.suite.members]


def test_what_a_recipe_is_called_and_where_it_lies_make_nothing_stale(desk):
    desk.change("name: small-cnn", "name: another", "cnn.yaml")
    (desk.folder / "cnn.yaml").rename(desk.folder / "elsewhere.yaml")
    desk.change("recipe: cnn.yaml", "recipe: elsewhere.yaml")
    assert desk.left() == set()


@pytest.mark.parametrize(
    ("old", "new", "of_random", "of_others"),
    [
        ("n_examples: 4", "n_examples: 7", {(4, 7, 0, 2)}, {(4, 7, 0, 1)}),
        ("repeats: 2", "repeats: 5", {(0, 4, 2, 5)}, set()),
        ("n_examples: 4, repeats: 2", "n_examples: 6, repeats: 3", {(0, 4, 2, 3), (4, 6, 0, 3)}, {(4, 6, 0, 1)}),
    ],
)
def test_asking_for_more_measures_only_what_is_new(desk, old, new, of_random, of_others):
    desk.change(old, new)
    suite = desk.read(desk.text)
    for planned in make_plan(suite, desk.store, desk.artifacts).cells:
        jobs = planned.evaluations
        left = {(job.shard.start, job.shard.stop, job.first_repeat, job.stop_repeat) for job in jobs}
        assert left == (of_random if planned.member.random else of_others)
    assert {cell.digest for cell in suite.cells} == {cell.digest for cell in desk.suite.cells}


def test_a_cell_is_built_again_from_what_the_store_keeps_of_it(desk):
    for cell in desk.suite.cells:
        again = Cell.from_dict(desk.store.spec_of(cell.digest), cell.labels)
        assert (again.digest, again.stream, again) == (cell.digest, cell.stream, cell)
        assert [recipe.digest for recipe in again.recipes()] == [recipe.digest for recipe in cell.recipes()]


def test_differences_of_identities_are_told_with_their_place():
    one = {"attack": {"params": {"eot": 1, "steps": 10}}, "probe": None, "seed": 0, "sizes": [1]}
    other = {"attack": {"params": {"steps": 20}}, "probe": {"use": "probe"}, "seed": 0, "sizes": [2]}
    assert list(differences(one, other)) == [
        "attack.params.eot 1 -> None",
        "attack.params.steps 10 -> 20",
        "probe",
        "sizes",
    ]
    assert list(differences(one, one)) == []
