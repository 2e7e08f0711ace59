"""Whether a dataset keeps its word: what its card says, and what is loaded; a sentence where it does not.

What is wrong here is wrong in every number and shows in none: bytes in place of shares of the range, an image that is
not finite, a label that no classifier can give.
"""

from __future__ import annotations

import re
from numbers import Integral
from typing import Any

import numpy as np

from harness.core.contracts import DataCard, Split

#: numbers of images run up to here: random draws go by them (``harness.draws``)
IDS = 2**32

#: the largest pixel that is taken for one of 255 levels divided by 255 twice, and how many images must show it
DIM, SEVERAL = 1.0 / 255.0, 8

_REMEDY = "repair the dataset's `load`"


def card_fault(card: object) -> str | None:
    """Return what is wrong with a dataset's card, as a sentence; None where nothing is."""
    if not isinstance(card, DataCard):
        return f"expected a DataCard for a dataset's card, got {type(card).__name__}"
    told: dict[str, Any] = vars(card)  # whatever is written there
    shape, sha256 = told["shape"], told["sha256"]
    if not isinstance(shape, tuple) or len(shape) != 3 or not all(_counts(side) for side in shape):
        return f"expected a card with the shape of an image, channels, height and width, got {shape!r}"
    if shape[2] in (1, 3) and shape[0] > 4:
        return f"expected a card with channels before height and width, got {shape}, whose last is the channels'"
    if not _counts(told["n_classes"], 2):
        return f"expected a card with 2 classes or more, got {told['n_classes']!r}"
    if not _counts(told["n_test"]):
        return f"expected a card with 1 test image or more, got {told['n_test']!r}"
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        return f"expected a card with the hash of the content, 64 digits of hexadecimal, got {sha256!r}"
    return None


def _counts(number: Any, least: int = 1) -> bool:
    return isinstance(number, Integral) and int(number) >= least


def split_fault(split: object, card: DataCard, part: str) -> str | None:
    """Return what is wrong with a part of a dataset but for its pixels, as a sentence; None where nothing is.

    Args:
        split: what ``load`` returned.
        card: what was promised.
        part: ``train`` or ``test``.
    """
    if not isinstance(split, Split):
        return f"expected a Split of images, labels and ids from the {part} part, got {type(split).__name__}; {_REMEDY}"
    for look in (_arrays, _labels, _ids):
        fault = look(split, card, part)
        if fault is not None:
            return f"{fault}; {_REMEDY}"
    return None


def _arrays(split: Split, card: DataCard, part: str) -> str | None:
    columns: dict[str, Any] = {"images": split.images, "labels": split.labels, "ids": split.ids}
    for name, values in columns.items():
        if not isinstance(values, np.ndarray):
            return f"expected the {name} of the {part} part as an array of numpy, got {type(values).__name__}"
    images, n = split.images, len(split.images)
    if images.shape[1:] != card.shape:
        return f"expected images (N, {', '.join(map(str, card.shape))}), as the card has it, got {images.shape}"
    if images.dtype != np.float32:
        return f"expected images as float32 in [0, 1], got {images.dtype}"
    for name in ("labels", "ids"):
        if columns[name].shape != (n,):
            return f"expected {name} ({n},), one for each image of the {part} part, got {columns[name].shape}"
    if part == "test" and n != card.n_test:
        return f"expected the {card.n_test} test images that the card promises, got {n}"
    return f"expected images in the {part} part, got none" if n == 0 else None


def _labels(split: Split, card: DataCard, part: str) -> str | None:
    labels = split.labels
    if labels.dtype != np.int64:
        return f"expected labels as int64, got {labels.dtype}"
    if labels.min() < 0 or labels.max() >= card.n_classes:
        return (
            f"expected labels from 0 to {card.n_classes - 1}, of the card's {card.n_classes} classes, got "
            f"{labels.min()} to {labels.max()} in the {part} part"
        )
    return None


def _ids(split: Split, card: DataCard, part: str) -> str | None:
    ids = split.ids
    if ids.dtype.kind != "i":
        return f"expected ids as int64, got {ids.dtype}"
    if ids.min() < 0 or ids.max() >= IDS:
        return f"expected ids from 0 to {IDS - 1}, got {ids.min()} to {ids.max()} in the {part} part"
    twice = len(ids) - len(np.unique(ids))
    if twice:
        return f"expected an id of its own for each image of the {part} part, got {twice} that others have too"
    return None


def pixels_fault(images: np.ndarray) -> str | None:
    """Return what is wrong with the pixels of images ``(N, C, H, W)``, as a sentence; None where nothing is."""
    broken = int((~np.isfinite(images)).reshape(len(images), -1).any(1).sum())
    if broken:
        return f"expected finite pixels, got {broken} of {len(images)} images with some that are not; {_REMEDY}"
    low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
    if low < 0.0 or high > 1.0:
        divide = ", where a byte is to be divided by 255" if low >= 0.0 and high > 2.0 else ""
        return f"expected pixels in [0, 1], got {low:g} to {high:g}; {_REMEDY}{divide}"
    if high <= DIM and len(images) >= SEVERAL:
        told = f"expected pixels in [0, 1] that show something, got {low:g} to {high:.2g} in {len(images)} images"
        return f"{told}, as if divided by 255 twice; {_REMEDY}"
    return None
