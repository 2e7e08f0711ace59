"""Base classes for datasets, classifiers, purifiers and attacks of your own: fill in a method, keep the other defaults.

What each method promises stands in ``harness.core.contracts``; that a component keeps its promises is tested by the
contract of its kind in ``harness.testing``.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.core.contracts import DataCard, Split, Traits
from harness.core.errors import UserError
from harness.core.roles import Role
from harness.core.threat import BALLS
from harness.options import NoOptions, Options

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.core.contracts import Nets, Setting, Victim
    from harness.core.threat import Norm, ThreatModel
    from harness.draws import Draws


class _Component:
    """What all have in common.

    Attributes:
        version: raise it whenever the numbers of a packaged component change; it is part of every identity. A file
            beside a suite needs no version: the hash of its code is part of the identity.
        Options: a subclass of ``harness.Options``; a suite's ``params`` are checked against it.
        options: those that this object was made with.
    """

    version: ClassVar[int] = 1
    Options: ClassVar[type[Options]] = NoOptions

    def __init__(self, options: Any = None) -> None:
        self.options = self.Options() if options is None else options


class Purifier(_Component):
    """A defense: override ``purify``, and ``traits`` where they are others.

    Attributes:
        traits: what the defense is; a few images are purified before a row is measured, and a row whose traits turn out
            untrue says so.
        role: what it is in a study of attention; see ``harness.core.roles``.
        source: the paper that it comes from; ``purebench ls`` shows it.
        inner: names of losses inside it that attackers may ask for; see ``harness.core.contracts.Defense``.
        unclipped: whether purified pixels may lie beyond [0, 1].
    """

    traits: Traits = Traits(random=False, differentiable=True)
    role: ClassVar[Role] = Role.PURIFIER
    source: ClassVar[str] = ""
    inner: ClassVar[tuple[str, ...]] = ()
    unclipped: ClassVar[bool] = False

    def refuses(self, setting: Setting) -> str | None:
        """Return why a cell cannot be run on this defense, as a sentence, or None."""
        return None

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return purified images.

        Args:
            x: pixels ``(B, C, H, W)`` in [0, 1]; leave them as they are.
            nets: the networks that the options name, by option, in eval mode.
            draws: take every random number from them: ``draws.at("noise").normal(*x.shape[1:])``.

        Returns:
            Pixels of the same shape, type and range.
        """
        raise NotImplementedError(f"expected {type(self).__name__} to have a method purify(x, nets, draws)")


class Attack(_Component):
    """An attack: override ``propose``.

    Attributes:
        by_example: whether an image is attacked alike alone and within a batch, so that a shard may be cut.
        norms: of the threat models that it serves.
    """

    by_example: ClassVar[bool] = False
    norms: ClassVar[tuple[Norm, ...]] = BALLS

    def refuses(self, setting: Setting) -> str | None:
        """Return why a cell cannot be run with this attack, as a sentence, or None."""
        return None

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return images within the budget that the victim should get wrong; the harness judges them.

        Args:
            victim: ``victim.logits(x, draws)`` is differentiable, as far as the threat model's knowledge goes.
            x: pixels ``(B, C, H, W)`` in [0, 1].
            y: labels ``(B,)``.
            threat: norm and ``eps``.
            draws: take every random number from them.
        """
        raise NotImplementedError(
            f"expected {type(self).__name__} to have a method propose(victim, x, y, threat, draws)"
        )


class Classifier(_Component):
    """A classifier: override ``load``."""

    def load(self, nets: Nets, data: DataCard) -> nn.Module:
        """Return a module from pixels ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``.

        Args:
            nets: the networks that the options name, by option.
            data: shape and number of classes of the images.
        """
        raise NotImplementedError(f"expected {type(self).__name__} to have a method load(nets, data)")


class Dataset(_Component):
    """Images: override ``arrays``.

    Attributes:
        n_classes: number of labels, which run from 0; as many as there are in the test part if None.
    """

    n_classes: ClassVar[int | None] = None

    def arrays(self, part: str) -> tuple[Any, Any]:
        """Return images ``(N, C, H, W)``, numbers in [0, 1] or bytes, and labels ``(N,)``.

        Args:
            part: ``test``, which is measured, or ``train``, which only training asks for.
        """
        raise NotImplementedError(f"expected {type(self).__name__} to have a method arrays(part)")

    def load(self, part: str) -> Split:
        """Return a part.

        Raises:
            UserError: if the arrays are no images and labels.
        """
        images, labels = (np.asarray(array) for array in self.arrays(part))
        if images.dtype == np.uint8:
            images = images / np.float32(255)
        if images.ndim != 4 or labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise UserError(
                f"expected images (N, C, H, W) and labels (N,) from {type(self).__name__}.arrays({part!r}), got "
                f"{images.shape} {images.dtype} and {labels.shape} {labels.dtype}"
            )
        images = np.ascontiguousarray(images, dtype=np.float32)
        return Split(images, labels.astype(np.int64), np.arange(len(labels), dtype=np.int64))

    @cached_property
    def card(self) -> DataCard:
        """What is known of it: the arrays of the test part, of which the hash is."""
        split = self.load("test")
        told = f"{split.images.shape}".encode()
        sha256 = hashlib.sha256(told + split.images.tobytes() + split.labels.tobytes()).hexdigest()
        n_classes = int(split.labels.max()) + 1 if self.n_classes is None and len(split.labels) else self.n_classes
        channels, height, width = split.images.shape[1:]
        return DataCard((channels, height, width), n_classes or 0, len(split.labels), sha256)
