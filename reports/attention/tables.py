"""The tables of a study of attention, as text: the same on the page and in Markdown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core.roles import Role
from reports import format as numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from reports.attention.quantities import Part
    from reports.attention.study import Study
    from reports.stats.bootstrap import Estimate

    Write = Callable[[float], str]


def decimals(value: float) -> str:
    """Write a chance with two decimals."""
    return f"{value:.2f}"


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        key: of ``QUANTITIES``.
        title: its heading.
        under: the second line of it.
        write: how to write a number of it.
        interval: whether the interval stands beneath.
    """

    key: str
    title: str
    under: str
    write: Write
    interval: bool = True

    def text(self, found: Estimate | None) -> tuple[str, str]:
        """Return the number and what stands beneath it."""
        if found is None:
            return numbers.NOTHING, ""
        interval = self.interval and found.bounded
        return self.write(found.value), f"[{self.write(found.low)}, {self.write(found.high)}]" if interval else ""


@dataclass(frozen=True)
class Line:
    """A row: its labels, of which the first may have a second line, and its numbers.

    Attributes:
        cell: the id of the cell that it comes from; empty where it is of several.
        begins: whether a group of rows begins with it.
    """

    labels: tuple[str, ...]
    under: str
    cells: tuple[tuple[str, str], ...]
    cell: str = ""
    begins: bool = False


@dataclass(frozen=True)
class Table:
    """A table with what it says in words; ``folded`` where a page shows it on demand."""

    title: str
    note: str
    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    folded: bool = False


#: what stands beneath the name of a defense
ROLES: dict[str, str] = {
    Role.REFERENCE: "no defense",
    Role.RECONSTRUCTION: "lowers a loss",
    Role.ORACLE: "shown the clean image",
    Role.CONTROL: "control",
}

_PERCENT, _POINTS, _RHO, _MEASURE = numbers.percent, numbers.points, numbers.correlation, numbers.measure

EFFECTS = (
    Column("accuracy", "accuracy", "%", _PERCENT, interval=False),
    Column("gain", "gain", "points", _POINTS),
    Column("rescued", "put right", "% of images", _PERCENT, interval=False),
    Column("nearer", "AMV fell", "% of images", _PERCENT, interval=False),
    Column("rescued_nearer", "both", "% of images", _PERCENT),
    Column("loss_before", "loss", "before", _MEASURE, interval=False),
    Column("loss_after", "loss", "after", _MEASURE, interval=False),
    Column("amv_before", "AMV", "before", _MEASURE, interval=False),
    Column("amv_after", "AMV", "after", _MEASURE),
    Column("restored", "restored", "% of AMV", _PERCENT),
)

RELATIONS = (
    Column("before", "AMV, added loss", "rho, before", _RHO),
    Column("before_within", "at one size", "partial rho", _RHO),
    Column("after", "AMV, loss", "rho, after", _RHO),
    Column("after_within", "at one size", "partial rho", _RHO),
    Column("change", "changes of both", "rho", _RHO),
    Column("change_within", "at one size", "partial rho", _RHO),
    Column("rescue_amv", "AMV fell", "AUC of put right", decimals),
    Column("rescue_loss", "loss fell", "AUC of put right", decimals),
)

SEEN = (
    Column("amv_before", "AMV", "before", _MEASURE, interval=False),
    Column("amv_after", "AMV", "after", _MEASURE, interval=False),
    Column("restored", "restored", "% of AMV", _PERCENT),
    *(column for column in RELATIONS if column.key in ("before", "after", "change", "change_within", "rescue_amv")),
)

