"""Joint: draft."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from attacks.ascent import ascend, score
from harness.core.threat import Knowledge
from harness.options import Eps, Number
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting, Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws


class Joint:
    """PGD that raises the classification loss and lowers, or raises, a loss inside the purifier at once."""

    version: ClassVar[int] = 1
    by_example: ClassVar[bool] = True

    class Options(BaseOptions):
        """As those of pgd, and what is done within the purifier."""

        inner: Literal["reconstruction", "attention", "deviation"] = Field("reconstruction", description="inner loss")
        direction: Literal["hide", "disturb"] = Field("hide", description="lower the inner loss, or raise it")
        weight: Number = Field(0.5, ge=0, description="of the inner gradient")
        scale: Literal["normalised", "plain"] = Field("normalised", description="normalise per image or not")
        steps: int = Field(20, ge=1, description="gradient steps of a restart")
        step_size: Eps | None = Field(None, description="length of a step in the norm; default 2.5 eps / steps")
        restarts: int = Field(1, ge=1, description="fresh starts; the best proposal of all is kept")
        eot: int = Field(1, ge=1, description="fresh draws of a random defense that a gradient is averaged over")
        random_start: bool = Field(True, description="start at a random point of the ball, else at the image")
        masks: Literal["fresh", "per-restart"] = Field("fresh", description="draws anew in each step, or per restart")

    def __init__(self, options: Options) -> None:
        self.options = options

    def refuses(self, setting: Setting) -> str | None:
        return None

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        def look(point: Tensor, draws: Draws, with_gradient: bool) -> tuple[Tensor, Tensor]:
            return self._look(victim, point, x, y, draws, with_gradient)

        options = self.options
        return ascend(
            look,
            x,
            threat,
            draws,
            steps=options.steps,
            step_size=options.step_size,
            restarts=options.restarts,
            random_start=options.random_start,
            progress=victim.progress,
            redraw=options.masks == "fresh",
        )

    def _look(
        self, victim: Victim, point: Tensor, clean: Tensor, y: Tensor, draws: Draws, with_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        import torch
        from torch.nn import functional as F

        options = self.options
        rounds = options.eot if victim.random else 1
        up, inner_up = torch.zeros_like(point), torch.zeros_like(point)
        fooled, total = point.new_zeros(len(point)), point.new_zeros(len(point))
        for round_ in range(rounds):
            here = draws.at("eot", round_)
            with torch.set_grad_enabled(with_gradient):
                at = point.detach().requires_grad_(with_gradient)
                logits = victim.logits(at, here)
                loss = F.cross_entropy(logits, y, reduction="none")
            if with_gradient:
                up += torch.autograd.grad(loss.sum(), at)[0]
                with torch.enable_grad():
                    at = point.detach().requires_grad_(True)
                    inner = victim.inner(options.inner, at, clean, here)
                inner_up += torch.autograd.grad(inner.sum(), at)[0]
            fooled += (logits.detach().argmax(1) != y).to(fooled.dtype)
            total += loss.detach()
        sign = -1.0 if options.direction == "hide" else 1.0
        if options.scale == "normalised":
            up, inner_up = unit(up), unit(inner_up)
        return score(fooled, total / rounds, rounds), up + sign * options.weight * inner_up


def unit(gradient: Tensor) -> Tensor:
    length = gradient.flatten(1).norm(dim=1).clamp_min(1e-30)
    return gradient / length.reshape(-1, 1, 1, 1)
