"""What a defense shows attackers who know the method: its inner losses, and its signs as smooth functions."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from harness.core.threat import Smoothing

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from harness.core.contracts import Defense
    from harness.draws import Draws

#: of the finite differences, in float64
WIDTH, WITHIN = 1e-6, 1e-3

#: what may stand for a sign
SMOOTHINGS = (Smoothing("tanh", 0.3), Smoothing("normalised"))


def inner_fault(defense: Defense, x: Tensor, clean: Tensor, nets: dict[str, nn.Module], draws: Draws) -> str | None:
    """Return what is wrong with a defense's inner losses, as a sentence; None where nothing is, or there are none."""
    for name in defense.inner:
        fault = _loss_fault(defense, name, x, clean, nets, draws)
        if fault is not None:
            return fault
    if not defense.inner:
        return None
    try:
        defense.inner_loss("no such loss", x, clean, nets, draws)
    except ValueError:
        return None
    return "expected a ValueError for an inner loss that there is not, got none"


def _loss_fault(
    defense: Defense, name: str, x: Tensor, clean: Tensor, nets: dict[str, nn.Module], draws: Draws
) -> str | None:
    exact = {role: copy.deepcopy(net).double() for role, net in nets.items()}
    x, clean = x.double(), clean.double()

    def ask(images: Tensor) -> Tensor:
        return defense.inner_loss(name, images, clean, exact, draws)

    at = x.clone().requires_grad_(True)
    loss = ask(at)
    if loss.shape != (len(x),):
        return f"expected the inner loss {name!r} per image, shape ({len(x)},), got {tuple(loss.shape)}"
    if not bool(torch.isfinite(loss).all()):
        return f"expected a finite inner loss {name!r}, got {loss.tolist()}"
    if not torch.allclose(ask(x), loss.detach(), rtol=1e-6):
        return f"expected the same inner loss {name!r} from the same draws, with gradients and without, got another"
    gradient = None
    if loss.requires_grad:
        (gradient,) = torch.autograd.grad(loss.sum(), at, retain_graph=True, allow_unused=True)
    if gradient is None:
        return f"expected an inner loss {name!r} with a gradient in the images, got none"
    others = torch.stack([torch.autograd.grad(one, at, retain_graph=True)[0].flatten(1).abs().sum(1) for one in loss])
    apart = others - others.diag().diag()
    if not defense.traits.batchwise and bool((apart > 1e-9 * others.max()).any()):
        return f"expected an inner loss {name!r} of each image alone, but it depends on others of the batch"
    for direction in range(2):
        along = draws.at("direction", direction).normal(*x.shape[1:]).double()
        with torch.no_grad():
            slope = float((ask(x + WIDTH * along) - ask(x - WIDTH * along)).sum()) / (2.0 * WIDTH)
        error = abs(float((gradient * along).sum()) - slope) / float(gradient.norm())
        if not error <= WITHIN:
            return f"expected the inner loss {name!r} to have its exact gradient, got one {100.0 * error:.1f} % away"
    return None


def followed(defense: Defense) -> list[Defense]:
    """Return the versions of a defense that attackers differentiate: itself, and with smooth signs."""
    known = [defense] if defense.traits.differentiable else []
    return [*known, *(defense.smoothed(one) for one in SMOOTHINGS)] if defense.smoothable() else known


def not_finite(purify: Callable[[Tensor], Tensor], x: Tensor, draws: Draws) -> int:
    """Return in how many images ``(B, C, H, W)`` a gradient through a purifier is somewhere infinite or NaN."""
    at = x.clone().requires_grad_(True)
    with torch.enable_grad():
        found = purify(at)
    if not found.requires_grad:
        return 0
    cotangent = draws.at("cotangent").normal(*x.shape[1:]).to(found.dtype)
    (gradient,) = torch.autograd.grad((found * cotangent).sum(), at, allow_unused=True)
    return 0 if gradient is None else int((~torch.isfinite(gradient)).flatten(1).any(1).sum())


def smoothing_fault(defense: Defense, x: Tensor, nets: dict[str, nn.Module], draws: Draws) -> str | None:
    """Return what is wrong with a defense's smooth version, as a sentence; None where nothing is, or there is none."""
    if not defense.smoothable():
        return None
    with torch.no_grad():
        wanted = defense.purify(x, nets, draws)
    for smoothing in SMOOTHINGS:
        at = x.clone().requires_grad_(True)
        found = defense.smoothed(smoothing).purify(at, nets, draws)
        if not torch.equal(found.detach(), wanted):
            apart = float((found.detach() - wanted).abs().max())
            return f"expected a smoothed defense to purify alike, forwards the signs stay; got images {apart} apart"
        gradient = torch.autograd.grad(found.sum(), at, allow_unused=True)[0] if found.requires_grad else None
        if gradient is None or not bool(torch.isfinite(gradient).all()) or torch.equal(gradient, torch.ones_like(x)):
            return "expected a smoothed defense to have a finite gradient other than the identity's, got none"
    return None
