"""A small convolutional classifier for small images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from harness.core.contracts import DataCard
    from harness.nets.sizes import CNNSize


class CNN(nn.Module):
    """Two blocks of two 3 x 3 convolutions with max pooling, then two linear layers. No normalisation layers."""

    def __init__(self, size: CNNSize, data: DataCard) -> None:
        super().__init__()
        channels, height, width = data.shape
        first, second = size.width, 2 * size.width
        self.features = nn.Sequential(
            nn.Conv2d(channels, first, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, first, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, second, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(
            nn.Linear(second * (height // 4) * (width // 4), size.hidden),
            nn.ReLU(),
            nn.Linear(size.hidden, data.n_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, K)`` of pixels ``(B, C, H, W)`` in [0, 1]."""
        logits: Tensor = self.head(torch.flatten(self.features(2.0 * x - 1.0), 1))
        return logits


def build(size: CNNSize, data: DataCard) -> CNN:
    """Return an untrained classifier; its first weights come from torch's global generator."""
    return CNN(size, data)
