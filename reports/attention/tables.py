"""The tables of a study of attention."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.core.roles import Role
from harness.core.table import Cell, Column, Interval, Line, Note, Range, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from harness.core.table import Form
    from reports.attention.quantities import Part
    from reports.attention.study import Study

#: what stands beneath the name of a defense
ROLES: dict[str, str] = {
    Role.REFERENCE: "no defense",
    Role.RECONSTRUCTION: "lowers a loss",
    Role.ORACLE: "shown the clean image",
    Role.CONTROL: "control",
}


def _column(key: str, title: str, unit: str, form: Form, *, interval: bool = True) -> Column:
    def value(part: Part) -> float | Interval | None:
        found = part[key]
        if found is None:
            return None
        return Interval(found.value, found.low, found.high) if interval and found.bounded else found.value

    return Column(key, title, form, unit=unit, value=value)


EFFECTS = (
    _column("accuracy", "accuracy", "%", "percent", interval=False),
    _column("gain", "gain", "points", "points"),
    _column("rescued", "put right", "% of images", "percent", interval=False),
    _column("nearer", "AMV fell", "% of images", "percent", interval=False),
    _column("rescued_nearer", "both", "% of images", "percent"),
    _column("loss_before", "loss", "before", "measure", interval=False),
    _column("loss_after", "loss", "after", "measure", interval=False),
    _column("amv_before", "AMV", "before", "measure", interval=False),
    _column("amv_after", "AMV", "after", "measure"),
    _column("restored", "restored", "% of AMV", "percent"),
)

RELATIONS = (
    _column("before", "AMV, added loss", "rho, before", "correlation"),
    _column("before_within", "at one size", "partial rho", "correlation"),
    _column("after", "AMV, loss", "rho, after", "correlation"),
    _column("after_within", "at one size", "partial rho", "correlation"),
    _column("change", "changes of both", "rho", "correlation"),
    _column("change_within", "at one size", "partial rho", "correlation"),
    _column("rescue_amv", "AMV fell", "AUC of put right", "decimals"),
    _column("rescue_loss", "loss fell", "AUC of put right", "decimals"),
)

SEEN = (
    _column("amv_before", "AMV", "before", "measure", interval=False),
    _column("amv_after", "AMV", "after", "measure", interval=False),
    _column("restored", "restored", "% of AMV", "percent"),
    *(column for column in RELATIONS if column.key in ("before", "after", "change", "change_within", "rescue_amv")),
)

BOUNDS = (
    _column("below_clean", "less loss than clean", "% of images", "percent"),
    _column("k_all", "largest K", "all images", "measure"),
    _column("k_most", "largest K", "95 % of images", "measure"),
    _column("k_mean", "mean added loss / mean AMV", "", "measure"),
    _column("slope", "slope", "least squares", "measure"),
    _column("explained", "R\N{SUPERSCRIPT TWO}", "of that line", "decimals"),
)


def introduction(study: Study) -> str:
    """Say what was looked at, through what."""
    probed = study.probed
    params = probed.probe
    count = f"{probed.examples}" if probed.examples == probed.wanted else f"the first {probed.examples}"
    own = f" Its network is that of {', '.join(study.own)}." if study.own else ""
    return (
        "MAE-Pure lowers a reconstruction loss in the hope that less loss is restored attention. This is what the "
        f"probe, a masked autoencoder with {params['masks']} masks of ratio {params['mask_ratio']:g}, saw of {count} "
        f"examples, repeats averaged.{own} AMV is how far the attention of its decoder is from that for the clean "
        "image, the mean over layers; intervals are 95 % of a bootstrap over examples."
    )


def tables(study: Study) -> Iterator[Table]:
    """Yield the tables of a study; those that would be empty are left out."""
    found = (_effects, _related, _of_ratios, _of_bounds, _of_cells, _of_layers, _of_heads)
    yield from (table for make in found if (table := make(study)))


def _effects(study: Study) -> Table:
    order = list(dict.fromkeys(part.column for part in study.effects))
    return _table(
        "Accuracy, loss and attention",
        "Before and after purification, means over images. The gain is over the classifier without a defense on the "
        "same images; put right are those that are wrong without it and right with it. An attack that knows of the "
        "defense gives each one its own images, so there is neither. On clean input, the AMV after is what "
        "purification does to attention without any attack.",
        {"attack": lambda part: part.column, "defense": lambda part: part.defense},
        EFFECTS,
        sorted(study.effects, key=lambda part: order.index(part.column)),
    )


def _related(study: Study) -> Table:
    return _table(
        "Image by image",
        "Spearman's rho over the images of all attacks together: of AMV and the loss that the attack added, of AMV and "
        "loss after purification, of their changes through it. A larger perturbation raises AMV and loss alike, so the "
        "partial rho beside it has ranks among the images of the same attack, given the L2 size of the perturbation. "
        "AUC: of two images that are wrong without a defense, the chance that the one that purification puts right is "
        "the one whose AMV, or loss, fell further; 0.50 is chance.",
        {"images": _whose},
        RELATIONS,
        study.relations,
    )


def _of_cells(study: Study) -> Table:
    order = list(dict.fromkeys(part.column for part in study.cells))
    return _table(
        "Image by image, under each attack",
        "The same, of images that met one attack of one size.",
        {"attack": lambda part: part.column, "defense": lambda part: part.defense},
        RELATIONS,
        sorted(study.cells, key=lambda part: order.index(part.column)),
        folded=True,
    )


def _of_layers(study: Study) -> Table:
    return _table(
        "Layer by layer",
        "Under all attacks together, for each decoder layer and both readings of the paper's norm, heads averaged.",
        {"layer": _layer, "images": _whose},
        SEEN,
        study.layers,
        folded=True,
    )


def _of_heads(study: Study) -> Table | None:
    groups: dict[tuple[str, str], list[Part]] = {}
    for part in study.heads:
        if part.role in (Role.RECONSTRUCTION, Role.ORACLE):
            groups.setdefault((_layer(part), part.defense), []).append(part)
    if not groups:
        return None
    columns = [column for column in SEEN if column.key in ("restored", "after", "change", "rescue_amv")]
    lines = [
        Line(
            (Cell(layer), Cell(defense, notes=(Note(f"{len(parts)} heads"),)), *(_span(parts, one) for one in columns))
        )
        for (layer, defense), parts in groups.items()
    ]
    return Table(
        "Head by head",
        (Column("layer", "layer"), Column("defense", "defense"), *columns),
        _begun(lines),
        "The least and the greatest value among the heads of a layer, for defenses that lower a loss and for oracles.",
        folded=True,
    )


def _span(parts: Sequence[Part], column: Column) -> Cell:
    known = [found.value for part in parts if (found := part[column.key])]
    return Cell(Range(min(known), max(known)) if known else None)


def _of_ratios(study: Study) -> Table | None:
    if not study.ratios:
        return None
    return _table(
        "Through masks of several ratios",
        "The same images, through masks that remove other shares of the patches; cells that differ in nothing else.",
        {"mask ratio": lambda part: f"{part.mask_ratio:g}", "images": _whose},
        SEEN,
        study.ratios,
    )


def _of_bounds(study: Study) -> Table:
    return _table(
        "What is left of the lower bound",
        "Theorem 3.2 of MAE-Pure says that the attacked loss is at least the clean one, plus K times the mean AMV, "
        "less a constant; neither K nor the constant is given. With the constant free no data contradict it, so it is "
        "taken as 0 here: the largest K that all images keep, or 95 % of them (0 or less: they keep none above 0), "
        "beside the K of the means, as the theorem has it. A lower bound on the loss by the change of attention does "
        "not say that less loss is less change: that is the converse, which the tables above ask about.",
        {"images": lambda part: f"{part.column}, on {part.defense}" if part.defense else part.column},
        BOUNDS,
        study.bounds,
    )


def _whose(part: Part) -> str:
    return part.defense or "attacked, not purified"


def _layer(part: Part) -> str:
    return f"{part.layer}, {part.matrix_norm}"


def _table(
    title: str,
    note: str,
    labels: Mapping[str, Callable[[Part], str]],
    columns: Sequence[Column],
    parts: Iterable[Part],
    *,
    folded: bool = False,
) -> Table:
    """Return a table with a row per part: its labels, of which the last leads to its cell, and its numbers."""
    lines = []
    for part in parts:
        *first, last = (label(part) for label in labels.values())
        notes = (Note(ROLES[part.role]),) if part.role in ROLES else ()
        named = (*map(Cell, first), Cell(last, f"f-{part.cell}" if part.cell else "", notes))
        lines.append(Line((*named, *(Cell(column.of(part)) for column in columns))))
    heads = [Column(name.replace(" ", "_"), name) for name in labels]
    return Table(title, [*heads, *columns], _begun(lines), note, folded=folded)


def _begun(lines: Sequence[Line]) -> Iterator[Line]:
    """Mark where the first of several labels changes."""
    last = None
    for line in lines:
        first = line.cells[0].value
        several = isinstance(line.cells[1].value, str)
        yield replace(line, begins=several and last not in (None, first))
        last = first
