"""A metric of an outsider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import Metric, MetricColumn

if TYPE_CHECKING:
    from torch import Tensor


class Sharpness(Metric):
    """How much neighbouring pixels differ, before and after purification."""

    columns = (
        MetricColumn("sharpness_attacked", "sharpness", "attacked", legend="Mean difference of neighbouring pixels."),
        MetricColumn("sharpness_purified", "sharpness", "purified"),
    )

    def measure(self, judged: Any) -> dict[str, Tensor]:
        """Return both, each ``(B,)``."""

        def sharp(x: Tensor) -> Tensor:
            return (x[..., 1:] - x[..., :-1]).abs().flatten(1).mean(1)

        return {"sharpness_attacked": sharp(judged.adversarial), "sharpness_purified": sharp(judged.purified)}
