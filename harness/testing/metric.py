"""The contract of a metric: its columns, numbers of each image alone, and always the same."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch

from harness.core.metric import MetricColumn
from harness.draws import Draws
from harness.metrics.judged import JudgedImages
from harness.metrics.probe import Probe
from harness.testing.nets import CARD, tiny_mae

if TYPE_CHECKING:
    from torch import Tensor

    from harness.core.contracts import DataCard, Metric

#: how far a number of an image may be from itself within another batch, as a part of the largest: the order of
#: additions in single precision
ROUNDING = 1e-4


class MetricContract:
    """What every metric promises.

    To test yours:

    1. Subclass, with a name that starts with ``Test``::

           class TestMine(MetricContract):
               def make(self):
                   return Mine(Mine.Options())

    2. Return the metric from ``make``; if it takes other images than ``(1, 8, 8)`` of ten classes, return the card of
       their dataset from ``card``.
    3. Run pytest.
    """

    def make(self) -> Metric:
        """Return the metric under test."""
        raise NotImplementedError("return the metric under test from make()")

    def card(self) -> DataCard:
        """Return the card of a dataset whose images it measures."""
        return CARD

    # ------------------------------------------------------------------ what it declares

    def test_columns_are_declared(self) -> None:
        """A tuple of ``MetricColumn``, no two of one name; one with axes stands alone."""
        columns: object = self.make().columns
        assert isinstance(columns, tuple), f"expected a tuple of columns, got {columns!r}"
        assert columns, "expected at least one column"
        assert all(isinstance(one, MetricColumn) for one in columns), "expected each column to be a MetricColumn"
        names = [one.name for one in columns]
        assert len(set(names)) == len(names), f"expected names that occur once, got {', '.join(names)}"
        assert len(columns) == 1 or not any(one.axes for one in columns), "expected a column with axes to stand alone"

    def test_it_is_made_of_options_alone(self) -> None:
        """Its class has a whole number as version, and options that need no value."""
        metric = self.make()
        assert isinstance(metric.version, int), f"expected a whole number as version, got {metric.version!r}"
        assert inspect.isclass(metric.Options), "expected a class of options as Options"

    # ------------------------------------------------------------------ what it measures

    def test_there_is_a_number_of_each_image(self) -> None:
        """A real tensor ``(B,)`` of each column and no other, ``(B, ...)`` of one with axes; of one image too."""
        metric = self.make()
        for size in (4, 1):
            measured = self._measured(metric, size)
            names = [column.name for column in metric.columns]
            assert sorted(measured) == sorted(names), f"expected {', '.join(names)}, got {', '.join(measured)}"
            for column in metric.columns:
                values: object = measured[column.name]
                assert isinstance(values, torch.Tensor), f"expected a tensor as {column.name}, got {type(values)}"
                shaped = values.ndim == 1 + len(column.axes) and len(values) == size
                wanted = f"({size}{', ...' if column.axes else ''})"
                assert shaped, f"expected {column.name} of shape {wanted}, got {tuple(values.shape)}"
                assert not values.is_complex(), f"expected {column.name} to be real, got {values.dtype}"

    def test_numbers_are_finite(self) -> None:
        """Also where nothing was changed, as on clean input."""
        for changed in (True, False):
            for name, values in self._measured(self.make(), 4, changed=changed).items():
                assert bool(torch.isfinite(values).all()), f"expected finite numbers as {name}, got some that are not"

    def test_a_number_depends_on_its_own_image_alone(self) -> None:
        """A shard may be cut anywhere: alone, in a batch, and in another order an image has the same number."""
        metric = self.make()
        whole = self._measured(metric, 4)
        alone = self._measured(metric, 4, pick=slice(1, 2))
        turned = self._measured(metric, 4, pick=[3, 2, 1, 0])
        for name, values in whole.items():
            scale = float(values.abs().max()) * ROUNDING
            for other in (alone[name][0], turned[name][2]):
                off = float((values[1] - other).abs().max())
                assert off <= scale, f"expected {name} of an image whatever is measured beside it, it is off by {off}"

    def test_it_measures_the_same_twice(self) -> None:
        """Nothing is drawn, and nothing is remembered."""
        metric = self.make()
        first = self._measured(metric, 4)
        self._measured(metric, 2)
        for name, values in self._measured(metric, 4).items():
            assert torch.equal(first[name], values), f"expected {name} to be the same at every call"

    def test_images_are_left_as_they_are(self) -> None:
        """Whoever measures next sees the same."""
        judged = self._judged(4)
        before = [image.clone() for image in (judged.clean, judged.adversarial, judged.purified, judged.logits)]
        self.make().measure(judged)
        after = (judged.clean, judged.adversarial, judged.purified, judged.logits)
        assert all(map(torch.equal, before, after)), "expected images and logits to be left as they are"

    # ------------------------------------------------------------------ helpers

    def _measured(
        self, metric: Metric, size: int, *, changed: bool = True, pick: slice | list[int] | None = None
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(metric.measure(self._judged(size, changed=changed, pick=pick)))

    def _judged(self, size: int, *, changed: bool = True, pick: slice | list[int] | None = None) -> JudgedImages:
        card = self.card()
        ids = torch.arange(size)
        draws = Draws(("toy metric",), ids)
        clean = 0.15 + 0.7 * draws.at("images").uniform(*card.shape)
        step = 0.1 * draws.at("attack").normal(*card.shape) if changed else 0.0 * clean
        adversarial = (clean + step).clamp(0.0, 1.0)
        purified = (clean + 0.5 * step).clamp(0.0, 1.0)
        logits = draws.at("logits").normal(card.n_classes)
        labels = ids % card.n_classes
        chosen = slice(None) if pick is None else pick
        probe = Probe(tiny_mae(), mask_ratio=0.5, masks=2)
        return JudgedImages(
            clean[chosen],
            adversarial[chosen],
            labels[chosen],
            lambda: (purified[chosen], logits[chosen]),
            probe,
            Draws(("toy masks",), ids[chosen]),
        )
