"""A contract is worth something only if it can fail: each broken defense fails at the right test."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness import bounds
from harness.core.contracts import Traits
from harness.core.threat import Knowledge, Norm
from harness.testing import DefenseContract


class Good:
    """A smooth and random one that learns nothing; what the broken ones differ from."""

    traits = Traits(random=True, differentiable=True)

    def refuses(self, setting):
        return None

    def purify(self, x, nets, draws):
        change = torch.tanh(nets["net"](x.flatten(1))).reshape(x.shape)
        return bounds.clip(x + 0.1 * change * draws.uniform(*x.shape[1:]))


class Fixed(Good):
    """Says random and is not."""

    def purify(self, x, nets, draws):
        return super().purify(x, nets, type(draws)(("always the same",), draws.examples))


class SecretlyRandom(Good):
    traits = Traits(random=False, differentiable=True)


class Unseeded(Good):
    def purify(self, x, nets, draws):
        return bounds.clip(super().purify(x, nets, draws) + 1e-3 * torch.rand_like(x))


class InPlace(Good):
    def purify(self, x, nets, draws):
        purified = super().purify(x, nets, draws)
        x.data.copy_(purified)
        return purified


class DoublePrecision(Good):
    def purify(self, x, nets, draws):
        return super().purify(x, nets, draws).double()


class OutOfRange(Good):
    def purify(self, x, nets, draws):
        return x + 0.2 * (super().purify(x, nets, draws) - 0.5)


class NotFinite(Good):
    def purify(self, x, nets, draws):
        return super().purify(x, nets, draws) / (x.amax((1, 2, 3), keepdim=True) > 0)


class FarAway(Good):
    def purify(self, x, nets, draws):
        return bounds.clip(x + 3.0 * (super().purify(x, nets, draws) - x))


class Detached(Good):
    """Says differentiable and lets no gradient through."""

    def purify(self, x, nets, draws):
        return super().purify(x.detach(), nets, draws)


class Rounding(Good):
    """Says differentiable, with a gradient that is zero."""

    def purify(self, x, nets, draws):
        return torch.round(15.0 * super().purify(x, nets, draws)) / 15.0


class StraightThrough(Good):
    """Says differentiable, with a gradient that is not its own."""

    def purify(self, x, nets, draws):
        purified = super().purify(x, nets, draws)
        return purified + (torch.round(15.0 * purified) / 15.0 - purified).detach()


class SecretlyDifferentiable(Good):
    traits = Traits(random=True, differentiable=False)

    def refuses(self, setting):
        return "there is no gradient." if setting.threat.knowledge is Knowledge.FULL else None


class SecretlyOptimising(Good):
    def purify(self, x, nets, draws):
        from torch.autograd import grad

        purified = super().purify(x, nets, draws)
        with torch.enable_grad():
            at = x.detach().requires_grad_(True)
            grad(nets["net"](at.flatten(1)).sum(), at)
        return purified


class SaysOptimising(Good):
    traits = Traits(random=True, differentiable=True, optimises=True)


class Squeezing(Good):
    """Loses the axis of a batch of one."""

    def purify(self, x, nets, draws):
        return super().purify(x, nets, draws).squeeze(0)


class SaysBatchwise(Good):
    traits = Traits(random=True, differentiable=True, batchwise=True)


class KeepsState(Good):
    """Adds a little more every time."""

    calls = 0

    def purify(self, x, nets, draws):
        self.calls += 1
        return bounds.clip(super().purify(x, nets, draws) + 1e-4 * self.calls)


class SaysStateful(Good):
    traits = Traits(random=True, differentiable=True, stateful=True)


class UnseededScale(Good):
    """Takes its randomness from the global generator, where it decides the gradient."""

    def purify(self, x, nets, draws):
        return super().purify(x, nets, draws) * torch.rand(len(x), 1, 1, 1)


class HalfPrecision(Good):
    """Hands on what the network computed in, under autocast."""

    def purify(self, x, nets, draws):
        return bounds.clip(nets["net"](x.flatten(1)).reshape(x.shape) * 0.1)


class SecretOracle(Good):
    """Takes the clean image where it can get it."""

    def purify(self, x, nets, draws, clean=None):
        return super().purify(x if clean is None else clean, nets, draws)


class BlindOracle(Good):
    """Says oracle, and does not look."""

    traits = Traits(random=True, differentiable=True, oracle=True)

    def refuses(self, setting):
        return "only the judge has the clean image." if setting.threat.adaptive else None

    def purify(self, x, nets, draws, clean=None):
        return super().purify(x, nets, draws)


class AttackedOracle(SecretOracle):
    traits = Traits(random=True, differentiable=True, oracle=True)


class SecretlyBringing(Good):
    """Brings a classifier without a word in its traits."""

    def classifier(self, nets):
        return nets["net"]


class StrangersClassifier(Good):
    """Brings a classifier that is not among its networks, so that nothing knows of its weights."""

    traits = Traits(random=True, differentiable=True, own_classifier=True)

    def classifier(self, nets):
        return nn.Linear(64, 10)


class AcrossTheBatch(Good):
    def purify(self, x, nets, draws):
        return bounds.clip(super().purify(x - 0.1 * x.mean(0), nets, draws))


class Backward(Good):
    def purify(self, x, nets, draws):
        with torch.enable_grad():
            nets["net"](x.detach().flatten(1)).sum().backward()
        return super().purify(x, nets, draws)


class TrainingMode(Good):
    def purify(self, x, nets, draws):
        nets["net"].train()
        return super().purify(x, nets, draws)


class GradientDependent(Good):
    def purify(self, x, nets, draws):
        purified = super().purify(x, nets, draws)
        return purified * 0.5 if x.requires_grad else purified


class NotRefusing(Good):
    traits = Traits(random=True, differentiable=False)


class Showing(Good):
    """With an inner loss and a smooth version, both as they should be."""

    inner = ("reconstruction",)

    def smoothed(self, smoothing):
        return self

    def inner_loss(self, name, x, clean, nets, draws):
        if name not in self.inner:
            raise ValueError(name)
        return ((self.purify(x, nets, draws) - x) ** 2).flatten(1).mean(1)


class OneLossForAll(Showing):
    def inner_loss(self, name, x, clean, nets, draws):
        return super().inner_loss(name, x, clean, nets, draws).mean()


class InfiniteLoss(Showing):
    def inner_loss(self, name, x, clean, nets, draws):
        return super().inner_loss(name, x, clean, nets, draws) / 0.0


class UnseededLoss(Showing):
    def inner_loss(self, name, x, clean, nets, draws):
        return super().inner_loss(name, x, clean, nets, draws) * torch.rand(1)


class ConstantLoss(Showing):
    def inner_loss(self, name, x, clean, nets, draws):
        return super().inner_loss(name, x.detach(), clean, nets, draws)


class LossAcrossTheBatch(Showing):
    def inner_loss(self, name, x, clean, nets, draws):
        loss = super().inner_loss(name, x, clean, nets, draws)
        return loss + loss.mean()


class HalfAGradient(Showing):
    def inner_loss(self, name, x, clean, nets, draws):
        loss = super().inner_loss(name, x, clean, nets, draws)
        return 0.5 * loss + 0.5 * loss.detach()


class AnyLoss(Showing):
    def inner_loss(self, name, x, clean, nets, draws):
        return super().inner_loss("reconstruction", x, clean, nets, draws)


class OtherSmoothed(Showing):
    def smoothed(self, smoothing):
        return SquaredSmoothed()


class SquaredSmoothed(Showing):
    def purify(self, x, nets, draws):
        return super().purify(x, nets, draws) ** 2


class FlatSmoothed(Showing):
    def smoothed(self, smoothing):
        return Flat()


class Flat(Showing):
    def purify(self, x, nets, draws):
        return super().purify(x.detach(), nets, draws) + (x - x.detach())


def centred(x, nets):
    """What the network finds in images without their mean, so that its signs are not the same for all."""
    return nets["net"]((x - x.mean((1, 2, 3), keepdim=True)).flatten(1)).reshape(x.shape)


class Descending(Good):
    """Moves by signs of a gradient, which an attacker cannot follow, and has no smooth version."""

    traits = Traits(random=False, differentiable=False, optimises=True)

    def refuses(self, setting):
        return "its signs have no derivative." if setting.threat.knowledge is Knowledge.FULL else None

    def purify(self, x, nets, draws):
        with torch.enable_grad():
            at = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(centred(at, nets).square().sum(), at)
        return bounds.clip(x.detach() - 0.05 * self.signs(gradient))

    def signs(self, value):
        return value.sign()


class DescendingByQuotients(Descending):
    """The same signs, written as quotients."""

    def signs(self, value):
        return value / value.abs()


class DescendingByComparisons(Descending):
    """The same signs, written as comparisons."""

    def signs(self, value):
        return torch.where(value > 0, 1.0, -1.0).to(value.dtype)


class DescendingRefused(Descending):
    """Says that there is nothing to smooth."""

    def refuses(self, setting):
        return "it has no signs." if setting.threat.knowledge is Knowledge.SMOOTH else super().refuses(setting)


class SignsWithin(Good):
    """Smooth but for a sign somewhere in it."""

    def purify(self, x, nets, draws):
        return bounds.clip(super().purify(x, nets, draws) + 0.02 * torch.sign(centred(x, nets)))


class ThroughSigns(Descending):
    """Claims a gradient, which is the identity's."""

    traits = Traits(random=False, differentiable=True)

    def purify(self, x, nets, draws):
        return bounds.clip(x + 0.05 * centred(x, nets).sign())


