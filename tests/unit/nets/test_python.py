"""A classifier of an importable function: what it is called with, which weights it gets, what pixels it sees."""

from __future__ import annotations

import hashlib
import sys
import textwrap

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from harness.core.cell import Cell
from harness.core.code_hashes import forget, judge_code
from harness.core.contracts import DataCard
from harness.core.errors import UserError
from harness.core.spec import Spec
from harness.nets.python import FromPython

CARD = DataCard((3, 8, 8), 5, 10, "0" * 64)
MODULE = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width, n_classes=5):
            super().__init__()
            self.head = nn.Linear(3 * width * width, n_classes)

        def forward(self, x):
            self.seen = x
            return self.head(x.flatten(1))

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    def nothing():
        return 3

    def fails():
        raise OSError("no such checkpoint")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PUREBENCH_WEIGHTS", str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_models", None)


def laid(folder, width=8):
    """Write weights; return the options that name them."""
    path = folder / "net.safetensors"
    torch.manual_seed(0)
    save_file({"head.weight": torch.randn(5, 3 * width * width), "head.bias": torch.zeros(5)}, path)
    return {"weights": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def loaded(**options):
    return FromPython(FromPython.Options(**options)).load({}, CARD)


def test_the_function_is_called_and_its_network_gets_the_weights(folder):
    net = loaded(make="my_models:Net", args={"width": 8}, **laid(folder))
    x = torch.rand(2, 3, 8, 8)
    torch.manual_seed(0)
    assert torch.allclose(net(x), x.flatten(1) @ torch.randn(5, 192).T)
    assert not net.training


def channels(*values):
    return torch.tensor(values).view(-1, 1, 1)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({}, lambda x: x),
        (
            {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.1)},
            lambda x: (x - channels(0.5, 0.4, 0.3)) / channels(0.2, 0.2, 0.1),
        ),
        ({"scale": 255.0}, lambda x: x * 255),
    ],
)
def test_pixels_are_as_it_wants_them(folder, told, wanted):
    net = loaded(make="my_models:Net", args={"width": 8}, **laid(folder), **told)
    x = torch.rand(2, 3, 8, 8)
    net(x)
    assert torch.allclose(net[-1].seen, wanted(x), rtol=1e-5)


def test_images_are_resized(folder):
    net = loaded(make="my_models:Net", args={"width": 16}, size=16, **laid(folder, 16))
    net(torch.full((2, 3, 8, 8), 0.5))
    assert net[-1].seen.shape == (2, 3, 16, 16)
    assert torch.allclose(net[-1].seen, torch.tensor(0.5))


def test_one_without_weights_needs_no_file(folder):
    assert loaded(make="my_models:Mean")(torch.ones(2, 3, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"make": "my_models:Net", "args": {"width": 8}},
            "expected a file of weights for my_models:Net",
        ),
        ({"make": "my_models:Nett"}, "it raised AttributeError"),
        ({"make": "no_such_module_here:Net"}, "it raised ModuleNotFoundError"),
        ({"make": "my_models:Net", "args": {"wide": 8}}, "it raised TypeError: .*wide"),
        ({"make": "my_models:nothing"}, "expected a torch.nn.Module from my_models:nothing, got int"),
        ({"make": "my_models:fails"}, "it raised OSError: no such checkpoint"),
        ({"make": "my_models:Mean", "mean": (0.5,), "std": (0.5,)}, "mean and std of 3 channels, got 1 and 1"),
    ],
)
def test_what_will_not_do_is_a_sentence(folder, options, said):
    with pytest.raises(UserError, match=said):
        loaded(**options)


def test_weights_of_another_network_are_a_sentence(folder):
    with pytest.raises(UserError, match=r"expected weights of a my_models:Net in net\.safetensors, got others"):
        loaded(make="my_models:Net", args={"width": 4}, **laid(folder))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"make": "my_models"}, "module:function"),
        ({"make": "os:system; x"}, "module:function"),
        ({"make": "a:b", "weights": "x.bin"}, "weights and sha256 together"),
        ({"make": "a:b", "mean": (0.5,)}, "mean and std together"),
        ({"make": "a:b", "mean": (0.5,), "std": (0.5,), "scale": 255}, "or a scale, got both"),
        ({"make": "a:b", "weights": "../x.bin", "sha256": "0" * 64}, "weights"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, said):
    with pytest.raises(ValidationError, match=said):
        FromPython.Options(**options)


def codes(target):
    spec = Spec.of("classifier", "python", 1, {"make": target})
    none = Spec.of("defense", "none", 1, {})
    cell = Cell(Spec.of("dataset", "digits", 1, {}), spec, none, None, None, seed=0, subset_seed=0)
    forget()
    return judge_code(cell)


def test_the_code_of_the_function_is_kept_with_results(folder):
    before = codes("my_models:Net")["classifier_library"]
    (folder / "my_models.py").write_text(textwrap.dedent(MODULE).replace("flatten(1)", "flatten(1) * 2"))
    assert codes("my_models:Net")["classifier_library"] != before
    assert codes("timm:create_model")["classifier_library_version"].startswith("timm ")
