"""Recipes that stand on other recipes, and name an attack: what becomes part of their identity, and what is refused."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from pydantic import Field

from harness.components import Purifier
from harness.core.contracts import Traits
from harness.core.spec import Spec
from harness.options import Options, Recipe
from harness.suite import catalog

CNN = """
name: small-cnn
dataset: {use: dots}
net: {use: cnn}
objective: {use: classify}
steps: 10
"""

MAEP = """
name: small-maep
dataset: {use: dots}
init: mae.yaml
classifier: cnn.yaml
net: {use: mae}
objective: {use: purify-pixels}
attack: {use: push, params: {steps: 3}}
threat_model: {use: Linf, params: {eps: 8/255}}
steps: 20
"""


@pytest.fixture
def maep(folder, read):
    """Write the recipe and others, and resolve it as the network of a defense."""

    def resolved(text=MAEP, **others):
        (folder / "maep.yaml").write_text(text, encoding="utf-8")
        for name, content in others.items():
            (folder / f"{name}.yaml").write_text(content, encoding="utf-8")
        suite = read(SUITE)
        return next(cell.defense for cell in suite.cells if cell.labels.defense == "blur").part("net")

    return resolved


@pytest.fixture
def wrong(folder, complaints):
    """Write the recipe and others, and return what is wrong with them."""

    def told(text=MAEP, **others):
        (folder / "maep.yaml").write_text(text, encoding="utf-8")
        for name, content in others.items():
            (folder / f"{name}.yaml").write_text(content, encoding="utf-8")
        return [one.replace(f"{folder}/", "") for one in complaints(SUITE)]

    return told


SUITE = """
name: demo
datasets: [{name: dots}]
classifiers: [{name: small, use: trained, params: {recipe: cnn.yaml}}]
defenses: [{name: none}, {name: blur, params: {net: maep.yaml}}]
attacks: [{name: push}]
threat_models: [{name: known, use: Linf, params: {eps: 8/255, knowledge: bpda}}]
evaluation: {n_examples: 40}
"""


def test_recipes_by_role_and_the_attack_are_parts(maep):
    spec = maep()
    assert [role for role, _ in spec.parts] == ["attack", "classifier", "dataset", "init"]
    assert (spec.part("init").label, spec.part("classifier").label) == ("small-mae", "small-cnn")
    assert spec.part("attack").params == {"steps": 3, "step_size": None, "random_start": True}
    assert spec.params["threat_model"] == {"use": "Linf", "params": {"eps": 8 / 255, "knowledge": "oblivious"}}
    assert not {"attack", "init", "classifier", "purifier"} & set(spec.params)


def test_a_recipe_that_stands_on_nothing_says_nothing_of_it(maep):
    assert not {"threat_model", "attack", "init"} & set(maep(CNN).params)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("steps: 3", "steps: 4"),
        ("eps: 8/255", "eps: 4/255"),
        ("eps: 8/255", "eps: 8/255, knowledge: full"),
        ("use: Linf", "use: L2"),
        ("init: mae.yaml\n", ""),
        ("steps: 20", "steps: 0"),
        ("{use: purify-pixels}", "{use: purify-pixels, reconstruction_weight: 2}"),
    ],
)
def test_what_a_recipe_says_is_part_of_its_identity(maep, old, new):
    before = maep()
    assert maep(MAEP.replace(old, new)).digest != before.digest


def test_a_changed_recipe_makes_another_of_all_that_stand_on_it(maep):
    before = maep()
    assert maep(cnn=CNN.replace("steps: 10", "steps: 11")).digest != before.digest
    assert maep(cnn=CNN).digest == before.digest


def test_a_new_version_of_the_attack_makes_another_recipe(maep, components, monkeypatch):
    before = maep()
    monkeypatch.setattr(components["attack"]["push"].load(), "version", 2)
    assert maep().digest != before.digest


def test_a_cell_names_what_its_recipes_stand_on_before_them(maep, read):
    maep()
    cell = next(cell for cell in read(SUITE).cells if cell.labels.defense == "blur")
    assert [recipe.label for recipe in cell.networks()] == ["small-cnn", "small-maep"]
    names = [recipe.label for recipe in cell.recipes()]
    assert sorted(names) == ["small-cnn", "small-mae", "small-maep"]
    assert names.index("small-maep") == 2


def test_paths_in_a_recipe_start_from_its_own_folder(maep, folder):
    (folder / "inner").mkdir()
    (folder / "inner" / "mae.yaml").write_text(
        (folder / "mae.yaml").read_text().replace("steps: 10", "steps: 12"), encoding="utf-8"
    )
    (folder / "inner" / "cnn.yaml").write_text(CNN.replace("steps: 10", "steps: 13"), encoding="utf-8")
    (folder / "inner" / "maep.yaml").write_text(MAEP, encoding="utf-8")
    spec = maep(CNN.replace("objective", "init: inner/../cnn.yaml\nobjective"))
    assert spec.part("init").params["steps"] == 10
    deep = maep("name: x\n" + MAEP.replace("name: small-maep\n", "").replace("mae.yaml", "inner/maep.yaml"))
    assert deep.part("init").part("init").params["steps"] == 12
    assert deep.part("init").part("classifier").params["steps"] == 13


@pytest.mark.parametrize("path", ["maep.yaml", "./maep.yaml", "../{here}/maep.yaml"])
def test_a_recipe_that_stands_on_itself_is_refused(wrong, folder, path):
    mae = (folder / "mae.yaml").read_text() + f"init: {path.format(here=folder.name)}\n"
    (found,) = wrong(mae=mae)
    assert found.startswith("mae.yaml:")
    assert "init: expected recipes that do not stand on themselves, got maep.yaml -> mae.yaml -> " in found


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "attack: {use: push, params: {steps: 3}}\n",
            "",
            "expected attack with the objective 'purify-pixels', got none",
        ),
        ("classifier: cnn.yaml\n", "", "expected classifier with the objective 'purify-pixels', got none"),
        (
            "{use: purify-pixels}",
            "{use: reconstruct}",
            "expected no classifier and no attack and no threat_model with the objective 'reconstruct', which has no "
            "use for it",
        ),
        ("use: push", "use: push-up", "attack.use: expected a registered attack, got 'push-up'; did you mean 'push'?"),
        ("steps: 3}", "stepz: 3}", "attack.params.stepz: unknown key 'stepz'; did you mean 'steps'?"),
        (
            "steps: 3}",
            "steps: 2000}",
            "attack: expected an attack that can be trained against, got push: more steps than the budget allows",
        ),
        ("eps: 8/255", "eps: 0", "threat_model.params.eps: expected a number greater than 0, got 0"),
        ("eps: 8/255", "eps: 8/255, knowledge: bpda", "expected one of oblivious, full, got 'bpda'"),
        (
            "init: mae.yaml",
            "init: may.yaml",
            "init: expected a recipe file at may.yaml, found none; paths start from the ",
        ),
        (
            "init: mae.yaml",
            "init: cnn.yaml",
            "init: expected weights to start from of the same net, got 'small-cnn' of another; they differ in ",
        ),
        (
            "{use: dots}",
            "{use: dots, params: {n_test: 60}}",
            "init: expected a recipe that trains on the same data, got 'small-mae' on other data",
        ),
        ("steps: 20", "steps: -1", "steps: expected a number of at least 0, got -1"),
    ],
)
def test_what_does_not_fit_is_a_sentence(wrong, old, new, sentence):
    assert old in MAEP
    found = wrong(MAEP.replace(old, new))
    assert any(sentence in one for one in found), found


ATOP = """
name: small-atop
dataset: {use: dots}
init: mae.yaml
classifier: cnn.yaml
net: {use: mae}
objective: {use: atop, transform: RT3, sigma: 1/10}
attack: {use: push}
threat_model: {use: Linf, params: {eps: 8/255, knowledge: full}}
steps: 20
"""

BRIDGE = """
name: small-bridge
dataset: {use: dots}
classifier: cnn.yaml
net: {use: unet}
objective: {use: bridge}
attack: {use: push}
threat_model: {use: Linf, params: {eps: 8/255, knowledge: full}}
steps: 20
"""


@pytest.mark.parametrize("text", [ATOP, BRIDGE])
def test_tuning_through_a_classifier_stands_on_it_and_names_its_attack(maep, text):
    spec = maep(text)
    assert {"attack", "classifier", "dataset"} <= {role for role, _ in spec.parts}
    assert maep(text, cnn=CNN.replace("steps: 10", "steps: 11")).digest != spec.digest
    others = ("sigma: 1/10", "sigma: 1/5") if text == ATOP else ("{use: bridge}", "{use: bridge, max_step: 150}")
    assert maep(text.replace(*others), cnn=CNN).digest != spec.digest


@pytest.mark.parametrize(
    ("text", "old", "new", "sentence"),
    [
        (ATOP, "attack: {use: push}\n", "", "expected attack with the objective 'atop', got none"),
        (BRIDGE, "classifier: cnn.yaml\n", "", "expected classifier with the objective 'bridge', got none"),
        (BRIDGE, "init: mae", "purifier: mae", "expected no purifier with the objective 'bridge'"),
        (ATOP, "RT3", "RT4", "expected one of RT1, RT2, RT3, got 'RT4'"),
        (
            BRIDGE,
            "{use: bridge}",
            "{use: bridge, max_step: 50}",
            "expected a max_step of at least min_step, 100, got 50",
        ),
        (BRIDGE, "{use: bridge}", "{use: bridge, sampler: sde}", "expected one of ddpm, ddim, got 'sde'"),
    ],
)
def test_what_does_not_fit_the_tuning_is_a_sentence(wrong, text, old, new, sentence):
    if "purifier" in new:
        text = text.replace("classifier:", "purifier: mae.yaml\nclassifier:")
    found = wrong(text.replace(old, new))
    assert any(sentence in one for one in found), found


def test_mistakes_in_a_recipe_that_one_stands_on_are_told_with_its_file(wrong):
    (found,) = wrong(cnn=CNN.replace("steps: 10", "stebs: 10") + "steps: 10\n")
    assert found == "cnn.yaml:6: stebs: unknown key 'stebs'; did you mean 'steps'?"


def test_a_published_file_without_an_adapter_is_told_where_it_is_named(wrong):
    objective = "objective:\n  use: published\n  file: checkpoint_8.pth\n  sha256: " + "f" * 64
    text = CNN.replace("objective: {use: classify}", objective).replace("steps: 10", "steps: 0")
    (found,) = wrong(text.replace("{use: cnn}", "{use: diffusers-unet}"))
    assert found.startswith(
        "maep.yaml:7: objective.file: expected weights that there is an adapter for, got checkpoint_8.pth: the score "
    )


def test_the_halves_of_a_joint_network_start_from_recipes_of_the_same_nets(maep, wrong):
    joint = """
