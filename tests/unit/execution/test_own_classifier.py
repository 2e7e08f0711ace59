"""Jobs on a defense that brings its own classifier, and trainings that stand on others, done by the worker itself."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import ClassVar

import pytest
import torch
from pydantic import Field

import defenses
from attacks.pgd import PGD
from harness.artifacts import Folder
from harness.bounds import clip
from harness.core import registry
from harness.core.cell import Shard
from harness.core.contracts import Traits
from harness.core.job import Craft, Evaluate, Terms, Train
from harness.draws import Draws
from harness.execution.worker.jobs import Bench, dataset, do, networks
from harness.options import Options, Recipe
from harness.suite.load import read_suite
from harness.testing import DefenseContract
from harness.testing.nets import CARD
from harness.training.context import Learner

CNN = """
name: cnn
dataset: {use: digits}
net: {use: cnn, width: 4, hidden: 16}
objective: {use: classify}
optimiser: {lr: 0.01}
steps: 60
batch_size: 32
"""

JOINT = """
name: joint
dataset: {use: digits}
classifier: cnn.yaml
net:
  use: joint
  purifier: {use: dir, patch: 4, dim: 16, depth: 1, heads: 2, decoder_depth: 1}
  classifier: {use: cnn, width: 4, hidden: 16}
objective: {use: dir, kl_steps: 1}
attack: {use: pgd, params: {steps: 1}}
threat_model: {use: Linf, params: {eps: 0.2, knowledge: full}}
optimiser: {lr: 0.01}
steps: 3
batch_size: 8
"""

SUITE = """
name: own
datasets: [{name: digits}]
classifiers: [{name: cnn, use: recipe, params: {recipe: cnn.yaml}}]
defenses:
  - {name: pair, use: pair, params: {net: joint.yaml}}
  - {name: half, use: pair, params: {net: joint.yaml, own: false}}
attacks: [{name: pgd, params: {steps: 2, random_start: false}}]
threat_models:
  - {name: blind, use: Linf, params: {eps: 0.2, knowledge: oblivious}}
  - {name: full, use: Linf, params: {eps: 0.2, knowledge: full}}
evaluation: {n_examples: 8, shard_size: 8}
"""


class Pair:
    """Runs the purifier of a joint network and gives the image back as it came."""

    version: ClassVar[int] = 1

    class Options(Options):
        net: Recipe = Field(description="recipe of a joint network")
        own: bool = Field(True, description="bring its classifier too")

    def __init__(self, options):
        self.options = options

    @property
    def traits(self):
        return Traits(random=False, differentiable=True, own_classifier=self.options.own)

    def refuses(self, setting):
        return None

    def purify(self, x, nets, draws):
        purifier = nets["net"].purifier
        order = torch.arange(purifier.n_patches).expand(len(x), -1)
        return clip(x + 0.0 * purifier(x, order))

    def classifier(self, nets):
        return nets["net"].classifier if self.options.own else None


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    module = ModuleType("purebench_pair")
    module.Pair = Pair
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(defenses.TABLE, "pair", "purebench_pair:Pair")
    registry.entries.cache_clear()
    yield
    registry.entries.cache_clear()


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "cnn.yaml").write_text(CNN, encoding="utf-8")
    (tmp_path / "joint.yaml").write_text(JOINT, encoding="utf-8")
    return read_suite(SUITE, "suite.yaml", tmp_path)


@pytest.fixture
def home(tmp_path, suite):
    """An artifact folder with the weights of all networks."""
    folder = Folder(tmp_path / "home")
    for recipe in suite.cells[0].recipes():
        do(Train(recipe), folder, Terms(), lambda share: None)
    return folder


def cell(suite, defense, threat_model):
    return next(one for one in suite.cells if (one.labels.defense, one.labels.threat_model) == (defense, threat_model))


def classifiers(suite, home):
    """Return the cell's classifier and the defense's own."""
    one = cell(suite, "pair", "full")
    return networks(one.classifier, home, {})["recipe"], networks(one.defense, home, {})["net"].classifier


def proposals(net, batch, threat, stream):
    victim = Learner(lambda at, _: net(at), 10, False)
    attack = PGD(PGD.Options(steps=2, random_start=False))
    return attack.propose(victim, batch.x, batch.y, threat, Draws(("craft", stream), batch.ids))


def test_a_checkpoint_remembers_the_weights_that_it_was_trained_beside(suite, home):
    cnn, joint = cell(suite, "pair", "full").recipes()
    assert home.about("weights", joint.digest)["weights"] == {cnn.digest: home.sha256("weights", cnn.digest)}
    assert home.about("weights", cnn.digest)["weights"] == {}


def test_a_training_hands_back_what_it_used(suite, home):
    cnn, joint = cell(suite, "pair", "full").recipes()
    done = do(Train(joint), home, Terms(), lambda share: None)
    assert [item.digest for item in done.artifacts] == [cnn.digest, joint.digest]
    assert done.artifacts[1].sha256 == home.sha256("weights", joint.digest)


def test_a_training_is_the_same_again(suite, home):
    (_, joint) = cell(suite, "pair", "full").recipes()
    first = home.sha256("weights", joint.digest)
    torch.rand(3)
    do(Train(joint), home, Terms(), lambda share: None)
    assert home.sha256("weights", joint.digest) == first


def test_the_judge_asks_the_defenses_own_classifier(suite, home):
    cells, own = classifiers(suite, home)
    for defense, judge in (("pair", own), ("half", cells)):
        one = cell(suite, defense, "-")
        done = do(Evaluate(one, Shard(0, 0, 8), 0, 1), home, Terms(), lambda share: None)
        x = Bench(one, home, Terms()).batch(Shard(0, 0, 8)).x
        assert [outcome.prediction for outcome in done.outcomes] == judge(x).argmax(1).tolist()
        # the purifier's passes are evaluations of the defense, the classifier's are not
        assert (done.defense_cost.forwards, done.defense_cost.evaluations) == (16, 8)
    assert not torch.equal(own(x), cells(x))


def test_whoever_knows_of_the_defense_attacks_its_own_classifier_and_others_the_cells(suite, home):
    cells, own = classifiers(suite, home)
    for threat_model, net in (("full", own), ("blind", cells)):
        one = cell(suite, "pair", threat_model)
        job = Craft(one, Shard(0, 0, 8))
        do(job, home, Terms(), lambda share: None)
        batch = Bench(one, home, Terms()).batch(job.shard)
        found = home.load("adversarial", job.digest)[0]["proposed"]
        assert torch.allclose(found, proposals(net, batch, one.threat, job.stream), atol=1e-6)


def test_the_identity_says_whose_classifier_is_judged(suite):
    assert cell(suite, "pair", "full").defense.params == {"own": True, "own_classifier": True}
    assert cell(suite, "half", "full").defense.params == {"own": False}
    assert dataset(cell(suite, "pair", "full").dataset).card.shape == CARD.shape


class TestPair(DefenseContract):
    own = True

    def make(self):
        return Pair(Pair.Options(net="joint", own=self.own))

    def nets(self):
        from harness.nets.joint import build
        from harness.nets.sizes import JointSize

        purifier = {"use": "dir", "patch": 4, "dim": 16, "depth": 1, "heads": 2, "decoder_depth": 1}
        size = JointSize(use="joint", purifier=purifier, classifier={"use": "cnn", "width": 4, "hidden": 16})
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return {"net": build(size, CARD).eval().requires_grad_(False)}


class TestHalf(TestPair):
    own = False
