"""Several proposals for the same image: which of them the victim gets right least often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attacks.losses as losses

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.core.contracts import Victim
    from harness.draws import Draws

    #: proposals ``(S, ...)`` and the numbers of their images -> images ``(S, C, H, W)``
    Shown = Callable[[Tensor, Tensor | slice], Tensor]

#: for descriptions of options
REEVALUATE = (
    "fresh draws of a random defense by which candidates are compared; the one that is right least often is proposed"
)


class Candidates:
    """The best proposal of each image so far; the clean image to begin with.

    A random defense fools an attack: a single draw on which it errs is taken for success. So each candidate is judged
    by several draws, the same ones for all candidates. Without randomness one look says it all.

    Args:
        victim: what judges.
        x: clean images ``(B, C, H, W)``.
        y: labels ``(B,)``.
        draws: those of the images.
        looks: draws per candidate, of a random victim.
        shown: from proposals and the numbers of their images to the images ``(S, C, H, W)`` that the victim sees, where
            proposals are something else; ``x`` is then the first of them.

    Attributes:
        best: the proposals, shaped as ``x``.
        right: how many of the draws get them right, ``(B,)``.
        margin: their mean margin; of equals, the one of largest margin is the best.
    """

    def __init__(
        self, victim: Victim, x: Tensor, y: Tensor, draws: Draws, looks: int, shown: Shown | None = None
    ) -> None:
        self.victim, self.y, self.draws, self.shown = victim, y, draws, shown
        self.looks = looks if victim.random else 1
        self.best = x.clone()
        self.right, self.margin = self._judge(x, slice(None))

    @property
    def standing(self) -> Tensor:
        """The numbers ``(S,)`` of the images that some draw still gets right."""
        return self.right.nonzero().flatten()

    def offer(self, proposed: Tensor, rows: Tensor) -> None:
        """Take the proposals ``(S, C, H, W)`` for the images of these numbers where they are better."""
        if not len(rows):
            return
        right, margin = self._judge(proposed, rows)
        kept, kept_margin = self.right[rows], self.margin[rows]
        better = (right < kept) | ((right == kept) & (margin > kept_margin))
        self.best[rows[better]] = proposed[better].to(self.best.dtype)
        self.right[rows[better]], self.margin[rows[better]] = right[better], margin[better]

    def _judge(self, proposed: Tensor, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        import torch

        y, draws = self.y[rows], self.draws.take(rows)
        right, total = torch.zeros_like(y), proposed.new_zeros(len(y))
        if self.shown is not None:
            proposed = self.shown(proposed, rows)
        with torch.no_grad():
            for number in range(self.looks):
                logits = self.victim.logits(proposed, draws.at("look", number))
                right += logits.argmax(1) == y
                total += losses.margin(logits, y)
        return right, total / self.looks
