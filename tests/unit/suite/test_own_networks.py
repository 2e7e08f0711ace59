"""Networks and objectives that a recipe takes from elsewhere: what they become in its identity, and what is refused."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

import harness
from harness.core import code_hashes, session
from harness.core.code_hashes import net_code, training_code
from harness.core.job import Train, code, plugins
from harness.core.recipe import network, objective
from harness.core.registry import RegistryEntry
from harness.core.spec import Spec
from harness.suite.components import training_plan
from harness.testing.nets import CARD

CODE = '''
"""A network and an objective."""
import math

from pydantic import Field
from torch import nn
from torch.nn import functional as F

from harness import Network, Objective, Options
from harness.options import Eps, Recipe


class Line(Network):
    """Two linear layers."""

    class Options(Options):
        width: int = Field(4, ge=1, description="in between")

    def build(self, data):
        flat, width = math.prod(data.shape), self.options.width
        return nn.Sequential(nn.Flatten(), nn.Linear(flat, width), nn.Linear(width, data.n_classes))


class Distil(Objective):
    """Squared error to the logits of a teacher, and cross-entropy."""

    class Options(Options):
        teacher: Recipe = Field(description="whose logits")
        weight: float = Field(0.5, ge=0, le=1, description="of the teacher")

    def loss(self, net, batch, beside):
        logits, weight = net(batch.x), self.options.weight
        own = F.cross_entropy(logits, batch.y)
        return (1 - weight) * own + weight * F.mse_loss(logits, beside.net("teacher")(batch.x))


class Against(Objective):
    """Needs an attack."""

    needs = ("attack", "threat_model")

    class Options(Options):
        step: Eps | None = None


class Still(Objective):
    """Puts zeros in place."""

    trains = False

    def refuses(self, network):
        return "zeros say nothing of a wide layer." if network.options.width > 9 else None

    def begin(self, net, network, data):
        for one in net.parameters():
            one.data.zero_()


class Taking(Network):
    class Options(Options):
        teacher: Recipe


class Using(Network):
    class Options(Options):
        use: str = "me"


class Starting(Objective):
    class Options(Options):
        init: Recipe


class Neither:
    version = 1
    Options = Options

    def __init__(self, options):
        pass
'''

RECIPE = """
name: own
dataset: {use: dots}
net: {use: "./own.py:Line", width: 3}
objective: {use: "./own.py:Distil", teacher: cnn.yaml}
steps: 10
"""

SUITE = """
name: demo
datasets: [{name: dots}]
classifiers: [{name: own, use: trained, params: {recipe: own.yaml}}]
defenses: [{name: none}]
evaluation: {n_examples: 40}
"""


@pytest.fixture
def own(folder, read):
    """Write the recipe and the code, and return the recipe's spec."""

    def resolved(text=RECIPE, python=CODE):
        (folder / "own.yaml").write_text(text, encoding="utf-8")
        (folder / "own.py").write_text(python, encoding="utf-8")
        return read(SUITE).cells[0].classifier.part("recipe")

    return resolved


@pytest.fixture
def wrong(folder, complaints):
    """Write the recipe and the code, and return what is wrong with them."""

    def told(text=RECIPE, python=CODE):
        (folder / "own.yaml").write_text(text, encoding="utf-8")
        (folder / "own.py").write_text(python, encoding="utf-8")
        return [one.replace(f"{folder}/", "") for one in complaints(SUITE)]

    return told


def test_they_are_parts_of_the_recipe_with_their_options_and_the_hash_of_their_code(own):
    recipe = own()
    assert [role for role, _ in recipe.parts] == ["dataset", "net", "objective"]
    net, what = network(recipe), objective(recipe)
    assert (net.kind, net.use, what.kind, what.use) == ("network", "file:Line", "objective", "file:Distil")
    assert net.params.pop("source") == what.params.pop("source")
    assert net.params["width"] == 3
    assert what.params["weight"] == 0.5
    assert [role for role, _ in what.parts] == ["teacher"]
    assert [one.label for one in recipe.stands_on()] == ["small-cnn"]
    assert not {"net", "objective"} & recipe.params.keys()
    assert Spec.from_dict(recipe.as_dict()) == recipe


def test_one_of_purebench_stays_among_the_parameters_beside_one_of_the_users_own(own):
    recipe = own(RECIPE.replace('"./own.py:Distil", teacher: cnn.yaml', "classify"))
    assert [role for role, _ in recipe.parts] == ["dataset", "net"]
    assert recipe.params["objective"] == {"use": "classify"}
    other = own(RECIPE.replace('"./own.py:Line", width: 3', "cnn"))
    assert [role for role, _ in other.parts] == ["dataset", "objective"]
    assert other.params["net"] == {"use": "cnn", "width": 32, "hidden": 128}


