"""Small classifiers of 32 x 32 images that verifiers of neural networks are compared on; no normalisation layers.

The shapes are those of the benchmark models in alpha-beta-CROWN (Wang et al. 2021), which gathers them from SDP-FO,
ERAN, OVAL, Marabou and VNN-COMP; layers are named as in the files with their weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(widths: tuple[int, int], padding: int, hidden: tuple[int, ...], n_classes: int) -> nn.Sequential:
    """Return two 4 x 4 convolutions with stride 2, then linear layers of ``hidden`` units, ReLU between all."""
    side = 8 if padding else 6
    layers: list[nn.Module] = [
        nn.Conv2d(3, widths[0], 4, stride=2, padding=padding),
        nn.ReLU(),
        nn.Conv2d(widths[0], widths[1], 4, stride=2, padding=padding),
        nn.ReLU(),
        nn.Flatten(),
    ]
    units = widths[1] * side**2
    for wanted in hidden:
        layers += [nn.Linear(units, wanted), nn.ReLU()]
        units = wanted
    return nn.Sequential(*layers, nn.Linear(units, n_classes))


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride)) if stride > 1 else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, width, H / stride, W / stride)``."""
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class ResNet2B(nn.Module):
    """A 3 x 3 convolution with stride 2, two residual blocks, two linear layers."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.layer1 = nn.Sequential(Block(8, 16, 2), Block(16, 16, 1))
        self.linear1 = nn.Linear(16 * 8 * 8, 100)
        self.linear2 = nn.Linear(100, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, K)`` of normalised pixels ``(B, 3, 32, 32)``."""
        x = self.layer1(F.relu(self.conv1(x)))  # (B, 16, 8, 8)
        logits: Tensor = self.linear2(F.relu(self.linear1(torch.flatten(x, 1))))
        return logits
