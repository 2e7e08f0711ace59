"""The commands that look after databases: bring forward, check, merge, forget, export, import.

Also what every command does that reads one: it tells damage from a bug.
"""

from __future__ import annotations

import functools
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from harness.console import err as _err
from harness.console import out as _out
from harness.core.errors import UserError
from harness.core.spec import short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: exit code where something is not as it should be, and no mistake of the user's
FAILED = 1

app = typer.Typer(help="Look after a database.", no_args_is_help=True, rich_markup_mode=None)

Url = Annotated[str, typer.Argument(metavar="URL", help="a path, or an SQLAlchemy URL")]


class Export(StrEnum):
    """What ``db export`` writes."""

    PARQUET = "parquet"
    CSV = "csv"
    ROBUSTBENCH = "robustbench"
    ADVERSARIAL = "adversarial"


def reads(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command, where an error that nobody foresaw ends it, say which of its databases is damaged, if one is.

    Args:
        names: of the arguments that name databases.
    """

    def mark(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def guarded(**given: Any) -> None:
            try:
                command(**given)
            except (UserError, typer.Exit, OSError):
                raise
            except Exception as error:
                from harness.store.tend.check import damage

                for url in _named(given[name] for name in names):
                    if said := damage(url):
                        remedy = f"see `purebench db check {url}`"
                        raise UserError(f"expected a sound database at {url}, but {said}; {remedy}") from error
                raise

        return guarded

    return mark


def _named(values: Iterator[Any]) -> Iterator[str]:
    """Yield the databases among arguments, of which one may be a list, or go on with a suite after a colon."""
    for value in values:
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                before, _, _ = one.rpartition(":")
                yield before if "://" not in one and Path(before).is_file() else one


@app.command()
@reads("url")
def upgrade(url: Url) -> None:
    """Bring an older database to the schema of this version; an SQLite file is copied beside itself first."""
    from harness.store.database import upgrade as bring_forward

    before, after, copy = bring_forward(url)
    said = f"schema {after}: nothing to do" if before == after else f"schema {before} -> {after}"
    _out().print(said + (f"; the file as it was: {copy}" if copy else ""), highlight=False, soft_wrap=True)


@app.command()
def check(url: Url) -> None:
    """Compare what a database says of itself with its rows, and name cells that mended faults could have touched.

    Nothing is written. Exit code 1 if something is damaged, which a cell in doubt is not: its suite can be run again.
    """
    from harness.artifacts import Folder
    from harness.store.tend.check import check as look

    with _err().status("opening") as shown:
        found = look(url, Folder.default(), shown.update)
    for sentence in (*found.findings, *found.doubts):
        _out().print(sentence, markup=False, highlight=False, soft_wrap=True)
    if found.findings:
        raise typer.Exit(FAILED)
    counts = ", ".join(f"{number} {name}" for name, number in found.counts.items())
    _out().print(f"sound: {counts}", highlight=False, soft_wrap=True)


@app.command()
@reads("sources", "into")
def merge(
    sources: Annotated[list[str], typer.Argument(metavar="URL...", help="databases that nobody writes to")],
    into: Annotated[str, typer.Option("--into", metavar="URL", help="a database; an absent one is made")],
    own: Annotated[
        bool, typer.Option("--own", help="they are ours: what they computed counts as computed here")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be new and what differs; write nothing")
    ] = False,
) -> None:
    """Bring several databases into one; what was measured twice counts once, and the same merge again adds nothing.

    What others computed stands beside ours, marked, and ranks once a share was computed again here:
    `purebench verify --origin NAME`. `purebench db forget NAME` removes it.
    """
    from harness.store.tend.merge import merge as bring_together

    with _err().status("opening") as shown:
        merged = bring_together(sources, into, shown.update, own=own, dry_run=dry_run)
    for line in (*merged.added, *merged.notes, *(["nothing was written"] if dry_run else [])):
        _out().print(str(line), markup=False, highlight=False, soft_wrap=True)


@app.command("origins")
@reads("url")
def list_origins(url: Url) -> None:
    """List the databases that results came from: when, from which file, and how much of it ranks."""
    from harness.cli import render
    from harness.store.read.origins import origins
    from harness.store.write.store import Store

    _out().print(render.origins_table(origins(Store.open(url))))


@app.command()
@reads("url")
def code(
    url: Url,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[CODE]", help="a file's name or the beginning of its hash; all are listed otherwise"),
    ] = None,
) -> None:
    """Show the text of files that suites took components from (`use: ./mine.py:Mine`); it is never run from here."""
    from harness.store.write.code import find_text, texts
    from harness.store.write.store import Store

    store = Store.open(url)
    if name is None:
        for one in texts(store):
            _out().print(f"{short(one.digest)}  {one.main}", markup=False, highlight=False, soft_wrap=True)
        return
    for path, text in find_text(store, name).files.items():
        _out().print(f"# {path}\n{text}", markup=False, highlight=False, soft_wrap=True)


@app.command()
@reads("url")
def forget(
    url: Url,
    name: Annotated[str, typer.Argument(metavar="ORIGIN", help="a file's name or the beginning of a database's")],
) -> None:
    """Remove all that came from another database, and nothing else."""
    from harness.store.read.origins import find_origin, forget
    from harness.store.write.store import Store

    store = Store.open(url)
    with store.hold():
        origin = find_origin(store, name)
        forget(store, origin)
    said = f"forgotten: {origin}, {origin.results} results of {origin.cells} cells, {origin.suites} suites"
    _out().print(said, markup=False, highlight=False, soft_wrap=True)


@app.command()
@reads("url")
def export(
    url: Url,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder for the files")],
    kind: Annotated[
        Export,
        typer.Option(
            "--format", help="frames as parquet or csv, RobustBench's model_info, or a cell's adversarial examples"
        ),
    ],
    suite: Annotated[Optional[str], typer.Option(metavar="NAME", help="only this suite")] = None,  # noqa: UP045
    cell: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="ID", help="whose adversarial examples; as reports show it"),
    ] = None,
) -> None:
    """Write what was measured for other programmes: frames, RobustBench's JSON, or examples for the attack replay."""
    from harness.store.tend.export import export as write_frames
    from reports.write import write_model_info

    if (kind == Export.ADVERSARIAL) != (cell is not None):
        raise UserError(
            "expected --cell together with --format adversarial, and with no other; name the cell by its id"
        )
    if cell is not None:
        from harness.artifacts import Folder
        from harness.store.tend.adversarial import export_adversarial

        path, sha256 = export_adversarial(url, out, cell, Folder.default())
        _out().print(f"{path}\nsha256: {sha256}", markup=False, highlight=False, soft_wrap=True)
        return
    paths = write_model_info(url, out, suite) if kind == Export.ROBUSTBENCH else write_frames(url, out, kind, suite)
    for path in paths:
        _out().print(str(path), markup=False, highlight=False, soft_wrap=True)
    if not paths:
        _out().print("nothing to write: no row is ranked, nor a finished reference", highlight=False)


@app.command("import")
@reads("url")
def import_(
    url: Url,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML or CSV, or RobustBench's JSON")],
) -> None:
    """Read figures that others published, to stand beside ours unranked; bring results of ours in with `db merge`."""
    from harness.store.tend.published import import_published

    found = import_published(url, files)
    _out().print(f"{found.new} figures new, {found.known} were there", highlight=False)
