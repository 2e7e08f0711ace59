"""What a metric gives: its columns, and what was measured of them, as plain values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.core.spec import Spec

#: beside a metric's own options and networks: the probe that it looks through
PROBE = "probe"

#: the first two axes of the AMV by head: which image is compared with the clean one, and the matrix norm
AMV_AXES = {"image": ("adversarial", "purified"), "matrix_norm": ("frobenius", "spectral")}

#: how a column's numbers are written: as they are, in per cent, or as whole numbers
FORMATS = ("number", "percent", "count")

#: as a column may be called
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

#: columns that frames of results have in any case
RESERVED = frozenset(
    {
        *("suite", "id", "dataset", "classifier", "defense", "attack", "threat_model", "certificate", "cell", "origin"),
        *("norm", "eps", "knowledge", "status", "reason", "elsewhere", "random", "decision", "n", "n_repeats"),
        *("faults", "wanted_examples", "wanted_repeats", "accuracy", "low", "high", "radius", "example", "place"),
        *("repeat", "label", "prediction", "correct", "fault", "source_defense", "source_classifier"),
    }
)


@dataclass(frozen=True)
class MetricColumn:
    """A number that a metric gives of each example and repeat.

    Attributes:
        name: its column in frames and CSV files: lower-case letters, digits and underscores.
        group: the heading that it shares with its neighbours in a table.
        title: its own heading.
        unit: of the number; empty where it has none.
        format: how tables write it, one of ``FORMATS``.
        legend: what it means, in a sentence or two, for all columns of its group.
        axes: where it is an array of numbers, what its axes are; tables leave it out. Such a column stands alone in its
            metric.
    """

    name: str
    group: str
    title: str
    unit: str = ""
    format: str = "number"
    legend: str = ""
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what frames and tables could not show.

        Raises:
            ValueError: if the name or the format is none.
        """
        if not NAME.fullmatch(self.name) or self.name in RESERVED:
            raise ValueError(
                f"expected a column's name of lower-case letters, digits and underscores that no frame has already, "
                f"got {self.name!r}"
            )
        if self.format not in FORMATS:
            raise ValueError(f"expected a format of {', '.join(FORMATS)}, got {self.format!r}")

    def as_dict(self) -> dict[str, Any]:
        """Return it in plain JSON types."""
        return {**vars(self), "axes": list(self.axes)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> MetricColumn:
        """Return the column whose ``as_dict`` this is."""
        return cls(**{**record, "axes": tuple(record["axes"])})


@dataclass(frozen=True)
class AskedMetric:
    """A metric that a suite asks for.

    Attributes:
        spec: its identity: name, version, options and, where it looks through one, the probe.
        columns: what it gives.
        probed: whether it looks through the probe.
    """

    spec: Spec
    columns: tuple[MetricColumn, ...]
    probed: bool = field(default=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return it in plain JSON types, the spec by its digest."""
        return {"metric": self.spec.digest, "columns": [column.as_dict() for column in self.columns]}


@dataclass(frozen=True)
class Measurement:
    """What a metric gave of the places and repeats of a job.

    Attributes:
        metric: the digest of its spec.
        names: its columns.
        values: numbers by column, place and repeat, one after the other: doubles, lowest byte first; of a column with
            axes single ones, the axes last. Not a number where it is not finite.
        shape: the lengths of a column's axes; empty of plain numbers.
        weights: content hash by recipe digest, of the networks that it looked through.
        code: hashes of its code, by role.
    """

    metric: str
    names: tuple[str, ...]
    values: bytes
    shape: tuple[int, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)


def clashes(metrics: Sequence[AskedMetric]) -> list[str]:
    """Return the columns that more than one metric has."""
    names = [column.name for metric in metrics for column in metric.columns]
    return sorted({name for name in names if names.count(name) > 1})
