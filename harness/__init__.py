"""purebench: a declarative benchmark harness for adversarial purification.

``harness.results(url)`` returns what a database holds as pandas frames; everything else starts at the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.store.frames import Results as Results
    from harness.store.frames import results as results

__all__ = ["Results", "results"]


def __getattr__(name: str) -> Any:
    """Import pandas only when results are asked for."""
    if name in __all__:
        from harness.store import frames

        return getattr(frames, name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