class ComparisonsWithin(Good):
    """Smooth but for a sign in other words somewhere in it."""

    def purify(self, x, nets, draws):
        up = torch.where(centred(x, nets) > 0, 0.02, -0.02).to(x.dtype)
        return bounds.clip(super().purify(x, nets, draws) + up)


class RootAtZero(Good):
    def purify(self, x, nets, draws):
        return super().purify(x.sqrt().square(), nets, draws)


class LogarithmAtZero(Good):
    def purify(self, x, nets, draws):
        return super().purify(bounds.clip(x.log().exp()), nets, draws)


class SpreadOfAPlainImage(Good):
    """Divides by the deviation of an image, which has no slope where all pixels are alike."""

    def purify(self, x, nets, draws):
        apart = x - x.mean((1, 2, 3), keepdim=True)
        spread = apart.square().mean((1, 2, 3), keepdim=True).sqrt()
        return super().purify(bounds.clip(0.5 + 0.2 * apart / (spread + 0.1)), nets, draws)


class SmoothedWithARoot(Showing):
    def smoothed(self, smoothing):
        return RootAtZero()


BROKEN = [
    *((one, "signs_have_a_smooth_version", "moves by signs, got none") for one in (Descending, DescendingByQuotients)),
    (DescendingByComparisons, "signs_have_a_smooth_version", "the identity's, though what it does"),
    (DescendingRefused, "signs_have_a_smooth_version", "moves by signs, got none"),
    (SignsWithin, "signs_have_a_smooth_version", r"jumps where a sign flips \(sign\)"),
    (ThroughSigns, "signs_have_a_smooth_version", "moves by signs, got none"),
    (ThroughSigns, "the_flag_differentiable_is_honest", "expected traits.differentiable = False, since its derivative"),
    (ComparisonsWithin, "signs_have_a_smooth_version", r"got neither: its result jumps where a comparison flips"),
    (Fixed, "the_flag_random_is_honest", "expected traits.random = False"),
    (SecretlyRandom, "the_flag_random_is_honest", "expected traits.random = True"),
    (Unseeded, "the_same_draws_give_the_same_result", "expected the same images"),
    (Unseeded, "the_global_generators_are_left_alone", "expected the global generators"),
    (InPlace, "the_input_is_left_alone", "changed it in place"),
    (DoublePrecision, "the_result_has_the_images_shape_and_dtype", "dtype torch.float32"),
    (OutOfRange, "the_result_is_finite_and_in_range", r"expected pixels in \[0, 1\]"),
    (NotFinite, "the_result_is_finite_and_in_range", "expected finite pixels from black images"),
    (FarAway, "the_result_stays_within_the_ball", "expected changes of at most 0.1"),
    (Detached, "the_flag_differentiable_is_honest", "no gradient arrives"),
    (Rounding, "the_flag_differentiable_is_honest", "input is zero"),
    (StraightThrough, "the_flag_differentiable_is_honest", "away from finite differences"),
    (SecretlyDifferentiable, "the_flag_differentiable_is_honest", "expected traits.differentiable = True"),
    (SecretlyOptimising, "the_flag_optimises_is_honest", "expected traits.optimises = True"),
    (SaysOptimising, "the_flag_optimises_is_honest", "expected traits.optimises = False"),
    (SecretlyBringing, "the_flag_own_classifier_is_honest", "expected traits.own_classifier = True"),
    (StrangersClassifier, "the_flag_own_classifier_is_honest", "to be one of the defense's networks"),
    (Squeezing, "a_batch_of_one_works", "for a batch of one"),
    (AcrossTheBatch, "the_flag_batchwise_is_honest", "expected traits.batchwise = True"),
    (SaysBatchwise, "the_flag_batchwise_is_honest", "expected traits.batchwise = False"),
    (KeepsState, "the_flag_stateful_is_honest", "expected traits.stateful = True"),
    (SaysStateful, "the_flag_stateful_is_honest", "expected traits.stateful = False"),
    (UnseededScale, "a_recomputed_forward_is_the_same", "expected the same"),
    (HalfPrecision, "half_precision_inside_does_not_show", "got torch.bfloat16"),
    (SecretOracle, "the_flag_oracle_is_honest", "expected traits.oracle = True"),
    (BlindOracle, "the_flag_oracle_is_honest", "expected traits.oracle = False"),
    (AttackedOracle, "a_refusal_is_a_sentence", "expected an oracle to refuse the knowledge 'bpda'"),
    (Backward, "the_networks_are_left_alone", "the gradient of weight"),
    (TrainingMode, "the_networks_are_left_alone", "the training mode of itself"),
    (GradientDependent, "gradients_on_or_off_make_no_difference", "gradients on and off"),
    (NotRefusing, "a_refusal_is_a_sentence", "refuse the knowledge 'full'"),
    *(
        (one, "the_gradient_is_finite_also_at_the_ends_of_the_range", f"expected a finite gradient at {where} images")
        for one, where in (
            (RootAtZero, "hard"),
            (LogarithmAtZero, "hard"),
            (SpreadOfAPlainImage, "black"),
            (SmoothedWithARoot, "hard"),
        )
    ),
    (OneLossForAll, "inner_losses_keep_their_word", r"per image, shape \(6,\), got \(\)"),
    (InfiniteLoss, "inner_losses_keep_their_word", "expected a finite inner loss"),
    (UnseededLoss, "inner_losses_keep_their_word", "from the same draws"),
    (ConstantLoss, "inner_losses_keep_their_word", "with a gradient in the images"),
    (LossAcrossTheBatch, "inner_losses_keep_their_word", "depends on others of the batch"),
    (HalfAGradient, "inner_losses_keep_their_word", "got one .* % away"),
    (AnyLoss, "inner_losses_keep_their_word", "an inner loss that there is not"),
    (OtherSmoothed, "a_smoothed_defense_purifies_alike", "forwards the signs stay"),
    (FlatSmoothed, "a_smoothed_defense_purifies_alike", "other than the identity's"),
]
TESTS = sorted(name for name in dir(DefenseContract) if name.startswith("test_"))


