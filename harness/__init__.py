"""purebench: a declarative benchmark harness for adversarial purification.

``harness.results(url)`` returns what a database holds as pandas frames. ``Purifier``, ``Attack``, ``Classifier``,
``Dataset``, ``Certificate``, ``Network``, ``Objective``, ``Metric`` and ``Section`` are base classes for components of
your own; a suite or a recipe names one in a file as ``use: ./mine.py:Mine``.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import Evaluation as Evaluation
    from harness.api import evaluate as evaluate
    from harness.api import plan as plan
    from harness.api import register as register
    from harness.api import report as report
    from harness.api import run as run
    from harness.api import validate as validate
    from harness.components import Attack as Attack
    from harness.components import Certificate as Certificate
    from harness.components import Classifier as Classifier
    from harness.components import Dataset as Dataset
    from harness.components import Metric as Metric
    from harness.components import Network as Network
    from harness.components import Objective as Objective
    from harness.components import Purifier as Purifier
    from harness.components import Section as Section
    from harness.core.contracts import Traits as Traits
    from harness.core.errors import UserError as UserError
    from harness.core.metric import MetricColumn as MetricColumn
    from harness.options import Options as Options
    from harness.store.read.frames import Results as Results
    from harness.store.read.frames import results as results

#: public name -> module that has it, imported when it is asked for: pandas is, and takes its time
_HOMES = {
    "Attack": "harness.components",
    "Evaluation": "harness.api",
    "evaluate": "harness.api",
    "plan": "harness.api",
    "register": "harness.api",
    "report": "harness.api",
    "run": "harness.api",
    "validate": "harness.api",
    "Certificate": "harness.components",
    "Classifier": "harness.components",
    "Dataset": "harness.components",
    "Metric": "harness.components",
    "MetricColumn": "harness.core.metric",
    "Network": "harness.components",
    "Objective": "harness.components",
    "Options": "harness.options",
    "Purifier": "harness.components",
    "Section": "harness.components",
    "Results": "harness.store.read.frames",
    "Traits": "harness.core.contracts",
    "UserError": "harness.core.errors",
    "results": "harness.store.read.frames",
}

__all__ = [
    "Attack",
    "Certificate",
    "Classifier",
    "Dataset",
    "Evaluation",
    "Metric",
    "MetricColumn",
    "Network",
    "Objective",
    "Options",
    "Purifier",
    "Results",
    "Section",
    "Traits",
    "UserError",
    "__version__",
    "evaluate",
    "plan",
    "register",
    "report",
    "results",
    "run",
    "validate",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name == "__version__":
        return metadata.version("purebench")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name what is public."""
    return sorted(__all__)
