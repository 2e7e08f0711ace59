"""Judged images: what a metric looks at."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from harness.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.core.contracts import Seen
    from harness.draws import Draws
    from harness.metrics.probe import Probe


class JudgedImages:
    """A batch in one repeat: the clean images, what the attack made of them, and what the defense made of that.

    Attributes:
        clean: pixels ``(B, C, H, W)`` in [0, 1].
        adversarial: the images that were judged, within budget and range; on clean input the clean ones.
        labels: the true classes ``(B,)``.
    """

    def __init__(
        self,
        clean: Tensor,
        adversarial: Tensor,
        labels: Tensor,
        defend: Callable[[], tuple[Tensor, Tensor]],
        probe: Probe | None = None,
        masks: Draws | None = None,
    ) -> None:
        """Keep the images; what ``defend`` returns, purified images and logits, is asked for when it is needed."""
        self.clean, self.adversarial, self.labels = clean, adversarial, labels
        self._defend, self._probe, self._masks = defend, probe, masks
        self._seen: dict[str, Seen] = {}

    def again(self, defend: Callable[[], tuple[Tensor, Tensor]]) -> JudgedImages:
        """Return the same images in another repeat; what the probe saw of those that stay, it need not see again."""
        other = JudgedImages(self.clean, self.adversarial, self.labels, defend, self._probe, self._masks)
        other._seen = {image: seen for image, seen in self._seen.items() if image != "purified"}
        return other

    @cached_property
    def _defended(self) -> tuple[Tensor, Tensor]:
        return self._defend()

    @property
    def purified(self) -> Tensor:
        """What the classifier saw, ``(B, C, H, W)``; of a defense that votes the first of its images."""
        return self._defended[0]

    @property
    def logits(self) -> Tensor:
        """What spoke for each class, ``(B, K)``."""
        return self._defended[1]

    def seen(self, image: str) -> Seen:
        """Return what the probe makes of the ``clean``, ``adversarial`` or ``purified`` images.

        All are looked at through the same masks.

        Raises:
            UserError: if there is no probe: only a metric that is ``probed`` has one.
        """
        if self._probe is None or self._masks is None:
            raise UserError("expected a metric with `probed = True` to look through the probe, got one without")
        if image not in self._seen:
            self._seen[image] = self._probe.look(getattr(self, image), self._masks)
        return self._seen[image]
