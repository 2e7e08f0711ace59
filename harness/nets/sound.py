"""Whether a classifier keeps its word: logits of each image alone, always the same; a sentence where it does not.

A classifier that drops units at random, looks across its batch or hands over something beside its logits runs to the
end all the same, and each of its numbers is another's than it seems.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

#: probability below which as many right answers are not taken for chance
CHANCE = 0.01

#: how a module may call the mean and the standard deviation of pixels
_NORMALISERS = (("mean", "std"), ("mu", "sigma"), ("mean", "sigma"), ("mu", "std"), ("means", "stds"))

_WRAP = "let `load` return a module that does"


def logits_fault(found: object, n: int, n_classes: int) -> str | None:
    """Return why something is no logits ``(n, n_classes)``, as a sentence; None where it is."""
    wanted = f"expected logits ({n}, {n_classes}) of {n} images from the classifier"
    if not isinstance(found, Tensor):
        return f"{wanted}, got {_held(found)}; {_WRAP}, and hands on the logits alone"
    if found.ndim == 2 and len(found) == n and found.shape[1] != n_classes:
        return f"{wanted}, for the dataset's {n_classes} classes, got {found.shape[1]} of each image"
    if found.shape != (n, n_classes):
        return f"{wanted}, got {tuple(found.shape)}; {_WRAP}, for a batch of one image too"
    if not found.is_floating_point():
        return f"{wanted}, as real numbers, got {found.dtype}; {_WRAP}, and no classes"
    return None


def _held(found: object) -> str:
    kind = type(found).__name__
    return f"a {kind}" if kind in ("tuple", "list", "dict") else f"an object {kind}"


def classifier_fault(net: nn.Module, x: Tensor, n_classes: int) -> str | None:
    """Return what is wrong with a classifier in evaluation mode, as a sentence; None where nothing is.

    That logits of some images are not finite is nothing that can be said here: it is seen where they are judged. A
    classifier that has none that are is refused.

    Args:
        net: from pixels to logits.
        x: some images ``(B, C, H, W)`` in [0, 1]; that each stands alone is seen from two on.
        n_classes: number of labels.
    """
    first = None
    for rows, why in _views(len(x)):
        images = x[rows].clone()
        with torch.no_grad():
            found = net(images)
        fault = logits_fault(found, len(images), n_classes)
        if fault is not None:
            return fault
        if not torch.equal(images, x[rows]):
            return "expected a classifier that leaves its images as they are, got one that changes them in place"
        if first is None:
            first = found
            if not bool(torch.isfinite(first).all(1).any()):
                return f"expected finite logits from the classifier, got none for any of {len(x)} images"
            with torch.no_grad():
                net(1.0 - x.flip(0))  # what was seen before must not matter
        elif _apart(first[rows], found):
            return f"{why}; {_cause(net)}"
    with torch.enable_grad():
        found = net(x.clone().requires_grad_(True))
    if first is not None and _apart(first, found):
        return "expected the same logits with gradients and without, got others: attackers would see another classifier"
    return None


def _views(n: int) -> Iterator[tuple[slice, str]]:
    """Yield which of ``n`` images to ask about, one time after the other, and what to say if the answers differ."""
    same = "expected the same logits of the same images at every call of the classifier, got others"
    alone = "expected logits that depend on their own image alone, got others where it shares a batch with other images"
    yield slice(0, n), same
    yield slice(0, n), same
    for rows in (slice(0, 1), slice(n - 1, n), slice(1, n)):
        if n > 1:
            yield rows, alone


def _apart(one: Tensor, other: Tensor) -> bool:
    """Whether logits differ by more than the order of additions can make: half of the digits."""
    lost = ~torch.isfinite(one), ~torch.isfinite(other)
    if not torch.equal(*lost):
        return True
    within = math.sqrt(torch.finfo(one.dtype).eps)
    one, other = (values.detach().masked_fill(lost[0], 0.0).double() for values in (one, other))
    return bool((one - other).abs().max() > within * one.abs().max())


def _cause(net: nn.Module) -> str:
    """Say what to look for in a classifier whose logits change."""
    training = [type(module).__name__ for module in net.modules() if module.training]
    if training:
        return f"after eval() its {', '.join(dict.fromkeys(training))} is still in training mode"
    return (
        "let nothing in it draw random numbers, keep state or look across the batch, and make every part a submodule, "
        "so that eval() reaches it"
    )


def probabilities(logits: Tensor) -> Tensor:
    """Return which rows of ``(B, K)`` are probabilities rather than logits, ``(B,)``: none negative, their sum 1."""
    return (logits >= 0).all(1) & ((logits.double().sum(1) - 1.0).abs() < 1e-3)


def by_chance(right: int, n: int, n_classes: int) -> bool:
    """Whether guesses would be as often right with a probability of ``CHANCE`` or more: ``right`` times of ``n``."""
    share = 1.0 / n_classes
    as_many = sum(math.comb(n, k) * share**k * (1.0 - share) ** (n - k) for k in range(right, n + 1))
    return as_many >= CHANCE


def strange_unit(net: nn.Module) -> str | None:
    """Return the normalisation in a classifier that is none of pixels in [0, 1], in words; None where there is none.

    A module with a mean and a standard deviation that no such pixels can have may have another purpose, or multiply
    before: so it is a reason for a classifier that tells nothing apart, and no fault by itself.
    """
    for module in net.modules():
        for pair in _NORMALISERS:
            mean, std = (_numbers(getattr(module, name, None)) for name in pair)
            if mean and std and (max(map(abs, mean)) > 1.0 or max(std) > 1.0):
                told = [", ".join(f"{value:.4g}" for value in values[:3]) for values in (mean, std)]
                return f"{type(module).__name__} with mean {told[0]} and std {told[1]}"
    return None


def _numbers(held: object) -> list[float]:
    """Return a few numbers that a module holds; none where it holds anything else."""
    if isinstance(held, int | float):
        return [float(held)]
    if isinstance(held, Tensor) and 0 < held.numel() <= 16 and not held.is_complex():
        return [float(value) for value in held.detach().flatten().tolist()]
    if isinstance(held, tuple | list) and 0 < len(held) <= 16 and all(isinstance(one, int | float) for one in held):
        return [float(one) for one in held]
    return []
