"""Metrics of judged images, collected over the places and repeats of a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness.core.errors import UserError
from harness.core.metric import Measurement
from harness.metrics.judged import JudgedImages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.core.contracts import Metric
    from harness.core.spec import Spec
    from harness.draws import Draws
    from harness.execution.worker.judge import Batch
    from harness.metrics.probe import Probe

    Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    Defend = Callable[[], tuple[Tensor, Tensor]]


@dataclass
class LoadedMetric:
    """A metric with what it gave so far.

    Attributes:
        spec: its identity.
        metric: gives the numbers.
        probe: what it looks through; None where it does not.
        weights: content hash by recipe digest, of its networks.
        code: hashes of its code, by role.
        numbers: by column ``(places, repeats, *axes)``.
    """

    spec: Spec
    metric: Metric
    probe: Probe | None
    weights: Mapping[str, str]
    code: Mapping[str, str]
    numbers: dict[str, Numbers] = field(default_factory=dict)


class MetricCollector:
    """Takes metrics of some places and repeats.

    Args:
        metrics: what is asked for.
        first_place: the first place of the job, of ``places``.
        places: how many there are.
        repeats: which repeats.
    """

    def __init__(self, metrics: Sequence[LoadedMetric], first_place: int, places: int, repeats: range) -> None:
        self.metrics, self.first_place, self.places, self.repeats = metrics, first_place, places, repeats

    def of_examples(self, batch: Batch, adversarial: Tensor, masks: Draws) -> Callable[[int, Defend], None]:
        """Return what takes the metrics of some examples in a repeat, given what defends them.

        Args:
            batch: the examples.
            adversarial: the images that are judged.
            masks: the probe's stream; one for all cells, so that they are looked at through the same masks.
        """
        rows = batch.places.numpy() - self.first_place
        before: dict[int, JudgedImages] = {}

        @torch.no_grad()
        def take(repeat: int, defend: Defend) -> None:
            judged: dict[int, JudgedImages] = {}
            for taken in self.metrics:
                through = id(taken.probe)
                if through not in judged:
                    known = before.get(through)
                    judged[through] = (
                        JudgedImages(batch.x, adversarial, batch.y, defend, taken.probe, masks)
                        if known is None
                        else known.again(defend)
                    )
                for name, numbers in self._measured(taken, judged[through], len(batch)).items():
                    whole = taken.numbers.get(name)
                    if whole is None:
                        shape = (self.places, len(self.repeats), *numbers.shape[1:])
                        whole = taken.numbers[name] = np.full(shape, np.nan)
                    whole[rows, self.repeats.index(repeat)] = numbers
            before.update(judged)

        return take

    def measurements(self) -> tuple[Measurement, ...]:
        """Return what was taken, in plain values."""
        return tuple(self._packed(taken) for taken in self.metrics)

    def _measured(self, taken: LoadedMetric, judged: JudgedImages, size: int) -> dict[str, Numbers]:
        """Return the numbers of a batch by column; those that are not finite are not a number.

        Raises:
            UserError: if they are not what the metric declares.
        """
        columns = {column.name: column for column in taken.metric.columns}
        given = taken.metric.measure(judged)
        name = taken.spec.label or taken.spec.use
        if not isinstance(given, dict) or given.keys() != columns.keys():
            names = ", ".join(map(str, given)) if isinstance(given, dict) else type(given).__name__
            raise UserError(
                f"metric {name}: expected a dictionary with {', '.join(columns)} from `measure`, got {names}"
            )
        numbers = {}
        for key, values in given.items():
            fits = isinstance(values, Tensor) and values.ndim == 1 + len(columns[key].axes) and len(values) == size
            if not fits or values.is_complex():
                shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
                axes = "".join(f", {axis}" for axis in columns[key].axes)
                raise UserError(f"metric {name}: expected {key} as a tensor ({size}{axes}), got {shape}")
            array = values.detach().to("cpu", torch.float64).numpy()
            whole = np.isfinite(array).reshape(size, -1).all(1).reshape(size, *[1] * (array.ndim - 1))
            numbers[key] = np.where(whole, array, np.nan)
        return numbers

    def _packed(self, taken: LoadedMetric) -> Measurement:
        names = tuple(column.name for column in taken.metric.columns)
        arrays = [taken.numbers[name] for name in names]
        shape = arrays[0].shape[2:]
        kind = "<f4" if shape else "<f8"
        return Measurement(
            metric=taken.spec.digest,
            names=names,
            values=b"".join(array.astype(kind).tobytes() for array in arrays),
            shape=tuple(int(length) for length in shape),
            weights=dict(taken.weights),
            code=dict(taken.code),
        )
