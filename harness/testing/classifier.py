"""The contract of a classifier: logits of each image alone, always the same, and a gradient behind them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from torch import nn

from harness import bounds
from harness.draws import Draws
from harness.nets.sound import classifier_fault, logits_fault, probabilities, strange_unit
from harness.testing.nets import CARD

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Classifier, DataCard

#: how much of their size logits must change from a black image to a white one for pixels to count at all
TELLING = 0.1


class ClassifierContract:
    """What every classifier promises.

    To test yours:

    1. Subclass, with a name that starts with ``Test``::

           class TestMine(ClassifierContract):
               def make(self):
                   return Mine(Mine.Options(file="mine.safetensors"))

    2. Return the classifier from ``make``; if it takes trained networks, return them, by role, from ``nets``.
    3. If it takes other images than ``(1, 8, 8)`` of ten classes, return the card of its dataset from ``card``, and
       real images from ``images``, if you have some.
    4. Run pytest.

    A run looks at the same things before each job, on images of the dataset.
    """

    def make(self) -> Classifier:
        """Return the classifier under test."""
        raise NotImplementedError("return the classifier under test from make()")

    def nets(self) -> dict[str, nn.Module]:
        """Return the trained networks that the classifier takes, by role."""
        return {}

    def card(self) -> DataCard:
        """Return the card of a dataset that it classifies."""
        return CARD

    def images(self) -> Tensor:
        """Return four or more images ``(B, C, H, W)`` in [0, 1], no two alike."""
        return 0.15 + 0.7 * Draws(("toy images",), torch.arange(6)).uniform(*self.card().shape)

    # ------------------------------------------------------------------ what is loaded

    def test_a_module_in_evaluation_mode_is_loaded(self) -> None:
        """``load`` returns a module of torch, none of whose parts is in training mode."""
        loaded: object = self._load()
        assert isinstance(loaded, nn.Module), f"expected a torch.nn.Module from load, got {type(loaded).__name__}"
        training = [name or "itself" for name, module in loaded.named_modules() if module.training]
        assert not training, (
            f"expected a module in evaluation mode from load, got {', '.join(training[:3])} in training mode; "
            "return module.eval(), and let no part refuse it"
        )

    def test_there_is_a_logit_for_each_class(self) -> None:
        """A tensor of real numbers ``(B, K)``, for a batch of one image too."""
        x, k = self.images(), self.card().n_classes
        for some in (x, x[:1]):
            fault = logits_fault(self._ask(some), len(some), k)
            assert fault is None, fault

    def test_logits_are_finite(self) -> None:
        """Also of images that touch the ends of the range, and of a single colour."""
        x = self.images()
        contrast = bounds.clip(0.5 + 4.0 * (x - 0.5))
        kinds = {"plain": x, "hard": contrast, "black": 0.0 * x, "grey": 0.0 * x + 0.5, "white": 0.0 * x + 1.0}
        for name, images in kinds.items():
            assert bool(torch.isfinite(self._ask(images)).all()), (
                f"expected finite logits of {name} images, got some that are not"
            )

    def test_logits_are_no_probabilities(self) -> None:
        """Losses take the softmax themselves; taken twice, it hides gradients."""
        assert not bool(probabilities(self._ask(self.images())).all()), (
            "expected logits, got numbers that are not negative and have the sum 1; return what goes into the softmax, "
            "or the logarithm of the probabilities"
        )

    # ------------------------------------------------------------------ what they depend on

    def test_logits_depend_on_their_own_image_alone(self) -> None:
        """The same at every call, whatever was seen before, alone and within a batch, with gradients and without."""
        fault = classifier_fault(self._load(), self.images(), self.card().n_classes)
        assert fault is None, fault

    def test_pixels_count(self) -> None:
        """A normalisation in the unit of 0 to 255 makes all images the same grey."""
        net, x = self._load(), self.images()
        unit = strange_unit(net)
        with torch.no_grad():
            black, white = net(0.0 * x), net(0.0 * x + 1.0)
        changed = float((white - black).abs().max() / torch.maximum(white.abs(), black.abs()).max().clamp_min(1e-30))
        assert unit is None or changed >= TELLING, (
            f"expected logits that change by {TELLING:.0%} or more from black to white, got {changed:.2%} behind "
            f"{unit}; pixels are in [0, 1]: divide mean and standard deviation by 255"
        )

    def test_a_gradient_arrives_at_the_pixels(self) -> None:
        """It is finite and not zero, or no attack that follows it says anything."""
        x = self.images().requires_grad_(True)
        with torch.enable_grad():
            logits = self._load()(x)
        gradient = None
        if logits.requires_grad:
            weights = Draws(("weights",), torch.zeros(1, dtype=torch.int64)).normal(logits.shape[1]).to(logits)
            (gradient,) = torch.autograd.grad((logits * weights).sum(), x, allow_unused=True)
        assert gradient is not None, "expected a gradient at the pixels, got none; detach nothing on the way"
        assert bool(torch.isfinite(gradient).all()), "expected a finite gradient at the pixels, got one that is not"
        assert bool(gradient.flatten(1).any(1).all()), "expected a gradient at the pixels of each image, got zeros"

    # ------------------------------------------------------------------ what is left as it was

    def test_weights_and_buffers_are_left_alone(self) -> None:
        """Nothing is learned from what is classified: no running mean, no counter."""
        net = self._load()
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        with torch.no_grad():
            net(self.images())
        changed = [name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])]
        assert not changed, f"expected weights and buffers as they were, but a call changed {', '.join(changed)}"

    def test_the_global_generators_are_left_alone(self) -> None:
        """The state of torch's and Python's generators is what it was."""
        net = self._load()
        before, python = torch.random.get_rng_state(), random.getstate()
        with torch.no_grad():
            net(self.images())
        untouched = torch.equal(torch.random.get_rng_state(), before) and random.getstate() == python
        assert untouched, "expected the global generators as they were, but the classifier drew from them"

    # ------------------------------------------------------------------ helpers

    def _load(self) -> nn.Module:
        return self.make().load(self.nets(), self.card())

    def _ask(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self._load()(x.clone())
        return logits
