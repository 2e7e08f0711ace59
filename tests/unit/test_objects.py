"""What names an object of a session: the same for what does the same, another for what does not."""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.core.errors import UserError
from harness.objects import object_hash

SCALE = 3.0


def named(value: Any) -> str:
    return object_hash(value, "it")


def helper(x):
    return x * SCALE


def through(x):
    """Call another."""
    # with a comment
    return helper(x) + math.pi


class Net(nn.Module):
    """A small network with a setting and a function."""

    def __init__(self, width: int = 4, scale: float = 2.0, act: Any = torch.relu) -> None:
        super().__init__()
        self.conv, self.scale, self.act = nn.Conv2d(1, width, 3), scale, act
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, x):
        return helper(self.act(self.conv(x - self.mean))).mean((2, 3)) * self.scale


def net(**settings: Any) -> Net:
    torch.manual_seed(0)
    return Net(**settings)


@dataclass(frozen=True)
class Setting:
    size: int = 3

    def doubled(self) -> int:
        return 2 * self.size


def closure(strength: Any) -> Any:
    def inner(x):
        return x * strength

    return inner


ALIKE = {
    "a copy of a network": (net(), copy.deepcopy(net())),
    "the same weights": (net(), net()),
    "training mode and gradients": (net(), net().train(mode=False).requires_grad_(requires_grad=False)),
    "a closure": (closure(2.0), closure(2.0)),
    "a partial": (functools.partial(helper, x=1), functools.partial(helper, x=1)),
    "arrays": (np.arange(6).reshape(2, 3), np.arange(6).reshape(2, 3)),
    "a view of an array": (np.arange(12)[::2], np.arange(0, 12, 2)),
    "sets": ({"a", "b", "c"}, {"c", "b", "a"}),
    "objects": (Setting(), Setting()),
    "a bound method": (Setting().doubled, Setting().doubled),
    "a library's function": (torch.relu, torch.relu),
}

UNLIKE = {
    "weights": (net(), Net()),
    "a setting": (net(), net(scale=3.0)),
    "a function in it": (net(), net(act=torch.sigmoid)),
    "a closure": (closure(2.0), closure(3.0)),
    "a closure's array": (closure(torch.zeros(3)), closure(torch.ones(3))),
    "a partial": (functools.partial(helper, x=1), functools.partial(helper, x=2)),
    "functions": (helper, through),
    "kinds of numbers": (np.zeros(3, np.float32), np.zeros(3, np.float64)),
    "shapes": (np.zeros((2, 3)), np.zeros((3, 2))),
    "tensors": (torch.tensor(1.0), torch.tensor(2.0)),
    "lists and their parts": ([1, [2]], [1, 2]),
    "true and one": (True, 1),
    "objects": (Setting(), Setting(4)),
    "a bound method": (Setting().doubled, Setting(4).doubled),
    "parts of a library": (nn.ReLU(), nn.GELU()),
    "their order": (nn.Sequential(nn.ReLU(), nn.GELU()), nn.Sequential(nn.GELU(), nn.ReLU())),
    "what a layer is set to": (nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_what_does_the_same_has_the_same_name(kind):
    one, other = ALIKE[kind]
    assert named(one) == named(other)


@pytest.mark.parametrize("kind", UNLIKE)
def test_what_does_something_else_has_another(kind):
    one, other = UNLIKE[kind]
    assert named(one) != named(other)


def test_what_a_function_takes_from_around_it_counts(monkeypatch):
    before = named(through), named(net())
    monkeypatch.setitem(globals(), "SCALE", 4.0)
    assert named(through) != before[0]
    assert named(net()) != before[1]


def test_an_attribute_of_the_name_of_something_around_is_not_that(monkeypatch):
    before = named(net())
    monkeypatch.setitem(globals(), "conv", (one for one in ()))
    assert named(net()) == before


def test_words_and_layout_do_not_count(tmp_path, monkeypatch):
    texts = ["def f(x):\n    '''Say.'''\n    return (x +\n            1)  # more\n", "def f(x):\n    return x + 1\n"]
    names = []
    for number, text in enumerate(texts):
        (tmp_path / f"worded_{number}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        names.append(named(__import__(f"worded_{number}").f))
    assert names[0] == names[1]


def test_a_circle_ends():
    circle: list[Any] = [1]
    circle.append(circle)
    assert named(circle) != named([1, 1])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((one for one in ()), "it is a generator; pass plain values"),
        (np.array([object()]), "it is an array of objects; make it an array of numbers"),
        (closure(iter("abc")), "strength of it is a str_ascii_iterator|strength of it is a str_iterator"),
        (eval("lambda x: x + 1"), "expected the source of it"),
    ],
)
def test_what_has_no_stable_name_is_a_sentence(value, said):
    with pytest.raises(UserError, match=said):
        named(value)


def test_an_open_file_is_refused(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(UserError, match="it is a TextIOWrapper"):
        named(file)
