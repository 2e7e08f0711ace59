"""The way back of a variance-preserving diffusion: from a noisy state to an image, in steps that can be replayed.

States live in [-1, 1] before their noise. Two clocks tell the noise level:

- the schedule's 1,000 steps, numbered from 0 (Ho et al. 2020): ``ddpm`` goes back by ancestral steps (their equations 6
  and 7), ``ddim`` by deterministic ones (Song et al. 2021, equation 12 with eta = 0), both over equally distant steps;
- time from 0 to 1 (Song et al. 2021, score-based models, equations 11 and 32): ``sde`` follows the reverse-time
  stochastic equation and ``ode`` the probability flow, by Euler's method; ``torchsde`` is ``sde`` by that library.

A network that predicts the noise eps gives the score, -eps / sqrt(1 - abar). Every random number has the address of its
step, so that the same draws walk the same path again, as a backward pass that recomputes it has to.

Steps by time are equally long, but for the last, which ends ``END`` sooner: t* = 100 in 100 steps is 99 steps of 0.001
and one of 0.00099, the grid of DiffPure's code. Networks know steps, not times; what they are told of a time is the
``clock``. ``floor`` is what that code tells networks of discrete steps: 1000 t rounded down, of an input that was
noised by the discrete schedule. At t = 0.1 that is step 100, whose noise is that of 101 steps. ``exact`` has the noise
of the time itself in both. (Networks of continuous time, score-SDE's, get 999 t from that code; no recipe here has one.
Its times are float32, so that some floors fall a step short, one of 75 from t* = 75; ours are exact.)

Of steps that are counted, three things differ from code to code:

- ``clamp``: whether the image that a step predicts is clamped to [-1, 1] before the step is taken from it. The clamp is
  differentiated as it is: where it holds, no gradient passes through the prediction.
- ``variance``: of an ancestral step, the ``posterior``'s, or ``beta``, the forward step's (Ho et al. 2020, section 3.2;
  elsewhere "fixed small" and "fixed large"). The last step has no noise either way.
- ``noised``: whether the input is noised to the ``level`` whose step the way back begins with, or to the one ``above``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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

Variance = Literal["posterior", "beta"]

Noised = Literal["level", "above"]

Clock = Literal["floor", "exact"]

#: for descriptions of options
CLAMP = "clamp the image that each counted step predicts to [-1, 1]"
VARIANCE = "of an ancestral step: the posterior's, or beta, that of the forward step"
NOISED = "noise the input to the counted step that the way back begins with, or to the one above"
CLOCK = (
    "of steps by time: the network is told 1000 t rounded down, as in the authors' code, or the time's own noise level"
)

#: samplers that count the schedule's steps; the others go by time
COUNTING = ("ddpm", "ddim")

#: steps of the schedule
N_STEPS = 1000

#: where the way back by time ends, as in DiffPure's code; at 0 itself the score is infinite
END = 1e-5

#: noise rate at times 0 and 1 of the variance-preserving equation (Song et al. 2021, appendix C)
BETA_MIN, BETA_MAX = 0.1, 20.0


def refuse_strides(t_star: int, steps: int, sampler: Sampler, noised: Noised = "level") -> str | None:
    """Return why a sampler cannot go from step ``t_star`` to 0 in so many steps; None where it can."""
    if sampler not in COUNTING:
        length = t_star / N_STEPS / steps
        return None if length > END else f"expected steps longer than {END}, where the way back ends, got {length:.2g}"
    if noised == "above" and t_star == N_STEPS:
        return f"expected a noise level below {N_STEPS} with one above it, got {t_star}; say noised: level"
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


def diffused(
    image: Tensor,
    noise: Tensor,
    t_star: int,
    sampler: Sampler,
    *,
    noised: Noised = "level",
    clock: Clock = "exact",
) -> Tensor:
    """Return the state at noise level ``t_star`` of 1,000 of images in [-1, 1], by the sampler's own clock.

    Args:
        image: ``(B, C, H, W)``.
        noise: standard normal, likewise shaped.
        t_star: 1 to 1000 steps, or thousandths of the time.
        sampler: how the way back will go.
        noised: of a sampler that counts, whether to one step above.
        clock: of a sampler that goes by time, whose noise: the discrete schedule's, or the time's.
    """
    from harness.nets.unet import add_noise, steps_like

    if sampler in COUNTING:
        return add_noise(image, noise, steps_like(image, t_star if noised == "above" else t_star - 1))
    if clock == "floor":
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
    clamp: bool = False,
    variance: Variance = "posterior",
    clock: Clock = "exact",
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
        clamp: of a sampler that counts, whether predicted images are clamped to [-1, 1].
        variance: of an ancestral step.
        clock: of a sampler that goes by time, what the network is told of it.
        guide: changes the predicted noise at every evaluation of the network.
        shift: moves the mean of every step; for ``ddpm`` alone, whose steps have a variance. What it is told of the
            last step's: none by the posterior's; of ``beta`` the posterior's of the step before, as fixed large has it.
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
        counted = _Counted(t_star, t_star // steps, sampler, clamp, variance)
        return _count_down(state, predict, draws, counted, shift, beside, call, seen)
    return _integrate(state, predict, draws, _Timed(t_star, steps, clock), sampler, call, seen)


def _called(step: Step, *given: Tensor) -> Tensor:
    return step(*given)


@dataclass(frozen=True)
class _Counted:
    """Steps of the schedule, ``stride`` apart, from ``t_star - 1`` to the image."""

    t_star: int
    stride: int
    sampler: Sampler
    clamp: bool
    variance: Variance

    def posterior(self, scheduler: Any, step: int) -> float:
        """Return the variance of q(x_s | x_t, x_0) a stride below ``step`` (Ho et al. 2020, equation 7)."""
        here, there = self.shares(scheduler, step)
        return (1.0 - there) / (1.0 - here) * (1.0 - here / there)

    def beta(self, scheduler: Any, step: int) -> float:
        """Return the variance of q(x_t | x_s), a stride below ``step``."""
        here, there = self.shares(scheduler, step)
        return 1.0 - here / there

    def told(self, scheduler: Any, step: int) -> float:
        """Return the variance that a shift of the step's mean is told."""
        if self.variance == "posterior":
            return self.posterior(scheduler, step)
        if step >= self.stride:
            return self.beta(scheduler, step)
        before = step + self.stride
        return self.posterior(scheduler, before) if before < N_STEPS else 0.0

    def widening(self, scheduler: Any, step: int) -> float:
        """Return how much longer the step's noise is than the posterior's, which has none at the end."""
        if self.variance == "posterior" or step < self.stride:
            return 1.0
        return math.sqrt(self.beta(scheduler, step) / self.posterior(scheduler, step))

    def shares(self, scheduler: Any, step: int) -> tuple[float, float]:
        """Return abar at a step, and where the step leads."""
        here = float(scheduler.alphas_cumprod[step])
        return here, float(scheduler.alphas_cumprod[step - self.stride]) if step >= self.stride else 1.0


