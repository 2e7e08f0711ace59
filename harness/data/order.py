"""Order: which image of a dataset stands at which place of a cell."""

from __future__ import annotations

from typing import Any

import numpy as np


def order(subset_seed: int, n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the rows of the test part by place: a seeded permutation, whose prefixes are the subsets of a suite.

    Args:
        subset_seed: the suite's.
        n: images of the test part.
    """
    return np.random.default_rng(subset_seed).permutation(n)
