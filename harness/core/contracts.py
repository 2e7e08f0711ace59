"""What a dataset, a classifier, a network, an objective, a defense, an attack, a certificate, a metric and a victim do.

Components are reached by registry name. A component's module is imported when a suite is checked, long before
anything is computed, so it must not import torch at its top: it declares, and imports torch where it computes.

Whoever asks a component asks for any member that its protocol has. Most of them have a default in the base class of the
kind (``harness.components``), and what is loaded without that base class gets its defaults (``registry.Entry.load``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from harness.core.minimum import Effort

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from torch import Tensor, nn

    from harness.core.metric import MetricColumn
    from harness.core.roles import Role
    from harness.core.threat import Norm, Smoothing, ThreatModel
    from harness.draws import Draws

    Nets = Mapping[str, nn.Module]

    #: images and draws for them -> the class that the defended classifier chooses, -1 where its logits are not finite
    Classify = Callable[[Tensor, Draws], Tensor]


@dataclass(frozen=True)
class DataCard:
    """What is known of a dataset before it is loaded.

    Attributes:
        shape: channels, height, width of an image; pixels in [0, 1].
        n_classes: number of labels, which run from 0.
        n_test: images in the part that evaluation draws from.
        sha256: of the content as loaded; checked at every load.
    """

    shape: tuple[int, int, int]
    n_classes: int
    n_test: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """Images ``(N, C, H, W)`` float32 in [0, 1], labels ``(N,)`` int64, and each image's number in the source."""

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class Traits:
    """What a defense is; tested by the contract, not claimed.

    Attributes:
        random: two calls with different draws may differ.
        differentiable: the exact gradient of the output with respect to the input says something; False where it
            is the identity or zero whatever the defense does.
        optimises: runs an optimisation at inference (AutoAttack's "dynamic" flag).
        own_classifier: brings a classifier that was trained with it, in place of the cell's.
        batchwise: what becomes of an image depends on the others of its batch, by more than the order of additions.
            Shards are then handed over whole, whatever batch size a run has.
        stateful: what becomes of an image depends on what the same object purified before; no cell can have such a
            defense.
        oracle: is shown the clean image as ``purify(..., clean=...)``. For analysis: no attacker can have such a
            victim, so whoever knows of the defense is refused, and reports never rank it.
        votes: how many times an image is purified, with draws of their own, to be classified by majority; metrics are
            taken of the first.
    """

    random: bool
    differentiable: bool
    optimises: bool = False
    own_classifier: bool = False
    batchwise: bool = False
    stateful: bool = False
    oracle: bool = False
    votes: int = 1


@dataclass(frozen=True)
class Setting:
    """What is known of a cell when it is planned: enough to refuse an impossible one, with a sentence.

    Attributes:
        data: the dataset.
        threat: the budget, and what the attacker knows.
        traits: what the attacked defense is.
        inner: the losses inside the defense that the attacker can ask for; none where it is oblivious.
    """

    data: DataCard
    threat: ThreatModel
    traits: Traits
    inner: tuple[str, ...] = ()


class Component(Protocol):
    """Common to everything that a suite can name."""

    #: raised whenever the component's numbers change; part of every identity
    version: ClassVar[int]
    #: a frozen class of options; the suite's ``params`` are checked against it
    Options: ClassVar[Any]
    #: the paper that it comes from, which ``purebench ls`` shows
    source: ClassVar[str]
    #: the import package that does its work, whose hash and version are kept with every result; None: its own code
    library: ClassVar[str | None]

    @classmethod
    def runs(cls, params: Mapping[str, Any]) -> str | None:
        """Return the ``module:function`` that these options name and that it runs, or None.

        The hash of that function's package is kept with every result.
        """
        ...


@runtime_checkable
class Dataset(Component, Protocol):
    """A fixed, ordered, hashed set of images."""

    def __init__(self, options: Any) -> None: ...

    @property
    def card(self) -> DataCard:
        """What is known before loading."""
        ...

    def load(self, part: str) -> Split:
        """Return the part ``train`` or ``test``.

        Raises:
            UserError: if the content is not what the card promises.
        """
        ...


@runtime_checkable
class Classifier(Component, Protocol):
    """Where the weights of a classifier come from."""

    def __init__(self, options: Any) -> None: ...

    def refuses(self, data: DataCard) -> str | None:
        """Return why it cannot be had for a dataset, as a sentence, or None; asked when a suite is checked."""
        ...

    def load(self, nets: Nets, data: DataCard) -> nn.Module:
        """Return a module from pixels ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``, in eval mode."""
        ...


