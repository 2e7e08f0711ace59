"""Classifiers of RobustBench's zoo: what is hashed is what is loaded, and nothing is downloaded."""

import hashlib
import io
import re

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save

from harness.core.contracts import DataCard
from harness.core.errors import UserError
from harness.nets.robustbench import RobustBench, zoo
from harness.nets.zoo import models

CIFAR10 = DataCard((3, 32, 32), 10, 100, "c" * 64)
CIFAR100 = DataCard((3, 32, 32), 100, 100, "d" * 64)
IMAGENET = DataCard((3, 224, 224), 1000, 100, "e" * 64)
DIGITS = DataCard((1, 8, 8), 10, 100, "f" * 64)

GARBAGE = b"no weights"
SHA256 = hashlib.sha256(GARBAGE).hexdigest()

#: a model of each way in which the zoo gets weights: its own file, parts, torchvision, timm
WAYS = [
    ("Standard", "cifar10", "Linf"),
    ("Chen2020Adversarial", "cifar10", "Linf"),
    ("Standard_R50", "imagenet", "Linf"),
    ("Standard_R50", "imagenet", "corruptions"),
    ("AlexNet", "imagenet", "corruptions"),
    ("Debenedetti2022Light_XCiT-S12", "cifar10", "Linf"),
    ("Debenedetti2022Light_XCiT-S12", "imagenet", "Linf"),
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_HOME", str(tmp_path))
    return tmp_path / "robustbench"


@pytest.fixture
def place(home):
    """Put a model's parts where they belong; return the classifier that names them."""

    def put(model, dataset, threat, *parts):
        folder = home / dataset / threat
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"{model}.pt"] if len(parts) == 1 else [f"{model}.pt_m{number}.pt" for number in range(len(parts))]
        for name, part in zip(names, parts, strict=True):
            (folder / name).write_bytes(part)
        hashes = [hashlib.sha256(part).hexdigest() for part in parts]
        return classifier(model, dataset, threat, hashes[0] if len(hashes) == 1 else hashes)

    return put


def classifier(model="Standard", dataset="cifar10", threat="Linf", sha256=SHA256):
    return RobustBench(RobustBench.Options(model=model, dataset=dataset, threat_model=threat, sha256=sha256))


def packed(tensors):
    content = io.BytesIO()
    torch.save(tensors, content)
    return content.getvalue()


def parts_of(model, dataset, threat):
    return models()[dataset, threat][model].parts


# ---------------------------------------------------------------------- what the zoo has


@pytest.mark.filterwarnings("ignore")
def test_the_zoo_that_is_read_is_the_zoo_that_is_imported():
    zoo()
    from robustbench.model_zoo import model_dicts

    imported = {
        (dataset.value, threat.value): {
            name: len(entry["gdrive_id"]) if isinstance(entry["gdrive_id"], list) else 1
            for name, entry in listed.items()
        }
        for dataset, by_threat in model_dicts.items()
        for threat, listed in by_threat.items()
    }
    assert {at: {name: one.parts for name, one in listed.items()} for at, listed in models().items()} == imported


def test_images_are_of_the_size_that_the_zoo_evaluates():
    assert models()["imagenet", "Linf"]["Wong2020Fast"].shape == (3, 288, 288)
    assert models()["imagenet", "Linf"]["Standard_R50"].shape == (3, 224, 224)


