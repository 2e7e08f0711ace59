"""Figures that the benchmarks find out, in a table at the end of the run."""

from __future__ import annotations

import pytest
from rich.console import Console
from rich.table import Table

FIGURES: list[tuple[str, str, str]] = []


@pytest.fixture(scope="session")
def figure():
    """Return a function that notes a figure: what was measured, the value with its unit, and the limit if any."""

    def note(what: str, value: str, limit: str = "") -> None:
        FIGURES.append((what, value, limit))

    return note


def pytest_terminal_summary() -> None:
    if not FIGURES:
        return
    table = Table(title="Benchmarks", title_justify="left", header_style="bold")
    for column, justify in (("what", "left"), ("figure", "right"), ("limit", "right")):
        table.add_column(column, justify=justify)
    for row in FIGURES:
        table.add_row(*row)
    Console(width=120).print(table)
