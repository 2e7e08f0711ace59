"""A contract is worth something only if it can fail: each broken classifier fails at the right test."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from harness.nets.normalise import Normalise
from harness.testing import ClassifierContract
from harness.testing.nets import tiny_cnn


class Good(nn.Module):
    """What the broken ones differ from."""

    def __init__(self):
        super().__init__()
        self.net = tiny_cnn()

    def forward(self, x):
        return self.net(x)


def a_function(x):
    return tiny_cnn()(x)


class Restarting(Good):
    """Cannot be told to evaluate."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        return super().forward(self.norm(x))

    def train(self, mode=True):
        return super().train(True)


class Tuple(Good):
    def forward(self, x):
        return super().forward(x), x


class Dict(Good):
    def forward(self, x):
        return {"logits": super().forward(x)}


class Output:
    """As transformers have it."""

    def __init__(self, logits):
        self.logits = logits


class Object(Good):
    def forward(self, x):
        return Output(super().forward(x))


class AThousandClasses(Good):
    def forward(self, x):
        return super().forward(x).repeat(1, 100)


class Squeezed(Good):
    def forward(self, x):
        return super().forward(x).squeeze(0)


class Maps(Good):
    def forward(self, x):
        return super().forward(x)[:, :, None, None]


class Choice(Good):
    """Says which class and no more, of as many classes as there are."""

    def forward(self, x):
        return nn.functional.one_hot(super().forward(x).argmax(1), 10)


class LogOfBlack(Good):
    def forward(self, x):
        return super().forward(x) + x.mean((1, 2, 3))[:, None].log()


class NeverFinite(Good):
    def forward(self, x):
        return super().forward(x) / 0.0


class Probabilities(Good):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Dropping(Good):
    """Drops units whatever it is told: the function is in training mode by itself."""

    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5))


class AcrossTheBatch(Good):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class AfterTheFirst(Good):
    def forward(self, x):
        return super().forward(x - 0.5 * x[:1])


class ByTheSize(Good):
    def forward(self, x):
        return super().forward(x) / len(x)


class Hidden(Good):
    """Has a part that nobody can reach: it normalises by its batch for ever."""

    def __init__(self):
        super().__init__()
        self.hidden = [nn.BatchNorm2d(1).train().requires_grad_(False)]

    def forward(self, x):
        return super().forward(self.hidden[0](x))


class Remembering(Good):
    def __init__(self):
        super().__init__()
        self.before = None

    def forward(self, x):
        before, self.before = self.before, x.detach().mean()
        return super().forward(x if before is None else x - before)


class ForAttackers(Good):
    """Shows another face to who wants a gradient."""

    def forward(self, x):
        return super().forward(0.5 * x if x.requires_grad else x)


class InPlace(Good):
    def forward(self, x):
        with torch.no_grad():
            x.sub_(0.5)
        return super().forward(x)


class Unit(Good):
    """Normalises pixels in [0, 1] by figures for 0 to 255."""

    def __init__(self):
        super().__init__()
        self.normalise = Normalise([125.3], [63.0])

    def forward(self, x):
        return super().forward(self.normalise(x))


class Multiplying(Unit):
    """Normalises by the same figures what it has multiplied before, which is fine."""

    def forward(self, x):
        return super().forward(255.0 * x)


class Detached(Good):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


class Rounded(Good):
    def forward(self, x):
        return super().forward((4.0 * x).round() / 4.0)


class Rooted(Good):
    """Its gradient is infinite where a pixel is one half."""

    def forward(self, x):
        return super().forward((x - 0.5 * x.detach() - 0.5 * x).abs().sqrt() + x)


class Counting(Good):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1.0
        return super().forward(x)


class Drawing(Good):
    def forward(self, x):
        torch.rand(1)
        return super().forward(x)


class DrawingInPython(Good):
    def forward(self, x):
        random.random()
        return super().forward(x)


ALONE, ARRIVES = "logits_depend_on_their_own_image_alone", "a_gradient_arrives_at_the_pixels"
BROKEN = [
    (lambda: a_function, "a_module_in_evaluation_mode_is_loaded", "expected a torch.nn.Module from load, got function"),
    (Restarting, "a_module_in_evaluation_mode_is_loaded", "got itself, net, .*in training mode"),
    (Tuple, "there_is_a_logit_for_each_class", r"expected logits \(6, 10\) .*, got a tuple"),
    (Dict, "there_is_a_logit_for_each_class", "got a dict"),
    (Object, "there_is_a_logit_for_each_class", "got an object Output"),
    (AThousandClasses, "there_is_a_logit_for_each_class", "for the dataset's 10 classes, got 1000 of each image"),
    (Squeezed, "there_is_a_logit_for_each_class", r"expected logits \(1, 10\) .*, got \(10,\)"),
    (Maps, "there_is_a_logit_for_each_class", r"got \(6, 10, 1, 1\)"),
    (Choice, "there_is_a_logit_for_each_class", r"as real numbers, got torch.int64"),
    (LogOfBlack, "logits_are_finite", "expected finite logits of black images"),
    (NeverFinite, "logits_are_finite", "expected finite logits of plain images"),
    (NeverFinite, ALONE, "expected finite logits from the classifier, got none"),
    (Probabilities, "logits_are_no_probabilities", "have the sum 1"),
    (Dropping, ALONE, "expected the same logits of the same images at every call"),
    (Restarting, ALONE, "where it shares a batch .*; after eval.. its .*BatchNorm2d is still in training mode"),
    (AcrossTheBatch, ALONE, "where it shares a batch"),
    (AfterTheFirst, ALONE, "where it shares a batch"),
    (ByTheSize, ALONE, "where it shares a batch"),
    (Hidden, ALONE, "where it shares a batch .*; let nothing in it .* make every part a submodule"),
    (Remembering, ALONE, "expected the same logits of the same images at every call"),
    (ForAttackers, ALONE, "with gradients and without"),
    (InPlace, ALONE, "changes them in place"),
    (Unit, "pixels_count", "behind Normalise with mean 125.3 and std 63"),
    (Detached, ARRIVES, "got none; detach nothing"),
    (Rounded, ARRIVES, "got zeros"),
    (Rooted, ARRIVES, "expected a finite gradient"),
    (Counting, "weights_and_buffers_are_left_alone", "a call changed calls"),
    (Drawing, "the_global_generators_are_left_alone", "drew from them"),
    (DrawingInPython, "the_global_generators_are_left_alone", "drew from them"),
]
TESTS = sorted(name for name in dir(ClassifierContract) if name.startswith("test_"))


class Source:
    """Where a module comes from."""

    def __init__(self, make):
        self.make = make

    def load(self, nets, data):
        made = self.make()
        return made.eval().requires_grad_(False) if isinstance(made, nn.Module) else made


def contract_of(make):
    class Contract(ClassifierContract):
        def make(self):
            return Source(make)

    return Contract()


@pytest.fixture(autouse=True)
def _generator_as_it_was():
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize(("make", "test", "sentence"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_classifier_fails(make, test, sentence):
    with pytest.raises(AssertionError, match=sentence):
        getattr(contract_of(make), f"test_{test}")()


@pytest.mark.parametrize("make", [Good, Multiplying])
@pytest.mark.parametrize("test", TESTS)
def test_what_they_differ_from_passes(make, test):
    getattr(contract_of(make), test)()


def test_every_test_of_the_contract_is_seen_to_fail():
    assert {f"test_{test}" for _, test, _ in BROKEN} == set(TESTS)
