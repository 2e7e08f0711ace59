"""From proposals to outcomes: the only place where success is decided (law 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness import bounds
from harness.core.result import Cost, Fault, Outcome
from harness.core.threat import Norm, ThreatModel
from harness.execution.worker.purify import purify
from harness.execution.worker.voting import ballot, copies

if TYPE_CHECKING:
    from harness.core.contracts import Certificate, Defense, Nets
    from harness.draws import Draws
    from harness.execution.worker.cost import Meter

#: share of a shard's repeats that is done, 0 to 1
Progress = Callable[[float], None]

#: what is told of every repeat: its number, the purified images, and what speaks for each class
Watch = Callable[[int, Tensor, Tensor], None]


@dataclass(frozen=True)
class Batch:
    """Some examples of a cell.

    Attributes:
        x: clean pixels ``(B, C, H, W)`` in [0, 1].
        y: labels ``(B,)``.
        ids: the examples' numbers in their source, ``(B,)``.
        places: their places in the cell's subset, ``(B,)``.
    """

    x: Tensor
    y: Tensor
    ids: Tensor
    places: Tensor

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.y)

    def split(self, size: int) -> list[Batch]:
        """Cut into batches of ``size``; the last may be smaller."""
        parts = zip(*(torch.split(values, size) for values in (self.x, self.y, self.ids, self.places)), strict=True)
        return [Batch(*part) for part in parts]


@dataclass(frozen=True)
class Judge:
    """Evaluates proposals through the whole defense, with fresh randomness in every repeat.

    Attributes:
        classifier: behind the defense.
        defense: with its networks, by role, in ``nets``.
        meter: counts what defending costs.
    """

    classifier: nn.Module
    defense: Defense
    nets: Nets
    meter: Meter

    @torch.no_grad()
    def outcomes(
        self,
        batch: Batch,
        admitted: Admitted,
        threat: ThreatModel | None,
        repeats: range,
        draws: Draws,
        watch: Watch,
        progress: Progress,
    ) -> tuple[list[Outcome], Cost]:
        """Return an outcome per example and repeat, and what defending cost.

        Args:
            batch: the examples.
            admitted: the images to judge.
            threat: the budget; its randomness may be fixed.
            repeats: which fresh evaluations.
            draws: the cell's evaluation stream; each repeat has its own, unless the defense's randomness is fixed.
            watch: is told of every repeat; what it costs is nobody's.
            progress: told what share is done.
        """
        rows: list[Outcome] = []
        total = Cost()
        for done, repeat in enumerate(repeats, start=1):
            with self.meter.measure(len(batch.x)) as spent:
                purified, logits, hidden = self._classify(admitted.images, batch.x, of_repeat(draws, threat, repeat))
            total = total + spent.cost
            watch(repeat, purified, logits)
            classes = _classes(logits)
            rows += _rows(batch, repeat, classes, _lost(classes, hidden, admitted.faults))
            progress(done / len(repeats))
        return rows, total

    @torch.no_grad()
    def defended(
        self, batch: Batch, admitted: Admitted, threat: ThreatModel | None, repeat: int, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Return the purified images and what speaks for each class, as they were when a repeat was judged."""
        return self._classify(admitted.images, batch.x, of_repeat(draws, threat, repeat))[:2]

    @torch.no_grad()
    def certified(
        self,
        batch: Batch,
        certificate: Certificate,
        n_classes: int,
        repeats: range,
        draws: Draws,
        progress: Progress,
        copies: int = 1,
    ) -> tuple[list[Outcome], Cost]:
        """Return an outcome per example and repeat, each with its certified radius, and what certifying cost.

        Where the certified class is wrong the radius is 0: nothing that is worth keeping is certified.

        Args:
            batch: the examples.
            certificate: asks the whole defended classifier about copies of the images.
            n_classes: number of labels.
            repeats: which fresh evaluations; a certificate draws as often as it needs, so one is enough.
            draws: the cell's evaluation stream; each repeat has its own.
            progress: told what share is done.
            copies: how many copies of the images go through the networks at once.
        """
        rows: list[Outcome] = []
        total, asked, wanted = Cost(), 0, len(repeats) * certificate.looks * len(batch)
        for repeat in repeats:
            broken: set[int] = set()

            def classify(x: Tensor, here: Draws, broken: set[int] = broken) -> Tensor:
                nonlocal asked
                classes = _classes(self._classify(x, x, here)[1])
                broken.update(here.examples[classes < 0].tolist())
                asked += len(x)
                progress(asked / wanted)
                return classes

            with self.meter.measure(len(batch), len(batch) * copies) as spent:
                classes, radii = certificate.certify(
                    classify, batch.x, n_classes, draws.at("repeat", repeat), copies=copies
                )
            total = total + spent.cost
            faults = [Fault.LOGITS.value if example in broken else None for example in batch.ids.tolist()]
            rows += _rows(batch, repeat, classes, faults, torch.where(classes == batch.y, radii, 0.0).double().tolist())
        return rows, total

    def _classify(self, x: Tensor, clean: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Return the purified images, the first where there are several, and what speaks for each class.

        Nothing does where a purified image is not finite, whatever a classifier makes of it; last comes where it made
        something of one, ``(B,)``.
        """
        found = [self._purify(x, clean, one) for one in copies(draws, self.defense.traits.votes)]
        logits = torch.stack([self.classifier(one) for one in found])
        broken = ~torch.stack([_finite(one) for one in found])
        hidden = (broken & torch.isfinite(logits).all(2)).any(0)
        return found[0], ballot(logits.masked_fill(broken[:, :, None], torch.nan)), hidden

    def _purify(self, x: Tensor, clean: Tensor, draws: Draws) -> Tensor:
        """Return the purified images; an oracle, and nobody else, is shown the clean ones."""
        shown = {"clean": clean} if self.defense.traits.oracle else {}
        return purify(self.defense, x, self.nets, draws, **shown)


@dataclass(frozen=True)
class Admitted:
    """What is judged in place of an attack's proposals: images ``(B, C, H, W)``, and what was wrong with each."""

    images: Tensor
    faults: list[str | None]


def of_repeat(draws: Draws, threat: ThreatModel | None, repeat: int) -> Draws:
    """Return the draws of a repeat: the same in each where the defense's randomness is fixed."""
    return draws if threat is not None and threat.fixed else draws.at("repeat", repeat)


def admit(proposed: Tensor | None, x: Tensor, threat: ThreatModel | None) -> Admitted:
    """Return the images that are judged, and what was wrong with each proposal.

    A proposal that is not finite is replaced by the clean image; one out of range or over budget is projected
    back. Either way the fault is recorded: an attack can neither cheat nor spoil a row. Flows are treated likewise,
    then rendered here. Of a corruption range and finiteness are all that can be checked.
    """
    if proposed is None or threat is None:
        return Admitted(x, [None] * len(x))
    flows = threat.norm is Norm.FLOW
    expected = (len(x), 2, *x.shape[2:]) if flows else x.shape
    if proposed.shape != expected:
        raise ValueError(f"expected proposals of shape {tuple(expected)}, got {tuple(proposed.shape)}")
    proposed = proposed.to(x.dtype)
    everywhere = torch.ones(len(x), dtype=torch.bool, device=x.device)
    finite = _finite(proposed)
    in_range = ((proposed >= bounds.LOW) & (proposed <= bounds.HIGH)).flatten(1).all(1)
    inside = everywhere if flows else in_range
    faults: list[str | None] = [None] * len(x)
    safe = torch.where(finite.reshape(-1, 1, 1, 1), proposed, torch.zeros_like(proposed) if flows else x)
    near, repaired = _held(safe, x, threat)
    for row in range(len(x)):
        if not finite[row]:
            faults[row] = Fault.PROPOSAL.value
        elif not inside[row]:
            faults[row] = Fault.RANGE.value
        elif not near[row]:
            faults[row] = Fault.BUDGET.value
    wrong = torch.tensor([fault is not None for fault in faults], device=x.device).reshape(-1, 1, 1, 1)
    admitted = torch.where(wrong, repaired, safe)
    return Admitted(bounds.clip(bounds.warp(x, admitted)) if flows else admitted, faults)


def _held(proposed: Tensor, x: Tensor, threat: ThreatModel) -> tuple[Tensor, Tensor]:
    """Return which proposals keep the budget, ``(B,)``, and all of them brought back into it."""
    if threat.norm is Norm.CORRUPTION:
        return torch.ones(len(x), dtype=torch.bool, device=x.device), bounds.clip(proposed)
    if threat.norm is Norm.FLOW:
        sizes, repaired = bounds.size(proposed, Norm.FLOW), bounds.shorten(proposed, threat.eps)
    else:
        sizes, repaired = bounds.size(proposed - x, threat.norm), bounds.project(proposed, x, threat.eps, threat.norm)
    return sizes <= threat.eps + bounds.tolerance(threat.eps), repaired


def _finite(images: Tensor) -> Tensor:
    """Return which images ``(B, ...)`` are finite throughout, ``(B,)``."""
    return torch.isfinite(images).flatten(1).all(1)


def _lost(classes: Tensor, hidden: Tensor, faults: list[str | None]) -> list[str | None]:
    """Return the faults of outcomes: of the defended classifier where it chose no class, else of the proposals."""
    told = []
    for chosen, purified, fault in zip(classes.tolist(), hidden.tolist(), faults, strict=True):
        lost = Fault.PURIFIED if purified else Fault.LOGITS
        told.append(fault if chosen >= 0 else lost.value)
    return told


def _classes(logits: Tensor) -> Tensor:
    """Return the most probable class of each image, ``(B,)``; -1 where its logits are not finite."""
    return torch.where(torch.isfinite(logits).all(1), logits.nan_to_num().argmax(1), -1)


def _rows(
    batch: Batch, repeat: int, predictions: Tensor, faults: list[str | None], radii: list[float] | None = None
) -> list[Outcome]:
    rows = []
    for row in range(len(batch.y)):
        label, prediction = int(batch.y[row]), int(predictions[row])
        rows.append(
            Outcome(
                example=int(batch.ids[row]),
                place=int(batch.places[row]),
                repeat=repeat,
                label=label,
                prediction=prediction,
                correct=label == prediction,
                fault=faults[row],
                radius=None if radii is None else radii[row],
            )
        )
    return rows
