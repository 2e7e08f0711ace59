"""The signed descent, and what an attacker differentiates in place of its signs."""

from functools import partial

import pytest
import torch

from defenses.descent import descend
from defenses.mae_pure import MAEPure
from defenses.maskdit_pure import MaskDiTPure
from harness.core.threat import Smoothing
from harness.draws import Draws
from harness.replay import stored_graph
from harness.testing.nets import tiny_mae, tiny_maskdit

DRAWS = Draws(("descent",), torch.arange(3))
SMOOTHINGS = [Smoothing("tanh", 0.3), Smoothing("tanh", 2.0), Smoothing("normalised")]
PATHS = ["both", "visible", "target"]


def images(n=3, *shape, dtype=torch.float64):
    return (0.1 + 0.8 * Draws(("descent",), torch.arange(n)).at("x").uniform(*(shape or (1, 8, 8)))).to(dtype)


def mae_pure(smoothing=None, **options):
    chosen = {"steps": 4, "step_size": 0.04, "eps": 0.1, "mask_ratio": 0.5, "masks": 2, **options}
    return MAEPure(MAEPure.Options(mae="tiny", **chosen), smoothing)


def maskdit_pure(smoothing=None, **options):
    chosen = {"steps": 4, "step_size": 0.04, "eps": 0.1, "sigma": (0.3, 0.1), **options}
    return MaskDiTPure(MaskDiTPure.Options(maskdit="tiny", **chosen), smoothing)


METHODS = {
    "mae-pure": (mae_pure, lambda: {"mae": tiny_mae()}),
    "mae-pure, normalised": (mae_pure, lambda: {"mae": tiny_mae(targets="normalised")}),
    "maskdit-pure": (maskdit_pure, lambda: {"maskdit": tiny_maskdit()}),
}


def double(nets):
    return {role: net.double() for role, net in nets.items()}


def gradient_of(purify, x, cotangent):
    at = x.clone().requires_grad_(True)
    (found,) = torch.autograd.grad((purify(at) * cotangent).sum(), at)
    return found