# ---------------------------------------------------------------------- what is refused when a suite is checked


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "Standart"}, "expected a model of RobustBench's zoo for cifar10 Linf, got 'Standart'; did you mean"),
        ({"model": "Nobody1999"}, "got 'Nobody1999'; its readme lists them"),
        ({"model": "Standard_R50"}, "got 'Standard_R50'; it is one of imagenet Linf, imagenet corruptions"),
        ({"dataset": "cifar100", "threat_model": "L2"}, "got 'Standard'; it is one of cifar10 Linf, cifar10 L2"),
        ({"model": "Chen2020Adversarial"}, "the hash of each of the 3 files of Chen2020Adversarial, in order, got 1"),
        ({"sha256": [SHA256, SHA256]}, "the hash of each of the 1 files of Standard, in order, got 2"),
        ({"model": "Chen2020Adversarial", "sha256": [SHA256] * 2}, "of each of the 3 files"),
        ({"sha256": "abc"}, "String should match pattern"),
        ({"sha256": []}, "at least 1 item"),
        ({"model": "../Standard"}, "String should match pattern"),
        ({"dataset": "mnist"}, "Input should be 'cifar10'"),
    ],
)
def test_options_are_checked_against_the_zoo(change, said):
    with pytest.raises(ValidationError, match=re.escape(said)):
        RobustBench.Options(**({"model": "Standard", "sha256": SHA256} | change))


@pytest.mark.parametrize(
    ("model", "dataset", "threat", "fitting"),
    [
        ("Standard", "cifar10", "Linf", CIFAR10),
        ("Diffenderfer2021Winning_LRR", "cifar100", "corruptions", CIFAR100),
        ("Standard_R50", "imagenet", "Linf", IMAGENET),
    ],
)
def test_another_dataset_than_the_zoos_is_refused(place, model, dataset, threat, fitting):
    found = place(model, dataset, threat, GARBAGE)
    assert found.refuses(fitting) is None
    for other in (CIFAR10, CIFAR100, IMAGENET, DIGITS):
        said = found.refuses(other)
        assert (said is None) == (other is fitting)
        if said is not None:
            assert f"as of {dataset}, and these are {other.shape} of {other.n_classes}" in said


def test_each_missing_file_is_told(place, home):
    assert "Standard.pt and not found; download them from the model zoo" in classifier().refuses(CIFAR10)
    found = place("Chen2020Adversarial", "cifar10", "Linf", GARBAGE, GARBAGE, GARBAGE)
    assert found.refuses(CIFAR10) is None
    for missing in ("Chen2020Adversarial.pt_m1.pt", "Chen2020Adversarial.pt_m2.pt"):
        (home / "cifar10" / "Linf" / missing).unlink()
    said = found.refuses(CIFAR10)
    assert "Chen2020Adversarial.pt_m1.pt and not found, nor Chen2020Adversarial.pt_m2.pt beside it" in said


SUITE = """
name: zoo
datasets: [{{name: digits, use: digits}}]
classifiers:
  - {{name: theirs, use: robustbench, params: {{model: {model}, sha256: {sha256}}}}}
defenses: [{{name: none, use: none}}]
evaluation: {{n_examples: 8}}
"""


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("Standart", "suite.yaml:5: classifiers[0].params: expected a model of RobustBench's zoo for cifar10 Linf"),
        (
            "Standard",
            "RobustBench's Standard takes images (3, 32, 32) of 10 classes, as of cifar10, and these are (1, ",
        ),
    ],
)
def test_a_suite_is_refused_with_its_line(home, tmp_path, model, said):
    from harness.suite.load import read_suite

    with pytest.raises(UserError, match=re.escape(said)):
        read_suite(SUITE.format(model=model, sha256=SHA256), "suite.yaml", tmp_path)


