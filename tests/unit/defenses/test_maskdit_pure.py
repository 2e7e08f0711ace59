"""MaskDiT-Pure against its definition: the gradient by finite differences, the ball, levels, noise and masks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from defenses.maskdit_pure import MaskDiTPure, RMaskDiTPure
from harness.bounds import tolerance
from harness.core.contracts import Setting
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.testing.nets import CARD, tiny_maskdit

DRAWS = Draws(("maskdit-pure",), torch.arange(3))


@pytest.fixture
def x():
    return 0.2 + 0.6 * DRAWS.at("x").uniform(1, 8, 8)


def pure(**options):
    return MaskDiTPure(MaskDiTPure.Options(maskdit="tiny", **options))


ways = st.fixed_dictionaries(
    {
        "steps": st.integers(2, 4),
        "step_size": st.floats(1e-3, 1.0),
        "eps": st.floats(1e-3, 1.0),
        "halve_step": st.booleans(),
        "sigma": st.sampled_from([1e-4, 0.2, 3.0, (0.3, 0.05)]),
        "noise": st.sampled_from(["added", "none"]),
        "mask_ratio": st.sampled_from([0.1, 0.5, 0.9]),
        "ratio_is": st.sampled_from(["removed", "kept"]),
        "masks": st.integers(1, 2),
        "mask_mode": st.sampled_from(["fresh", "fixed"]),
        "denoising_weight": st.sampled_from([0.0, 1.0]),
        "reconstruction_weight": st.sampled_from([0.1, 10.0]),
        "gradient": st.sampled_from(["both", "visible", "target"]),
    }
)


@settings(deadline=None, max_examples=40)
@given(
    options=ways,
    targets=st.sampled_from(["raw", "normalised"]),
    masked=st.sampled_from(["plain", "preconditioned"]),
    seed=st.integers(0, 1000),
)
def test_no_option_lets_it_over_the_budget(options, targets, masked, seed):
    draws = Draws(("budget", seed), torch.arange(2))
    x = (1.4 * draws.at("x").uniform(1, 8, 8) - 0.2).clamp(0.0, 1.0)
    found = pure(**options).purify(x, {"maskdit": tiny_maskdit(targets=targets, masked=masked)}, draws)
    assert bool(torch.isfinite(found).all())
    assert float((found - x).abs().max()) <= options["eps"] + tolerance(options["eps"])
    assert float(found.min()) >= 0.0
    assert float(found.max()) <= 1.0


@pytest.mark.parametrize(("denoising", "reconstruction"), [(1.0, 1.0), (0.0, 2.0), (3.0, 0.0)])
def test_a_step_goes_down_the_gradient_by_finite_differences(x, denoising, reconstruction):
    x, net, sigma = x.double(), tiny_maskdit().double(), 0.15
    order, noise = DRAWS.at("mask", 0, 0).permutation(16), DRAWS.at("mask", 0, 0, "noise").normal(1, 8, 8)

    def loss(images):
        """Return the loss from its definition: squared errors in [-1, 1], by patch."""
        noisy = images + sigma * noise
        found = net(noisy, torch.full((3,), sigma), order, 0.5)
        errors = [(2 * found.patches - 2 * net.patchify(true)).square().mean(2) for true in (images, noisy)]
        total = (2 * sigma) ** 2 + 0.25
        seen = (errors[0] * ~found.hidden).sum(1) / 8 * total / sigma**2
        removed = (errors[1] * found.hidden).sum(1) / 8 / total
        return denoising * seen + reconstruction * removed

    gradient, width = torch.zeros_like(x), 1e-5
    for row in range(8):
        for column in range(8):
            nudge = torch.zeros_like(x)
            nudge[:, :, row, column] = width
            gradient[:, 0, row, column] = (loss(x + nudge) - loss(x - nudge)) / (2 * width)
    clear = gradient.abs() > 1e-7  # where the sign does not hang on the error of the differences
    assert float(clear.double().mean()) > (0.4 if not reconstruction else 0.95)
    defense = pure(
        steps=1, step_size=0.05, sigma=sigma, denoising_weight=denoising, reconstruction_weight=reconstruction
    )
    moved = defense.purify(x, {"maskdit": net}, DRAWS) - x
    assert torch.allclose(moved[clear], -0.05 * gradient.sign()[clear], rtol=0.0, atol=1e-12)


def test_the_paths_of_the_gradient_add_up(x):
    nets, x = {"maskdit": tiny_maskdit(targets="normalised").double()}, x.double()
    found = {}
    for path in ("both", "visible", "target"):
        at = x.clone().requires_grad_(True)
        loss = pure(gradient=path, masks=2).loss(at, nets, DRAWS.at("mask"), 0.2)
        assert loss.shape == (6,)
        (found[path],) = torch.autograd.grad(loss.sum(), at)
        assert float(found[path].abs().max()) > 1e-6
    assert torch.allclose(found["visible"] + found["target"], found["both"], rtol=1e-9, atol=1e-12)


def seen(x, **options):
    """Return image, level and order of every pass of a purification."""
    passes, net = [], tiny_maskdit()
    net.register_forward_pre_hook(lambda module, inputs: passes.append(inputs))
    pure(**options).purify(x, {"maskdit": net}, DRAWS)
    return passes


def test_levels_are_gone_through_in_order_and_in_equal_shares(x):
    told = [float(level[0]) for _, level, _, _ in seen(x, steps=6, sigma=(0.3, 0.2, 0.1))]
    assert told == pytest.approx([0.3, 0.3, 0.2, 0.2, 0.1, 0.1])


def test_masks_and_noise_are_drawn_anew_or_once_and_the_noise_can_be_left_out(x):
    still = {"steps": 2, "step_size": 1e-6, "eps": 1e-6, "sigma": 0.2}
    for mode in ("fresh", "fixed"):
        one, other = seen(x, mask_mode=mode, **still)
        assert torch.allclose(one[0], other[0], atol=1e-5) is (mode == "fixed")
        assert torch.equal(one[2], other[2]) is (mode == "fixed")
    noise = (one[0].detach() - x) / 0.2
    assert float(noise.std()) == pytest.approx(1.0, abs=0.2)
    assert all(torch.allclose(image, x, atol=1e-5) for image, *_ in seen(x, noise="none", **still))


def test_the_same_draws_replay_a_purification_whatever_the_batch(x):
    nets = {"maskdit": tiny_maskdit()}
    whole = pure(steps=3).purify(x, nets, DRAWS)
    assert torch.equal(whole, pure(steps=3).purify(x, nets, DRAWS))
    alone = pure(steps=3).purify(x[1:2], nets, DRAWS.take(slice(1, 2)))
    assert torch.allclose(alone, whole[1:2], atol=1e-6)
    assert not torch.equal(whole, pure(steps=3).purify(x, nets, DRAWS.at("else")))


def test_the_ratio_is_of_what_is_removed_or_of_what_is_kept(x):
    assert {ratio for *_, ratio in seen(x, mask_ratio=0.25, steps=1)} == {0.25}
    assert {ratio for *_, ratio in seen(x, mask_ratio=0.25, ratio_is="kept", steps=1)} == {0.75}


def test_the_loss_falls(x):
    nets = {"maskdit": tiny_maskdit()}
    defense = pure(steps=20, step_size=0.02, mask_mode="fixed", masks=2)
    with torch.no_grad():
        before = defense.loss(x, nets, DRAWS.at("mask", 0), 0.2)
        after = defense.loss(defense.purify(x, nets, DRAWS), nets, DRAWS.at("mask", 0), 0.2)
    assert float(after.sum()) < float(before.sum())


def test_rmaskdit_pure_is_the_same_algorithm_under_its_own_name(x):
    nets, options = {"maskdit": tiny_maskdit()}, {"maskdit": "tiny", "steps": 2}
    one, other = MaskDiTPure(MaskDiTPure.Options(**options)), RMaskDiTPure(RMaskDiTPure.Options(**options))
    assert torch.equal(one.purify(x, nets, DRAWS), other.purify(x, nets, DRAWS))
    for knowledge in Knowledge:
        setting = Setting(CARD, ThreatModel(Norm.LINF, 0.1, knowledge), other.traits)
        said = "rmaskdit-pure moves by sign(gradient)" in (other.refuses(setting) or "")
        assert said is (knowledge is Knowledge.FULL)


@pytest.mark.parametrize(
    "options",
    [
        {"sigma": 0},
        {"sigma": ()},
        {"sigma": (0.1, 0.2), "steps": 1},
        {"noise": "some"},
        {"denoising_weight": 0, "reconstruction_weight": 0},
        {"mask_ratio": 0},
    ],
)
def test_maskdit_pure_checks_its_options(options):
    with pytest.raises(ValidationError):
        pure(**options)
