"""The terminal: what is written to it shows the control characters of others and obeys none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.segment import Segment

from harness.core.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

#: columns of a pipe, which has no width of its own: wide enough that tables are not squeezed
PIPE = 160


class Screen(Console):
    """A console that renders text printably; its own codes for colours and bars are not text."""

    def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
        """Yield the segments of what is to be shown."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def out() -> Screen:
    """Return the standard output as it is now."""
    return Screen() if sys.stdout.isatty() else Screen(width=PIPE)


def err() -> Screen:
    """Return the standard error as it is now."""
    return Screen(stderr=True) if sys.stderr.isatty() else Screen(stderr=True, width=PIPE)


def warn(console: Console, sentence: object) -> None:
    """Say what a person should look at, though nothing stops for it."""
    console.print(f"warning: {sentence}", style="yellow", markup=False, highlight=False, soft_wrap=True)