@runtime_checkable
class Defense(Component, Protocol):
    """Purifies images before an unchanged classifier sees them.

    Attributes:
        role: what it is in a study of purifiers; see ``harness.core.roles``.
        unclipped: whether purified pixels may lie beyond [0, 1], where no image is.
        inner: names of losses within it, which ``inner_loss`` returns.
    """

    role: ClassVar[Role]
    unclipped: ClassVar[bool]
    inner: ClassVar[tuple[str, ...]]

    def __init__(self, options: Any) -> None: ...

    @property
    def traits(self) -> Traits:
        """What the defense is, with these options."""
        ...

    def refuses(self, setting: Setting) -> str | None:
        """Return why a cell cannot be run on this defense, as a sentence, or None."""
        ...

    def purify(self, x: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return purified images: same shape, dtype and range [0, 1] as ``x`` ``(B, C, H, W)``.

        Every random number comes from ``draws``; ``x`` is left as it is.
        """
        ...

    def classifier(self, nets: Nets) -> nn.Module | None:
        """Return the one of its networks that classifies in place of the cell's classifier, from pixels to logits.

        Asked only where the trait ``own_classifier`` says that there is one. An attacker who knows of the defense faces
        that one too; an oblivious attacker keeps the cell's.
        """
        ...

    @classmethod
    def smoothable(cls) -> bool:
        """Whether it moves by signs that an attacker can follow as smooth ones: whether it has a ``smoothed``."""
        ...

    def smoothed(self, smoothing: Smoothing) -> Defense:
        """Return the same defense, whose results are the same, but whose signs have the smoothing's derivative.

        What ``knowledge: smooth`` differentiates. Asked only where it is ``smoothable``.
        """
        ...

    def inner_loss(self, name: str, x: Tensor, clean: Tensor, nets: Nets, draws: Draws) -> Tensor:
        """Return a loss within it, per image ``(B,)`` and differentiable in ``x``, for attacks that know the method.

        ``reconstruction``: what the purifier lowers; ``attention``: how far the purifier's attention is from that on
        the ``clean`` images, which the attacker has; ``deviation``: how far the way back strays.

        Raises:
            ValueError: if it is not one of ``inner``.
        """
        ...


@runtime_checkable
class Oracle(Defense, Protocol):
    """A defense whose trait is ``oracle``: the judge shows it the clean images; for analysis only."""

    def purify(self, x: Tensor, nets: Nets, draws: Draws, clean: Tensor | None = None) -> Tensor:
        """Return purified images, having seen the ``clean`` ones ``(B, C, H, W)`` that ``x`` was made from."""
        ...


@runtime_checkable
class Attack(Component, Protocol):
    """Proposes adversarial inputs; it never says whether it succeeded.

    Attributes:
        by_example: whether an image is attacked alike alone and within a batch, so that a shard may be cut to fit the
            memory. Else the shard is handed over whole, and the victim cuts.
        norms: of the threat models that it serves. It is never asked about another: ``refusal`` says why.
    """

    by_example: ClassVar[bool]
    norms: ClassVar[tuple[Norm, ...]]

    def __init__(self, options: Any) -> None: ...

    @property
    def effort(self) -> Effort | None:
        """What it spends on an image; None: what its options ``steps``, ``eot`` and ``n_queries`` say.

        A row that met attacks of less effort than its suite's minimum asks is not ranked.
        """
        ...

    def refuses(self, setting: Setting) -> str | None:
        """Return why a cell cannot be run with this attack, as a sentence, or None."""
        ...

    def propose(self, victim: Victim, x: Tensor, y: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
        """Return images within the budget around ``x`` ``(B, C, H, W)`` that the victim should get wrong.

        Under a threat model of norm ``flow``, return the flows ``(B, 2, H, W)`` that make such images of ``x``: the
        judge renders them, with ``harness.bounds.warp``. Labels ``y`` are ``(B,)``. Every random number comes from
        ``draws``.
        """
        ...


def effort_of(attack: Attack, params: Mapping[str, Any]) -> Effort:
    """Return what an attack spends on an image: what it says, else what its options say by the names they have."""
    return Effort.of(params) if attack.effort is None else attack.effort


def refusal(attack: Attack, setting: Setting) -> str | None:
    """Return why a cell cannot be run with an attack, as a sentence, or None: another norm, or its own reason."""
    if setting.threat.norm not in attack.norms:
        known = " and ".join(", ".join(attack.norms).rsplit(", ", 1))
        return f"{type(attack).__name__} serves threat models of {known}, and this one is of {setting.threat.norm}"
    return attack.refuses(setting)


@runtime_checkable
class Certificate(Component, Protocol):
    """Says how far an image can be moved, in L2, before the class may change, whatever the attack.

    Attributes:
        glance: options with which it looks as little as possible; how long a look takes is estimated with them.
    """

    glance: ClassVar[Mapping[str, Any]]

    def __init__(self, options: Any) -> None: ...

    @property
    def looks(self) -> int:
        """How often the defended classifier is asked about each image."""
        ...

    def refuses(self, data: DataCard, traits: Traits) -> str | None:
        """Return why nothing can be certified of a defense on some data, as a sentence, or None."""
        ...

    def certify(
        self, classify: Classify, x: Tensor, n_classes: int, draws: Draws, copies: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return for each image the certified class, -1 where it abstains, and the radius, 0 likewise; each ``(B,)``.

        Args:
            classify: asks the defended classifier; how often for each image is ``looks``.
            x: pixels ``(B, C, H, W)`` in [0, 1].
            n_classes: number of labels.
            draws: what every random number comes from.
            copies: how many copies of the images may be asked about at once; changes no number.
        """
        ...


class Seen(Protocol):
    """What the probe makes of a batch."""

    @property
    def reconstruction(self) -> Tensor:
        """The masked reconstruction loss, mean over masks, ``(B,)``."""
        ...

    @property
    def attention(self) -> list[list[Tensor]]:
        """For every mask and decoder layer ``(B, heads, N, N)``: outer list masks, inner list layers."""
        ...


class Judged(Protocol):
    """A batch in one repeat, for metrics: the images before and after the attack and the defense."""

    @property
    def clean(self) -> Tensor:
        """The images, ``(B, C, H, W)`` in [0, 1]."""
        ...

    @property
    def adversarial(self) -> Tensor:
        """What the attack made of them, within budget and range; on clean input the clean images."""
        ...

    @property
    def labels(self) -> Tensor:
        """The true classes, ``(B,)``."""
        ...

    @property
    def purified(self) -> Tensor:
        """What the classifier saw, ``(B, C, H, W)``; of a defense that votes the first of its images."""
        ...

    @property
    def logits(self) -> Tensor:
        """What spoke for each class, ``(B, K)``."""
        ...

    def seen(self, image: str) -> Seen:
        """Return what the probe makes of the ``clean``, ``adversarial`` or ``purified`` images, all masked alike.

        Raises:
            UserError: where there is no probe: only a metric that is ``probed`` has one.
        """
        ...


class Metric(Component, Protocol):
    """Gives numbers of each example and repeat beside its correctness.

    Attributes:
        columns: what it gives.
        probed: whether it looks through the suite's probe.
    """

    columns: ClassVar[tuple[MetricColumn, ...]]
    probed: ClassVar[bool]

    def __init__(self, options: Any) -> None: ...

    def measure(self, judged: Judged) -> Mapping[str, Tensor]:
        """Return the numbers of a batch by column, each ``(B,)``, or ``(B, ...)`` of a column with axes."""
        ...


@runtime_checkable
class Victim(Protocol):
    """What an attack sees: defense followed by classifier, under the gradient mode of the threat model."""

    @property
    def n_classes(self) -> int:
        """Number of labels."""
        ...

    @property
    def random(self) -> bool:
        """Whether two calls with different draws may differ."""
        ...

    def logits(self, x: Tensor, draws: Draws) -> Tensor:
        """Return logits ``(B, K)`` of pixels ``(B, C, H, W)`` in [0, 1]; differentiable in ``x``."""
        ...

    def inner(self, name: str, x: Tensor, clean: Tensor, draws: Draws) -> Tensor:
        """Return a loss inside the defense, per image ``(B,)``, differentiable in ``x``; see ``Setting.inner``.

        Raises:
            ValueError: if the victim has no such loss.
        """
        ...

    def note(self, name: str, values: Tensor) -> None:
        """Keep what an attack claims of each example, ``(B,)``; shown beside the verdict, never believed."""
        ...

    def progress(self, fraction: float) -> None:
        """Tell how much of the attack is done, 0 to 1; what a person sees, nothing else."""
        ...


@runtime_checkable
class Network(Component, Protocol):
    """An architecture that recipes train.

    It may have ``code: ClassVar[str]``, ``module:name`` of the function of its package that builds it: the hash of that
    code then stands for the network's, in place of the class's own.
    """

    options: Any

    def __init__(self, options: Any) -> None: ...

    def build(self, data: DataCard) -> nn.Module:
        """Return an untrained module for images of a dataset.

        Its first weights come from torch's global generator, which is seeded by the recipe. All that makes two modules
        of the same options differ is in their ``state_dict``.
        """
        ...


#: what a recipe may name for an objective: recipes of networks, an attack and its budget
BESIDE = ("classifier", "purifier", "attack", "threat_model")


@runtime_checkable
class Objective(Component, Protocol):
    """What a recipe minimises.

    It may have ``code``, as a network may.

    Attributes:
        needs: what a recipe has to name for it, of ``BESIDE``.
        takes: what it may name besides. Weights to start from (``init``) are welcome to every objective.
        trains: False where ``begin`` puts the weights in place and no step follows.
    """

    needs: ClassVar[tuple[str, ...]]
    takes: ClassVar[tuple[str, ...]]
    trains: ClassVar[bool]

    def __init__(self, options: Any) -> None: ...

    def refuses(self, network: Network) -> str | None:
        """Return why a network cannot be trained so, as a sentence, or None; asked when a suite is checked."""
        ...

    def begin(self, net: nn.Module, network: Network, data: DataCard) -> None:
        """Put first weights in place of those that were drawn, if there are any.

        Args:
            net: the module that learns.
            network: what built it.
            data: what is known of the dataset.
        """
        ...

    def loss(self, net: nn.Module, batch: Any, beside: Any) -> Tensor:
        """Return the loss of a batch, one number with a gradient.

        Args:
            net: the module that learns, in train mode; left in it.
            batch: the images, a ``harness.training.context.Batch``; left as they are.
            beside: what the recipe stands on, a ``harness.training.context.Beside``.
        """
        ...
