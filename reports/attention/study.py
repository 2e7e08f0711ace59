"""What purification does to attention: a study of each classifier whose cells a probe has seen.

MAE-Pure (submission 21073 of NeurIPS 2025) lowers a masked reconstruction loss in place of the attention-matrix
variation (AMV), which nobody can know without the clean image. Its theorem 3.2 bounds the loss from below by the AMV;
that a lower loss restores attention is the converse, and not proved. A study asks the data, example by example.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.core.metric import AMV_AXES
from harness.core.recipe import network
from harness.core.roles import Role
from harness.core.spec import Spec, digest_of
from reports.attention.probe import alike, read_probed
from reports.attention.quantities import Part, attacked, bound, effects, margin, part_of, relations, restoring
from reports.stats.bootstrap import Resamples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.store.read.frames import Results
    from harness.store.read.provenance import Provenance
    from reports.attention.probe import Probed, Sight
    from reports.stats.bootstrap import Numbers, Places

#: an AMV by head: places, and ``(place, image, matrix norm, layer, head)``
Heads = tuple["Places", "Numbers"]


#: the tables of a study
TABLES = ("effects", "margins", "relations", "cells", "layers", "heads", "ratios", "bounds")


@dataclass(frozen=True)
class Study:
    """All that the probe's sights on one classifier of a suite say.

    Attributes:
        effects: every defense under every attack and on clean input: accuracy, loss, AMV.
        margins: each defense that lowers a loss beside each control on the same images.
        relations: the attacked images, then each defense, over all attacks: how AMV, loss and verdict go together.
        cells: likewise, of each cell.
        layers: as ``relations``, for each layer in each matrix norm; of the last alone where no other is known.
        heads: likewise, for each head, without intervals.
        ratios: likewise, through masks of several ratios, of cells that differ in nothing else; none if one is known.
        bounds: the attacked images under all attacks and under each: what is left of theorem 3.2's lower bound.
        probed: what all of it comes from.
    """

    effects: tuple[Part, ...]
    margins: tuple[Part, ...]
    relations: tuple[Part, ...]
    cells: tuple[Part, ...]
    layers: tuple[Part, ...]
    heads: tuple[Part, ...]
    ratios: tuple[Part, ...]
    bounds: tuple[Part, ...]
    probed: Probed = field(repr=False)

    @property
    def suite(self) -> str:
        """The suite's name."""
        return self.probed.suite

    @property
    def title(self) -> str:
        """Name what was studied."""
        return f"{self.probed.dataset} / {self.probed.classifier}"

    @property
    def own(self) -> tuple[str, ...]:
        """The defenses that work by the probe's own network: it looks at what they were made to please."""
        recipe = digest_of(self.probed.probe["recipe"])
        by = {part.defense: part.cell for part in self.effects if part.role != "reference"}
        specs = {defense: self.probed.spec_of[cell]["defense"]["parts"] for defense, cell in by.items()}
        return tuple(name for name, parts in specs.items() if recipe in map(digest_of, parts.values()))

    @property
    def parts(self) -> Iterator[tuple[str, Part]]:
        """Yield every part with the name of its table."""
        for table in TABLES:
            yield from ((table, part) for part in getattr(self, table))


def studies(frames: Results, origin: Provenance) -> list[Study]:
    """Return a study of each classifier of each suite that was probed for AMV and reconstruction loss under attack.

    The intervals resample examples, with a seed made of the cells' names: the same results give the same numbers.
    """
    probed = list(read_probed(frames, origin))
    return [_study(one, probed, frames) for one in probed if any(not sight.clean for sight in one.sights)]


def _study(probed: Probed, others: Sequence[Probed], frames: Results) -> Study:
    draw = Resamples(digest_of(sorted(sight.id for sight in probed.sights)))
    under_attack = [sight for sight in probed.sights if not sight.clean]
    layers, heads = _by_layer(probed, frames, draw)
    return Study(
        effects=tuple(part_of(one, probed.mask_ratio, effects(one, probed.beside(one), draw)) for one in probed.sights),
        margins=tuple(_margins(probed, draw)),
        relations=tuple(_over_all(probed, probed.sights, draw)),
        cells=tuple(
            part_of(one, probed.mask_ratio, {**attacked([one], draw), **relations([one], [probed.beside(one)], draw)})
            for one in under_attack
        ),
        layers=layers,
        heads=heads,
        ratios=tuple(_by_ratio(probed, others, draw)),
        bounds=tuple(_bounds(probed, draw)),
        probed=probed,
    )


def _margins(probed: Probed, draw: Resamples) -> Iterator[Part]:
    for sight in probed.sights:
        if sight.role == Role.RECONSTRUCTION and not sight.clean:
            for other in probed.sights:
                if other.role == "control" and other.crafted == sight.crafted:
                    found = part_of(sight, probed.mask_ratio, margin(sight, other, draw))
                    yield replace(found, against=other.defense)


