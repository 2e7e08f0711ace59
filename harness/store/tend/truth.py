"""Truth: the ids and labels of the images that a cell was measured on, where its dataset is at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.core.local import entry_of
from harness.core.spec import Spec
from harness.data.order import order

if TYPE_CHECKING:
    from collections.abc import Mapping


class Truth(NamedTuple):
    """What a dataset says of the places of a cell.

    Attributes:
        examples: the id of the image at each place.
        labels: its label.
        classes: how many labels there are.
    """

    examples: np.ndarray[Any, np.dtype[np.int64]]
    labels: np.ndarray[Any, np.dtype[np.int64]]
    classes: int


class Truths:
    """The datasets that are at hand, each read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Truth | None] = {}

    def of(self, digest: str, spec: Mapping[str, Any], subset_seed: int) -> Truth | None:
        """Return the truth of a dataset's cells; None where the dataset of that version and content is not at hand.

        Args:
            digest: of the dataset.
            spec: what that is made of.
            subset_seed: of the cells: it says which images come first.
        """
        key = (digest, subset_seed)
        if key not in self._known:
            self._known[key] = _read(spec, subset_seed)
        return self._known[key]


def _read(spec: Mapping[str, Any], subset_seed: int) -> Truth | None:
    try:
        component = entry_of(Spec.from_dict(spec)).load()
        if component.version != spec["version"]:
            return None
        fields = component.Options.model_fields
        params = {name: value for name, value in spec["params"].items() if name in fields}
        built = component(component.Options.model_validate(params))
        if built.card.sha256 != spec["params"].get("content"):
            return None
        split = built.load("test")
        rows = order(subset_seed, len(split.labels))
        return Truth(np.asarray(split.ids)[rows], np.asarray(split.labels)[rows], built.card.n_classes)
    except Exception:  # whatever a dataset says when it is not there
        return None
