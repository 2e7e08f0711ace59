"""Aggregates: what a result keeps of its outcomes, so that a leaderboard need not read them one by one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.core.result import MEASURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.core.result import Outcome


class Aggregates(NamedTuple):
    """Columns of ``results`` that are made of its outcomes.

    Attributes:
        correct: a bit per place and repeat, place by place.
        faults: how many outcomes broke a rule.
        sums: of each metric of ``MEASURES`` its count, sum and sum of squares, as doubles, lowest byte first.
    """

    correct: bytes
    faults: int
    sums: bytes


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
    return Aggregates(
        np.packbits(bits.astype(bool)).tobytes(),
        sum(one.fault is not None for one in outcomes),
        np.array(
            [sums([value for one in outcomes if (value := getattr(one, name)) is not None]) for name in MEASURES], "<f8"
        ).tobytes(),
    )


def sums(values: Sequence[float]) -> list[float]:
    """Return count, sum and sum of squares, each rounded once."""
    return [len(values), math.fsum(values), math.fsum(value * value for value in values)]


def bits_of(correct: Sequence[bytes], places: int, repeats: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the bits of results of one size as an array ``(results, places, repeats)`` of 0 and 1."""
    packed = np.frombuffer(b"".join(correct), np.uint8).reshape(len(correct), -1)
    return np.unpackbits(packed, axis=1, count=places * repeats).reshape(-1, places, repeats)


def sums_of(packed: Sequence[bytes]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the sums of results as an array ``(results, metrics, 3)``: count, sum, sum of squares.

    Metrics that are newer than a result come last, and it has none of them.
    """
    return np.frombuffer(b"".join(map(padded, packed)), "<f8").reshape(-1, len(MEASURES), 3)


def padded(packed: bytes) -> bytes:
    """Return sums with room for the metrics that are newer than they are."""
    return packed.ljust(24 * len(MEASURES), b"\0")
