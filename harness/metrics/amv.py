"""AMV: attention-matrix variation in the decoder of the probe.

AMV at decoder layer t is A^t(other) - A^t(clean), with A^t = softmax(Q K^T / sqrt(d)), under the same weights and
the same masks (MAE-Pure, section 3). Its size is the matrix norm of that difference for every image, layer and head,
averaged over a stated number of masks. The paper writes a plain double bar with a 2, which may be the Frobenius or the
spectral norm, and says nothing of heads: both norms are measured for each head, and the short figures (last layer, mean
of the layers) are Frobenius norms averaged over heads. ``other`` is the adversarial or the purified image; on a cell of
clean input the purified one is the purified clean image. The probe is named in the suite and need not belong to any
defense, so every defense has the metric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components import Metric
from harness.core.metric import AMV_AXES, MetricColumn

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import Judged

_BEFORE, _AFTER = "AMV before (adversarial)", "AMV after (purified)"


class AMV(Metric):
    """Frobenius norms, heads averaged: of the last decoder layer, and the mean over layers."""

    probed = True
    columns = (
        MetricColumn(
            "amv_adversarial_last",
            _BEFORE,
            "last layer",
            legend="Attention-matrix variation: the Frobenius norm of the change of the probe's decoder attention, "
            "adversarial minus clean (before purification) and purified minus clean (after), under the same weights "
            "and the same masks; for the last decoder layer and as the mean over layers.",
        ),
        MetricColumn("amv_adversarial_mean", _BEFORE, "mean"),
        MetricColumn("amv_purified_last", _AFTER, "last layer"),
        MetricColumn("amv_purified_mean", _AFTER, "mean"),
    )

    def measure(self, judged: Judged) -> dict[str, Tensor]:
        """Return the four, each ``(B,)``."""
        from harness.metrics.probe import last_and_mean, variation

        clean = judged.seen("clean")
        measured: dict[str, Tensor] = {}
        for image in AMV_AXES["image"]:
            last, mean = last_and_mean(variation(judged.seen(image), clean))
            measured |= {f"amv_{image}_last": last, f"amv_{image}_mean": mean}
        return measured


class AMVByHead(Metric):
    """Every layer and head, in both matrix norms."""

    probed = True
    columns = (MetricColumn("amv_by_head", "AMV", "by head", axes=(*AMV_AXES, "layer", "head")),)

    def measure(self, judged: Judged) -> dict[str, Tensor]:
        """Return ``(B, images, norms, layers, heads)``; the first two axes are ``AMV_AXES``."""
        from harness.metrics.probe import by_head

        seen = [judged.seen(image) for image in ("adversarial", "purified", "clean")]
        return {"amv_by_head": by_head(*seen)}
