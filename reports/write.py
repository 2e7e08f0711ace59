"""Writing a report into a folder: one pure function of the database per file."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.core.errors import UserError
from harness.core.printable import printable
from harness.folders import check_writable
from reports.attention.study import studies
from reports.model.leaderboard import Leaderboard, read_leaderboard
from reports.render.attention_csv import attention_csv
from reports.render.csv_file import csv_text, section_files
from reports.render.help_pages import NAME, help_page
from reports.render.html import html
from reports.render.latex import latex
from reports.render.markdown import markdown
from reports.render.robustbench import model_info
from reports.sections.made import sections

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reports.model.leaderboard import Leaderboard

RENDERERS = {
    "index.html": html,
    "leaderboard.md": markdown,
    "leaderboard.csv": csv_text,
    "leaderboard.tex": latex,
}


def write_report(url: str, out: Path, suite: str | None = None, decision: str | None = None, **how: Any) -> list[Path]:
    """Write a report; return its files, the page first. See ``make_report``."""
    return make_report(url, out, suite, decision, **how).paths


class Made(NamedTuple):
    """A report and its files, the page first."""

    report: Leaderboard
    paths: list[Path]


def make_report(
    url: str,
    out: Path,
    suite: str | None = None,
    decision: str | None = None,
    *,
    own: bool = False,
    asked: Sequence[str] = (),
) -> Made:
    """Read a database once and write the page and the tables, ``attention.csv`` where a probe has seen it.

    The same database gives the same bytes. Each file appears whole or not at all.

    Args:
        url: a path of an SQLite file or an SQLAlchemy URL.
        out: the folder.
        suite: only this suite; every suite if None.
        decision: how repeats are judged, in place of each suite's own rule.
        own: only what was run and computed here.
        asked: sections to show in every format; see ``reports.sections.made.sections``.

    Returns:
        What was written, and the paths, the page first.

    Raises:
        UserError: if there is no such database, suite, decision or section, or the folder cannot be written.
    """
    check_writable(out, "a report", "choose another --out")
    chosen = sections(asked)
    found = read_leaderboard(url, suite, decision, own=own)
    seen = tuple(studies(found.results, found.provenance)) if found.results else ()
    report = replace(found, studies=seen, asked=chosen)
    texts = {name: render(report) for name, render in RENDERERS.items()} | {NAME: help_page()}
    if report.studies:
        texts["attention.csv"] = attention_csv(report.studies)
    return Made(report, _write(out, texts | section_files(report)))


def write_model_info(url: str, out: Path, suite: str | None = None) -> list[Path]:
    """Write ``model_info/<dataset>/<norm>/<Model>.json`` as RobustBench has it; return the paths.

    Raises:
        UserError: if there is no such database or suite, or the folder cannot be written.
    """
    check_writable(out / "model_info", "RobustBench's JSON", "choose another --out")
    return _write(out / "model_info", model_info(read_leaderboard(url, suite)))


def _write(out: Path, texts: Mapping[str, str]) -> list[Path]:
    try:
        for name in texts:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
        return [_replace(out / name, text) for name, text in texts.items()]
    except OSError as error:
        raise UserError(
            f"expected a folder that can be written at {out}, got: {error}; choose another --out"
        ) from error


def _replace(path: Path, text: str) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    beside = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(printable(text))
        beside.chmod(0o644)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return path
