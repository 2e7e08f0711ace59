"""The contract of a defense: what every purifier promises, and whether its flags are honest."""

from __future__ import annotations

import copy
import inspect
import random
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from harness import bounds
from harness.components import Purifier
from harness.core.contracts import Oracle, Setting
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.testing.loaded import as_loaded
from harness.testing.nets import CARD
from harness.testing.steps import steps_of, whole
from harness.testing.within import followed, inner_fault, not_finite, smoothing_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        """Pixels stay in [0, 1], also of images that touch its ends; ``unclipped`` says otherwise."""
        unclipped = self._made().unclipped
        for name, images in self._extremes().items():
            found = self._purify(images)
            assert bool(torch.isfinite(found).all()), (
                f"expected finite pixels from {name} images, got some that are not"
            )
            assert unclipped or bool(((found >= 0.0) & (found <= 1.0)).all()), (
                f"expected pixels in [0, 1] from {name} images, got {float(found.min())} to {float(found.max())}; "
                "use bounds.clip, or say `unclipped = True` in the class"
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
        claimed = self._made().traits.random
        assert differ is claimed, (
            f"expected traits.random = {differ}, since other draws give {'another' if differ else 'the same'} result, "
            f"but the defense says {claimed}"
        )

    def test_the_global_generators_are_left_alone(self) -> None:
        """The state of torch's and Python's generators is what it was."""
        defense, nets, x = self._made(), self.nets(), self.images()
        before, python = torch.random.get_rng_state(), random.getstate()
        with torch.no_grad():
            self._call(defense, x, nets, self._draws(len(x)))
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
                x = self.images().requires_grad_(with_gradient)
                self._call(self._made(), x, nets, self._draws(len(x)))
            for role, net in nets.items():
                after = _state(net)
                changed = [name for name, kept in before[role].items() if not _equal(kept, after.get(name))]
                assert not changed, (
                    f"expected the network {role!r} as it was, but the defense changed {', '.join(changed)}"
                )

    # ------------------------------------------------------------------ batches and gradients

    def test_a_batch_of_one_works(self) -> None:
        """An image alone comes back as one, finite and in range."""
        x, row = self.images(), slice(2, 3)
        with torch.no_grad():
            alone = self._call(self._made(), x[row], self.nets(), self._draws(len(x)).take(row))
        assert alone.shape == x[row].shape, (
            f"expected shape {tuple(x[row].shape)} for a batch of one, got {tuple(alone.shape)}"
        )
        assert bool(((alone >= 0.0) & (alone <= 1.0)).all()), (
            f"expected pixels in [0, 1] from a batch of one, got {float(alone.min())} to {float(alone.max())}"
        )

    def test_the_flag_batchwise_is_honest(self) -> None:
        """True exactly if an image is purified otherwise alone than within a batch, by more than the last digits.

        Sums over a batch of another size are added in another order, so equality to the bit is not asked for. An
        optimiser that divides by the size of a gradient makes more of the last digits; float64 tells them from mates.
        """
        claimed, apart = self._made().traits.batchwise, self._apart(torch.float32)
        if apart > 1e-5 and not claimed:
            apart = self._apart(torch.float64)
        differ = apart > 1e-5
        assert claimed is differ, (
            f"expected traits.batchwise = {differ}, since an image alone and within a batch is purified "
            f"{apart} apart, but the defense says {claimed}; average nothing over the batch, draw by example"
        )

    def test_the_flag_stateful_is_honest(self) -> None:
        """True exactly if what was purified before changes the result of the same object."""
        defense, nets, x = self._made(), self.nets(), self.images()
        draws, others = self._draws(len(x)), self._draws(len(x), 1)
        with torch.no_grad():
            first = self._call(defense, x, nets, draws)
            self._call(defense, 1.0 - x.flip(0), nets, others)
            second = self._call(defense, x, nets, draws)
        differ, claimed = not torch.equal(first, second), defense.traits.stateful
        assert claimed is differ, (
            f"expected traits.stateful = {differ}, since after other images the same ones give "
            f"{'another' if differ else 'the same'} result, but the defense says {claimed}"
        )

    def test_gradients_on_or_off_make_no_difference(self) -> None:
        """The judge runs without gradients, an attack with them: both see the same result."""
        x = self.images()
        off = self._purify(x)
        with torch.enable_grad():
            at = x.clone().requires_grad_(True)
            on = self._call(self._made(), at, self.nets(), self._draws(len(x))).detach()
        assert torch.allclose(on, off, atol=1e-5), (
            f"expected the same result with gradients on and off, got a difference of {float((on - off).abs().max())}"
        )

    def test_the_flag_differentiable_is_honest(self) -> None:
        """True: a gradient arrives, agrees with finite differences, and is not zero; nor the identity's of signs."""
        says, why = self._gradient_says_something()
        claimed = self._made().traits.differentiable
        assert claimed is says, f"expected traits.differentiable = {says}, since {why}, but the defense says {claimed}"

    def test_the_gradient_is_finite_also_at_the_ends_of_the_range(self) -> None:
        """No root, logarithm or quotient makes an attacker's gradient infinite where pixels are 0, 1 or all alike."""
        for name, x in self._extremes().items():
            draws = self._draws(len(x))
            for version in followed(self._made()):
                broken = not_finite(partial(self._call, version, nets=self.nets(), draws=draws), x, draws)
                assert not broken, (
                    f"expected a finite gradient at {name} images, got infinite ones or NaN in {broken} of {len(x)}; "
                    "keep roots, logarithms and divisors away from 0: torch.where after them is too late"
                )

    def test_the_flag_optimises_is_honest(self) -> None:
        """True exactly if autograd is run inside ``purify``."""
        x = self.images()
        with torch.no_grad(), _watching_autograd() as runs:
            self._call(self._made(), x, self.nets(), self._draws(len(x)))
        optimises, claimed = bool(runs), self._made().traits.optimises
        assert claimed is optimises, (
            f"expected traits.optimises = {optimises}, since purify ran autograd {len(runs)} times, "
            f"but the defense says {claimed}"
        )

    # ------------------------------------------------------------------ how it is run

    def test_a_recomputed_forward_is_the_same(self) -> None:
        """Under ``torch.utils.checkpoint`` the forward pass is run again for the backward one, on the same numbers.

        Torch's generators are not wound back for it; the draws need no such help.
        """
        x = self.images()
        draws = self._draws(len(x))
        weights = draws.at("weights").normal(*x.shape[1:])

        def run(at: Tensor) -> Tensor:
            return self._call(self._made(), at, self.nets(), draws)

        results: list[tuple[Tensor, Tensor | None]] = []
        for again in (False, True):
            at = x.clone().requires_grad_(True)
            with torch.enable_grad():
                found = checkpoint(run, at, use_reentrant=False, preserve_rng_state=False) if again else run(at)
            gradient = None
            if found.requires_grad:
                (gradient,) = torch.autograd.grad((found * weights).sum(), at, allow_unused=True)
            results.append((found.detach(), gradient))
        (once, gradient), (twice, regained) = results
        assert torch.equal(once, twice), "expected the same images under torch.utils.checkpoint, got others"
        assert (gradient is None) == (regained is None), "expected a gradient under torch.utils.checkpoint as without"
        if gradient is not None and regained is not None:
            assert torch.allclose(gradient, regained, rtol=1e-4, atol=1e-6), (
                "expected the same gradient where the forward pass is recomputed, got a difference of "
                f"{float((gradient - regained).abs().max())}; take every random number from draws"
            )

    def test_half_precision_inside_does_not_show(self) -> None:
        """Under bfloat16 autocast the result is finite, in range, and of the images' own shape and dtype."""
        x = self.images()
        with torch.autocast(x.device.type, torch.bfloat16):
            found = self._purify(x)
        assert found.shape == x.shape, f"expected shape {tuple(x.shape)} under autocast, got {tuple(found.shape)}"
        assert found.dtype == x.dtype, (
            f"expected dtype {x.dtype} under autocast, got {found.dtype}; return the result with .to(x.dtype)"
        )
        assert bool(torch.isfinite(found).all()), "expected finite pixels under autocast, got some that are not"
        assert bool(((found >= 0.0) & (found <= 1.0)).all()), (
            f"expected pixels in [0, 1] under autocast, got {float(found.min())} to {float(found.max())}"
        )

    def test_the_flag_oracle_is_honest(self) -> None:
        """True exactly if ``purify`` takes the clean images and heeds them."""
        defense, x = self._made(), self.images()
        claimed = defense.traits.oracle
        takes = "clean" in inspect.signature(defense.purify).parameters
        heeds = False
        if takes:
            with torch.no_grad():
                seen = [
                    cast("Oracle", defense).purify(x, self.nets(), self._draws(len(x)), clean=self._clean(x, share))
                    for share in (0.0, 0.5)
                ]
            heeds = not torch.equal(*seen)
        assert claimed is heeds, (
            f"expected traits.oracle = {heeds}, since purify {'heeds' if heeds else 'does not heed'} the clean images, "
            f"but the defense says {claimed}"
        )

    def test_the_flag_own_classifier_is_honest(self) -> None:
        """True exactly if ``classifier`` returns one of the defense's networks, from pixels to logits."""
        defense, nets, x = self._made(), self.nets(), self.images()
        brought = defense.classifier(nets)
        claimed = defense.traits.own_classifier
        assert claimed is (brought is not None), (
            f"expected traits.own_classifier = {brought is not None}, since the defense brings "
            f"{'none' if brought is None else 'one'}, but it says {claimed}"
        )
        if brought is None:
            return
        from harness.nets.joint import parts_of  # not above: it builds the networks that ship, from timm's layers

        assert any(brought is part for net in nets.values() for part in parts_of(net)), (
            f"expected the classifier to be one of the defense's networks, got another {type(brought).__name__}; "
            "name its recipe in an option, so that its weights are part of the identity"
        )
        with torch.no_grad():
            logits = brought(x)
        assert logits.ndim == 2 and logits.shape[0] == len(x), (  # noqa: PT018
            f"expected logits (B, K) of {len(x)} images from the defense's classifier, got {tuple(logits.shape)}"
        )

    # ------------------------------------------------------------------ what attackers are shown

    def test_inner_losses_keep_their_word(self) -> None:
        """Each is per image, of the draws alone, and exact in the images; other names are refused."""
        x = self.images()
        fault = inner_fault(self._made(), x, self._clean(x), self.nets(), self._draws(len(x)))
        assert fault is None, fault

    def test_a_smoothed_defense_purifies_alike(self) -> None:
        """Smooth functions stand for signs in the backward pass alone."""
        x = self.images()
        fault = smoothing_fault(self._made(), x, self.nets(), self._draws(len(x)))
        assert fault is None, fault

    def test_signs_have_a_smooth_version(self) -> None:
        """A method ``smoothed`` shows what signs hide from a gradient.

        The derivative of a sign is zero, so whoever follows it meets less than the defense has to fear. An oracle needs
        no such method: whoever knows of it is refused. Where a comparison makes the result jump, it may be a sign in
        other words or not: the method, or a refusal of ``smooth`` that says why there is none.
        """
        defense = self._made()
        if defense.traits.oracle or defense.smoothable():
            return
        found = steps_of(self._exactly(), self.images().double(), self._draws(len(self.images())))
        if found is None:
            return
        assert not found.signs, (
            f"expected a method smoothed(smoothing) of a defense that moves by signs, got none: {found.how}"
        )
        smooth = ThreatModel(Norm.LINF, 0.1, Knowledge.SMOOTH)
        assert defense.refuses(Setting(CARD, smooth, defense.traits)), (
            "expected a method smoothed(smoothing) of a defense that moves by steps, or a refusal of the knowledge "
            f"'smooth' that says why there is none, got neither: {found.how}"
        )

    # ------------------------------------------------------------------ planning

    def test_a_refusal_is_a_sentence(self) -> None:
        """``refuses`` returns None or says why; where there is no gradient, ``full`` has to be refused."""
        defense = self._made()
        for norm in Norm:
            for knowledge in Knowledge:
                why = defense.refuses(Setting(CARD, ThreatModel(norm, 0.1, knowledge), defense.traits))
                assert why is None or len(why.split()) > 2, f"expected None or a sentence, got {why!r}"
                if knowledge is Knowledge.FULL and not defense.traits.differentiable:
                    assert why, (
                        "expected a defense that is not differentiable to refuse the knowledge 'full', with a why"
                    )
                if knowledge is not Knowledge.OBLIVIOUS and defense.traits.oracle:
                    assert why, (
                        f"expected an oracle to refuse the knowledge {knowledge.value!r}, with a why: no attacker "
                        "has the clean image behind the defense"
                    )

    # ------------------------------------------------------------------ helpers

    def _made(self) -> Defense:
        """Return the defense under test as it is when it has been loaded."""
        return as_loaded(self.make(), Purifier)

    def _extremes(self) -> dict[str, Tensor]:
        """Return images that touch the ends of the range more and more, by what they look like."""
        x = self.images()
        return {"plain": x, "hard": bounds.clip(0.5 + 4.0 * (x - 0.5)), "black": 0.0 * x, "white": 0.0 * x + 1.0}

    def _draws(self, n: int, seed: int = 0) -> Draws:
        return Draws(("contract", seed), torch.arange(n))

    def _purify(self, x: Tensor, seed: int = 0) -> Tensor:
        """Purify as the judge does."""
        with torch.no_grad():
            return self._call(self._made(), x, self.nets(), self._draws(len(x), seed))

    def _call(self, defense: Defense, x: Tensor, nets: dict[str, nn.Module], draws: Draws) -> Tensor:
        """Call ``purify``; an oracle is shown images that are a little smoother for the clean ones."""
        if not defense.traits.oracle:
            return defense.purify(x, nets, draws)
        return cast("Oracle", defense).purify(x, nets, draws, clean=self._clean(x))

    def _clean(self, x: Tensor, share: float = 0.1) -> Tensor:
        mean = x.detach().mean((1, 2, 3), keepdim=True)
        return bounds.clip((1.0 - share) * x.detach() + share * mean)

    def _gradient_says_something(self) -> tuple[bool, str]:
        """Compare the gradient of a random linear function of the result with finite differences along directions.

        A step of 1e-3 is what an attack takes. Where that disagrees, one of 1e-6 is tried in float64: Adam's first step
        is nearly a sign, so that an exact gradient holds for a shorter way than rounding leaves in float32.
        """
        says, why = self._gradient_agrees(torch.float32, step=1e-3, within=0.05)
        if not says and "finite differences" in why:
            exactly, _ = self._gradient_agrees(torch.float64, step=1e-6, within=1e-3)
            if exactly:
                says, why = True, "a gradient arrives at the input and agrees with finite differences in float64"
        if not says:
            return says, why
        with torch.no_grad():
            steps = whole(self._exactly(), self.images().double(), self._draws(len(self.images())))
        return (True, why) if steps is None else (False, steps.how)

    def _apart(self, dtype: torch.dtype) -> float:
        """Return by how much images that are purified alone, or with some of their mates, differ from the batch's."""
        x, apart = self.images().to(dtype), 0.0
        draws, nets = self._draws(len(x)), {role: copy.deepcopy(net).to(dtype) for role, net in self.nets().items()}
        with torch.no_grad():
            batch = self._call(self._made(), x, nets, draws)
            for row in (slice(0, 1), slice(2, 3), slice(1, 4)):
                part = self._call(self._made(), x[row], nets, draws.take(row))
                apart = max(apart, float((part - batch[row]).abs().max()))
        return apart

    def _exactly(self) -> Callable[[Tensor], Tensor]:
        """Return the purifier in float64, built anew in each call."""
        nets = {role: copy.deepcopy(net).double() for role, net in self.nets().items()}
        return lambda x: self._call(self._made(), x, nets, self._draws(len(x)))

    def _gradient_agrees(self, dtype: torch.dtype, *, step: float, within: float) -> tuple[bool, str]:
        x = self.images().to(dtype)
        draws = self._draws(len(x))
        nets = {role: copy.deepcopy(net).to(dtype) for role, net in self.nets().items()}
        shape = tuple(x.shape[1:])
        cotangent = draws.at("cotangent").normal(*shape).to(dtype)
        at = x.clone().requires_grad_(True)
        with torch.enable_grad():
            found = self._call(self._made(), at, nets, draws)
        gradient = None
        if found.requires_grad:
            (gradient,) = torch.autograd.grad((found * cotangent).sum(), at, allow_unused=True)
        if gradient is None:
            return False, "no gradient arrives at the input"
        if not bool(gradient.any()):
            return False, "the gradient that arrives at the input is zero"
        if not bool(torch.isfinite(gradient).all()):
            return False, "the gradient that arrives at the input is not finite"
        errors = []
        for direction in range(4):
            along = draws.at("direction", direction).normal(*shape).to(dtype)
            with torch.no_grad():
                ends = [self._call(self._made(), x + sign * step * along, nets, draws) for sign in (1.0, -1.0)]
            difference = ((ends[0] - ends[1]).double() * cotangent).sum() / (2.0 * step)
            errors.append(float((gradient.double() * along).sum() - difference))
        # along a normal direction, a gradient's share has the gradient's norm for its standard deviation
        error = (sum(e * e for e in errors) / len(errors)) ** 0.5 / float(gradient.norm())
        if error > within:
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