@pytest.mark.parametrize(
    ("old", "new"), [("width: 3", "width: 5"), ("teacher: cnn.yaml", "teacher: cnn.yaml, weight: 1"), ("Line", "Line2")]
)
def test_what_is_said_of_them_is_part_of_the_identity(own, old, new):
    python = CODE.replace("class Distil", "class Line2(Line):\n    pass\n\n\nclass Distil")
    assert own(python=python).digest != own(RECIPE.replace(old, new), python).digest


def test_an_edit_makes_another_recipe_and_a_comment_does_not(own):
    before = own()
    assert own(python="# words\n" + CODE).digest == before.digest
    after = own(python=CODE.replace("(1 - weight) * own", "2 * (1 - weight) * own"))
    assert after.digest != before.digest
    assert net_code(after) != net_code(before)


def test_their_code_is_kept_and_handed_to_workers(own):
    recipe = own()
    job = Train(recipe)
    (source,) = {network(recipe).params["source"], objective(recipe).params["source"]}
    assert [one.hash for one in code(job)] == [source]
    assert plugins(job) == {f"file:{source}"}
    told = training_code(recipe)
    assert told["net"] == told["objective"] == f"{code_hashes.TREE}{source}"
    assert told["objective.teacher"] == code_hashes.source_hash("harness.nets.cnn:build")


def test_a_plan_is_made_of_them(own):
    plan = training_plan(own())
    net = plan.net.build(CARD)
    assert (net[1].out_features, net[2].out_features) == (3, 10)
    assert plan.objective.options.weight == 0.5
    assert plan.steps == 10


def test_an_objective_that_trains_nothing_says_so_in_the_identity_and_begins(own):
    text = RECIPE.replace('"./own.py:Distil", teacher: cnn.yaml', '"./own.py:Still"').replace("steps: 10", "steps: 0")
    recipe = own(text)
    assert objective(recipe).params["trains"] is False
    plan = training_plan(recipe)
    net = plan.net.build(CARD)
    plan.objective.begin(net, plan.net, CARD)
    assert not any(one.any() for one in net.parameters())


def test_a_plug_ins_are_named_with_their_distribution(own, components):
    class Plugged(harness.Network):
        def build(self, data):
            return nn.Identity()

    module = sys.modules["purebench_stand_ins"]
    module.Plugged = Plugged
    components["network"]["dist/plugged"] = RegistryEntry(
        "network", "dist/plugged", f"{module.__name__}:Plugged", "dist 1.2"
    )
    recipe = own(RECIPE.replace('"./own.py:Line", width: 3', "dist/plugged"))
    assert network(recipe).params == {"origin": "dist 1.2"}
    assert plugins(Train(recipe)) >= {"dist"}


def test_those_of_a_session_are_known_by_their_content(own):
    @harness.register("network", "flat")
    class Flat(harness.Network):
        def build(self, data):
            return nn.Sequential(nn.Flatten(), nn.LazyLinear(data.n_classes))

    @harness.register("objective", "square")
    class Square(harness.Objective):
        def loss(self, net, batch, beside):
            return (net(batch.x) ** 2).mean()

    recipe = own(RECIPE.replace('"./own.py:Line", width: 3', "session:flat"))
    assert network(recipe).use == "session:flat"
    assert session.lives_here([recipe])
    assert isinstance(training_plan(recipe).net, Flat)
    recipe = own(RECIPE.replace('"./own.py:Distil", teacher: cnn.yaml', "session:square"))
    loss = training_plan(recipe).objective.loss(nn.Identity(), type("Batch", (), {"x": torch.ones(2)}), None)
    assert loss == 1.0


def test_the_same_network_and_code_is_a_start(own, folder, wrong):
    (folder / "first.yaml").write_text(RECIPE.replace("name: own", "name: first"), encoding="utf-8")
    recipe = own(RECIPE + "init: first.yaml\n")
    assert recipe.part("init").label == "first"
    (found,) = wrong(RECIPE.replace("width: 3", "width: 4") + "init: first.yaml\n")
    assert found.endswith("got 'first' of another; they differ in width")


