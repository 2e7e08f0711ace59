"""A dataset of an outsider."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness import Dataset

#: images of each part
SIZES = {"test": 64, "train": 256}


class Stripes(Dataset):
    """Grey images ``(1, 8, 8)`` of stripes in noise: across or upright."""

    n_classes = 2

    def arrays(self, part: str) -> tuple[Any, Any]:
        """Return images and labels; every call makes the same ones."""
        number = SIZES[part]
        draw = np.random.default_rng(["test", "train"].index(part))
        upright = draw.integers(0, 2, number)
        wave = 0.5 + 0.25 * np.sign(np.sin(np.pi * (np.arange(8) + 0.5) / 2))
        across = np.broadcast_to(wave[:, None], (number, 8, 8))
        images = np.where(upright[:, None, None] == 1, across.transpose(0, 2, 1), across)
        noisy = images + draw.normal(0, 0.05, images.shape)
        return noisy.clip(0, 1).astype(np.float32)[:, None], upright
