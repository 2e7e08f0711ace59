"""What a dataset, a classifier, a defense, an attack and a victim promise.

Components are reached by registry name. A component's module is imported when a suite is checked, long before
anything is computed, so it must not import torch at its top: it declares, and imports torch where it computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from harness.core.minimum import Effort
from harness.core.threat import BALLS, Norm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from torch import Tensor, nn

    from harness.core.threat import ThreatModel
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
    """Where the weights of a classifier come from.

    It may have a method ``refuses(data) -> str | None``, which is asked when a suite is checked: why it cannot be had
    for a dataset, as a sentence, or None.
    """

    def __init__(self, options: Any) -> None: ...

    def load(self, nets: Nets, data: DataCard) -> nn.Module:
        """Return a module from pixels ``(B, C, H, W)`` in [0, 1] to logits ``(B, K)``, in eval mode."""
        ...


@runtime_checkable
class Defense(Component, Protocol):
    """Purifies images before an unchanged classifier sees them.

    A defense may have ``source: ClassVar[str]``, the paper it comes from, which ``purebench ls`` shows.

    It may have a method ``classifier(nets) -> nn.Module | None``, and the trait ``own_classifier`` if that returns
    one of its networks: from pixels to logits, in place of the cell's classifier behind it. An attacker who knows of
    the defense faces that one too; an oblivious attacker keeps the cell's.

    It may have ``role: ClassVar[Role]``, what it is in a study of purifiers; see ``harness.core.roles``.

    It may say ``unclipped = True``: purified pixels may lie beyond [0, 1], where no image is. Nobody else's may.

    Where it moves by signs it may have a method ``smoothed(smoothing) -> Defense``: the same defense, whose results are
    the same, but whose signs have the smoothing's derivative; what ``knowledge: smooth`` differentiates.

    It may have ``inner: ClassVar[tuple[str, ...]]``, names of losses within it, and then a method
    ``inner_loss(name, x, clean, nets, draws) -> Tensor``, per image ``(B,)`` and differentiable in ``x``, for attacks
    that know the method: ``reconstruction``, what the purifier lowers; ``attention``, how far the purifier's attention
    is from that on the ``clean`` images, which the attacker has; ``deviation``, how far the way back strays.
    """

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


def own_classifier(defense: Defense, nets: Nets) -> nn.Module | None:
    """Return the classifier that a defense brings, or None where the cell's stays behind it."""
    brought: nn.Module | None = defense.classifier(nets) if defense.traits.own_classifier else None  # type: ignore[attr-defined]
    return brought


@runtime_checkable
class Oracle(Defense, Protocol):
    """A defense whose trait is ``oracle``: the judge shows it the clean images; for analysis only."""

    def purify(self, x: Tensor, nets: Nets, draws: Draws, clean: Tensor | None = None) -> Tensor:
        """Return purified images, having seen the ``clean`` ones ``(B, C, H, W)`` that ``x`` was made from."""
        ...


@runtime_checkable
class Attack(Component, Protocol):
    """Proposes adversarial inputs; it never says whether it succeeded.

    An attack may have ``by_example: ClassVar[bool] = True``: an image is then attacked alike alone and within a batch,
    and a shard may be cut to fit the memory. Without it the shard is handed over whole, and the victim cuts.

    It may have ``library: ClassVar[str]``, the import package that does its work: the hash of that package's source and
    its version are then kept with every result, beside the hash of the attack's own.

    It may have ``norms: ClassVar[tuple[Norm, ...]]``, the norms of threat models that it serves; without it those are
    the balls, ``Linf``, ``L2`` and ``L1``. It is never asked about another: ``refusal`` says why.

    It may have a property ``effort: Effort``, what it spends on an image; without it its options ``steps``, ``eot`` and
    ``n_queries`` say so. A row that met attacks of less effort than its suite's minimum asks is not ranked.
    """

    def __init__(self, options: Any) -> None: ...

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


def norms_of(attack: Attack) -> tuple[Norm, ...]:
    """Return the norms of threat models that an attack serves."""
    serves: tuple[Norm, ...] = getattr(attack, "norms", BALLS)
    return serves


def effort_of(attack: Attack, params: Mapping[str, Any]) -> Effort:
    """Return what an attack spends on an image: what it says, else what its options say by the names they have."""
    told: Effort | None = getattr(attack, "effort", None)
    return Effort.of(params) if told is None else told


def refusal(attack: Attack, setting: Setting) -> str | None:
    """Return why a cell cannot be run with an attack, as a sentence, or None: another norm, or its own reason."""
    serves = norms_of(attack)
    if setting.threat.norm not in serves:
        known = " and ".join(", ".join(serves).rsplit(", ", 1))
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


__all__ = [
    "Attack",
    "Certificate",
    "Classifier",
    "Component",
    "DataCard",
    "Dataset",
    "Defense",
    "Norm",
    "Oracle",
    "Setting",
    "Split",
    "Traits",
    "Victim",
    "effort_of",
    "norms_of",
    "own_classifier",
    "refusal",
]
