"""A purifier and a classifier that were trained together: one checkpoint, since each is made for the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from harness.nets import build_net

if TYPE_CHECKING:
    from harness.core.contracts import DataCard
    from harness.nets.sizes import JointSize


class Joint(nn.Module):
    """Holds both; they are called one by one, as a defense that brings its own classifier does.

    Attributes:
        purifier: a masked autoencoder, or DIR's.
        classifier: pixels ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``.
    """

    def __init__(self, size: JointSize, data: DataCard) -> None:
        super().__init__()
        self.purifier = build_net(size.purifier, data)
        self.classifier = build_net(size.classifier, data)


def parts_of(net: nn.Module) -> tuple[nn.Module, ...]:
    """Return the networks that are called: those that a joint one holds, or the network itself."""
    return (net.purifier, net.classifier) if isinstance(net, Joint) else (net,)


def build(size: JointSize, data: DataCard) -> Joint:
    """Return both untrained; their first weights come from torch's global generator."""
    return Joint(size, data)
