"""Residual networks for 32 x 32 images (He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2).

6 n + 2 layers: a 3 x 3 convolution, then three stages of n blocks with widths 16, 32, 64, the second and third at half
the resolution. Where the shape changes, the shortcut takes every second pixel and has no parameters (option A).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from harness.core.errors import UserError
from harness.nets.normalise import Normalise

if TYPE_CHECKING:
    from harness.core.contracts import DataCard
    from harness.nets.sizes import ResNetSize

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

    def __init__(self, blocks: int, n_classes: int, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(blocks, WIDTHS[0], WIDTHS[0], stride=1)
        self.layer2 = _stage(blocks, WIDTHS[0], WIDTHS[1], stride=2)
        self.layer3 = _stage(blocks, WIDTHS[1], WIDTHS[2], stride=2)
        self.linear = nn.Linear(WIDTHS[2], n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, K)`` of normalised pixels ``(B, C, H, W)``, whose sides are 32 as shown."""
        x = F.relu(self.bn1(self.conv1(x)))  # (B, 16, 32, 32)
        x = self.layer3(self.layer2(self.layer1(x)))  # (B, 64, 8, 8)
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(blocks: int, before: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(before, width, stride), *(Block(width, width, 1) for _ in range(blocks - 1)))


def bare(net: nn.Module) -> ResNet:
    """Return the network behind its normalisation, of what ``build`` has made.

    Raises:
        TypeError: if it is another one.
    """
    found = next((part for part in net.children() if isinstance(part, ResNet)), None)
    if found is None:
        raise TypeError(f"expected a residual network behind its normalisation, got {type(net).__name__}")
    return found


def build(size: ResNetSize, data: DataCard) -> nn.Sequential:
    """Return an untrained classifier of pixels ``(B, C, H, W)`` in [0, 1], which are normalised first.

    Its first weights come from torch's global generator.

    Raises:
        UserError: if mean or deviation are those of other channels than the images have.
    """
    channels = data.shape[0]
    for name, values in (("mean", size.mean), ("std", size.std)):
        if len(values) not in (1, channels):
            raise UserError(
                f"expected one {name} for all channels or {channels}, one for each, got {len(values)}; "
                f"give the net a {name} of its images"
            )
    return nn.Sequential(Normalise(size.mean, size.std), ResNet(size.blocks, data.n_classes, channels))