# ---------------------------------------------------------------------- what is loaded


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Note every attempt to reach anything, and keep the caches of others out of it."""
    import socket

    tried = []

    def refuse(*words, **more):
        tried.append(words)
        raise OSError("no network here")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tried


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model", "dataset", "threat"), WAYS)
def test_garbage_is_never_loaded_and_nothing_is_fetched_in_its_place(place, no_network, model, dataset, threat):
    found = place(model, dataset, threat, *[GARBAGE] * parts_of(model, dataset, threat))
    with pytest.raises(UserError, match=r"could run in .*\.pt, but it cannot be read so \(it is damaged"):
        found.load({}, CIFAR10)
    assert no_network == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model", "dataset", "threat"), WAYS)
def test_weights_of_another_network_are_never_loaded_either(place, no_network, model, dataset, threat):
    others = packed({"state_dict": {"weight": torch.ones(1)}})
    found = place(model, dataset, threat, *[others] * parts_of(model, dataset, threat))
    with pytest.raises(UserError, match=rf"expected weights of RobustBench's {model} in {model}\.pt.*, got others: "):
        found.load({}, CIFAR10)
    assert no_network == []


@pytest.mark.filterwarnings("ignore")
def test_every_part_is_hashed(place, home):
    found = place("Chen2020Adversarial", "cifar10", "Linf", packed({}), packed({}), packed({}))
    (home / "cifar10" / "Linf" / "Chen2020Adversarial.pt_m2.pt").write_bytes(GARBAGE)
    with pytest.raises(UserError, match=rf"expected weights with sha256 .*, got {SHA256[:12]} at .*pt_m2\.pt"):
        found.load({}, CIFAR10)


def test_weights_with_another_hash_are_a_sentence(place):
    place("Standard", "cifar10", "Linf", GARBAGE)
    with pytest.raises(UserError, match=f"expected weights with sha256 {12 * '0'}, got {SHA256[:12]} at "):
        classifier(sha256="0" * 64).load({}, CIFAR10)


def test_missing_weights_are_a_sentence(home):
    with pytest.raises(UserError, match=r"the weights of RobustBench's Standard were looked for at .*Standard\.pt"):
        classifier().load({}, CIFAR10)


def test_a_tensor_that_is_there_twice_is_refused(place):
    twice = packed({"state_dict": {"conv1": torch.ones(1), "module.conv1": torch.zeros(1)}})
    with pytest.raises(UserError, match=r"got both conv1 and module\.conv1"):
        place("Standard", "cifar10", "Linf", twice).load({}, CIFAR10)


@pytest.mark.filterwarnings("ignore")
def test_what_torchvision_would_fetch_is_taken_from_the_file(place, no_network):
    from torchvision.models import resnet50

    with torch.random.fork_rng():
        torch.manual_seed(1)
        weights = resnet50().state_dict()
    for content in (packed(weights), save(weights)):
        net = place("Standard_R50", "imagenet", "Linf", content).load({}, IMAGENET)
        loaded = {name.removeprefix("model."): value for name, value in net.state_dict().items()}
        assert all(torch.equal(loaded[name], value) for name, value in weights.items())
        assert not net.training
    assert no_network == []


@pytest.mark.filterwarnings("ignore")
def test_the_zoo_is_answered_with_what_was_hashed_and_its_ways_are_open_again_afterwards(place, home, monkeypatch):
    library = zoo()
    import robustbench.utils as utils

    answers = []

    def reads(model, **where):
        (home / "cifar10" / "Linf" / "Standard.pt").write_bytes(b"changed since")
        answers.append(utils.torch.load("whatever", map_location=utils.torch.device("cpu")))
        return torch.nn.Identity()

    monkeypatch.setattr(library, "load_model", reads)
    before = utils.torch, utils.download_gdrive_new
    place("Standard", "cifar10", "Linf", packed({"a": torch.ones(2)})).load({}, CIFAR10)
    assert torch.equal(answers[0]["a"], torch.ones(2))
    assert (utils.torch, utils.download_gdrive_new) == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("does", "said"),
    [
        (lambda utils: None, "expected RobustBench to read 1 files for Standard, but it read 0"),
        (lambda utils: [utils.torch.load("a"), utils.torch.load("b")], "asks for more weights than the files"),
        (lambda utils: utils.download_gdrive_new("id", "file"), "asks for a download, and nothing is downloaded"),
        (lambda utils: utils.requests.get("http://localhost:1/"), "asks for a download, and nothing is downloaded"),
    ],
)
def test_whatever_else_the_zoo_asks_for_is_refused(place, monkeypatch, does, said):
    library = zoo()
    import robustbench.utils as utils

    monkeypatch.setattr(library, "load_model", lambda *words, **more: does(utils))
    with pytest.raises(UserError, match=said):
        place("Standard", "cifar10", "Linf", packed({"a": torch.ones(2)})).load({}, CIFAR10)
