"""Distances: the size of the perturbation that was judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components import Metric
from harness.core.metric import MetricColumn
from harness.core.threat import Norm

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Judged


class Distances(Metric):
    """The largest change of a value of a pixel in [0, 1] (Linf), and the Euclidean length of all changes (L2)."""

    columns = (
        MetricColumn(
            "linf",
            "perturbation",
            "Linf",
            legend="Mean size of the change that was judged, pixels in [0, 1], as the largest change of a value (Linf) "
            "and as the Euclidean length (L2).",
        ),
        MetricColumn("l2", "perturbation", "L2"),
    )

    def measure(self, judged: Judged) -> dict[str, Tensor]:
        """Return both, each ``(B,)``."""
        from harness import bounds

        change = judged.adversarial - judged.clean
        return {"linf": bounds.size(change, Norm.LINF), "l2": bounds.size(change, Norm.L2)}