def _over_all(probed: Probed, sights: Sequence[Sight], draw: Resamples, **place: Any) -> Iterator[Part]:
    """Yield the attacked images, and each defense under all its attacks, as far as they are among ``sights``."""
    images = replace(probed, sights=tuple(sights)).attacked
    if not images:
        return
    pooled = {"attack": "all", "threat_model": "-", "mask_ratio": probed.mask_ratio, **place}
    yield Part(defense="", role="attacked", found=attacked(images, draw), **pooled)
    for defense, mine in probed.defenses.items():
        under_attack = [sight for sight in sights if sight.defense == defense and not sight.clean]
        if under_attack and mine[0].role != "reference":
            found = relations(under_attack, [probed.beside(one) for one in under_attack], draw)
            yield Part(defense=defense, role=mine[0].role, found={**restoring(under_attack, draw), **found}, **pooled)


def _bounds(probed: Probed, draw: Resamples) -> Iterator[Part]:
    images = probed.attacked
    pooled = Part("", "attacked", "all", "-", probed.mask_ratio, bound(images, draw))
    if len(images) > 1:
        yield pooled
    for sight in images:
        name = "" if sight.knowledge == "oblivious" else sight.defense
        yield replace(part_of(sight, probed.mask_ratio, bound([sight], draw)), defense=name, role="attacked")


# ---------------------------------------------------------------------- layers and heads


def _by_layer(probed: Probed, frames: Results, draw: Resamples) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Return the parts of every layer and of every head; of the last layer where heads were not measured."""
    under_attack = [sight for sight in probed.sights if not sight.clean]
    if not probed.by_head:
        last = int(network(Spec.from_dict(probed.probe["recipe"])).params["decoder_depth"])
        seen = [_with_amv(one, one["amv_last_before"], one["amv_last_after"]) for one in under_attack]
        return tuple(_over_all(probed, seen, draw, layer=last)), ()
    known = {sight.id: _heads(frames, probed, sight) for sight in under_attack}
    layers: list[Part] = []
    heads: list[Part] = []
    plain = Resamples("", times=0)
    depth, width = next(iter(known.values()))[1].shape[3:]
    for layer in range(depth):
        for at, norm in enumerate(AMV_AXES["matrix_norm"]):
            where = {"matrix_norm": norm, "layer": layer + 1}
            seen = [_at(sight, known[sight.id], (at, layer, slice(None))) for sight in under_attack]
            layers += _over_all(probed, seen, draw, **where)
            for head in range(width):
                seen = [_at(sight, known[sight.id], (at, layer, slice(head, head + 1))) for sight in under_attack]
                heads += _over_all(probed, seen, plain, **where, head=head + 1)
    return tuple(layers), tuple(heads)


def _heads(frames: Results, probed: Probed, sight: Sight) -> Heads:
    """Return a cell's AMV by head, repeats averaged."""
    rows, values = frames.part_by_head(probed.suite, sight.id, probed.examples)
    place, at, times = np.unique(rows["place"].to_numpy(np.int64), return_inverse=True, return_counts=True)
    total = np.zeros((len(place), *values.shape[1:]))
    np.add.at(total, at, values)
    return place, total / times.reshape(-1, 1, 1, 1, 1)


def _at(sight: Sight, heads: Heads, where: tuple[int, int, slice]) -> Sight:
    """Return a cell seen through some heads of a layer in a matrix norm: their mean stands for the AMV."""
    norm, layer, head = where
    place, values = heads
    both, mine, theirs = np.intersect1d(sight.place, place, assume_unique=True, return_indices=True)
    before, after = values[theirs][:, :, norm, layer, head].mean(2).T
    kept = {name: column[mine] for name, column in sight.values.items()}
    return _with_amv(replace(sight, place=both, right=sight.right[mine], values=kept), before, after)


def _with_amv(sight: Sight, before: Numbers, after: Numbers) -> Sight:
    return replace(sight, values={**sight.values, "amv_before": before, "amv_after": after})


# ---------------------------------------------------------------------- mask ratios


def _by_ratio(probed: Probed, others: Sequence[Probed], draw: Resamples) -> Iterator[Part]:
    """Yield what cells say that were seen through masks of several ratios and differ in nothing else."""
    mine = {alike(probed.spec_of[sight.id], probed.probe) for sight in probed.sights if not sight.clean}
    found = {probed.mask_ratio: probed}
    for other in others:
        theirs = {alike(other.spec_of[sight.id], other.probe) for sight in other.sights if not sight.clean}
        if other.mask_ratio not in found and mine & theirs:
            found[other.mask_ratio] = other
            mine &= theirs
    if len(found) == 1:
        return
    places = min(one.examples for one in found.values())
    for _, one in sorted(found.items()):
        same = [sight for sight in one.sights if not sight.clean and alike(one.spec_of[sight.id], one.probe) in mine]
        yield from _over_all(one, [sight.first(places) for sight in same], draw)
