"""A defense that purifies an image several times: which class the copies choose, and what an attacker sees of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.draws import Draws


def copies(draws: Draws, votes: int) -> list[Draws]:
    """Return the draws of each copy; those of a single one are the defense's own."""
    return [draws] if votes == 1 else [draws.at("vote", vote) for vote in range(votes)]


def ballot(logits: Tensor) -> Tensor:
    """Return scores ``(B, K)`` whose largest is the class that most copies choose; of equals, the more probable one.

    A score is the number of votes plus half the mean probability, which is less than a vote. Where the logits of a
    copy are not finite, neither are the scores. A single copy's logits are returned as they are.

    Args:
        logits: ``(V, B, K)``, of each copy.
    """
    if len(logits) == 1:
        return logits[0]
    n_classes = logits.shape[2]
    votes = torch.nn.functional.one_hot(logits.argmax(2), n_classes).sum(0)
    scores = votes + 0.5 * logits.softmax(2).mean(0)
    finite = torch.isfinite(logits).all(2).all(0)
    return torch.where(finite[:, None], scores, torch.full_like(scores, torch.nan))


def pooled(ask: Callable[[Draws], Tensor], draws: Draws, votes: int) -> Tensor:
    """Return the mean logits of the copies ``(B, K)``, which has the gradient that their votes lack.

    Args:
        ask: from a copy's draws to its logits.
        draws: those of the images.
        votes: how many copies.
    """
    if votes == 1:
        return ask(draws)
    return torch.stack([ask(one) for one in copies(draws, votes)]).mean(0)
