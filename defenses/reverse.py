"""The way back of a variance-preserving diffusion: from a noisy state to an image, in steps that can be replayed.

States live in [-1, 1] before their noise. Two clocks tell the noise level:

- the schedule's 1,000 steps, numbered from 0 (Ho et al. 2020): ``ddpm`` goes back by ancestral steps (their equations 6
  and 7), ``ddim`` by deterministic ones (Song et al. 2021, equation 12 with eta = 0), both over equally distant steps;
- time from 0 to 1 (Song et al. 2021, score-based models, equations 11 and 32): ``sde`` follows the reverse-time
  stochastic equation and ``ode`` the probability flow, by Euler's method; ``torchsde`` is ``sde`` by that library.

A network that predicts the noise eps gives the score, -eps / sqrt(1 - abar). Every random number has the address of its
step, so that the same draws walk the same path again, as a backward pass that recomputes it has to.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from harness.draws import Draws

    #: state ``(B, C, H, W)``, its abar, the noise that is predicted in it -> the prediction to follow
    Guide = Callable[[Tensor, float, Tensor], Tensor]

    #: state, number of its step, its abar, variance of the step, what is beside -> what is added to the step's mean
    Shift = Callable[..., Tensor]

    #: is shown each state after its step, and its abar; 1 of the image at the end
    Seen = Callable[[Tensor, float], None]

    #: a step of the way back, from a state and what is beside to the next state; and how it is called
    Step = Callable[..., Tensor]
    Call = Callable[..., Tensor]

Sampler = Literal["ddpm", "ddim", "sde", "torchsde", "ode"]

#: samplers that count the schedule's steps; the others go by time
COUNTING = ("ddpm", "ddim")

#: steps of the schedule
N_STEPS = 1000

#: where the way back by time ends, as in DiffPure's code; at 0 itself the score is infinite
END = 1e-5

#: noise rate at times 0 and 1 of the variance-preserving equation (Song et al. 2021, appendix C)
BETA_MIN, BETA_MAX = 0.1, 20.0


def refuse_strides(t_star: int, steps: int, sampler: Sampler) -> str | None:
    """Return why a sampler cannot go from step ``t_star`` to 0 in so many steps; None where it can."""
    if sampler not in COUNTING:
        return None
    if t_star % steps:
        return f"expected steps that divide t_star, got {steps} steps for {t_star}"
    stride = t_star // steps
    if N_STEPS // (N_STEPS // stride) != stride:
        return (
            f"expected a stride t_star / steps that the {N_STEPS}-step schedule can hold, got {stride}; "
            "take a divisor of 1000"
        )
    return None


def rate(time: float) -> float:
    """Return beta(t), the rate at which noise comes in at a time of 0 to 1."""
    return BETA_MIN + time * (BETA_MAX - BETA_MIN)


def kept(time: float) -> float:
    """Return abar(t) = exp(-integral of beta), the share of an image's variance that is left at a time."""
    return math.exp(-BETA_MIN * time - 0.5 * (BETA_MAX - BETA_MIN) * time**2)


def diffused(image: Tensor, noise: Tensor, t_star: int, sampler: Sampler) -> Tensor:
    """Return the state at noise level ``t_star`` of 1,000 of images in [-1, 1], by the sampler's own clock.

    Args:
        image: ``(B, C, H, W)``.
        noise: standard normal, likewise shaped.
        t_star: 1 to 1000 steps, or thousandths of the time.
        sampler: how the way back will go.
    """
    from harness.nets.unet import add_noise, steps_like

    if sampler in COUNTING:
        return add_noise(image, noise, steps_like(image, t_star - 1))
    share = kept(t_star / N_STEPS)
    return math.sqrt(share) * image + math.sqrt(1.0 - share) * noise


