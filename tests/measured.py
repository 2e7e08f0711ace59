"""Outcomes with the metrics that were taken of them, written as one row each, for tests that make results by hand."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from harness.core.metric import PROBE, AskedMetric, Measurement
from harness.core.registry import find
from harness.core.result import Outcome
from harness.core.spec import Spec

_OF_OUTCOME = {item.name for item in fields(Outcome)}


@dataclass(frozen=True)
class Row:
    """An outcome, and numbers of metrics by column; None where one is not finite or was not taken."""

    outcome: Outcome
    metrics: tuple[tuple[str, Any], ...] = ()

    def __getattr__(self, name: str) -> Any:
        """Return a number of a metric, or a part of the outcome."""
        metrics = dict(object.__getattribute__(self, "metrics"))
        return metrics[name] if name in metrics else getattr(object.__getattribute__(self, "outcome"), name)

    def but(self, **changes: Any) -> Row:
        """Return the same with some things otherwise."""
        own = {name: value for name, value in changes.items() if name in _OF_OUTCOME}
        others = {name: value for name, value in changes.items() if name not in _OF_OUTCOME}
        return Row(replace(self.outcome, **own), tuple({**dict(self.metrics), **others}.items()))


def row(*positional: Any, **told: Any) -> Row:
    """Return a row of an outcome's parts and of metrics."""
    own = {name: value for name, value in told.items() if name in _OF_OUTCOME}
    return Row(Outcome(*positional, **own), tuple((name, value) for name, value in told.items() if name not in own))


def metric(use: str, recipe: Spec | None = None, mask_ratio: float = 0.5, masks: int = 4) -> AskedMetric:
    """Return a metric that ships, through a probe if a recipe is given."""
    component = find("metric", use).load()
    through = {PROBE: {"mask_ratio": mask_ratio, "masks": masks}} if component.probed else {}
    spec = Spec.of("metric", use, 1, through, {PROBE: recipe} if recipe is not None and component.probed else {})
    return AskedMetric(spec, component.columns, component.probed)


def outcomes(rows: Any) -> tuple[Outcome, ...]:
    """Return the outcomes of rows."""
    return tuple(one.outcome if isinstance(one, Row) else one for one in rows)


def measurements(rows: Any, metrics: Any) -> tuple[Measurement, ...]:
    """Return what metrics gave of rows, in the order of places and repeats."""
    ordered = sorted(rows, key=lambda one: (one.place, one.repeat))
    repeats = len({one.repeat for one in ordered})
    found = []
    for one in metrics:
        names = [column.name for column in one.columns]
        if not all(any(name in dict(seen.metrics) for name in names) for seen in ordered):
            continue
        values = [[dict(seen.metrics).get(name) for seen in ordered] for name in names]
        if one.columns[0].axes:
            array = np.array(values, "<f4")
            shape = array.shape[2:]
        else:
            array, shape = np.array([[np.nan if v is None else v for v in some] for some in values], "<f8"), ()
        grid = array.reshape(len(names), len(ordered) // repeats, repeats, *shape)
        found.append(Measurement(one.spec.digest, tuple(names), grid.tobytes(), tuple(shape)))
    return tuple(found)
