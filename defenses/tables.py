"""Tables 13 and 14 of MAE-Pure's paper: iterations, their step and the mask ratio, by method and dataset.

Source: submission 21073 of NeurIPS 2025. The step is 1 in all of them, read as one grey level, 1/255. The radius of the
ball ("clipping threshold") is in no table, so there is none here: the default of ``eps`` is this benchmark's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

#: the datasets of the tables
PaperDataset = Literal["cifar10", "cifar100", "svhn", "imagenet"]

PAPER = "dataset whose row of the paper's tables 13 and 14 is taken for what is not told; no part of the identity"
EPS = "radius of the Linf ball around the input that the result stays in; the paper's is not known, this one is ours"


class Row(NamedTuple):
    """What a method has on a dataset.

    Attributes:
        steps: iterations.
        mask_ratio: share of the patches that is removed.
        halve_step: whether the step is halved after half of the iterations (* in table 13).
        more: other options that differ there.
    """

    steps: int
    mask_ratio: float
    halve_step: bool = False
    more: Mapping[str, Any] = {}

    @property
    def options(self) -> dict[str, Any]:
        """The options that the row tells."""
        told = {"steps": self.steps, "mask_ratio": self.mask_ratio, "halve_step": self.halve_step}
        return {**told, "step_size": 1 / 255, **self.more}


#: of ImageNet the authors' checkpoint was taken, whose own loss is of pixels over their deviation by channel
_PUBLISHED = {"units": "standardised"}

#: method -> dataset -> row
ROWS: Mapping[str, Mapping[str, Row]] = {
    "mae-pure": {
        "cifar10": Row(150, 0.25, halve_step=True),
        "cifar100": Row(100, 0.30),
        "svhn": Row(150, 0.30, halve_step=True),
        "imagenet": Row(150, 0.20, halve_step=True, more=_PUBLISHED),
    },
    "rmae-pure": {
        "cifar10": Row(90, 0.25, halve_step=True),
        "cifar100": Row(65, 0.25),
        "svhn": Row(80, 0.25),
        "imagenet": Row(20, 0.25, more=_PUBLISHED),
    },
    "maskdit-pure": {
        "cifar10": Row(25, 0.50),
        "cifar100": Row(20, 0.50),
        "svhn": Row(20, 0.50),
        "imagenet": Row(25, 0.30),
    },
    "rmaskdit-pure": {
        "cifar10": Row(15, 0.50),
        "cifar100": Row(20, 0.50),
        "svhn": Row(20, 0.50),
        "imagenet": Row(20, 0.30),
    },
}


def with_row(method: str, told: Any) -> Any:
    """Return options as told, and where they are not those of the row that ``paper`` names."""
    if not isinstance(told, dict):
        return told
    name = told.get("paper", "cifar10")
    row = ROWS[method].get(name) if isinstance(name, str) else None
    return told if row is None else {**row.options, **told}
