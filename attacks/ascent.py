"""Ascent: projected steps up a loss, with restarts; of all points that were seen the best is proposed.

The best is the one that fools most draws of the defense, and among those the one of largest loss. Of a random defense a
few draws do not say which that is: of many points, the one that seems best is one that was lucky, and weaker than the
last. So there the last point of each restart and the few that seem best are compared by fresh draws, the same ones for
all. The judge evaluates what is proposed again with draws of its own, so nothing of this choice is believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from attacks.candidates import Candidates
from harness.options import Eps, Options

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from attacks.candidates import Shown
    from attacks.gradients import Look
    from harness.core.contracts import Victim
    from harness.core.threat import ThreatModel
    from harness.draws import Draws

    #: points, draws of the look, whether a gradient is wanted -> what was seen
    Looks = Callable[[Tensor, Draws, bool], Look]

    #: number of draws that were fooled and what decides between equals, each ``(B,)``
    Score = tuple[Tensor, Tensor]

#: points of each image that seem best, which fresh draws decide between, with the last; more of them, or twice the
#: draws, found nothing better on diffpure
FEW = 2

#: for descriptions of options
REEVALUATE = (
    "fresh draws of a random defense by which the last iterate and the few best are compared; the one that is right "
    "least often is proposed; 0: none, and the last iterate is"
)


class AscentOptions(Options):
    """How an ascent goes. Every point is looked at, the last one included; the best one of each image is proposed.

    Of a random defense a few draws do not say which is the best: see ``reevaluate``.
    """

    steps: int = Field(20, ge=1, description="gradient steps of a restart")
    step_size: Eps | None = Field(None, description="length of a step in the norm; default 2.5 eps / steps")
    restarts: int = Field(1, ge=1, description="fresh starts; the best proposal of all is kept")
    eot: int = Field(1, ge=1, description="fresh draws of a random defense that gradients are averaged over")
    random_start: bool = Field(True, description="start at a random point of the ball, else at the image")
    reevaluate: int = Field(10, ge=0, description=REEVALUATE)


class Seen:
    """The points of each image that were seen, as far as one of them may be proposed.

    Args:
        victim: what was looked at.
        still: a point for each image, ``(B, ...)``, that tells how all are shaped.
        y: labels ``(B,)``.
        draws: those of the images.
        looks: fresh draws per candidate, of a random victim.
        shown: as ``Candidates`` has it.
    """

    def __init__(
        self, victim: Victim, still: Tensor, y: Tensor, draws: Draws, looks: int, shown: Shown | None = None
    ) -> None:
        import torch

        self.victim, self.y, self.draws, self.looks, self.shown = victim, y, draws, looks, shown
        few = FEW if victim.random and looks else 1
        self.points = [still] * few
        nothing = still.new_full((len(still),), -torch.inf)
        self.scores: list[Score] = [(nothing, nothing.double())] * few
        self.kept: Candidates | None = None
        self.no_better = torch.ones(len(still), dtype=torch.bool, device=still.device)

    def see(self, point: Tensor, score: Score) -> None:
        """Keep a point ``(B, ...)`` where it is among the best few of its image; of equals the first is better."""
        if self.victim.random and not self.looks:
            return
        self._keep(point, score)

    def _keep(self, point: Tensor, score: Score) -> None:
        import torch

        for place, (held, its) in enumerate(zip(self.points, self.scores, strict=True)):
            better = _better(score, its)
            where = better.reshape(-1, *[1] * (point.ndim - 1))
            self.points[place], point = torch.where(where, point, held), torch.where(where, held, point)
            ours = [(torch.where(better, a, b), torch.where(better, b, a)) for a, b in zip(score, its, strict=True)]
            self.scores[place], score = (ours[0][0], ours[1][0]), (ours[0][1], ours[1][1])

    def end(self, last: Tensor, score: Score, first: Score, rounds: int) -> None:
        """End a restart.

        Args:
            last: its last point, ``(B, ...)``.
            score: what a look said of that.
            first: what a look under the same draws said of the point that it began at.
            rounds: draws of a look.
        """
        here = score if self.victim.random else self.scores[0]
        self.no_better &= ~_better(here, first) & (first[0] < rounds)
        if not self.victim.random:
            return
        if not self.looks:
            self._keep(last, score)
        elif self.kept is None:
            self.kept = Candidates(self.victim, last, self.y, self.draws, self.looks, self.shown)
        else:
            self.kept.offer(last, self._all)

    def proposed(self) -> Tensor:
        """Return the proposals, ``(B, ...)``, and note where no restart led to anything better than it began with."""
        self.victim.note("no_better", self.no_better.double())
        if self.kept is None:
            return self.points[0]
        for point in self.points:
            self.kept.offer(point, self._all)
        return self.kept.best

    @property
    def _all(self) -> Tensor:
        import torch

        return torch.arange(len(self.y), device=self.y.device)


def _better(score: Score, other: Score) -> Tensor:
    """Return where more draws are fooled, or as many at a larger loss, ``(B,)``."""
    return (score[0] > other[0]) | ((score[0] == other[0]) & (score[1] > other[1]))


def ascend(
    look: Looks,
    victim: Victim,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    draws: Draws,
    how: AscentOptions,
    *,
    redraw: bool = True,
) -> Tensor:
    """Return a proposal for each image, ``(B, C, H, W)``.

    Args:
        look: at some points; every image's score and gradient are its own.
        victim: what is looked at.
        x: images ``(B, C, H, W)`` in [0, 1], the centres of the balls.
        y: labels ``(B,)``.
        threat: the budget.
        draws: those of the images.
        how: options of the attack.
        redraw: look with fresh draws in each step, else with the same in all steps of a restart.
    """
    from harness.bounds import project, random_point, step

    length = how.step_size or 2.5 * threat.eps / how.steps

    def start(here: Draws) -> Tensor:
        return random_point(x, threat.eps, threat.norm, here) if how.random_start else x

    def move(point: Tensor, gradient: Tensor) -> Tensor:
        return project(step(point, gradient, length, threat.norm), x, threat.eps, threat.norm)

    seen = Seen(victim, x, y, draws.at("candidates"), how.reevaluate)
    return climb(look, start, move, draws, seen, how, redraw=redraw)


def climb(
    look: Looks,
    start: Callable[[Draws], Tensor],
    move: Callable[[Tensor, Tensor], Tensor],
    draws: Draws,
    seen: Seen,
    how: AscentOptions,
    *,
    redraw: bool = True,
) -> Tensor:
    """Return a proposal for each image, from points of any kind.

    Args:
        look: as above.
        start: from the draws of a start to points.
        move: from points and what to climb to the next points.
        draws: those of the images.
        seen: keeps the points. At the last one of a restart the draws are those of the first look, so that both can be
            compared.
        how: options of the attack.
        redraw: look with fresh draws in each step, else with the same in all steps of a restart.
    """
    for restart in range(how.restarts):
        here = draws.at("restart", restart)
        point = start(here.at("start"))
        first: Score | None = None
        for number in range(how.steps + 1):
            last = number == how.steps
            found = look(point, here.at("step", number if redraw and not last else 0), not last)
            score = (found.fooled, found.loss.double())
            first = first or score
            seen.see(point, score)
            if last:
                seen.end(point, score, first, found.draws)
            else:
                point = move(point, found.gradient)
            seen.victim.progress((restart * (how.steps + 1) + number + 1) / (how.restarts * (how.steps + 1)))
    return seen.proposed()
