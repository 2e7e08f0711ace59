"""Classifiers of RobustBench's zoo, without a network."""

import hashlib

import pytest

from harness.core.errors import UserError
from harness.nets.robustbench import RobustBench, zoo
from harness.testing.nets import CARD

CONTENT = b"no weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def classifier(sha256=SHA256):
    return RobustBench(RobustBench.Options(model="Standard", sha256=sha256))


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_HOME", str(tmp_path))
    path = tmp_path / "robustbench" / "cifar10" / "Linf" / "Standard.pt"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.filterwarnings("ignore")
def test_the_zoo_can_be_imported():
    assert callable(zoo().load_model)


def test_missing_weights_are_a_sentence(weights):
    with pytest.raises(UserError, match=r"expected the weights of RobustBench's Standard at .*Standard.pt, found none"):
        classifier().load({}, CARD)


def test_weights_with_another_hash_are_a_sentence(weights):
    weights.write_bytes(CONTENT)
    with pytest.raises(UserError, match=f"expected weights with sha256 {12 * '0'}, got {SHA256[:12]} at "):
        classifier("0" * 64).load({}, CARD)


def test_the_zoo_is_asked_for_the_file_that_was_checked(weights, monkeypatch):
    asked = []

    class Zoo:
        def load_model(self, model, **where):
            asked.append((model, where))
            return "the model"

    monkeypatch.setattr("harness.nets.robustbench.zoo", Zoo)
    weights.write_bytes(CONTENT)
    assert classifier().load({}, CARD) == "the model"
    root = str(weights.parents[2])
    assert asked == [("Standard", {"model_dir": root, "dataset": "cifar10", "threat_model": "Linf"})]


@pytest.mark.parametrize("change", [{"sha256": "abc"}, {"model": "../Standard"}, {"dataset": "mnist"}])
def test_options_are_checked(change):
    with pytest.raises(ValueError, match="validation error"):
        RobustBench.Options(**({"model": "Standard", "sha256": SHA256} | change))