def contract_of(defense):
    class Contract(DefenseContract):
        def make(self):
            return defense()

        def nets(self):
            net = nn.Linear(64, 64)
            with torch.no_grad():
                net.weight.copy_(torch.linspace(-1.0, 1.0, 4096).sin().reshape(64, 64))
                net.bias.zero_()
            return {"net": net.eval()}

        def ball(self):
            return Norm.LINF, 0.1

    return Contract()


@pytest.fixture(autouse=True)
def _generator_as_it_was():
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize(("defense", "test", "sentence"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_defense_fails(defense, test, sentence):
    with pytest.raises(AssertionError, match=sentence):
        getattr(contract_of(defense), f"test_{test}")()


class Shrinking(Good):
    """Shrinks what a linear map finds towards zero, as wavelet denoisers do: a sign is in it, and no step."""

    traits = Traits(random=False, differentiable=True)

    def purify(self, x, nets, draws):
        found = centred(x, nets)
        return bounds.clip(x - 0.1 * found.sign() * (found.abs() - 0.2).relu())


class Bending(Good):
    """Moves along the gradient of a network of ReLUs, which jumps where they bend: its derivative says something."""

    traits = Traits(random=False, differentiable=True, optimises=True)

    def purify(self, x, nets, draws):
        with torch.enable_grad():
            at = x if x.requires_grad else x.detach().requires_grad_(True)
            hidden = centred(at, nets)
            value = (hidden.relu() ** 2).sum() + hidden.relu().sum()
            (gradient,) = torch.autograd.grad(value, at, create_graph=True)
        found = bounds.clip(x - 1e-3 * gradient)
        return found if torch.is_grad_enabled() else found.detach()


class Choosing(ComparisonsWithin):
    """Says why there is nothing to smooth."""

    def refuses(self, setting):
        return "it chooses, once." if setting.threat.knowledge is Knowledge.SMOOTH else None


class Coarse(Descending):
    """Rounds: BPDA's derivative is the smooth one."""

    traits = Traits(random=False, differentiable=False)

    def purify(self, x, nets, draws):
        return torch.round(15.0 * x) / 15.0


class Shifting(Good):
    """Moves every pixel by lot, whatever the image, and clips: the identity is its derivative indeed."""

    def purify(self, x, nets, draws):
        return bounds.clip(x + 0.3 * (draws.uniform(*x.shape[1:]) - 0.5).sign().to(x.dtype))


@pytest.mark.parametrize("test", TESTS)
def test_what_they_differ_from_passes(test):
    getattr(contract_of(Good), test)()
    getattr(contract_of(Showing), test)()


@pytest.mark.parametrize("defense", [Shrinking, Bending, Choosing, Coarse, Shifting])
@pytest.mark.parametrize("test", ["signs_have_a_smooth_version", "the_flag_differentiable_is_honest"])
def test_what_only_looks_like_steps_passes(defense, test):
    getattr(contract_of(defense), f"test_{test}")()


def test_every_test_of_the_contract_is_seen_to_fail():
    assert {f"test_{test}" for _, test, _ in BROKEN} == set(TESTS)
