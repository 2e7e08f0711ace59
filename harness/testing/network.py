"""The contract of a network: a module whose first weights come from the seed, and whose state says all that it is."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn

from harness.draws import Draws
from harness.nets.sound import classifier_fault
from harness.testing.nets import CARD

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import DataCard, Network


class NetworkContract:
    """What every network promises.

    To test yours:

    1. Subclass, with a name that starts with ``Test``::

           class TestMine(NetworkContract):
               def make(self):
                   return Mine(Mine.Options(width=16))

    2. Return the network, with options that make it small, from ``make``.
    3. If it is no classifier, say so in ``classifies``; if it is called with more than images, or returns more than a
       tensor, call it in ``ask``.
    4. If it takes other images than ``(1, 8, 8)`` of ten classes, return the card of its dataset from ``card``.
    5. Run pytest.

    Attributes:
        classifies: whether it takes pixels to logits, for a suite to use as classifier.
    """

    classifies: ClassVar[bool] = True

    def make(self) -> Network:
        """Return the network under test."""
        raise NotImplementedError("return the network under test from make()")

    def card(self) -> DataCard:
        """Return the card of a dataset that it is built for."""
        return CARD

    def ask(self, net: nn.Module, x: Tensor) -> Tensor:
        """Return what a module makes of images ``(B, C, H, W)``, as one tensor."""
        found: Tensor = net(x)
        return found

    # ------------------------------------------------------------------ what is built

    def test_a_module_is_built(self) -> None:
        """Of torch, with weights to train."""
        built: object = self.make().build(self.card())
        assert isinstance(built, nn.Module), f"expected a torch.nn.Module from build, got {type(built).__name__}"
        assert any(one.requires_grad for one in built.parameters()), "expected weights to train, got none"

    def test_its_state_is_of_tensors(self) -> None:
        """A checkpoint holds tensors and nothing else."""
        others = [name for name, value in self._build().state_dict().items() if not isinstance(value, torch.Tensor)]
        assert not others, f"expected tensors in the state_dict, got something else under {', '.join(others[:3])}"

    def test_the_seed_is_where_first_weights_come_from(self) -> None:
        """The same seed of torch builds the same module, another one another."""
        first, again, other = (self._build(seed).state_dict() for seed in (0, 0, 1))
        assert _same(first, again), "expected the same first weights from the same seed of torch, got others"
        assert not _same(first, other), (
            "expected other first weights from another seed of torch, got the same; let layers draw them from torch's "
            "global generator, and seed nothing"
        )

    def test_other_generators_are_left_alone(self) -> None:
        """Python's and numpy's: they have no seed in a recipe."""
        before = random.getstate(), str(np.random.get_state(legacy=False))
        self._build()
        assert (random.getstate(), str(np.random.get_state(legacy=False))) == before, (
            "expected the generators of Python and numpy as they were, but build drew from them; draw from torch's"
        )

    def test_the_state_says_all(self) -> None:
        """A module that is built anew and gets the state of another does what that one does."""
        one, other = self._build(0).eval(), self._build(1).eval()
        other.load_state_dict(one.state_dict())
        assert torch.equal(self._still(one), self._still(other)), (
            "expected the same from a module with the state of another, got something else: what is drawn at first has "
            "to be a parameter or a persistent buffer"
        )

    # ------------------------------------------------------------------ what it does

    def test_the_same_images_get_the_same(self) -> None:
        """In evaluation mode: nothing is drawn, learned or counted."""
        net = self._build().eval()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        drawn = torch.random.get_rng_state()
        first = self._still(net)
        assert torch.equal(first, self._still(net)), (
            "expected the same of the same images in evaluation mode, got something else; let eval() reach every part"
        )
        assert torch.equal(torch.random.get_rng_state(), drawn), "expected no draws in evaluation mode, got some"
        assert _same(before, net.state_dict()), "expected weights and buffers as they were, but a call changed some"

    def test_every_weight_has_a_gradient(self) -> None:
        """Or it is never trained."""
        net = self._build().train()
        found = self.ask(net, self._images())
        weights = Draws(("weights",), torch.zeros(1, dtype=torch.int64)).normal(found.numel()).reshape(found.shape)
        (found * weights.to(found)).sum().backward()  # type: ignore[no-untyped-call]
        idle = [name for name, one in net.named_parameters() if one.requires_grad and one.grad is None]
        assert not idle, (
            f"expected a gradient at every weight, got none at {', '.join(idle[:3])}; drop it, or freeze it by "
            "requires_grad_(False)"
        )

    def test_a_classifier_gives_logits_of_each_image_alone(self) -> None:
        """As many as there are classes; see ``ClassifierContract`` for the rest."""
        if self.classifies:
            fault = classifier_fault(self._build().eval(), self._images(), self.card().n_classes)
            assert fault is None, fault

    # ------------------------------------------------------------------ helpers

    def _build(self, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.make().build(self.card())

    def _images(self) -> Tensor:
        return 0.15 + 0.7 * Draws(("toy images",), torch.arange(6)).uniform(*self.card().shape)

    def _still(self, net: nn.Module) -> Tensor:
        with torch.no_grad():
            return self.ask(net, self._images())


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
