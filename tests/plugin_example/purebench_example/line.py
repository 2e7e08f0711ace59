"""A network, and what it is trained by, of an outsider."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field

from harness import Network, Objective
from harness import Options as BaseOptions


class Line(Network):
    """A linear classifier."""

    def build(self, data: Any) -> Any:
        """Return the untrained module."""
        from torch import nn

        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(data.shape), data.n_classes))


class Warm(Objective):
    """Cross-entropy of logits over a temperature."""

    class Options(BaseOptions):
        """How warm."""

        temperature: float = Field(1.0, gt=0, description="what logits are divided by")

    def loss(self, net: Any, batch: Any, beside: Any) -> Any:
        """Return the loss of a batch."""
        from torch.nn import functional as F

        return F.cross_entropy(net(batch.x) / self.options.temperature, batch.y)
