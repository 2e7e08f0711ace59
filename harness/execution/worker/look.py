"""The look that a job takes before it computes anything: whether its data and its classifier are what they say.

A few images go through the classifier, with no draws and outside of every cost, so that no number depends on it. Every
job of a cell looks at the same ones, the first of the cell's subset, and so comes to the same end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from harness.core.errors import UserError
from harness.data.sound import card_fault, pixels_fault, split_fault
from harness.nets.sound import by_chance, classifier_fault, probabilities, strange_unit

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from harness.core.contracts import Dataset, Split

#: images whose logits are compared alone and in a batch, and images whose answers are counted
SOME, MORE = 4, 16


def load(data: Dataset, part: str) -> Split:
    """Load a part of a dataset, and look at its card, shapes, labels and numbers.

    Raises:
        UserError: if they are not what the contract of a dataset says.
    """
    card = data.card
    fault = card_fault(card)
    if fault is None:
        split = data.load(part)
        fault = split_fault(split, card, part)
        if fault is None:
            return split
    raise UserError(f"{type(data).__name__}: {fault}")


def images(data: Dataset, split: Split, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return images of a part that was loaded, after a look at their pixels.

    Raises:
        UserError: if they are not all in [0, 1].
    """
    found = split.images[rows]
    fault = pixels_fault(found)
    if fault is not None:
        raise UserError(f"{type(data).__name__}: {fault}")
    return found


def look_at(
    net: nn.Module, x: Tensor, y: Tensor, n_classes: int, at_a_time: int | None = None
) -> dict[str, tuple[float, int]]:
    """Look at a classifier; return what reports should say of it, by name: in what share of how many images.

    Args:
        net: from pixels to logits, in evaluation mode.
        x: clean images ``(B, C, H, W)`` in [0, 1], ``MORE`` or fewer.
        y: their labels.
        n_classes: number of labels.
        at_a_time: images that go through the network at a time; None: all.

    Raises:
        UserError: if its logits are none, or not those of each image alone.
    """
    size = at_a_time or len(x)
    fault = classifier_fault(net, x[: min(SOME, size)], n_classes)
    if fault is not None:
        raise UserError(fault)
    with torch.no_grad():
        logits = torch.cat([net(part) for part in torch.split(x, size)])
    _tells_apart(net, logits, y, n_classes)
    return {"probabilities": (1.0, len(x))} if bool(probabilities(logits).all()) else {}


def _tells_apart(net: nn.Module, logits: Tensor, y: Tensor, n_classes: int) -> None:
    """Refuse a classifier that is right by chance and normalises pixels in another unit.

    Raises:
        UserError: then. One that is right by chance for no such reason is a matter of the report.
    """
    unit = strange_unit(net)
    if unit is None:
        return
    classes, n = logits.argmax(1), len(y)
    right = int((classes == y).sum())
    constant = len(set(classes.tolist())) == 1 and len(set(y.tolist())) > 1
    if right < n and (constant or by_chance(right, n, n_classes)):
        raise UserError(
            f"expected a classifier of pixels in [0, 1], got one that is right on {right} of {n} images and normalises "
            f"by {unit}; give mean and standard deviation of pixels in [0, 1], those of 0 to 255 divided by 255"
        )
