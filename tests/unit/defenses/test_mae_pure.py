"""MAE-Pure against its definition: the gradient by finite differences, the ball, the masks, the paths."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from defenses.mae_pure import MAEPure, RMAEPure
from harness.bounds import tolerance
from harness.core.contracts import Setting
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.nets.mae import n_visible, patch_loss
from harness.testing.nets import CARD, tiny_mae

DRAWS = Draws(("defenses",), torch.arange(4))


@pytest.fixture
def x():
    return (1.4 * DRAWS.at("x").uniform(1, 8, 8) - 0.2).clamp(0.0, 1.0)


def mae_pure(**options):
    return MAEPure(MAEPure.Options(mae="tiny", **options))


@pytest.mark.parametrize("options", [{}, {"halve_step": True}, {"masks": 3}, {"mask_mode": "fixed"}])
def test_mae_pure_never_leaves_its_ball_nor_the_box(x, options):
    kept = x.clone()
    for steps in (1, 3, 8):
        found = mae_pure(steps=steps, step_size=0.04, eps=0.1, **options).purify(x, {"mae": tiny_mae()}, DRAWS)
        assert float((found - x).abs().max()) <= 0.1 + 1e-6
        assert float(found.min()) >= 0.0
        assert float(found.max()) <= 1.0
    assert float((found - x).abs().max()) > 0.09  # and it went there
    assert torch.equal(x, kept)


ways = st.fixed_dictionaries(
    {
        "steps": st.integers(1, 4),
        "step_size": st.floats(1e-3, 1.0),
        "eps": st.floats(1e-3, 1.0),
        "halve_step": st.booleans(),
        "mask_ratio": st.sampled_from([0.1, 0.25, 0.5, 0.9]),
        "ratio_is": st.sampled_from(["removed", "kept"]),
        "masks": st.integers(1, 2),
        "mask_mode": st.sampled_from(["fresh", "fixed"]),
        "units": st.sampled_from(["own", "raw", "normalised", "standardised"]),
        "gradient": st.sampled_from(["both", "visible", "target"]),
    }
)


@settings(deadline=None, max_examples=40)
@given(options=ways, targets=st.sampled_from(["raw", "normalised"]), seed=st.integers(0, 1000))
def test_no_option_lets_it_over_the_budget(options, targets, seed):
    draws = Draws(("budget", seed), torch.arange(3))
    x = (1.4 * draws.at("x").uniform(1, 8, 8) - 0.2).clamp(0.0, 1.0)
    found = mae_pure(**options).purify(x, {"mae": tiny_mae(targets=targets)}, draws)
    assert bool(torch.isfinite(found).all())
    assert float((found - x).abs().max()) <= options["eps"] + tolerance(options["eps"])
    assert float(found.min()) >= 0.0
    assert float(found.max()) <= 1.0


@pytest.mark.parametrize("masks", [1, 3])
def test_a_step_goes_down_the_gradient_by_finite_differences(masks):
    x = 0.2 + 0.6 * DRAWS.at("x").uniform(1, 8, 8).double()
    mae = tiny_mae().double()
    step, ratio, width = 0.05, 0.5, 1e-5
    orders = [DRAWS.at("mask", 0, mask).permutation(16) for mask in range(masks)]

    def loss(images):
        found = [mae(images, order, ratio) for order in orders]
        return sum(patch_loss(item.patches, mae.patchify(images), item.hidden) for item in found)

    gradient = torch.zeros_like(x)
    with torch.no_grad():
        for row in range(8):
            for column in range(8):
                nudge = torch.zeros_like(x)
                nudge[:, :, row, column] = width
                gradient[:, 0, row, column] = (loss(x + nudge) - loss(x - nudge)) / (2 * width)
    assert float(gradient.abs().min()) > 1e-8  # no sign hangs on the error of the differences
    defense = mae_pure(steps=1, step_size=step, eps=0.2, mask_ratio=ratio, masks=masks)
    found = defense.purify(x, {"mae": mae}, DRAWS)
    assert torch.allclose(found, x - step * gradient.sign(), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("units", ["own", "raw", "normalised", "standardised"])
@pytest.mark.parametrize("targets", ["raw", "normalised"])
@pytest.mark.parametrize("ratio_is", ["removed", "kept"])
def test_the_gradient_is_the_loss_own_by_finite_differences(units, targets, ratio_is):
    x = 0.2 + 0.6 * DRAWS.at("x").uniform(1, 8, 8).double()
    nets = {"mae": tiny_mae(targets=targets).double()}
    defense = mae_pure(units=units, ratio_is=ratio_is)
    at = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(defense.loss(at, nets, DRAWS.at("mask")).sum(), at)
    width = 1e-6
    for direction in range(3):
        along = DRAWS.at("along", direction).normal(1, 8, 8).double()
        with torch.no_grad():
            ends = [defense.loss(x + sign * width * along, nets, DRAWS.at("mask")) for sign in (1.0, -1.0)]
        slope = (ends[0] - ends[1]) / (2 * width)
        assert torch.allclose((gradient * along).sum((1, 2, 3)), slope, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("units", ["own", "raw", "normalised"])
@pytest.mark.parametrize("targets", ["raw", "normalised"])
def test_the_paths_of_the_gradient_add_up(units, targets):
    x = 0.2 + 0.6 * DRAWS.at("x").uniform(1, 8, 8).double()
    nets = {"mae": tiny_mae(targets=targets).double()}
    found = {}
    for path in ("both", "visible", "target"):
        at = x.clone().requires_grad_(True)
        loss = mae_pure(gradient=path, units=units, masks=2, mask_ratio=0.5).loss(at, nets, DRAWS.at("mask"))
        (found[path],) = torch.autograd.grad(loss.sum(), at)
    assert torch.allclose(found["visible"] + found["target"], found["both"], rtol=1e-10, atol=1e-14)
    assert float(found["visible"].abs().max()) > 1e-6
    assert float(found["target"].abs().max()) > 1e-6


def test_the_visible_path_moves_visible_patches_alone_and_the_target_path_removed_ones():
    x = 0.2 + 0.6 * DRAWS.at("x").uniform(1, 8, 8)
    mae = tiny_mae()
    kept = DRAWS.at("mask", 0, 0).permutation(16)[:, : n_visible(16, 0.25)]
    visible = torch.zeros(4, 16, dtype=torch.bool).scatter(1, kept, True)
    for path, moved in (("visible", visible), ("target", ~visible)):
        found = mae_pure(gradient=path, steps=1, mask_ratio=0.25).purify(x, {"mae": mae}, DRAWS)
        changed = mae.patchify(found - x).abs().amax(2) > 0
        assert torch.equal(changed, moved)


def test_the_ratio_is_of_what_is_removed_or_of_what_is_kept():
    for ratio in (0.25, 0.5, 0.75):
        for ratio_is, hidden in (("removed", 16 * ratio), ("kept", 16 - 16 * ratio)):
            defense = mae_pure(mask_ratio=ratio, ratio_is=ratio_is, steps=10)
            mae, seen = tiny_mae(), []
            mae.register_forward_hook(lambda module, inputs, found, seen=seen: seen.append(found.hidden))
            defense.purify(torch.full((2, 1, 8, 8), 0.5), {"mae": mae}, DRAWS.take(slice(0, 2)))
            assert len(seen) == 10
            assert all(bool((one.sum(1) == hidden).all()) for one in seen)


def test_the_loss_falls(x):
    mae = tiny_mae()
    defense = mae_pure(steps=20, step_size=0.02, mask_ratio=0.5, mask_mode="fixed", masks=2)
    with torch.no_grad():
        before = defense.loss(x, {"mae": mae}, DRAWS.at("mask", 0))
        after = defense.loss(defense.purify(x, {"mae": mae}, DRAWS), {"mae": mae}, DRAWS.at("mask", 0))
    assert bool((after < before).all())


def test_rmae_pure_is_the_same_algorithm_under_its_own_name(x):
    options = {"mae": "tiny", "steps": 3, "masks": 2}
    one, other = MAEPure(MAEPure.Options(**options)), RMAEPure(RMAEPure.Options(**options))
    assert torch.equal(one.purify(x, {"mae": tiny_mae()}, DRAWS), other.purify(x, {"mae": tiny_mae()}, DRAWS))
    setting = Setting(CARD, ThreatModel(Norm.LINF, 0.1, Knowledge.FULL), other.traits)
    assert other.refuses(setting).startswith("rmae-pure moves by sign(gradient)")


def after(x, **options):
    """Return the images after some steps through one mask, with ball and box out of the way."""
    far = {"step_size": 0.01, "eps": 1.0, "mask_mode": "fixed", "halve_step": False} | options
    return mae_pure(**far).purify(x, {"mae": tiny_mae()}, DRAWS)


def test_the_step_is_halved_after_half_of_the_steps():
    x = torch.full((4, 1, 8, 8), 0.5) + 0.1 * DRAWS.at("x").normal(1, 8, 8)
    half = after(x, steps=2, halve_step=True) - after(x, steps=1)
    full = after(x, steps=2) - after(x, steps=1)
    assert torch.allclose(half, full / 2, atol=1e-6)
    assert torch.allclose(full.abs(), torch.full_like(full, 0.01), atol=1e-6)


def test_masks_are_drawn_anew_or_once(x):
    def seen(mode):
        orders = []
        mae = tiny_mae()
        mae.register_forward_pre_hook(lambda module, inputs: orders.append(inputs[1]))
        mae_pure(steps=3, mask_mode=mode).purify(x, {"mae": mae}, DRAWS)
        return orders

    fresh, fixed = seen("fresh"), seen("fixed")
    assert torch.equal(fresh[0], fixed[0])
    assert torch.equal(fixed[1], fixed[0])
    assert not torch.equal(fresh[1], fresh[0])
    assert not torch.equal(fresh[2], fresh[1])


def test_mae_pure_refuses_the_exact_gradient_alone():
    for knowledge in Knowledge:
        setting = Setting(CARD, ThreatModel(Norm.LINF, 0.1, knowledge), mae_pure().traits)
        assert ("use knowledge: smooth, or bpda" in (mae_pure().refuses(setting) or "")) is (
            knowledge is Knowledge.FULL
        )


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"eps": 0}, {"mask_ratio": 1.0}, {"masks": 0}, {"step": 3}, {"units": "own pixels"}]
)
def test_mae_pure_checks_its_options(options):
    with pytest.raises(ValidationError):
        mae_pure(**options)