def _count_down(
    state: Tensor,
    predict: Callable[[Tensor, Tensor, float], Tensor],
    draws: Draws,
    way: _Counted,
    shift: Shift | None,
    beside: tuple[Tensor, ...],
    call: Call,
    seen: Seen | None,
) -> Tensor:
    from harness.nets.unet import schedule, steps_like

    scheduler = schedule(clamp=way.clamp)
    scheduler.num_inference_steps = N_STEPS // way.stride  # tells its step how far apart steps are
    shape = tuple(state.shape[1:])

    def back(at: Tensor, *beside: Tensor, step: int) -> Tensor:
        share = way.shares(scheduler, step)[0]
        predicted = predict(at, steps_like(at, step), share)
        moved = None if shift is None else shift(at, step, share, way.told(scheduler, step), *beside)
        if way.sampler == "ddim":
            found: Tensor = scheduler.step(predicted, step, at, eta=0.0).prev_sample
        else:
            noise = way.widening(scheduler, step) * draws.at("reverse", step).normal(*shape).to(at.dtype)
            # the posterior's mean is of the clamped image and the state, so the noise is read off again
            found = scheduler.step(
                predicted, step, at, eta=1.0, use_clipped_model_output=way.clamp, variance_noise=noise
            ).prev_sample
        return found if moved is None else found + moved

    for step in range(way.t_star - 1, -1, -way.stride):
        state = call(partial(back, step=step), state, *beside)
        if seen is not None:
            seen(state, way.shares(scheduler, step)[1])
    return state


