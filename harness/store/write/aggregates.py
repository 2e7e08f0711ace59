"""Aggregates: what a result keeps of its outcomes and measures, so that a leaderboard need not read them one by one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.core.rectangle import Rectangle
    from harness.core.result import Outcome

    Numbers = np.ndarray[Any, np.dtype[np.float64]]


class Aggregates(NamedTuple):
    """Columns of ``results`` that are made of its outcomes.

    Attributes:
        correct: a bit per place and repeat, place by place.
        faults: how many outcomes broke a rule.
    """

    correct: bytes
    faults: int


def aggregate(outcomes: Sequence[Outcome], start: int, stop: int, first: int, end: int) -> Aggregates:
    """Aggregate the outcomes of places ``start`` to ``stop - 1`` in repeats ``first`` to ``end - 1``.

    Raises:
        ValueError: unless there is exactly one outcome per place and repeat.
    """
    bits = np.full((stop - start, end - first), -1, np.int8)
    for one in outcomes:
        if (
            not (start <= one.place < stop and first <= one.repeat < end)
            or bits[one.place - start, one.repeat - first] >= 0
        ):
            raise ValueError(f"expected each place and repeat once, got place {one.place}, repeat {one.repeat}")
        bits[one.place - start, one.repeat - first] = one.correct
    if (bits < 0).any():
        raise ValueError(f"expected {bits.size} outcomes, got {len(outcomes)}")
    return Aggregates(np.packbits(bits.astype(bool)).tobytes(), sum(one.fault is not None for one in outcomes))


def bits_of(correct: Sequence[bytes], places: int, repeats: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the bits of results of one size as an array ``(results, places, repeats)`` of 0 and 1."""
    packed = np.frombuffer(b"".join(correct), np.uint8).reshape(len(correct), -1)
    return np.unpackbits(packed, axis=1, count=places * repeats).reshape(-1, places, repeats)


# ---------------------------------------------------------------------- what metrics gave


def numbers_of(packed: bytes, columns: int, shape: Sequence[int], rectangle: Rectangle) -> Numbers:
    """Return the numbers of a metric as an array ``(columns, places, repeats, *shape)``.

    Raises:
        ValueError: if there are more or fewer.
    """
    repeats = rectangle.stop_repeat - rectangle.first_repeat
    kind = "<f4" if shape else "<f8"
    return np.frombuffer(packed, kind).reshape(columns, rectangle.places, repeats, *shape)


def cut(numbers: Numbers, whole: Rectangle, part: Rectangle) -> Numbers:
    """Return what of the numbers of a rectangle is of a part of it."""
    places = slice(part.start - whole.start, part.stop - whole.start)
    return numbers[:, places, part.first_repeat - whole.first_repeat : part.stop_repeat - whole.first_repeat]


def sums_of_numbers(numbers: Numbers) -> bytes:
    """Return count, sum and sum of squares of each column's numbers, each rounded once; nothing of arrays."""
    if numbers.ndim > 3:
        return b""
    finite = [column[np.isfinite(column)].tolist() for column in numbers]
    return np.array([sums(values) for values in finite], "<f8").tobytes()


def sums(values: Sequence[float]) -> list[float]:
    """Return count, sum and sum of squares, each rounded once."""
    return [len(values), math.fsum(values), math.fsum(value * value for value in values)]


def sums_of(packed: bytes) -> Numbers:
    """Return the sums of a metric as an array ``(columns, 3)``: count, sum, sum of squares."""
    return np.frombuffer(packed, "<f8").reshape(-1, 3)
