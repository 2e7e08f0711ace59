"""Parts: what is found of some images that a probe has seen, before and after purification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.store.read.frames import wilson
from reports.attention.probe import joined, places
from reports.stats.bootstrap import Estimate, auc, bare, largest_factor, line, mean, ratio, spearman

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reports.attention.probe import Sight
    from reports.stats.bootstrap import Numbers, Places, Resamples

    Found = Mapping[str, Estimate | None]

#: what may be found, in the order of the tables: key -> what it is
QUANTITIES = {
    "accuracy": "share of examples that are right",
    "gain": "accuracy above that of the classifier without a defense, on the same images",
    "rescued": "share of images that purification puts right: wrong without a defense and right with it",
    "nearer": "share of images whose AMV fell",
    "rescued_nearer": "share of images whose AMV fell and that purification puts right",
    "margin": "accuracy above that of a control, on the same images",
    "loss_clean": "mean reconstruction loss of the clean images",
    "loss_before": "mean reconstruction loss of the images before purification",
    "loss_after": "mean reconstruction loss of the images after purification",
    "recovered": "share of the loss that the attack added which purification takes away; above 1 it ends below clean",
    "amv_before": "mean AMV before purification",
    "amv_after": "mean AMV after purification",
    "restored": "(AMV before - AMV after) / AMV before, of the means; below 0 attention moved further away",
    "amv_last_before": "mean AMV of the last layer before purification",
    "amv_last_after": "mean AMV of the last layer after purification",
    "restored_last": "restored, of the last layer",
    "before": "Spearman's rho of the attacked images' AMV and the loss that the attack added",
    "before_partial": "the same, given the L2 size of the perturbation",
    "before_within": "the same, of ranks among the images of the same attack",
    "after": "Spearman's rho of AMV and loss after purification",
    "after_partial": "the same, given the L2 size of the perturbation",
    "after_within": "the same, of ranks among the images of the same attack",
    "change": "Spearman's rho of the changes of AMV and of loss through purification",
    "change_partial": "the same, given the L2 size of the perturbation",
    "change_within": "the same, of ranks among the images of the same attack",
    "rescue_amv": "among images that are wrong without a defense: the chance that the AMV of one that purification "
    "puts right fell further than that of one that it does not (AUC)",
    "rescue_loss": "likewise, of the loss",
    "below_clean": "share of attacked images with less loss than the clean one: no K above 0 holds for them",
    "k_all": "largest K with added loss >= K AMV for all images",
    "k_most": "largest K with added loss >= K AMV for 95 % of the images",
    "k_mean": "mean added loss over mean AMV",
    "slope": "slope of the least-squares line of added loss over AMV",
    "explained": "R^2 of that line",
}

#: the share of images that ``k_most`` spares
SPARED = 0.05


@dataclass(frozen=True)
class Part:
    """Some images of a study, and what was found of them.

    Attributes:
        defense: whose; empty for the attacked images themselves.
        role: see ``Sight``; ``attacked`` where there is no defense to it.
        attack: ``all`` for all attacks together, ``clean`` for none.
        cell: the cell's id, where it is one alone.
        mask_ratio: of the probe's masks.
        matrix_norm: of the AMV.
        layer: of the decoder, from 1; None for the mean over layers.
        head: from 1; None for the mean over heads.
        against: the control that it is compared with, where it is.
        found: by the keys of ``QUANTITIES``; None where the images do not tell.
    """

    defense: str
    role: str
    attack: str
    threat_model: str
    mask_ratio: float
    found: Found
    norm: str | None = None
    eps: float | None = None
    knowledge: str | None = None
    cell: str = ""
    matrix_norm: str = "frobenius"
    layer: int | None = None
    head: int | None = None
    against: str = ""

    @property
    def clean(self) -> bool:
        """Whether the images are clean ones."""
        return self.attack == "clean"

    @property
    def column(self) -> str:
        """Name the attack."""
        return self.attack if self.attack in ("clean", "all") else f"{self.attack} {self.threat_model}"

    def __getitem__(self, quantity: str) -> Estimate | None:
        """Return what was found; None if it was not looked for."""
        return self.found.get(quantity)


def part_of(sight: Sight, mask_ratio: float, found: Found) -> Part:
    """Return what was found of one cell."""
    return Part(
        defense=sight.defense,
        role=sight.role,
        attack=sight.attack,
        threat_model=sight.threat_model,
        mask_ratio=mask_ratio,
        found=found,
        norm=sight.norm,
        eps=sight.eps,
        knowledge=sight.knowledge,
        cell=sight.id,
    )


def effects(sight: Sight, beside: Sight | None, draw: Resamples) -> Found:
    """Return accuracy, loss and AMV of a cell, and how they change.

    Args:
        sight: the cell.
        beside: the classifier without a defense on the same images, if it is known; there is no gain without it.
        draw: makes the intervals.
    """
    place = sight.place
    found = {"accuracy": draw.estimate(place, mean(sight.right))}
    if beside is not None and sight.role != "reference":
        found |= _gains(sight, beside, draw)
    for name in ("loss_clean", "loss_before", "loss_after", "amv_before", "amv_after"):
        found[name] = draw.estimate(place, mean(sight[name]))
    for name in ("amv_last_before", "amv_last_after"):
        found[name] = draw.estimate(place, mean(sight[name]))
    if not sight.clean:
        found["recovered"] = draw.estimate(place, ratio(-sight["loss_change"], sight["extra_before"]))
        found["restored"] = draw.estimate(place, ratio(-sight["amv_change"], sight["amv_before"]))
        found["restored_last"] = draw.estimate(place, ratio(-sight["amv_last_change"], sight["amv_last_before"]))
    return found


def _gains(sight: Sight, beside: Sight, draw: Resamples) -> dict[str, Estimate | None]:
    """Return what is gained over no defense on the examples that both have seen, and where it comes from."""
    place, mine, theirs = shared(sight.place, beside.place)
    gain = sight.right[mine] - beside.right[theirs]
    found = {"gain": draw.estimate(place, mean(gain))}
    if not sight.clean:
        nearer = (sight["amv_change"][mine] < 0).astype(float)
        rescued = np.maximum(gain, 0.0)
        found["rescued"] = draw.estimate(place, mean(rescued))
        found["nearer"] = draw.estimate(place, mean(nearer))
        found["rescued_nearer"] = draw.estimate(place, mean(rescued * nearer))
    return found


def margin(sight: Sight, control: Sight, draw: Resamples) -> Found:
    """Return how much more often a defense is right than a control, on the examples that both have seen."""
    place, mine, theirs = shared(sight.place, control.place)
    return {"margin": draw.estimate(place, mean(sight.right[mine] - control.right[theirs]))}


def shared(one: Places, other: Places) -> tuple[Places, Places, Places]:
    """Return the examples that two have in common, and where each has them."""
    return np.intersect1d(one, other, assume_unique=True, return_indices=True)


def relations(sights: Sequence[Sight], beside: Sequence[Sight | None], draw: Resamples) -> Found:
    """Return how AMV, loss and verdict go together through purification, image by image.

    Args:
        sights: attacked cells of a defense.
        beside: the classifier without a defense on each one's images, where it is known.
        draw: makes the intervals.
    """
    found = {**_rho("after", "amv_after", "loss_after", sights, draw)}
    found |= _rho("change", "amv_change", "loss_change", sights, draw)
    lost: list[tuple[Places, Numbers, Numbers, Numbers]] = []
    for sight, other in zip(sights, beside, strict=True):
        if other is not None and sight.role != "reference":
            both, mine, theirs = shared(sight.place, other.place)
            wrong = other.right[theirs] < 0.5
            mine = mine[wrong]
            falls = -sight["amv_change"][mine], -sight["loss_change"][mine]
            lost.append((both[wrong], sight.right[mine], *falls))
    if lost:
        ids, right, amv_fall, loss_fall = (np.concatenate(column) for column in zip(*lost, strict=True))
        found["rescue_amv"] = draw.estimate(ids, auc(amv_fall, right))
        found["rescue_loss"] = draw.estimate(ids, auc(loss_fall, right))
    return found


def restoring(sights: Sequence[Sight], draw: Resamples) -> Found:
    """Return AMV before and after purification, over several cells of a defense."""
    place = places(sights)
    before, after = joined(sights, "amv_before"), joined(sights, "amv_after")
    return {
        "amv_before": draw.estimate(place, mean(before)),
        "amv_after": draw.estimate(place, mean(after)),
        "restored": draw.estimate(place, ratio(before - after, before)),
    }


def attacked(sights: Sequence[Sight], draw: Resamples) -> Found:
    """Return how AMV and loss of attacked images go together."""
    amv = draw.estimate(places(sights), mean(joined(sights, "amv_before")))
    return {"amv_before": amv, **_rho("before", "amv_before", "extra_before", sights, draw)}


def _rho(key: str, x: str, y: str, sights: Sequence[Sight], draw: Resamples) -> dict[str, Estimate | None]:
    """Return the rank correlations of two columns; those under one attack, at one budget, are a stratum."""
    attack = {column: at for at, column in enumerate(dict.fromkeys(one.column for one in sights))}
    strata = np.concatenate([np.full(len(one.place), attack[one.column]) for one in sights])
    statistic = spearman(joined(sights, x), joined(sights, y), joined(sights, "l2"), strata)
    return dict(
        zip((key, f"{key}_partial", f"{key}_within"), draw.estimates(places(sights), statistic, 3), strict=True)
    )


def bound(sights: Sequence[Sight], draw: Resamples) -> Found:
    """Return what is left of a lower bound on the added loss by the AMV, with no constant beside it.

    Least factors have no interval: resamples say nothing of what the least of all images would be.
    """
    place, amv, extra = places(sights), joined(sights, "amv_before"), joined(sights, "extra_before")
    slope, explained = draw.estimates(place, line(amv, extra), 2)
    return {
        "below_clean": _share(place, (extra < 0).astype(float)),
        "k_all": bare(draw.estimate(place, largest_factor(amv, extra, 0.0))),
        "k_most": bare(draw.estimate(place, largest_factor(amv, extra, SPARED))),
        "k_mean": draw.estimate(place, ratio(extra, amv)),
        "slope": slope,
        "explained": explained,
    }


def _share(place: Places, true: Numbers) -> Estimate | None:
    """Return a share with its Wilson interval over examples; an example counts as the share of its own rows."""
    present, at = np.unique(place, return_inverse=True)
    if not len(present):
        return None
    score = np.bincount(at, weights=true) / np.bincount(at)
    found = wilson(round(float(score.sum()), 9), len(present))
    return Estimate(float(true.mean()), float(found.low), float(found.high), len(present))
