"""What others published, beside a board and never ranked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.table import Cell, Column, Link, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.store.tend.published import Reference


def _source(one: Reference) -> Cell:
    return Cell(Link(one.source, one.link))


_COLUMNS = (
    Column("method", "method", value=lambda one: one.method),
    Column("architecture", "architecture", value=lambda one: one.architecture or None),
    Column("attack", "attack", value=lambda one: one.attack),
    Column("clean", "clean", "percent", value=lambda one: one.clean),
    Column("robust", "robust", "percent", value=lambda one: one.robust),
    Column("source", "source", value=_source),
    Column("note", "note", value=lambda one: one.note),
)


def published_table(references: Sequence[Reference]) -> Table:
    """Return the table."""
    return Table.of("Published elsewhere, not ranked", _COLUMNS, references)
