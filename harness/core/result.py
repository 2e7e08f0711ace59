"""What a job hands back to the driver: plain values, so that it crosses processes and enters the store as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.metric import Measurement

#: what two pieces of work on different images come to together, added up
TOTALS = ("images", "seconds", "forwards", "backwards", "evaluations")


@dataclass(frozen=True)
class Cost:
    """What some work on ``images`` images took (law 8: cost is a result).

    Attributes:
        images: how many images the totals are over.
        seconds: wall time.
        forwards: forward passes through any network, counted per image.
        backwards: backward passes through any network, counted per image.
        evaluations: forward passes through the defense's own networks, counted per image
            (the number of function evaluations, NFE, of the diffusion literature).
        peak_memory: the most bytes that were needed above what was in use when the work began, networks included in
            the latter; of a GPU where that did the work, else of the process. None where it is not known.
        batch_size: how many images went through the networks at a time when that much was needed; None likewise.
    """

    images: int = 0
    seconds: float = 0.0
    forwards: int = 0
    backwards: int = 0
    evaluations: int = 0
    peak_memory: int | None = None
    batch_size: int | None = None

    def __add__(self, other: Cost) -> Cost:
        """Add up two pieces of work on different images, done one after the other.

        Memory is used again, so theirs is the larger of the two, with its own batch size. One that is not known says
        nothing about the other: it is neither zero nor does it hide what was measured.
        """
        totals = {name: getattr(self, name) + getattr(other, name) for name in TOTALS}
        most = max(self, other, key=Cost._memory)
        return Cost(**totals, peak_memory=most.peak_memory, batch_size=most.batch_size)

    def _memory(self) -> tuple[int, int]:
        """Order peaks: one that is known is above one that is not, and of equal ones that of the larger batch."""
        return (-1 if self.peak_memory is None else self.peak_memory, self.batch_size or 0)


class Fault(StrEnum):
    """What can be wrong with an outcome, as it is recorded.

    A purified image that is not finite is told where the classifier made finite logits of it.
    """

    LOGITS = "logits not finite"
    PURIFIED = "purified image not finite"
    PROPOSAL = "proposal not finite"
    RANGE = "proposal out of range"
    BUDGET = "proposal over budget"


#: faults of the defended classifier, in whose place nothing stands: such an outcome counts as wrong
UNREPLACED = (Fault.LOGITS, Fault.PURIFIED)

#: faults of an attack in whose place the clean image is judged, and those that are repaired: what is judged is then
#: within the budget, and the attack's own
REPLACED, REPAIRED = (Fault.PROPOSAL,), (Fault.RANGE, Fault.BUDGET)


@dataclass(frozen=True)
class Outcome:
    """What was judged of one example in one repeat; what metrics give of it is in a ``Measurement``.

    Attributes:
        example: the image's number in the dataset's source.
        place: its place in the cell's subset.
        repeat: which fresh evaluation.
        label: the true class.
        prediction: the class that the defended classifier chose; -1 where its logits or the purified image were not
            finite, or where a certificate abstains.
        correct: whether the two agree, as judged here and never by the attack.
        fault: what was wrong, a ``Fault``; or None.
        radius: the certified radius in L2; 0 where the certificate abstains or the class is wrong.
    """

    example: int
    place: int
    repeat: int
    label: int
    prediction: int
    correct: bool
    fault: str | None = None
    radius: float | None = None


#: outcomes that a suite may ask of a cell: a hundred repeats of half a million images
MOST_OUTCOMES = 50_000_000

#: before the names of notes: what a job left changed in its process, and which functions it exchanged
CHANGED, EXCHANGED = "changed: ", "exchanged: "

#: before the name of a trait that a defense turned out not to have, or to have without saying so
UNTRUE = "untrue: "


@dataclass(frozen=True)
class Artifact:
    """A file that a job made or used: its digest (what made it), content hash, size and what it is."""

    digest: str
    kind: str
    sha256: str
    bytes: int
    label: str = ""


@dataclass(frozen=True)
class Failed:
    """What a job hands back that came to no result.

    Attributes:
        reason: a sentence.
        out_of_memory: whether fewer images at a time might do.
        left: what it left changed in its process.
    """

    reason: str
    out_of_memory: bool = False
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """What a finished job hands back.

    Attributes:
        artifacts: files made or used, weights included.
        outcomes: per example and repeat (evaluations only).
        defense_cost: of purifying and classifying (evaluations only).
        attack_cost: of crafting, as recorded with the adversarial batch.
        environment: where it ran, in plain JSON types.
        code: hashes of the source of attack and defense (evaluations only).
        notes: what was noted of the attack as the batch was made, by name: mean and number (evaluations only); None if
            nobody looked, as on clean input.
        seconds: wall time of the whole job.
        left: what it left changed in its process.
        measurements: what metrics gave, each of all places and repeats of the job.
    """

    artifacts: tuple[Artifact, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    defense_cost: Cost | None = None
    attack_cost: Cost | None = None
    environment: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    notes: dict[str, tuple[float, int]] | None = None
    seconds: float = 0.0
    left: tuple[str, ...] = ()
    measurements: tuple[Measurement, ...] = ()
