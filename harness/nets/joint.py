"""A purifier and a classifier that were trained together: one checkpoint, since each is made for the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from harness.nets import cnn, dir, mae, resnet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.core.contracts import DataCard
    from harness.nets.sizes import JointSize

#: a half's name -> what builds it
_BUILT: Mapping[str, Callable[[Any, DataCard], nn.Module]] = {
    "cnn": cnn.build,
    "dir": dir.build,
    "mae": mae.build,
    "resnet": resnet.build,
}


class Joint(nn.Module):
    """Holds both; they are called one by one, as a defense that brings its own classifier does.

    Attributes:
        purifier: a masked autoencoder, DIR's, or another network from images to images.
        classifier: pixels ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``.
    """

    def __init__(self, purifier: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.purifier, self.classifier = purifier, classifier


def parts_of(net: nn.Module) -> tuple[nn.Module, ...]:
    """Return the networks that are called: those that a joint one holds, or the network itself."""
    return (net.purifier, net.classifier) if isinstance(net, Joint) else (net,)


def build(size: JointSize, data: DataCard) -> Joint:
    """Return both untrained; their first weights come from torch's global generator."""
    purifier, classifier = size.purifier, size.classifier
    return Joint(_BUILT[purifier.use](purifier, data), _BUILT[classifier.use](classifier, data))
