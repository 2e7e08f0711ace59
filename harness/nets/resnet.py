"""Residual networks for 32 x 32 images (He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2).

6 n + 2 layers: a 3 x 3 convolution, then three stages of n blocks with widths 16, 32, 64, the second and third at half
the resolution. Where the shape changes, the shortcut takes every second pixel and has no parameters (option A).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm beside a shortcut; ``stride`` 2 halves the resolution."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.lacking = stride, width - before
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, width, H / stride, W / stride)``; channels that the shortcut lacks are 0, half on each side."""
        side = self.lacking // 2
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, side, self.lacking - side))
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + shortcut)


class ResNet(nn.Module):
    """A residual network with ``blocks`` blocks in every stage."""

    def __init__(self, blocks: int, n_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(blocks, WIDTHS[0], WIDTHS[0], stride=1)
        self.layer2 = _stage(blocks, WIDTHS[0], WIDTHS[1], stride=2)
        self.layer3 = _stage(blocks, WIDTHS[1], WIDTHS[2], stride=2)
        self.linear = nn.Linear(WIDTHS[2], n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, K)`` of normalised pixels ``(B, 3, 32, 32)``."""
        x = F.relu(self.bn1(self.conv1(x)))  # (B, 16, 32, 32)
        x = self.layer3(self.layer2(self.layer1(x)))  # (B, 64, 8, 8)
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(blocks: int, before: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(before, width, stride), *(Block(width, width, 1) for _ in range(blocks - 1)))