WRONG = [
    (
        "Line",
        "Lime",
        "net.use: expected network 'file:Lime' at own.py:Lime (from own.py), but importing it failed",
    ),
    ('"./own.py:Line"', "cnnn", "net.use: expected a registered network, got 'cnnn'; did you mean 'cnn'?"),
    ('"./own.py:Distil"', "clasify", "objective.use: expected a registered objective, got 'clasify'; did you mean "),
    ('"./own.py:Line"', "session:lost", "net.use: expected a network registered in this process, got 'lost'"),
    ("./own.py:Line", "./lost.py:Line", "net.use: expected the code of network Line in lost.py, found no such file"),
    ("width: 3", "widht: 3", "net.widht: unknown key 'widht'; did you mean 'width'?"),
    ("width: 3", "width: 0", "net.width: expected a number of at least 1, got 0"),
    ("width: 3", "width: wide", "net.width: expected an integer, got 'wide'"),
    ("teacher: cnn.yaml", "weight: 1", "objective.teacher: expected the key 'teacher', got none"),
    ("teacher: cnn.yaml", "teacher: lost.yaml", "objective.teacher: expected a recipe file at lost.yaml, found none"),
    (
        'Line", width: 3',
        'Neither"',
        "net.use: expected a harness.Network at own.py:Neither, got something else",
    ),
    ('Line", width: 3', 'Distil", teacher: cnn.yaml', "net.use: expected a network that needs no other, got"),
    ('Line", width: 3', 'Taking", teacher: cnn.yaml', "with the recipe 'teacher' among its options"),
    ('Line", width: 3', 'Using"', "expected network './own.py:Using' to leave the option 'use' to purebench"),
    ('Distil", teacher', 'Starting", init', "objective './own.py:Starting' to leave the option 'init' to purebench"),
    (
        'Distil", teacher: cnn.yaml',
        'Against"',
        "expected attack and threat_model with the objective './own.py:",
    ),
    ('Distil", teacher: cnn.yaml', 'Still"', "expected steps: 0 and no init with the objective './own.py:Still'"),
    ('{use: "./own.py:Line", width: 3}', '"./own.py:Line"', "net: expected a mapping, got './own.py:Line'"),
    ('use: "./own.py:Line", ', "", "net.use: expected the key 'use', got none"),
]


@pytest.mark.parametrize(("old", "new", "sentence"), WRONG)
def test_what_is_wrong_is_a_sentence(wrong, old, new, sentence):
    assert old in RECIPE
    found = wrong(RECIPE.replace(old, new))
    assert any(sentence in one for one in found), found


def test_an_objective_may_refuse_a_network(wrong):
    text = RECIPE.replace('"./own.py:Distil", teacher: cnn.yaml', '"./own.py:Still"').replace("steps: 10", "steps: 0")
    (found,) = wrong(text.replace("width: 3", "width: 10"))
    assert found == "own.yaml:4: net: zeros say nothing of a wide layer"


def test_lengths_of_an_objective_are_held_against_the_budget(wrong):
    text = RECIPE.replace('Distil", teacher: cnn.yaml', 'Against", step: 2')
    text += "attack: {use: push}\nthreat_model: {use: Linf, params: {eps: 8/255}}\n"
    found = wrong(text)
    assert any("objective.step: expected at most 1" in one for one in found), found


def test_a_teacher_of_other_data_is_refused(wrong, folder):
    text = (folder / "cnn.yaml").read_text().replace("{use: dots}", "{use: dots, params: {n_test: 60}}")
    (folder / "cnn.yaml").write_text(text)
    (found,) = wrong()
    assert found.endswith(
        "objective.teacher: expected a recipe that trains on the same data, got 'small-cnn' on other data"
    )


def test_another_version_of_one_of_purebench_is_a_part(own, components, monkeypatch):
    before = own(RECIPE.replace('"./own.py:Line", width: 3', "cnn"))
    entry = components["network"]["cnn"]
    assert entry.load().version == 1
    newer = type("Newer", (entry.load(),), {"version": 2})
    module = sys.modules["purebench_stand_ins"]
    module.Newer = newer
    components["network"]["cnn"] = replace(entry, target=f"{module.__name__}:Newer")
    after = own(RECIPE.replace('"./own.py:Line", width: 3', "cnn"))
    assert network(after).version == 2
    assert after.digest != before.digest


SHOWN = """

class Shown(Network):
    class Options(Options):
        decoder_depth: int = 1
        decoder_heads: int = 2
"""

PROBE = SUITE + "metrics: {names: [amv], probe: {recipe: probe.yaml}}\n"


@pytest.mark.parametrize(
    ("net", "sentence"),
    [
        ("{use: maskdit}", "expected a recipe of a masked autoencoder (net mae), got one of net maskdit"),
        (
            '{use: "./own.py:Line"}',
            "expected a recipe of a masked autoencoder (net mae), got one of net file:Line, which has no options "
            "decoder_depth and decoder_heads",
        ),
        ('{use: "./own.py:Shown"}', None),
    ],
)
def test_a_probe_says_how_much_attention_it_shows(own, folder, read, complaints, net, sentence):
    own(python=CODE + SHOWN)
    recipe = RECIPE.replace('{use: "./own.py:Line", width: 3}', net)
    recipe = recipe.replace('"./own.py:Distil", teacher: cnn.yaml', "classify")
    (folder / "probe.yaml").write_text(recipe, encoding="utf-8")
    if sentence is None:
        assert network(read(PROBE).metrics[0].spec.part("probe")).params["decoder_heads"] == 2
    else:
        (found,) = complaints(PROBE)
        assert found.endswith(sentence)
