"""Base classes of components: fill in a method, keep the other defaults.

All components that ship inherit from them. Each member of a protocol in ``harness.core.contracts``, where what it
promises is told, has its default here, unless nobody else can know it. A component that was written without a base
class is given the defaults when it is loaded (``completed``). That a component keeps its promises is tested by the
contract of its kind in ``harness.testing``.

No default changes a number: the hash of a component's code goes no further than the name of its base class, so that
another hook makes no result stale.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.core.contracts import DataCard, Split, Traits
from harness.core.errors import UserError
from harness.core.roles import Role
from harness.core.threat import BALLS
from harness.options import NoOptions, Options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn

    from harness.core.contracts import Classify, Judged, Nets, Setting, Victim
    from harness.core.contracts import Network as AnyNetwork
    from harness.core.metric import MetricColumn
    from harness.core.minimum import Effort
    from harness.core.threat import Norm, Smoothing, ThreatModel
    from harness.draws import Draws


class Component:
    """What all have in common.

    Attributes:
        version: raise it whenever the numbers of a packaged component change; it is part of every identity. A file
            beside a suite needs no version: the hash of its code is part of the identity.
        Options: a subclass of ``harness.Options``; a suite's ``params`` are checked against it.
        options: those that this object was made with.
        source: the paper that it comes from; ``purebench ls`` shows it.
        library: the import package that does its work, if that is not its own.
        code: ``module:name`` of what does the work, where the hash of that is to stand for the component's code.
    """

    version: ClassVar[int] = 1
    Options: ClassVar[type[Options]] = NoOptions
    options: Any
    source: ClassVar[str] = ""
    library: ClassVar[str | None] = None
    code: ClassVar[str | None] = None

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @classmethod
    def runs(cls, params: Mapping[str, Any]) -> str | None:
        """Return the ``module:function`` that these options name and that it runs; None: they name none."""
        return None


def completed(component: Any, base: type[Component]) -> Any:
    """Return a component's class with the defaults of the base class of its kind, behind what it says itself.

    Args:
        component: a class; returned as it is where it inherits from the base class.
        base: of this module.

    Raises:
        UserError: if it is no class, or lacks something that has no default.
    """
    if not isinstance(component, type):
        raise UserError(f"it is a {type(component).__name__} and no class")
    full = component
    if not issubclass(component, base):
        about = {name: getattr(component, name) for name in ("__module__", "__qualname__", "__doc__")}
        full = type(component.__name__, (component, base), about)
    lacking = [name for name in dir(base) if getattr(getattr(full, name), "__isabstractmethod__", False)]
    if lacking:
        raise UserError(f"it has no {' and no '.join(lacking)}, which {base.__module__}.{base.__name__} describes")
    return full


class Purifier(Component):
    """A defense: override ``purify``, and ``traits`` where they are others.

    Attributes:
        traits: what the defense is; a few images are purified before a row is measured, and a row whose traits turn out
            untrue says so.
        role: what it is in a study of attention; see ``harness.core.roles``.
        inner: names of losses inside it that attackers may ask ``inner_loss`` for.
        unclipped: whether purified pixels may lie beyond [0, 1].
    """

    role: ClassVar[Role] = Role.PURIFIER
    inner: ClassVar[tuple[str, ...]] = ()
    unclipped: ClassVar[bool] = False

    if TYPE_CHECKING:

        @property
        def traits(self) -> Traits:
            """A class attribute, or a property where they depend on the options."""
            ...
    else:
        traits = Traits(random=False, differentiable=True)

    def refuses(self, setting: Setting) -> str | None:
        """Return why a cell cannot be run on this defense, as a sentence, or None."""
        return None

    @abstractmethod
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

    def classifier(self, nets: Nets) -> nn.Module | None:
        """Return the network that classifies in place of the cell's; with the trait ``own_classifier``."""
        return None

    @classmethod
    def smoothable(cls) -> bool:
        """Whether it moves by signs that an attacker can follow as smooth ones: where ``smoothed`` is overridden."""
        return cls.smoothed is not Purifier.smoothed

    def smoothed(self, smoothing: Smoothing) -> Purifier:
        """Return the same defense whose signs have the smoothing's derivative in the backward pass."""
        raise NotImplementedError(f"expected {type(self).__name__} to have a method smoothed(smoothing)")

    def inner_loss(self, name: str, x: Tensor, clean: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return a loss that ``inner`` names, per image ``(B,)``, differentiable in ``x``; other names are refused.

        Raises:
            ValueError: if there is no such loss.
        """
        raise ValueError(f"expected an inner loss that {type(self).__name__} has, got {name!r}")


class Attack(Component):
    """An attack: override ``propose``.

    Attributes:
        by_example: whether an image is attacked alike alone and within a batch, so that a shard may be cut.
        norms: of the threat models that it serves.
        effort: what it spends on an image; None: what its options ``steps``, ``eot`` and ``n_queries`` say.
    """

    by_example: ClassVar[bool] = False
    norms: ClassVar[tuple[Norm, ...]] = BALLS

    if TYPE_CHECKING:

        @property
        def effort(self) -> Effort | None:
            """A class attribute, or a property where it depends on the options."""
            ...
    else:
        effort = None

    def refuses(self, setting: Setting) -> str | None:
        """Return why a cell cannot be run with this attack, as a sentence, or None."""
        return None

    @abstractmethod
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


class Certificate(Component):
    """A certificate: override ``looks`` and ``certify``.

    Attributes:
        glance: options with which it looks as little as possible; how long a look takes is estimated with them.
    """

    glance: ClassVar[Mapping[str, Any]] = {}

    @property
    @abstractmethod
    def looks(self) -> int:
        """How often the defended classifier is asked about each image."""
        raise NotImplementedError(f"expected {type(self).__name__} to say in looks how often it asks about an image")

    def refuses(self, data: DataCard, traits: Traits) -> str | None:
        """Return why nothing can be certified of a defense on some data, as a sentence, or None."""
        return None

    @abstractmethod
    def certify(
        self, classify: Classify, x: Tensor, n_classes: int, draws: Draws, copies: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return for each image the certified class, -1 where it abstains, and the radius in L2, 0 likewise.

        Args:
            classify: from images and draws for them to the classes that the defended classifier chooses.
            x: pixels ``(B, C, H, W)`` in [0, 1].
            n_classes: number of labels.
            draws: take every random number from them.
            copies: how many copies of the images may be asked about at once; changes no number.
        """
        raise NotImplementedError(
            f"expected {type(self).__name__} to have a method certify(classify, x, n_classes, draws, copies)"
        )


class Classifier(Component):
    """A classifier: override ``load``."""

    def refuses(self, data: DataCard) -> str | None:
        """Return why it cannot be had for a dataset, as a sentence, or None."""
        return None

    @abstractmethod
    def load(self, nets: Nets, data: DataCard) -> nn.Module:
        """Return a module from pixels ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``.

        Args:
            nets: the networks that the options name, by option.
            data: shape and number of classes of the images.
        """
        raise NotImplementedError(f"expected {type(self).__name__} to have a method load(nets, data)")


class Dataset(Component):
    """Images: override ``arrays``; or ``card`` and ``load``, where what is known can be told before loading.

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


class Network(Component):
    """An architecture that recipes train: override ``build``."""

    def build(self, data: DataCard) -> nn.Module:
        """Return an untrained module.

        It may be of any kind that the recipe's objective trains, and that who names the recipe can use: for a
        classifier, from pixels ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``. First weights come from torch's global
        generator, as torch's own layers take them; the recipe's seed is in it. What differs between two modules of the
        same options has to be in their ``state_dict``.

        Args:
            data: shape and number of classes of the images.
        """
        raise NotImplementedError(f"expected {type(self).__name__} to have a method build(data)")


class Objective(Component):
    """What a recipe minimises: override ``loss``, and ``needs`` where there is something.

    Attributes:
        needs: what a recipe has to name for it: ``classifier``, ``purifier``, ``attack``, ``threat_model``.
        takes: what it may name besides; weights to start from (``init``) are welcome to every objective.
        trains: False where ``begin`` puts the weights in place and no step follows.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    takes: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = True

    def refuses(self, network: AnyNetwork) -> str | None:
        """Return why a network cannot be trained so, as a sentence, or None; asked when a suite is checked."""
        return None

    def begin(self, net: nn.Module, network: AnyNetwork, data: DataCard) -> None:
        """Put first weights in place of those that were drawn, if there are any; ``network`` is what built ``net``."""

    def loss(self, net: nn.Module, batch: Any, beside: Any) -> Tensor:
        """Return the loss of a batch, one number with a gradient.

        Args:
            net: the module that learns, in train mode; leave it in it.
            batch: images ``batch.x``, ``(B, C, H, W)`` in [0, 1], and labels ``batch.y``, ``(B,)``; leave them as they
                are. Take every random number from ``batch.draws``. See ``harness.training.context.Batch``.
            beside: what the recipe stands on: ``beside.net("classifier")``, ``beside.attack``, ``beside.threat``,
                ``beside.n_classes``; a network that an option of type ``harness.options.Recipe`` names has the
                option's name. See ``harness.training.context.Beside``.
        """
        raise NotImplementedError(f"expected {type(self).__name__} to have a method loss(net, batch, beside)")


class Metric(Component):
    """A number of each example beside its correctness: override ``measure`` and ``columns``.

    Attributes:
        columns: what it gives, each a ``MetricColumn``.
        probed: whether it looks through the suite's probe, a masked autoencoder (``judged.seen``).
    """

    columns: ClassVar[tuple[MetricColumn, ...]] = ()
    probed: ClassVar[bool] = False

    def measure(self, judged: Judged) -> dict[str, Tensor]:
        """Return the numbers of a batch by column, each ``(B,)``, or ``(B, ...)`` of a column with axes.

        Args:
            judged: the clean, adversarial and purified images, labels and logits; what was purified is computed when it
                is asked for, so a metric that needs none of it costs no purification.
        """
        raise NotImplementedError(f"expected {type(self).__name__} to have a method measure(judged)")


class Section(Component):
    """A section of a report: override ``of_suite`` or ``of_board``.

    What it returns is made of texts, which are paragraphs, and of ``Heading``, ``Notes``, ``Table`` and ``Plot`` of
    ``harness.core.table``; every format writes these. Nothing in them is markup.

    Attributes:
        title: its heading; empty for none.
    """

    title: ClassVar[str] = ""

    def of_suite(self, suite: Any, report: Any) -> Iterable[Any]:
        """Return what stands below all boards of a suite.

        Args:
            suite: its boards and cells; see ``reports.model.leaderboard.Section``.
            report: all suites of the report; ``report.results`` has the frames that ``harness.results`` returns.
        """
        return ()

    def of_board(self, board: Any, suite: Any, report: Any) -> Iterable[Any]:
        """Return what stands below a board.

        Args:
            board: its columns and rows; see ``reports.model.board.Board``.
            suite: the suite that it is of.
            report: as in ``of_suite``.
        """
        return ()