@dataclass(frozen=True)
class _Timed:
    """Steps by time, equally long but for the last, from ``t_star`` thousandths to ``END``."""

    t_star: int
    steps: int
    clock: Clock

    @property
    def length(self) -> float:
        """Of every step but the last."""
        return self.t_star / N_STEPS / self.steps

    def time(self, step: int) -> float:
        """Return where a step begins; the number of steps: where the way ends."""
        return END if step == self.steps else (self.steps - step) * self.length

    def number(self, time: float) -> int:
        """Return the step that begins at a time."""
        return self.steps - round(time / self.length)

    def level(self, at: Tensor, step: int) -> Tensor:
        """Return ``(B,)``, what the network is told: a whole step, or one that has the time's noise, between two."""
        import torch

        from harness.nets.unet import steps_like

        if self.clock == "floor":
            return steps_like(at, min(self.t_star * (self.steps - step) // self.steps, N_STEPS - 1))
        level = max(self.time(step) * N_STEPS - 1.0, 0.0)
        return torch.full((len(at),), level, dtype=at.dtype, device=at.device)


def _integrate(
    state: Tensor,
    predict: Callable[[Tensor, Tensor, float], Tensor],
    draws: Draws,
    way: _Timed,
    sampler: Sampler,
    call: Call,
    seen: Seen | None,
) -> Tensor:
    shape = tuple(state.shape[1:])

    def drift(at: Tensor, step: int) -> Tensor:
        """Per unit of time that is left: beta (x / 2 + score), half the score for the flow."""
        time = way.time(step)
        weight = 0.5 if sampler == "ode" else 1.0
        predicted = predict(at, way.level(at, step), kept(time))
        return rate(time) * (0.5 * at - weight * predicted / math.sqrt(1.0 - kept(time)))

    if sampler == "torchsde":
        return _by_torchsde(state, lambda at, step: call(partial(drift, step=step), at), draws, way)

    def back(at: Tensor, step: int) -> Tensor:
        time, length = way.time(step), way.time(step) - way.time(step + 1)
        moved = at + length * drift(at, step)
        if sampler == "sde":
            noise = draws.at("reverse", step).normal(*shape).to(at.dtype)
            moved = moved + math.sqrt(rate(time) * length) * noise
        return moved

    for step in range(way.steps):
        state = call(partial(back, step=step), state)
        if seen is not None:
            seen(state, kept(way.time(step + 1)) if step + 1 < way.steps else 1.0)
    return state


def _by_torchsde(state: Tensor, drift: Callable[[Tensor, int], Tensor], draws: Draws, way: _Timed) -> Tensor:
    """Integrate by the library's Euler solver, over the same increments as our own loop.

    Time runs forwards for the library, from 1 - start, and in float64: in float32 its clock loses the last steps.
    """
    import torch
    import torchsde

    shape = tuple(state.shape[1:])
    flat = state.flatten(1)

    class Increments(torchsde.BaseBrownian):  # type: ignore[misc]
        """A Brownian path whose increment over each step has that step's address."""

        dtype, device, shape = flat.dtype, flat.device, flat.shape
        levy_area_approximation = "none"

        def __repr__(self) -> str:
            return "Increments()"

        def __call__(self, ta: Any, tb: Any, **areas: Any) -> Tensor:
            noise = draws.at("reverse", way.number(1.0 - float(ta))).normal(*shape).to(flat.dtype).flatten(1)
            return math.sqrt(float(tb) - float(ta)) * noise

    class Reverse:
        """The reverse-time equation, as the library asks for one."""

        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: Any, y: Tensor) -> Tensor:
            return drift(y.reshape(state.shape), way.number(1.0 - float(t))).flatten(1)

        def g(self, t: Any, y: Tensor) -> Tensor:
            return torch.full_like(y, math.sqrt(rate(1.0 - float(t))))

    times = torch.tensor([1.0 - way.time(0), 1.0 - END], dtype=torch.float64)
    found = torchsde.sdeint(Reverse(), flat, times, bm=Increments(), method="euler", dt=way.length)
    end: Tensor = found[-1]
    return end.reshape(state.shape)
