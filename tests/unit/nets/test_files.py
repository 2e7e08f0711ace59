"""Classifiers from files: toys with random weights, and the published weights on real images."""

import hashlib
import re
from typing import get_args

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save

from harness.core.contracts import DataCard
from harness.core.errors import UserError
from harness.core.spec import Spec
from harness.data.cifar10 import CIFAR10
from harness.nets import files
from harness.nets.files import NORMALISATION, FromFile, weights_folder
from harness.nets.resnet import Block
from harness.testing.nets import CARD as DIGITS

CARD = DataCard(shape=(3, 32, 32), n_classes=10, n_test=64, sha256="0" * 64)
NETS = get_args(files.Net)
SHA256 = "0" * 64
#: five of 10,000 images, whose two largest logits may agree to the digits in which processors differ
FEW = 5e-4


def options(**given):
    return FromFile.Options(**({"net": "resnet20", "file": "net.safetensors", "sha256": SHA256} | given))


def digest(**given):
    return Spec.of("classifier", "file", 1, options(**given).model_dump(mode="json")).digest


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Write a file into the weights folder; return the hash of its content."""
    monkeypatch.setenv("PUREBENCH_WEIGHTS", str(tmp_path))

    def put(content):
        (tmp_path / "net.safetensors").write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    return put


def network(net):
    """A network with random weights, and with running statistics that are not those it begins with."""
    torch.manual_seed(0)
    made = files._build(net)
    with torch.no_grad():
        made.train()(torch.rand(8, 3, 32, 32))
    return made.eval()


def test_weights_lie_where_the_user_says_or_in_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PUREBENCH_WEIGHTS", raising=False)
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path / "data"))
    assert weights_folder() == tmp_path / "data" / "weights"
    monkeypatch.setenv("PUREBENCH_WEIGHTS", str(tmp_path))
    assert weights_folder() == tmp_path


@pytest.mark.parametrize("net", NETS)
def test_the_network_sees_normalised_pixels(net, place):
    made = network(net)
    sha256 = place(save(made.state_dict()))
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in NORMALISATION[net])
    x = torch.rand(4, 3, 32, 32)
    loaded = FromFile(options(net=net, sha256=sha256)).load({}, CARD)
    assert not loaded.training
    torch.testing.assert_close(loaded(x), made((x - mean) / std))


def test_another_normalisation_can_be_asked_for(place):
    made = network("cnn-a")
    given = options(net="cnn-a", sha256=place(save(made.state_dict())), mean=(0.5, 0.5, 0.5), std=("1/4", 0.25, 0.25))
    x = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(FromFile(given).load({}, CARD)(x), made((x - 0.5) / 0.25))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"mean": (125.3, 0.5, 0.5)}, r"expected at most 1, since pixels are in \[0, 1\], got 125.3; .* is 125.3/255$"),
        ({"std": (0.25, 0.25, 63)}, r"expected at most 1, since pixels are in \[0, 1\], got 63; .* is 63/255$"),
        ({"mean": (-0.1, 0.5, 0.5)}, "greater than or equal to 0"),
        ({"std": (0, 0.5, 0.5)}, "greater than 0.003"),
        ({"std": (-0.2, 0.5, 0.5)}, "greater than 0.003"),
        ({"std": (0.25 / 255, 0.25, 0.25)}, "greater than 0.003"),
        ({"mean": (float("nan"), 0.5, 0.5)}, r"finite number"),
    ],
)
def test_a_normalisation_in_another_unit_is_refused_when_it_is_written(given, sentence):
    with pytest.raises(ValidationError) as caught:
        options(**given)
    (problem,) = caught.value.errors()
    assert re.search(sentence, problem["msg"])


def test_pixels_from_minus_one_to_one_and_bytes_may_be_what_a_network_wants():
    options(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    options(mean=(0, 0, 0), std=("1/255", "1/255", "1/255"))


STATED = "mean=0.5,0.4,0.3;std=0.25,0.2,0.1"


def test_what_a_file_states_of_its_normalisation_must_be_so_unless_another_is_asked_for(place):
    made = network("cnn-a")
    sha256 = place(save(made.state_dict(), {"normalise": STATED}))
    wanted = (
        r"expected pixels normalised as net.safetensors states, with mean \[0.5, 0.4, 0.3\] and std \[0.25, 0.2, 0.1\]"
        r", got those of the published cnn-a; write mean and std beside the file"
    )
    with pytest.raises(UserError, match=wanted):
        FromFile(options(net="cnn-a", sha256=sha256)).load({}, CARD)
    x = torch.rand(4, 3, 32, 32)
    for mean, std in (((0.5, 0.4, 0.3), (0.25, 0.2, 0.1)), ((0.5, 0.5, 0.5), (1, 1, 1))):
        loaded = FromFile(options(net="cnn-a", sha256=sha256, mean=mean, std=std)).load({}, CARD)
        mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (mean, std))
        torch.testing.assert_close(loaded(x), made((x - mean) / std))


@pytest.mark.parametrize("stated", ["mean=0.49137,0.48235,0.44667;std=0.24706,0.24353,0.26157", "as usual", ""])
def test_what_is_stated_alike_with_fewer_digits_or_not_at_all_is_fine(place, stated):
    sha256 = place(save(network("cnn-a").state_dict(), {"normalise": stated} if stated else None))
    FromFile(options(net="cnn-a", sha256=sha256)).load({}, CARD)


def test_as_many_classes_are_told_apart_as_the_dataset_has(place):
    torch.manual_seed(0)
    made = files._build("resnet20", 100).eval()
    given = options(sha256=place(save(made.state_dict())))
    card = DataCard(shape=(3, 32, 32), n_classes=100, n_test=64, sha256="0" * 64)
    assert FromFile(given).load({}, card)(torch.rand(2, 3, 32, 32)).shape == (2, 100)
    with pytest.raises(UserError, match=r"expected weights of a resnet20 in .*, got others: size mismatch"):
        FromFile(given).load({}, CARD)


@pytest.mark.shared
@pytest.mark.parametrize("net", NETS)
def test_the_published_files_state_what_is_written_here(shared, net):
    names = {"resnet2b": "resnet2b-adv", "cnn-a": "cnn-a-mix4", "conv-small": "conv-small-pgd"}
    path = shared / "weights" / f"cifar10-{names.get(net, net)}.safetensors"
    for stated, ours in zip(files.told_normalisation(path.read_bytes()), NORMALISATION[net], strict=True):
        assert stated == pytest.approx(ours, abs=files.ROUNDING)


def test_names_of_a_parallel_module_and_absent_counters_are_understood(place):
    made = network("resnet20")
    tensors = {f"module.{name}": value for name, value in made.state_dict().items() if "num_batches" not in name}
    x = torch.rand(2, 3, 32, 32)
    loaded = FromFile(options(sha256=place(save(tensors)), mean=(0, 0, 0), std=(1, 1, 1))).load({}, CARD)
    torch.testing.assert_close(loaded(x), made(x))


@pytest.mark.parametrize(
    ("net", "parameters"),
    [("resnet20", 269_722), ("resnet32", 464_154), ("resnet56", 853_018)],  # 0.27, 0.46, 0.85 M in He et al., table 6
)
def test_residual_networks_have_the_published_size(net, parameters):
    assert sum(one.numel() for one in files._build(net).parameters()) == parameters


def test_the_shortcut_takes_every_second_pixel_and_pads_channels_on_both_sides():
    block = Block(16, 32, 2).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(1, 16, 8, 8)
    y = block(x)
    torch.testing.assert_close(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_missing_weights_are_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_WEIGHTS", str(tmp_path))
    wanted = (
        r"expected weights at .*net.safetensors, got No such file or directory; put the file there, "
        r"or set PUREBENCH_WEIGHTS to the folder that has it"
    )
    with pytest.raises(UserError, match=wanted):
        FromFile(options()).load({}, CARD)


def test_weights_with_another_hash_are_a_sentence(place):
    found = place(save({"weight": torch.zeros(1)}))
    wanted = rf"expected weights with sha256 0{{12}}, got {found[:12]} at .*net.safetensors; put the right file there"
    with pytest.raises(UserError, match=wanted):
        FromFile(options()).load({}, CARD)


def test_another_format_is_a_sentence(place):
    with pytest.raises(UserError, match=r"could run in .*net.safetensors, but it cannot be read so \(it is damaged"):
        FromFile(options(sha256=place(b"PK\x03\x04 a pickle in a zip"))).load({}, CARD)


@pytest.mark.parametrize(("of", "complaint"), [("resnet32", "Unexpected key"), ("marabou-small", "Missing key")])
def test_weights_of_another_network_are_a_sentence(place, of, complaint):
    sha256 = place(save(network(of).state_dict()))
    with pytest.raises(UserError, match=rf"expected weights of a resnet20 in net.safetensors, got others: {complaint}"):
        FromFile(options(sha256=sha256)).load({}, CARD)


def test_weights_of_other_shapes_are_a_sentence(place):
    sha256 = place(save(network("cnn-a").state_dict()))
    with pytest.raises(UserError, match=r"expected weights of a conv-small in .*, got others: size mismatch"):
        FromFile(options(net="conv-small", sha256=sha256)).load({}, CARD)


def test_images_of_another_shape_are_a_sentence():
    with pytest.raises(UserError, match=r"expected images \(3, 32, 32\) for resnet20, got \(1, 8, 8\)"):
        FromFile(options()).load({}, DIGITS)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "abc"},
        {"file": "../net.safetensors"},
        {"file": "/net.safetensors"},
        {"file": "a\\net.safetensors"},
        {"file": "..safetensors"},
        {"file": "net.pt"},
        {"net": "resnet18"},
        {"net": ["resnet20"]},
        {"std": (1, 0, 1)},
        {"std": (1, 1)},
        {"mean": (0, float("nan"), 0)},
    ],
)
def test_options_are_checked(change):
    with pytest.raises(ValueError, match="validation error"):
        options(**change)


def test_the_normalisation_is_a_part_of_the_identity_whether_it_is_written_or_not():
    mean, std = NORMALISATION["resnet20"]
    assert digest() == digest(mean=mean, std=std) == digest(mean=None)
    assert digest() != digest(mean=(0.5, 0.5, 0.5))
    assert digest(net="cnn-a") != digest(net="oval-wide")


def test_the_hash_is_a_part_of_the_identity():
    assert digest() != digest(sha256="1" * 64)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("net", "name", "accuracy"),
    [
        ("resnet2b", "cifar10-resnet2b-adv", 0.6925),
        ("cnn-a", "cifar10-cnn-a-adv", 0.6565),
        ("cnn-a", "cifar10-cnn-a-adv4", 0.5651),
        ("cnn-a", "cifar10-cnn-a-mix4", 0.6780),
        ("conv-small", "cifar10-conv-small-pgd", 0.6292),
        ("oval-wide", "cifar10-oval-wide", 0.6161),
        ("marabou-small", "cifar10-marabou-small", 0.6314),
        ("marabou-large", "cifar10-marabou-large", 0.7416),
    ],
)
def test_small_networks_have_the_measured_accuracy(shared, monkeypatch, net, name, accuracy):
    assert right(shared, monkeypatch, net, name, 10_000) == pytest.approx(accuracy, abs=FEW)


@pytest.mark.shared
def test_resnet20_has_the_published_accuracy_on_a_part(shared, monkeypatch):
    # 91.73 % of all 10,000; of 1,000 it is within four standard errors
    assert right(shared, monkeypatch, "resnet20", "cifar10-resnet20", 1000) == pytest.approx(0.9173, abs=0.035)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(("net", "accuracy"), [("resnet20", 0.9173), ("resnet32", 0.9263), ("resnet56", 0.9339)])
def test_residual_networks_have_the_published_accuracy(shared, monkeypatch, net, accuracy):
    assert right(shared, monkeypatch, net, f"cifar10-{net}", 10_000) == pytest.approx(accuracy, abs=FEW)


def right(shared, monkeypatch, net, name, number):
    """The share of the first images of the test part that a published network gets right."""
    monkeypatch.setenv("PUREBENCH_DATA", str(shared / "data"))
    monkeypatch.setenv("PUREBENCH_WEIGHTS", str(shared / "weights"))
    path = shared / "weights" / f"{name}.safetensors"
    data = CIFAR10(CIFAR10.Options(lossless=False))
    given = options(net=net, file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    classifier = FromFile(given).load({}, data.card)
    split = data.load("test")
    images, labels = (torch.from_numpy(values[:number]) for values in (split.images, split.labels))
    with torch.no_grad():
        parts = [classifier(x).argmax(1) == y for x, y in zip(images.split(500), labels.split(500), strict=True)]
    return torch.cat(parts).float().mean().item()
