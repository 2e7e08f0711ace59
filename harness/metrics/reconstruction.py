"""Reconstruction: the masked reconstruction loss of the probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components import Metric
from harness.core.metric import MetricColumn

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Judged

_GROUP = "reconstruction loss"


class Reconstruction(Metric):
    """The masked reconstruction loss of the clean, the adversarial and the purified image, in the probe's own units."""

    probed = True
    columns = (
        MetricColumn(
            "reconstruction_clean",
            _GROUP,
            "clean",
            legend="Masked reconstruction loss of the probe, a masked autoencoder named in the suite, on the clean, "
            "the adversarial and the purified image.",
        ),
        MetricColumn("reconstruction_adversarial", _GROUP, "adversarial"),
        MetricColumn("reconstruction_purified", _GROUP, "purified"),
    )

    def measure(self, judged: Judged) -> dict[str, Tensor]:
        """Return the mean over the masks, each ``(B,)``."""
        return {
            f"reconstruction_{image}": judged.seen(image).reconstruction
            for image in ("clean", "adversarial", "purified")
        }
