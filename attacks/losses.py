"""What attacks raise: cross-entropy, difference of logits ratio, margin; from logits and labels to a number per image.

Each grows as the victim errs. A margin above 0 is a misclassification, and so is a DLR above 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Setting

Loss = Literal["ce", "dlr", "margin"]

#: for descriptions of options
MEANING = (
    "what is raised: ce: cross-entropy; dlr: difference of logits ratio (Croce and Hein 2020), which does not change "
    "where logits are scaled; margin: largest other logit minus the true one (Carlini and Wagner 2017)"
)

#: classes without which a loss is not defined
CLASSES: dict[str, int] = {"ce": 2, "dlr": 3, "margin": 2, "dlr-targeted": 4}


#: the logarithm of softplus is its argument to the last digit of a double below this
FAINT = -40.0


def raised(name: Loss, logits: Tensor, y: Tensor) -> Tensor:
    """Return what is climbed for a loss of logits ``(B, K)`` and labels ``(B,)``, as ``(B,)``.

    The loss itself, but of cross-entropy the logarithm: it grows where that grows, its gradient has the same direction,
    and neither vanishes where the victim is sure of an image.
    """
    match name:
        case "ce":
            return log_ce(logits, y)
        case "dlr":
            return dlr(logits, y)
        case "margin":
            return margin(logits, y)
        case _:
            assert_never(name)


def log_ce(logits: Tensor, y: Tensor) -> Tensor:
    """Return the logarithm of the cross-entropy, ``(B,)``, of type double.

    Cross-entropy is log(1 + exp(e)), where e is the log of the sum of the other classes' exp(logits), less the logit of
    the true one. Written so, nothing cancels. As probabilities less a one for the true class, which is how libraries
    have it, the gradient loses its largest part in float32 where 1 - p is below 1e-7, and is zero at e = -104.
    """
    import torch
    from torch.nn import functional as F

    true = F.one_hot(y, logits.shape[1]).bool()
    wide = logits.double()
    excess = wide.masked_fill(true, -torch.inf).logsumexp(1) - wide.gather(1, y[:, None]).squeeze(1)
    # each branch is only ever differentiated where it is taken
    faint = excess < FAINT
    usual = F.softplus(torch.where(faint, torch.zeros_like(excess), excess), threshold=60.0).log()
    return torch.where(faint, excess, usual)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return the largest other logit minus that of the true class, ``(B,)``."""
    import torch

    true = torch.nn.functional.one_hot(y, logits.shape[1]).bool()
    largest: Tensor = logits.masked_fill(true, -torch.inf).amax(1)
    return largest - logits.gather(1, y[:, None]).squeeze(1)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Return the margin over the distance from the largest to the third largest logit, ``(B,)``.

    The difference of logits ratio of Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an
    ensemble of diverse parameter-free attacks", equation 6, for three classes or more.
    """
    import torch

    ordered = logits.sort(1).values
    span = (ordered[:, -1] - ordered[:, 0]).detach()
    # where the three largest are equal there is no ratio; what stands for 0 is counted in the unit of the logits
    least = torch.where(span > 0, 1e-12 * span, torch.ones_like(span))
    return margin(logits, y) / (ordered[:, -1] - ordered[:, -3] + least)


def unit(logits: Tensor) -> Tensor:
    """Return the power of 2 in which logits ``(B, K)`` of each image span from 8 to 16, ``(B,)``; 1 for equal logits.

    Logits of a usual classifier do so in units of 1 or 2, and constants of attacks that weigh logits against something
    else were chosen for these.
    """
    from harness.bounds import magnitude

    return magnitude((logits.amax(1) - logits.amin(1)).detach()[:, None] / 8.0)


def too_few(name: str, n_classes: int) -> str | None:
    """Return why a loss is not defined for so few classes, as a sentence, or None."""
    if n_classes >= CLASSES[name]:
        return None
    return f"the loss {name} needs at least {CLASSES[name]} classes, and the dataset has {n_classes}; use ce or margin"


def few_targets(attack: str, targets: int, setting: Setting) -> str | None:
    """Return why there are not so many other classes to aim at, as a sentence, or None."""
    others = setting.data.n_classes - 1
    if targets <= others:
        return None
    return f"{attack} aims at {targets} other classes, and the dataset has {others}; lower the number of targets"
