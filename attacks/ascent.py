"""Ascent: projected steps up a loss, with restarts; of all points that were seen the best is proposed.

The best is the one that fools most draws of the defense, and among those the one of largest loss. The judge evaluates
it again with draws of its own, so nothing of this choice is believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attacks.losses import Loss, squeezed

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.core.threat import ThreatModel
    from harness.draws import Draws

    #: points ``(B, C, H, W)``, draws of the look, whether a gradient is wanted -> score ``(B,)``, what to climb
    Look = Callable[[Tensor, Draws, bool], tuple[Tensor, Tensor]]


def ascend(
    look: Look,
    x: Tensor,
    threat: ThreatModel,
    draws: Draws,
    *,
    steps: int,
    step_size: float | None,
    restarts: int,
    random_start: bool,
    progress: Callable[[float], None],
    redraw: bool = True,
) -> Tensor:
    """Return for each image the point of the highest score, ``(B, C, H, W)``.

    Args:
        look: at some points; every image's score and gradient are its own.
        x: images ``(B, C, H, W)`` in [0, 1], the centres of the balls.
        threat: the budget.
        draws: those of the images.
        steps: steps of a restart; every point is looked at, the last one included.
        step_size: length of a step in the norm; None: 2.5 eps / steps.
        restarts: fresh starts.
        random_start: start at a random point of the ball, else at the image.
        progress: told what share is done, 0 to 1.
        redraw: look with fresh draws in each step, else with the same in all steps of a restart.
    """
    import torch

    from harness.bounds import project, random_point, step

    length = step_size or 2.5 * threat.eps / steps
    best, best_score = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
    for restart in range(restarts):
        here = draws.at("restart", restart)
        point = random_point(x, threat.eps, threat.norm, here.at("start")) if random_start else x.clone()
        for number in range(steps + 1):  # one more than steps: the last point is evaluated too
            last = number == steps
            score, gradient = look(point, here.at("step", number if redraw else 0), not last)
            better = score > best_score
            best = torch.where(better.reshape(-1, 1, 1, 1), point, best)
            best_score = torch.where(better, score, best_score)
            if not last:
                point = project(step(point, gradient, length, threat.norm), x, threat.eps, threat.norm)
            progress((restart * (steps + 1) + number + 1) / (restarts * (steps + 1)))
    return best


def score(name: Loss, fooled: Tensor, loss: Tensor, draws: int) -> Tensor:
    """Return the share of draws that are fooled, and below that the loss squeezed into (0, 1 / draws), ``(B,)``.

    Args:
        name: of the loss.
        fooled: number of draws under which an image was misclassified, ``(B,)``.
        loss: its mean over the draws, ``(B,)``.
        draws: how many there were.
    """
    return (fooled + 0.999 * squeezed(name, loss)) / draws