BOUNDS = (
    Column("below_clean", "less loss than clean", "% of images", _PERCENT),
    Column("k_all", "largest K", "all images", _MEASURE),
    Column("k_most", "largest K", "95 % of images", _MEASURE),
    Column("k_mean", "mean added loss / mean AMV", "", _MEASURE),
    Column("slope", "slope", "least squares", _MEASURE),
    Column("explained", "R\N{SUPERSCRIPT TWO}", "of that line", decimals),
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
    parts = sorted(study.effects, key=lambda part: order.index(part.column))
    return Table(
        "Accuracy, loss and attention",
        "Before and after purification, means over images. The gain is over the classifier without a defense on the "
        "same images; put right are those that are wrong without it and right with it. An attack that knows of the "
        "defense gives each one its own images, so there is neither. On clean input, the AMV after is what "
        "purification does to attention without any attack.",
        ("attack", "defense"),
        EFFECTS,
        tuple(_lines(parts, EFFECTS, lambda part: (part.column, part.defense))),
    )


def _related(study: Study) -> Table:
    return Table(
        "Image by image",
        "Spearman's rho over the images of all attacks together: of AMV and the loss that the attack added, of AMV and "
        "loss after purification, of their changes through it. A larger perturbation raises AMV and loss alike, so the "
        "partial rho beside it has ranks among the images of the same attack, given the L2 size of the perturbation. "
        "AUC: of two images that are wrong without a defense, the chance that the one that purification puts right is "
        "the one whose AMV, or loss, fell further; 0.50 is chance.",
        ("images",),
        RELATIONS,
        tuple(_lines(study.relations, RELATIONS, lambda part: (_whose(part),))),
    )


def _of_cells(study: Study) -> Table:
    order = list(dict.fromkeys(part.column for part in study.cells))
    return Table(
        "Image by image, under each attack",
        "The same, of images that met one attack of one size.",
        ("attack", "defense"),
        RELATIONS,
        tuple(
            _lines(
                sorted(study.cells, key=lambda part: order.index(part.column)),
                RELATIONS,
                lambda part: (part.column, part.defense),
            )
        ),
        folded=True,
    )


def _of_layers(study: Study) -> Table:
    return Table(
        "Layer by layer",
        "Under all attacks together, for each decoder layer and both readings of the paper's norm, heads averaged.",
        ("layer", "images"),
        SEEN,
        tuple(_lines(study.layers, SEEN, lambda part: (f"{part.layer}, {part.matrix_norm}", _whose(part)))),
        folded=True,
    )


def _of_heads(study: Study) -> Table | None:
    groups: dict[tuple[str, str], list[Part]] = {}
    for part in study.heads:
        if part.role in (Role.RECONSTRUCTION, Role.ORACLE):
            groups.setdefault((f"{part.layer}, {part.matrix_norm}", part.defense), []).append(part)
    if not groups:
        return None
    keys = ("restored", "after", "change", "rescue_amv")
    columns = tuple(column for column in SEEN if column.key in keys)
    lines = [
        Line(labels, f"{len(parts)} heads", tuple(_span(parts, column) for column in columns))
        for labels, parts in groups.items()
    ]
    return Table(
        "Head by head",
        "The least and the greatest value among the heads of a layer, for defenses that lower a loss and for oracles.",
        ("layer", "defense"),
        columns,
        tuple(_begun(lines)),
        folded=True,
    )


def _span(parts: Sequence[Part], column: Column) -> tuple[str, str]:
    known = [found.value for part in parts if (found := part[column.key])]
    return (f"{column.write(min(known))} to {column.write(max(known))}" if known else numbers.NOTHING), ""


def _of_ratios(study: Study) -> Table | None:
    if not study.ratios:
        return None
    return Table(
        "Through masks of several ratios",
        "The same images, through masks that remove other shares of the patches; cells that differ in nothing else.",
        ("mask ratio", "images"),
        SEEN,
        tuple(_lines(study.ratios, SEEN, lambda part: (f"{part.mask_ratio:g}", _whose(part)))),
    )


def _of_bounds(study: Study) -> Table:
    return Table(
        "What is left of the lower bound",
        "Theorem 3.2 of MAE-Pure says that the attacked loss is at least the clean one, plus K times the mean AMV, "
        "less a constant; neither K nor the constant is given. With the constant free no data contradict it, so it is "
        "taken as 0 here: the largest K that all images keep, or 95 % of them (0 or less: they keep none above 0), "
        "beside the K of the means, as the theorem has it. A lower bound on the loss by the change of attention does "
        "not say that less loss is less change: that is the converse, which the tables above ask about.",
        ("images",),
        BOUNDS,
        tuple(
            _lines(
                study.bounds,
                BOUNDS,
                lambda part: (f"{part.column}, on {part.defense}" if part.defense else part.column,),
            )
        ),
    )


def _whose(part: Part) -> str:
    return part.defense or "attacked, not purified"


def _lines(parts: Iterable[Part], columns: Sequence[Column], label: Callable[[Part], tuple[str, ...]]) -> list[Line]:
    lines = [
        Line(
            label(part),
            ROLES.get(part.role, ""),
            _cells(part, columns),
            part.cell,
        )
        for part in parts
    ]
    return list(_begun(lines))


def _begun(lines: Sequence[Line]) -> Iterator[Line]:
    """Mark where the first label changes; where there is but one label, every row is its own."""
    last = None
    for line in lines:
        yield replace(line, begins=len(line.labels) > 1 and last not in (None, line.labels[0]))
        last = line.labels[0]


def _cells(part: Part, columns: Sequence[Column]) -> tuple[tuple[str, str], ...]:
    return tuple(column.text(part[column.key]) for column in columns)
