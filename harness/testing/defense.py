"""The contract of a defense: what every purifier promises, and whether its flags are honest."""

from __future__ import annotations

import random
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness import bounds
from harness.core.contracts import Setting
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.testing.nets import CARD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from harness.core.contracts import Defense


class DefenseContract:
    """What every defense promises.

    To test yours:

    1. Subclass, with a name that starts with ``Test``::

           class TestWavelet(DefenseContract):
               def make(self):
                   return Wavelet(Wavelet.Options(levels=2))

    2. Return the defense from ``make``.
    3. Return its networks, by role, from ``nets``; ``harness.testing.nets`` has tiny ones.
    4. If the result stays in a ball around the input, return norm and radius from ``ball``; if the networks want
       other images than ``(1, 8, 8)``, return some from ``images``.
    5. Run pytest. Nothing needs to be said of the flags: they are read from ``traits`` and tested.
    """

    def make(self) -> Defense:
        """Return the defense under test."""
        raise NotImplementedError("return the defense under test from make()")

    def nets(self) -> dict[str, nn.Module]:
        """Return the defense's networks by role, in evaluation mode; the same weights at every call."""
        return {}

    def ball(self) -> tuple[Norm, float] | None:
        """Return norm and radius of the ball that the result stays in, or None if there is none."""
        return None

    def images(self) -> Tensor:
        """Return four or more images ``(B, C, H, W)`` in [0, 1], no two alike."""
        return 0.15 + 0.7 * Draws(("toy images",), torch.arange(6)).uniform(*CARD.shape)

    # ------------------------------------------------------------------ what a purified image is

    def test_the_result_has_the_images_shape_and_dtype(self) -> None:
        """Shape and dtype are those of the images."""
        x = self.images()
        found = self._purify(x)
        assert isinstance(found, Tensor), f"expected a tensor of images, got {type(found).__name__}"
        assert found.shape == x.shape, f"expected images of shape {tuple(x.shape)}, got {tuple(found.shape)}"
        assert found.dtype == x.dtype, f"expected images of dtype {x.dtype}, got {found.dtype}"

    def test_the_result_is_finite_and_in_range(self) -> None:
        """Pixels stay in [0, 1], also of images that touch its ends."""
        x = self.images()
        contrast = bounds.clip(0.5 + 4.0 * (x - 0.5))
        for name, images in {"plain": x, "hard": contrast, "black": 0.0 * x, "white": 0.0 * x + 1.0}.items():
            found = self._purify(images)
            assert bool(torch.isfinite(found).all()), (
                f"expected finite pixels from {name} images, got some that are not"
            )
            assert bool(((found >= 0.0) & (found <= 1.0)).all()), (
                f"expected pixels in [0, 1] from {name} images, got {float(found.min())} to {float(found.max())}; "
                "use bounds.clip"
            )

    def test_the_result_stays_within_the_ball(self) -> None:
        """Nothing is changed further than the defense's own radius, where it has one."""
        ball = self.ball()
        if ball is None:
            return
        norm, radius = ball
        x = self.images()
        largest = float(bounds.size(self._purify(x) - x, norm).max())
        assert largest <= radius + bounds.tolerance(radius), (
            f"expected changes of at most {radius} in {norm}, got {largest}; use bounds.project"
        )

    # ------------------------------------------------------------------ randomness

    def test_the_same_draws_give_the_same_result(self) -> None:
        """Bit for bit, whatever was drawn in between, also from a defense that is built anew."""
        x = self.images()
        first = self._purify(x)
        torch.rand(3)
        assert torch.equal(first, self._purify(x)), (
            "expected the same images from the same draws, got others; take every random number from draws"
        )

    def test_the_flag_random_is_honest(self) -> None:
        """Other draws give another result exactly if the defense is random."""
        x = self.images()
        results = [self._purify(x, seed) for seed in range(3)]
        differ = any(not torch.equal(results[0], other) for other in results[1:])
        claimed = self.make().traits.random
        assert differ is claimed, (
            f"expected traits.random = {differ}, since other draws give {'another' if differ else 'the same'} result, "
            f"but the defense says {claimed}"
        )

    def test_the_global_generators_are_left_alone(self) -> None:
        """The state of torch's and Python's generators is what it was."""
        defense, nets, x = self.make(), self.nets(), self.images()
        before, python = torch.random.get_rng_state(), random.getstate()
        with torch.no_grad():
            defense.purify(x, nets, self._draws(len(x)))
        assert torch.equal(torch.random.get_rng_state(), before) and random.getstate() == python, (  # noqa: PT018
            "expected the global generators as they were, but the defense drew from them or seeded them; "
            "take every random number from draws, or wrap a library in torch.random.fork_rng()"
        )

    # ------------------------------------------------------------------ what is left as it was

    def test_the_input_is_left_alone(self) -> None:
        """Images are read only."""
        x = self.images()
        kept = x.clone()
        self._purify(x)
        assert torch.equal(x, kept), "expected the input as it was, but the defense changed it in place"
        assert not x.requires_grad, "expected an input without gradients, but the defense turned them on in place"

    def test_the_networks_are_left_alone(self) -> None:
        """Parameters, buffers, gradients and modes are what they were, with gradients on and off."""
        for with_gradient in (False, True):
            nets = self.nets()
            before = {role: _state(net) for role, net in nets.items()}
            with torch.set_grad_enabled(with_gradient):
                self.make().purify(self.images().requires_grad_(with_gradient), nets, self._draws(len(self.images())))
            for role, net in nets.items():
                changed = [name for name, kept in before[role].items() if not _equal(kept, _state(net).get(name))]
                assert not changed, (
                    f"expected the network {role!r} as it was, but the defense changed {', '.join(changed)}"
                )

    # ------------------------------------------------------------------ batches and gradients

    def test_a_batch_of_one_works(self) -> None:
        """An image alone is purified as within a batch, but for the order of additions."""
        x = self.images()
        row = slice(2, 3)
        draws = self._draws(len(x))
        with torch.no_grad():
            batch = self.make().purify(x, self.nets(), draws)
            alone = self.make().purify(x[row], self.nets(), draws.take(row))
        assert alone.shape == x[row].shape, (
            f"expected shape {tuple(x[row].shape)} for a batch of one, got {tuple(alone.shape)}"
        )
        assert torch.allclose(alone, batch[row], atol=1e-5), (
            "expected an image to be purified alike alone and within a batch, got a difference of "
            f"{float((alone - batch[row]).abs().max())}; average nothing over the batch, draw by example"
        )

    def test_gradients_on_or_off_make_no_difference(self) -> None:
        """The judge runs without gradients, an attack with them: both see the same result."""
        x = self.images()
        off = self._purify(x)
        with torch.enable_grad():
            on = self.make().purify(x.clone().requires_grad_(True), self.nets(), self._draws(len(x))).detach()
        assert torch.allclose(on, off, atol=1e-5), (
            f"expected the same result with gradients on and off, got a difference of {float((on - off).abs().max())}"
        )

    def test_the_flag_differentiable_is_honest(self) -> None:
        """True: a gradient arrives, is not zero, and agrees with finite differences. False: none of that does."""
        says, why = self._gradient_says_something()
        claimed = self.make().traits.differentiable
        assert claimed is says, f"expected traits.differentiable = {says}, since {why}, but the defense says {claimed}"

    def test_the_flag_optimises_is_honest(self) -> None:
        """True exactly if autograd is run inside ``purify``."""
        x = self.images()
        with torch.no_grad(), _watching_autograd() as runs:
            self.make().purify(x, self.nets(), self._draws(len(x)))
        optimises, claimed = bool(runs), self.make().traits.optimises
        assert claimed is optimises, (
            f"expected traits.optimises = {optimises}, since purify ran autograd {len(runs)} times, "
            f"but the defense says {claimed}"
        )

    # ------------------------------------------------------------------ planning

    def test_a_refusal_is_a_sentence(self) -> None:
        """``refuses`` returns None or says why; where there is no gradient, ``full`` has to be refused."""
        defense = self.make()
        for norm in Norm:
            for knowledge in Knowledge:
                why = defense.refuses(Setting(CARD, ThreatModel(norm, 0.1, knowledge), defense.traits))
                assert why is None or len(why.split()) > 2, f"expected None or a sentence, got {why!r}"
                if knowledge is Knowledge.FULL and not defense.traits.differentiable:
                    assert why, (
                        "expected a defense that is not differentiable to refuse the knowledge 'full', with a why"
                    )

    # ------------------------------------------------------------------ helpers

    def _draws(self, n: int, seed: int = 0) -> Draws:
        return Draws(("contract", seed), torch.arange(n))

    def _purify(self, x: Tensor, seed: int = 0) -> Tensor:
        """Purify as the judge does."""
        with torch.no_grad():
            return self.make().purify(x, self.nets(), self._draws(len(x), seed))

    def _gradient_says_something(self) -> tuple[bool, str]:
        """Compare the gradient of a random linear function of the result with finite differences along directions."""
        x = self.images()
        draws = self._draws(len(x))
        shape = tuple(x.shape[1:])
        cotangent = draws.at("cotangent").normal(*shape)
        at = x.clone().requires_grad_(True)
        with torch.enable_grad():
            found = self.make().purify(at, self.nets(), draws)
        gradient = None
        if found.requires_grad:
            (gradient,) = torch.autograd.grad((found * cotangent).sum(), at, allow_unused=True)
        if gradient is None:
            return False, "no gradient arrives at the input"
        if not bool(gradient.any()):
            return False, "the gradient that arrives at the input is zero"
        if not bool(torch.isfinite(gradient).all()):
            return False, "the gradient that arrives at the input is not finite"
        step, errors = 1e-3, []
        for direction in range(4):
            along = draws.at("direction", direction).normal(*shape)
            ends = [self._purify(x + sign * step * along) for sign in (1.0, -1.0)]
            difference = ((ends[0] - ends[1]).double() * cotangent).sum() / (2.0 * step)
            errors.append(float((gradient.double() * along).sum() - difference))
        # along a normal direction, a gradient's share has the gradient's norm for its standard deviation
        error = (sum(e * e for e in errors) / len(errors)) ** 0.5 / float(gradient.norm())
        if error > 0.05:
            return False, f"the gradient is {100.0 * error:.0f} % away from finite differences"
        return True, "a gradient arrives at the input and agrees with finite differences"


def _state(net: nn.Module) -> dict[str, Any]:
    """Return all of a network that a call may not change."""
    state: dict[str, Any] = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
    for name, parameter in net.named_parameters():
        state[f"the gradient of {name}"] = None if parameter.grad is None else parameter.grad.clone()
        state[f"requires_grad of {name}"] = parameter.requires_grad
    for name, module in net.named_modules():
        state[f"the training mode of {name or 'itself'}"] = module.training
    return state


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    return type(a) is type(b) and bool(a == b)


@contextmanager
def _watching_autograd() -> Iterator[list[str]]:
    """Collect the runs of autograd, by whatever name its functions were imported."""
    entries = {torch.autograd.grad.__code__, torch.autograd.backward.__code__}
    runs: list[str] = []

    def watch(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code in entries:
            runs.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield runs
    finally:
        sys.setprofile(before)