name: joint
dataset: {use: dots}
purifier: mae.yaml
classifier: cnn.yaml
net: {use: joint, purifier: {use: mae}, classifier: {use: cnn}}
objective: {use: dir}
attack: {use: push}
threat_model: {use: Linf, params: {eps: 8/255, knowledge: full}}
steps: 20
"""
    assert [role for role, _ in maep(joint).parts] == ["attack", "classifier", "dataset", "purifier"]
    (found,) = wrong(joint.replace("classifier: {use: cnn}", "classifier: {use: cnn, width: 5}"))
    assert "classifier: expected weights to start from of the same net" in found
    assert found.endswith("they differ in width")


class Maybe(Purifier):
    """A defense that may name a classifier of its own."""

    version = 1

    class Options(Options):
        net: Recipe = Field(description="what purifies")
        own: Recipe | None = Field(None, description="what classifies then")

    @property
    def traits(self):
        return Traits(random=False, differentiable=True, own_classifier=self.options.own is not None)

    def purify(self, x, nets, draws): ...


def test_a_recipe_that_may_be_left_out_is_a_part_where_it_is_named(read, components):
    module = sys.modules["purebench_stand_ins"]
    module.Maybe = Maybe
    entry = components["defense"]["blur"]
    components["defense"]["maybe"] = replace(entry, name="maybe", target=f"{module.__name__}:Maybe")
    text = SUITE.replace(
        "{name: blur, params: {net: maep.yaml}}", "{name: maybe, params: {net: mae.yaml, own: cnn.yaml}}"
    )
    named, left_out = (
        next(cell.defense for cell in read(one).cells if cell.labels.defense == "maybe")
        for one in (text, text.replace(", own: cnn.yaml", ""))
    )
    assert [role for role, _ in named.parts] == ["net", "own"]
    assert [role for role, _ in left_out.parts] == ["net"]
    assert (named.params, left_out.params) == ({"own_classifier": True}, {})
    (shown,) = (one for one in catalog.components("defense") if one.name == "maybe")
    assert [(option.name, option.type, option.default) for option in shown.options] == [
        ("net", "recipe", None),
        ("own", "recipe", "nothing"),
    ]
    assert shown.traits == Traits(random=False, differentiable=True)


def test_a_cell_yields_all_that_it_is_made_of(maep, read):
    maep()
    clean = next(cell for cell in read(SUITE).cells if cell.attack is None)
    attacked = next(cell for cell in read(SUITE).cells if cell.attack is not None)
    certificate, other = (Spec.of(kind, "another", 1, {}) for kind in ("certificate", "defense"))
    assert certificate in list(replace(clean, certificate=certificate).components())
    assert other in list(replace(clean, defense=other).components())
    crafted_elsewhere = replace(attacked, source_classifier=attacked.classifier, source_defense=other)
    assert [spec.kind for spec in crafted_elsewhere.components()].count("defense") == 2
    assert other in list(crafted_elsewhere.components())