def apart(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


# ---------------------------------------------------------------------- forwards nothing changes


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("options", [{}, {"mask_mode": "fixed", "halve_step": True}, {"gradient": "visible"}])
def test_a_smoothed_purifier_purifies_bit_for_bit_alike(method, smoothing, options):
    make, nets = METHODS[method]
    x = images(dtype=torch.float32)
    hard = make(**options).purify(x, nets(), DRAWS)
    soft = make(**options).smoothed(smoothing)
    assert torch.equal(soft.purify(x, nets(), DRAWS), hard)
    at = x.clone().requires_grad_(True)
    with_graph = soft.purify(at, nets(), DRAWS)
    assert with_graph.requires_grad
    assert torch.equal(with_graph, hard)


def test_without_a_smoothing_there_is_no_graph():
    at = images(dtype=torch.float32).requires_grad_(True)
    assert not mae_pure().purify(at, {"mae": tiny_mae()}, DRAWS).requires_grad


# ---------------------------------------------------------------------- backwards


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_the_replayed_gradient_is_that_of_the_stored_graph(method, smoothing):
    make, nets = METHODS[method]
    # were ball or range in the way, a pixel might come back to the very edge, and rounding say whether it is stopped
    x, cotangent, nets = 0.35 + 0.3 * images(), DRAWS.at("up").normal(1, 8, 8).double(), double(nets())
    purify = partial(make(steps=8, eps=0.3).smoothed(smoothing).purify, nets=nets, draws=DRAWS)
    with stored_graph():
        wanted = gradient_of(purify, x, cotangent)
    assert apart(gradient_of(purify, x, cotangent), wanted) < 1e-6
    assert apart(wanted, cotangent) > 0.01  # not the identity's


def hand_written(loss, x, smoothing, *, lengths, eps):
    """The Jacobian ``(64, 64)`` at one image: the product of the steps', Hessians by differences of gradients.

    In a step z' = clip(x + clamp(z - length sign(g(z)) - x)) a pixel that the ball stops moves with x, one that the
    range stops not at all, and sign(g) has the derivative of the smooth function at g(z), the mean of |g| being a
    constant in the tanh alone.
    """
    n, width = x.numel(), 1e-6
    nudges = width * torch.eye(n, dtype=x.dtype).reshape(n, *x.shape[1:])

    def slopes(at, step):
        here = at.clone().requires_grad_(True)
        return torch.autograd.grad(loss(here, step).sum(), here)[0].flatten(1)

    at, jacobian, met = x.clone(), torch.eye(n, dtype=x.dtype), set()
    for step, step_size in enumerate(lengths):
        gradient = slopes(at, step)[0]
        hessian = ((slopes(at + nudges, step) - slopes(at - nudges, step)) / (2 * width)).T
        mean = gradient.abs().mean()
        if smoothing.by == "tanh":
            bend = smoothing.slope / mean / torch.cosh(smoothing.slope * gradient / mean) ** 2
            derivative = bend[:, None] * hessian
        else:
            of_mean = (gradient.sign()[:, None] * hessian).mean(0)
            derivative = (hessian - (gradient / mean)[:, None] * of_mean[None]) / mean
        moved = at.flatten() - step_size * gradient.sign() - x.flatten()
        stopped = moved.abs() > eps
        free = jacobian - step_size * derivative @ jacobian
        jacobian = torch.where(stopped[:, None], torch.eye(n, dtype=x.dtype), free)
        end = x.flatten() + moved.clamp(-eps, eps)
        met |= {name for name, there in (("ball", stopped), ("range", end.clamp(0, 1) != end)) if bool(there.any())}
        jacobian = jacobian * ((end >= 0) & (end <= 1))[:, None]
        at = end.clamp(0, 1).reshape(x.shape)
    return at, jacobian, met


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("method", METHODS)
def test_the_jacobian_is_the_product_of_the_steps_worked_out_by_hand(method, smoothing, path):
    make, nets = METHODS[method]
    x, draws, nets = images(1), DRAWS.take(slice(0, 1)), double(nets())
    # some pixels near the ends of the range; a last step of half the length comes back to no edge exactly
    x[0, 0, :2] = 0.01 + 0.98 * x[0, 0, :2].round()
    hard = make(steps=3, eps=0.07, gradient=path, halve_step=True)

    def loss(at, step):
        here = draws.repeated(len(at)).at("mask", step)
        if method == "maskdit-pure":
            return hard.loss(at, nets, here, (0.3, 0.1)[step * 2 // 3])
        return hard.loss(at, nets, here)

    end, wanted, met = hand_written(loss, x, smoothing, lengths=(0.04, 0.04, 0.02), eps=0.07)
    at = x.repeat(64, 1, 1, 1).requires_grad_(True)  # a copy for each row
    purified = hard.smoothed(smoothing).purify(at, nets, draws.repeated(64))
    assert torch.allclose(purified, end, rtol=0, atol=1e-12)
    found = torch.autograd.grad(purified.flatten(1).diag().sum(), at)[0].flatten(1)
    assert met >= ({"ball"} if path == "target" else {"ball", "range"})
    assert apart(found, wanted) < 1e-5
    assert apart(wanted, torch.eye(64).double()) > 0.02


@pytest.mark.parametrize("method", METHODS)
def test_a_flat_slope_and_no_steps_are_the_identity(method):
    make, nets = METHODS[method]
    x, nets = 0.3 + 0.5 * images(), double(nets())  # no pixel near the ends
    cotangent = DRAWS.at("up").normal(1, 8, 8).double()
    flat = make(steps=3).smoothed(Smoothing("tanh", 1e-9))
    found = gradient_of(lambda at: flat.purify(at, nets, DRAWS), x, cotangent)
    assert apart(found, cotangent) < 1e-6

    def none(at):
        return descend(at, None, steps=0, step_size=0.04, eps=0.1, smoothing=Smoothing())

    assert torch.equal(none(x), x)
    assert torch.equal(gradient_of(none, x, cotangent), cotangent)


# ---------------------------------------------------------------------- closed forms


def quadratic():
    """Half (x - c)' A (x - c) over 4 pixels, with a bowl of its own for each of two images."""
    root = Draws(("bowl",), torch.arange(2)).normal(4, 4).double()
    bowl = root @ root.transpose(1, 2) + 0.5 * torch.eye(4).double()
    centre = Draws(("centre",), torch.arange(2)).uniform(4).double()
    return bowl, centre


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("steps", [1, 5])
def test_on_a_bowl_the_second_order_term_is_that_of_the_closed_form(smoothing, steps):
    bowl, centre = quadratic()
    x, length = images(2, 1, 2, 2), 0.01

    def loss(at, still, step):
        off = at.flatten(1) - centre
        return 0.5 * torch.einsum("bi,bij,bj->b", off, bowl, off)

    at = x.clone().requires_grad_(True)
    found = descend(at, loss, steps=steps, step_size=length, eps=1.0, smoothing=smoothing)
    rows = torch.stack(
        [
            torch.autograd.grad(found[..., i, j].sum(), at, retain_graph=True)[0].flatten(1)
            for i in range(2)
            for j in range(2)
        ],
        1,
    )
    for image in range(2):
        here, wanted = x[image].flatten(), torch.eye(4).double()
        for _ in range(steps):
            down = bowl[image] @ (here - centre[image])
            mean = down.abs().mean()
            if smoothing.by == "tanh":
                bend = smoothing.slope / mean * (1 - torch.tanh(smoothing.slope * down / mean) ** 2)
                second = torch.diag(bend) @ bowl[image]
            else:
                second = (torch.eye(4).double() - torch.outer(down, down.sign()) / (4 * mean)) @ bowl[image] / mean
            wanted = (torch.eye(4).double() - length * second) @ wanted
            here = here - length * down.sign()
        assert torch.allclose(found[image].flatten(), here, rtol=0, atol=1e-12)
        assert torch.allclose(rows[image], wanted, rtol=1e-9, atol=1e-12)
        assert apart(wanted, torch.eye(4).double()) > 1e-3


def test_the_constant_path_counts_in_the_second_derivative():
    """Of half (3 x - 2 s)^2 with s for x: the gradient is 3 (3 x - 2 s) = 3 x, whose derivative is 3, not 9."""
    smoothing, length = Smoothing("tanh", 1.0), 0.01
    x = images(2, 1, 1, 1)
    found = gradient_of(
        lambda at: descend(
            at,
            lambda moved, still, step: 0.5 * ((3 * moved - 2 * still) ** 2).flatten(),
            steps=1,
            step_size=length,
            eps=1.0,
            smoothing=smoothing,
        ),
        x,
        torch.ones_like(x),
    )
    bend = (1 - torch.tanh(torch.ones(()).double()) ** 2) / (3 * x)  # one pixel: the mean is the gradient's own size
    assert torch.allclose(found, 1 - length * bend * 3)
