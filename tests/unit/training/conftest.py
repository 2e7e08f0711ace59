"""Images to train on."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core.contracts import Split


@pytest.fixture(scope="session")
def split():
    """Return images whose class can be seen: one bright square each."""
    labels = np.arange(80) % 10
    images = np.full((80, 1, 8, 8), 0.1, dtype=np.float32)
    for image, label in zip(images, labels, strict=True):
        top, left = 2 * (label // 4), 2 * (label % 4)
        image[0, top : top + 2, left : left + 2] = 1.0
    return Split(images, labels.astype(np.int64), np.arange(80))
