"""What an attacker's gradient is worth: every differentiable defense, through the victim, against finite differences.

Double precision, randomness frozen by its address, all pixels of an image one by one. A defense that says it is
differentiable and has no case here fails a test, so that a new one cannot come without.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch

from harness.core import registry
from harness.core.threat import Knowledge
from harness.draws import Draws
from harness.execution.worker.victim import DefendedVictim
from harness.suite import catalog
from harness.testing.nets import by_default, tiny_cnn, tiny_dir, tiny_joint, tiny_mae, tiny_unet

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (1, 8, 8)

#: length of a step in a pixel
STEP = 1e-6


@dataclass(frozen=True)
class Case:
    """A defense with options, and how its networks are made: role -> one of ``harness.testing.nets``.

    Attributes:
        params: options; recipes are filled in.
        nets: tiny networks.
    """

    params: dict[str, Any] = field(default_factory=dict)
    nets: dict[str, Callable[[], torch.nn.Module]] = field(default_factory=dict)


UNET = {"unet": tiny_unet}
GUIDED = {"unet": tiny_unet, "guide": tiny_cnn}


def normalised_mae():
    return tiny_mae(targets="normalised")


#: registered name -> cases; few steps and tiny networks, all options that change the way of a gradient
CASES: dict[str, list[Case]] = {
    "adbm": [Case({"t_star": 40, "steps": 4}, UNET)],
    "atop": [
        *(Case({"transform": one}, {"generator": tiny_mae}) for one in ("RT1", "RT2", "RT3")),
        Case({"mask_ratio": 0.5, "patch": 4}, {"generator": normalised_mae}),
    ],
    "blur": [Case()],
    "contrastive": [
        Case({"t_star": 30, "steps": 3, "mates": "alone"}, GUIDED),
        Case({"t_star": 30, "steps": 3, "mates": "alone", "sampler": "ddim", "estimator": "soft", "start": 2}, GUIDED),
    ],
    "coup": [
        Case({"t_star": 20, "steps": 3, "weight": 3000}, GUIDED),
        Case({"t_star": 20, "steps": 2, "weight": 3000, "forward_noise": True, "sampler": "ddim"}, GUIDED),
    ],
    "diffpure": [
        *(Case({"t_star": 40, "steps": 4, "sampler": one}, UNET) for one in ("ddpm", "ddim", "sde", "torchsde", "ode")),
        Case(
            {"t_star": 40, "steps": 4, "sampler": "ddpm", "clamp": False, "variance": "beta", "noised": "above"}, UNET
        ),
        Case({"t_star": 40, "steps": 4, "clock": "exact"}, UNET),
        Case({"t_star": [10, 20], "steps": [2, 1]}, UNET),
        Case({"t_star": [10, 20], "steps": 1, "votes": 3, "sampler": "sde"}, UNET),
    ],
    "dir": [Case({}, {"dir": tiny_dir}), Case({"classifier": "joint"}, {"dir": tiny_joint})],
    "dmae": [Case({}, {"dmae": tiny_mae}), Case({"mask_ratio": 0.5}, {"dmae": normalised_mae})],
    "gdmp": [
        Case({"t_star": 20, "steps": 2, "rounds": 2, "guide_scale": 125000, "votes": 1}, UNET),
        Case({"t_star": 20, "steps": 2, "rounds": 2, "guide": "ssim", "guide_scale": 2000, "votes": 2}, UNET),
    ],
    "lm": [Case({"steps": 3, "lr": 0.05}, UNET)],
    "maep": [Case({}, {"maep": tiny_mae}), Case({"mask_ratio": 0.5}, {"maep": normalised_mae})],
    "nim-mae": [
        Case({}, {"nim": normalised_mae}),
        Case({"statistics": "noisy"}, {"nim": normalised_mae}),
        Case({"classifier": "tiny"}, {"nim": tiny_mae, "classifier": lambda: tiny_cnn(1)}),
    ],
    "noise": [Case({"sigma": 0.3})],
    "none": [Case()],
    "random-sign": [Case({"eps": 0.4})],
    "resize-pad": [Case({"scale": 0.6}), Case({"scale": 0.6, "interpolation": "bilinear"})],
    "scoreopt": [
        Case({"steps": 3, "lr": 0.05}, UNET),
        Case({"steps": 3, "lr": 0.05, "optimised": "noise"}, UNET),
    ],
}


def shipped():
    return {name: one for name, one in registry.entries("defense").items() if one.origin.startswith("purebench ")}


def uncased():
    """Return the differentiable defenses that have no case: they are tried with default options."""
    told = {one.name: one.traits for one in catalog.components("defense") if one.name in shipped()}
    return [name for name, traits in told.items() if traits and traits.differentiable and name not in CASES]


CASES |= {name: [Case({}, by_default(shipped()[name].load())[1])] for name in uncased()}
EVERY = [pytest.param(name, case, id=f"{name}-{n}") for name, cases in CASES.items() for n, case in enumerate(cases)]


def built(name, case):
    defense = shipped()[name].load()
    recipes = dict.fromkeys(defense.Options.recipe_fields() & case.nets.keys(), "tiny")
    return defense(defense.Options(**(recipes | case.params)))


def value(name, case):
    """Return a function from images ``(B, C, H, W)``, all with the same draws, to a number for each, ``(B,)``."""
    defense = built(name, case)
    nets = {role: make().double() for role, make in case.nets.items()}
    classifier = defense.classifier(nets) or tiny_cnn().double()
    victim = DefendedVictim(classifier, defense, nets, Knowledge.FULL, 10)
    weights = Draws(("weights",), torch.arange(1)).normal(10).double()

    def scored(images):
        frozen = Draws(("gradients", name), torch.zeros(len(images), dtype=torch.int64))
        return (victim.logits(images, frozen) * weights).sum(1)

    return scored


def image():
    return 0.2 + 0.6 * Draws(("image",), torch.arange(1)).uniform(*SHAPE).double()


def relative_error(name, case):
    """Return how far the gradient is from finite differences, in units of their length."""
    scored, at = value(name, case), image().requires_grad_(True)
    (found,) = torch.autograd.grad(scored(at).sum(), at)
    steps = STEP * torch.eye(at.numel(), dtype=torch.float64).reshape(-1, *SHAPE)
    with torch.no_grad():
        up, down = scored(at.detach() + steps), scored(at.detach() - steps)
    wanted = (up - down) / (2.0 * STEP)
    assert float(wanted.norm()) > 1e-3, "expected a defense that the value depends on, got one that it does not"
    return float((found.flatten() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("name", "case"), EVERY)
def test_the_gradient_of_the_victim_is_that_of_finite_differences(name, case):
    assert built(name, case).traits.differentiable
    assert relative_error(name, case) < 1e-5


def test_a_batch_that_is_cut_has_the_gradient_of_the_whole():
    """Each part is computed again on the way back, by votes and rounds with the same noise."""
    defense = built("diffpure", CASES["diffpure"][-1])
    found = []
    for size in (None, 1):
        nets = {"unet": tiny_unet().double()}
        victim = DefendedVictim(tiny_cnn().double(), defense, nets, Knowledge.FULL, 10, batch_size=size)
        draws = Draws(("cut",), torch.arange(3))
        x = draws.at("x").uniform(*SHAPE).double().requires_grad_(True)
        weights = draws.at("weights").normal(10).double()
        found += torch.autograd.grad((victim.logits(x, draws) * weights).sum(), x)
    assert torch.allclose(*found, rtol=1e-9, atol=1e-12)
    assert float(found[0].norm()) > 1e-3


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("gdmp", CASES["gdmp"][0]),
        ("gdmp", CASES["gdmp"][1]),
        ("coup", CASES["coup"][0]),
        ("contrastive", CASES["contrastive"][0]),
    ],
)
def test_a_gradient_that_is_cut_off_would_be_seen(name, case):
    cut = Case(case.params | {"path": "detached"}, case.nets)
    assert not built(name, cut).traits.differentiable
    assert relative_error(name, cut) > 1e-4


def test_cases_are_of_defenses_that_ship():
    assert CASES.keys() <= shipped().keys()
