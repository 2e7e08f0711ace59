"""Where a classifier's weights come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from harness.components import Classifier
from harness.options import Options as BaseOptions
from harness.options import Recipe

if TYPE_CHECKING:
    from torch import nn

    from harness.core.contracts import DataCard, Nets

#: registered name -> where the class is
TABLE = {
    "file": "harness.nets.files:FromFile",
    "python": "harness.nets.python:FromPython",
    "recipe": "harness.nets.classifiers:Trained",
    "robustbench": "harness.nets.robustbench:RobustBench",
}


class Trained(Classifier):
    """A classifier trained from a recipe."""

    version: ClassVar[int] = 1

    class Options(BaseOptions):
        """Which recipe."""

        recipe: Recipe = Field(description="recipe of the classifier")

    options: Options

    def load(self, nets: Nets, data: DataCard) -> nn.Module:
        """Return the trained network."""
        return nets["recipe"]
