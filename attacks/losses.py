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


def loss_of(name: Loss, logits: Tensor, y: Tensor) -> Tensor:
    """Return the loss of logits ``(B, K)`` and labels ``(B,)``, as ``(B,)``."""
    from torch.nn import functional as F

    match name:
        case "ce":
            loss: Tensor = F.cross_entropy(logits, y, reduction="none")
            return loss
        case "dlr":
            return dlr(logits, y)
        case "margin":
            return margin(logits, y)
        case _:
            assert_never(name)


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
    ordered = logits.sort(1).values
    return margin(logits, y) / (ordered[:, -1] - ordered[:, -3] + 1e-12)


def squeezed(name: Loss, loss: Tensor) -> Tensor:
    """Return a number from 0 to 1 that grows with the loss, for comparing what fools equally many draws."""
    import torch

    if name == "ce":  # at least 0
        return 1.0 - torch.exp(-loss)
    return 0.5 + 0.5 * loss / (1.0 + loss.abs())


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