def restore(
    state: Tensor,
    net: nn.Module,
    draws: Draws,
    *,
    t_star: int,
    steps: int,
    sampler: Sampler,
    guide: Guide | None = None,
    shift: Shift | None = None,
    beside: tuple[Tensor, ...] = (),
    replay: bool = True,
    seen: Seen | None = None,
) -> Tensor:
    """Return the images in [-1, 1], unclipped, that a reverse process ends in; differentiable in ``state``.

    A backward pass runs each step again, so that memory holds the states and one step's activations.

    Args:
        state: ``(B, C, H, W)``, at noise level ``t_star``.
        net: predicts the noise of states ``(B, C, H, W)`` at steps ``(B,)``; between two steps by time.
        draws: those of the images; each step has an address of its own.
        t_star: the noise level, 1 to 1000.
        steps: how many steps to 0, equally far apart.
        sampler: how to go back.
        guide: changes the predicted noise at every evaluation of the network.
        shift: moves the mean of every step; for ``ddpm`` alone, whose steps have a variance.
        beside: what the shift depends on beside the state; gradients reach it too.
        replay: False for a guide that remembers: its steps cannot be run again, and the whole graph is kept.
        seen: is shown the states on the way; the sampler ``torchsde`` shows none, and ``sde`` goes the same way.

    Raises:
        ValueError: if there is a shift with another sampler, or states of ``torchsde`` should be shown.
    """
    if seen is not None and sampler == "torchsde":
        raise ValueError("expected a sampler that shows its states, got torchsde; sde goes the same way")
    if shift is not None and sampler != "ddpm":
        raise ValueError(f"expected the sampler ddpm with a shift of means, got {sampler}")

    from harness.replay import replayed

    def predict(at: Tensor, level: Tensor, share: float) -> Tensor:
        predicted: Tensor = net(at, level)
        return predicted if guide is None else guide(at, share, predicted)

    call = replayed if replay else _called
    if sampler in COUNTING:
        return _count_down(state, predict, draws, t_star, t_star // steps, sampler, shift, beside, call, seen)
    return _integrate(state, predict, draws, t_star / N_STEPS, steps, sampler, call, seen)


def _called(step: Step, *given: Tensor) -> Tensor:
    return step(*given)


def _count_down(
    state: Tensor,
    predict: Callable[[Tensor, Tensor, float], Tensor],
    draws: Draws,
    t_star: int,
    stride: int,
    sampler: Sampler,
    shift: Shift | None,
    beside: tuple[Tensor, ...],
    call: Call,
    seen: Seen | None,
) -> Tensor:
    from harness.nets.unet import schedule, steps_like

    scheduler = schedule()
    scheduler.num_inference_steps = N_STEPS // stride  # tells its step how far apart steps are
    shape = tuple(state.shape[1:])

    def back(at: Tensor, *beside: Tensor, step: int) -> Tensor:
        share = float(scheduler.alphas_cumprod[step])
        predicted = predict(at, steps_like(at, step), share)
        moved = None if shift is None else shift(at, step, share, _variance(scheduler, step, stride), *beside)
        if sampler == "ddim":
            found: Tensor = scheduler.step(predicted, step, at, eta=0.0).prev_sample
        else:
            noise = draws.at("reverse", step).normal(*shape).to(at.dtype)
            found = scheduler.step(predicted, step, at, eta=1.0, variance_noise=noise).prev_sample
        return found if moved is None else found + moved

    for step in range(t_star - 1, -1, -stride):
        state = call(partial(back, step=step), state, *beside)
        if seen is not None:
            seen(state, float(scheduler.alphas_cumprod[step - stride]) if step >= stride else 1.0)
    return state


def _variance(scheduler: Any, step: int, stride: int) -> float:
    """Return the variance of an ancestral step over ``stride`` steps (Ho et al. 2020, equation 7)."""
    here = float(scheduler.alphas_cumprod[step])
    there = float(scheduler.alphas_cumprod[step - stride]) if step >= stride else 1.0
    return (1.0 - there) / (1.0 - here) * (1.0 - here / there)


def _integrate(
    state: Tensor,
    predict: Callable[[Tensor, Tensor, float], Tensor],
    draws: Draws,
    start: float,
    steps: int,
    sampler: Sampler,
    call: Call,
    seen: Seen | None,
) -> Tensor:
    shape = tuple(state.shape[1:])
    length = (start - END) / steps

    def drift(at: Tensor, time: float) -> Tensor:
        """Per unit of time that is left: beta (x / 2 + score), half the score for the flow."""
        weight = 0.5 if sampler == "ode" else 1.0
        predicted = predict(at, _level(at, time), kept(time))
        return rate(time) * (0.5 * at - weight * predicted / math.sqrt(1.0 - kept(time)))

    if sampler == "torchsde":
        return _by_torchsde(state, lambda at, time: call(partial(drift, time=time), at), draws, start, steps)

    def back(at: Tensor, step: int) -> Tensor:
        time = start - step * length
        moved = at + length * drift(at, time)
        if sampler == "sde":
            noise = draws.at("reverse", step).normal(*shape).to(at.dtype)
            moved = moved + math.sqrt(rate(time) * length) * noise
        return moved

    for step in range(steps):
        state = call(partial(back, step=step), state)
        if seen is not None:
            seen(state, kept(start - (step + 1) * length) if step + 1 < steps else 1.0)
    return state


def _level(at: Tensor, time: float) -> Tensor:
    """Return ``(B,)``: the step that has the noise of a time; between two steps a fraction."""
    import torch

    return torch.full((len(at),), max(time * N_STEPS - 1.0, 0.0), dtype=at.dtype, device=at.device)


def _by_torchsde(
    state: Tensor, drift: Callable[[Tensor, float], Tensor], draws: Draws, start: float, steps: int
) -> Tensor:
    """Integrate by the library's Euler solver, over the same increments as our own loop.

    Time runs forwards for the library, from 1 - start, and in float64: in float32 its clock loses the last steps.
    """
    import torch
    import torchsde

    shape = tuple(state.shape[1:])
    length = (start - END) / steps
    flat = state.flatten(1)

    class Increments(torchsde.BaseBrownian):  # type: ignore[misc]
        """A Brownian path whose increment over each step has that step's address."""

        dtype, device, shape = flat.dtype, flat.device, flat.shape
        levy_area_approximation = "none"

        def __repr__(self) -> str:
            return "Increments()"

        def __call__(self, ta: Any, tb: Any, **areas: Any) -> Tensor:
            step = round((float(ta) - (1.0 - start)) / length)
            noise = draws.at("reverse", step).normal(*shape).to(flat.dtype).flatten(1)
            return math.sqrt(float(tb) - float(ta)) * noise

    class Reverse:
        """The reverse-time equation, as the library asks for one."""

        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: Any, y: Tensor) -> Tensor:
            return drift(y.reshape(state.shape), 1.0 - float(t)).flatten(1)

        def g(self, t: Any, y: Tensor) -> Tensor:
            return torch.full_like(y, math.sqrt(rate(1.0 - float(t))))

    times = torch.tensor([1.0 - start, 1.0 - END], dtype=torch.float64)
    found = torchsde.sdeint(Reverse(), flat, times, bm=Increments(), method="euler", dt=length)
    end: Tensor = found[-1]
    return end.reshape(state.shape)
