"""ADBM's bridge: a diffusion that begins at noised adversarial images and ends at clean ones.

Source: Li et al., "Adversarial Diffusion Bridge Model for Reliable Adversarial Purification", ICLR 2025, and the
authors' code.

With abar the share of an image's variance that is left at a step, T the level at which the bridge begins, eps_a the
adversarial perturbation and eps standard normal, the states in between are

    x_t = sqrt(abar_t) x_0 + k_t eps_a + sqrt(1 - abar_t) eps,    k_0 = 0,  k_T = sqrt(abar_T),

so that x_T is the adversarial image x_0 + eps_a noised to level T, and x_0 the clean one. What is to be predicted in
them is all that is not clean,

    eps + k_t / sqrt(1 - abar_t) eps_a = (x_t - sqrt(abar_t) x_0) / sqrt(1 - abar_t):

the image that a sampler reads off a prediction, (x_t - sqrt(1 - abar_t) prediction) / sqrt(abar_t), is then x_0. The
k_t between the ends follow from the wish that the sampler's steps lead from each state of the bridge to another one. An
ancestral step (Ho et al. 2020, equation 7) keeps sqrt(abar_t / abar_s) (1 - abar_s) / (1 - abar_t) of the state at t,
so that k_t is in proportion to (1 - abar_t) / sqrt(abar_t):

    k_t = abar_T (1 - abar_t) / ((1 - abar_T) sqrt(abar_t)),

which is the authors'. A deterministic step (Song et al. 2021, equation 12) keeps sqrt((1 - abar_s) / (1 - abar_t)):

    k_t = sqrt(abar_T (1 - abar_t) / (1 - abar_T)).

The authors purify by such steps all the same: they leave their bridge between the ends, and end at x_0 no less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch.nn import functional as F

from harness.training.context import held

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.draws import Draws
    from harness.training.context import Batch, Beside
    from harness.training.objective_options import BridgeObjective


@dataclass(frozen=True)
class Bridge:
    """A step on the bridge of each image; images are in [-1, 1].

    Attributes:
        image: clean ``(B, C, H, W)``.
        noise: eps, likewise shaped.
        step: ``(B,)`` int64, counted from 0.
        kept: abar at the step, ``(B, 1, 1, 1)``.
        pull: k at the step, likewise shaped.
    """

    image: Tensor
    noise: Tensor
    step: Tensor
    kept: Tensor
    pull: Tensor

    def state(self, perturbation: Tensor) -> Tensor:
        """Return x_t of a perturbation eps_a ``(B, C, H, W)``."""
        return self.kept.sqrt() * self.image + self.pull * perturbation + (1.0 - self.kept).sqrt() * self.noise

    def target(self, perturbation: Tensor) -> Tensor:
        """Return what is to be predicted in that state."""
        return self.noise + self.pull / (1.0 - self.kept).sqrt() * perturbation

    def seen(self, state: Tensor, predicted: Tensor) -> Tensor:
        """Return the image that a prediction leaves of a state."""
        return (state - (1.0 - self.kept).sqrt() * predicted) / self.kept.sqrt()

    def take(self, rows: Tensor) -> Bridge:
        """Return the bridges of some of the images."""
        return Bridge(self.image[rows], self.noise[rows], self.step[rows], self.kept[rows], self.pull[rows])


def coefficient(kept: Tensor, begin: Tensor, sampler: Literal["ddpm", "ddim"]) -> Tensor:
    """Return k_t, where ``kept`` is abar_t and ``begin`` abar_T; for ancestral steps or deterministic ones."""
    if sampler == "ddpm":
        return begin * (1.0 - kept) / ((1.0 - begin) * kept.sqrt())
    return (begin * (1.0 - kept) / (1.0 - begin)).sqrt()


def drawn(x: Tensor, draws: Draws, objective: BridgeObjective) -> Bridge:
    """Return a step on the bridge of each image ``(B, C, H, W)`` in [0, 1].

    The level at which the bridge begins is uniform between the objective's two, the step uniform below it.
    """
    from harness.nets.unet import schedule

    def below(name: str, count: Tensor | int) -> Tensor:
        return (draws.at(name).uniform() * count).long()

    abar = schedule().alphas_cumprod.to(x)
    begin = objective.min_step + below("begin", objective.max_step - objective.min_step + 1)
    step = below("step", begin)
    kept, at_begin = (abar[at].reshape(-1, 1, 1, 1) for at in (step, begin - 1))
    noise = draws.at("noise").normal(*x.shape[1:]).to(x.dtype)
    return Bridge(2.0 * x - 1.0, noise, step, kept, coefficient(kept, at_begin, objective.sampler))


def bridge(net: nn.Module, batch: Batch, objective: BridgeObjective, beside: Beside) -> Tensor:
    """Mean squared error of what is predicted on the way from noised adversarial images to clean ones.

    The attack has the level, the step and the noise of the loss that follows. With ``knowledge: full`` it raises the
    classifier's cross-entropy on the image that the network sees in the state, unclipped, as the authors' does; with
    ``oblivious`` that on the image itself. Theirs takes three steps of length eps from a random start, and its last
    iterate.

    Where it departs from their code: steps are those of the discrete schedule, not times between 1e-5 and T; T, theirs
    drawn anew for each batch from [0.1, 0.2], is drawn for each image. As with them, no step counts more than another.
    """
    classifier, course = beside.net("classifier"), drawn(batch.x, batch.draws, objective)

    def seen(at: Tensor, draws: Draws) -> Tensor:
        rows = (draws.examples[:, None] == batch.draws.examples).int().argmax(1)  # an attack may ask of some, or twice
        here = course.take(rows)
        state = here.state(2.0 * at - 1.0 - here.image)
        return (here.seen(state, net(state, here.step)) + 1.0) / 2.0

    ask = beside.asking(classifier, seen)
    with held(net):
        x_adv = beside.attacked(ask, batch.x, batch.y, batch.draws, random=False)
    perturbation = 2.0 * (x_adv - batch.x)
    return F.mse_loss(net(course.state(perturbation), course.step), course.target(perturbation))
