"""The command line: arguments, one call, an exit code.

Exit codes: 0 well, 1 cells failed, 2 the user's mistake, 3 a bug of ours, 130 interrupted.
"""

from __future__ import annotations

import json
import platform
import sys
import traceback
from dataclasses import asdict
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from harness.cli.databases import FAILED, reads
from harness.cli.databases import app as db_app
from harness.console import err as _err
from harness.console import out as _out
from harness.console import warn
from harness.core.errors import UserError
from harness.core.printable import printable

if TYPE_CHECKING:
    from harness.suite.suite import Suite

MISTAKE, BUG, INTERRUPTED = 2, 3, 130

app = typer.Typer(
    name="purebench",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Environment: PUREBENCH_HOME, where networks and adversarial batches are kept; PUREBENCH_DATA and "
        "PUREBENCH_WEIGHTS, where files of images and weights lie. Exit codes: 0 well, 1 cells failed, 2 a mistake in "
        "what was asked, 3 a bug of purebench, 130 interrupted."
    ),
)

app.add_typer(db_app, name="db")


class Format(StrEnum):
    """How ``compare`` writes."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    JSON = "json"


#: the database where none is named
DB = "purebench.db"

SuiteArgument = Annotated[str, typer.Argument(metavar="SUITE", help="a shipped suite's name, or a path")]
Database = Annotated[str, typer.Option("--db", metavar="URL", help="a path, or an SQLAlchemy URL")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for other programmes")]
Only = Annotated[
    Optional[str],  # noqa: UP045  (typer reads the annotation)
    typer.Option(metavar="EXPR", help="only cells such as 'defense=mae-*,attack=pgd|autoattack'"),
]
Limit = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(metavar="N", help="only the first N examples, rounded up to whole shards"),
]
WorkerCount = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--workers", min=1, metavar="N", help="worker processes on the CPU, one thread each; default: one per core"
    ),
]
Devices = Annotated[
    str, typer.Option(metavar="LIST", help="auto, cpu, or GPUs with a worker each, such as cuda:0,cuda:1")
]
BatchSize = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, metavar="N", help="images at a time; halved where memory does not suffice"),
]


KeepOldCode = Annotated[
    bool,
    typer.Option(
        "--keep-old-code", help="take what other code made for what the code at hand would make, where you know it is"
    ),
]


def _version(asked: bool) -> None:
    if asked:
        _out().print(f"purebench {metadata.version('purebench')}", highlight=False)
        raise typer.Exit


@app.callback()
def purebench(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Benchmark adversarial purification: a YAML suite in, a leaderboard out."""


@app.command(short_help="Check a suite file.")
def validate(suite: SuiteArgument) -> None:
    """Check a suite file; say everything that is wrong with it."""
    from harness.suite.load import load_suite
    from harness.suite.outlook import outlook

    checked = load_suite(suite)
    _doubts(checked)
    _out().print(f"{checked.name}: {len(checked.cells)} cells, {checked.evaluation.n_examples} examples each")
    for one in checked.code:
        files = ", ".join(path for path, _ in one.files)
        _out().print(f"your own code that a run will execute: {files}", markup=False, highlight=False, soft_wrap=True)
    below = outlook(checked)
    if below:
        said = f"rows that its own attacks will not rank, since {checked.evaluation.minimum} asks for more:"
        _out().print(said, markup=False, highlight=False, soft_wrap=True)
    for row in below:
        _out().print(f"  {row}", markup=False, highlight=False, soft_wrap=True)


@app.command(short_help="Show what a run would do, and what it costs.")
def plan(
    suite: SuiteArgument,
    db: Database = DB,
    only: Only = None,
    limit: Limit = None,
    keep_old_code: KeepOldCode = False,
    as_json: Json = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="time a little of each kind of work")] = False,
    workers: WorkerCount = None,
    devices: Devices = "auto",
    batch_size: BatchSize = None,
) -> None:
    """Show every cell with its verdict and reason, and the jobs behind them; with --estimate what they cost."""
    from harness.artifacts import Folder
    from harness.cli import render
    from harness.store.write.store import Store
    from harness.suite.load import load_suite
    from harness.suite.plan import make_plan

    checked = load_suite(suite)
    _doubts(checked)
    found = Store.peek(db)
    made = make_plan(checked, found, Folder.default(), only=only, limit=limit, keep_old_code=keep_old_code)
    if as_json:
        _print_json(render.plan_json(made))
        return
    _out().print(render.plan_table(made))
    for line in render.plan_jobs(made):
        _out().print(line, markup=False, highlight=False)
    if not estimate or not made.jobs:
        return
    from harness.execution.recheck.estimate import estimate as price

    priced = price(
        made,
        Folder.default(),
        _err(),
        devices=devices,
        workers=workers,
        batch_size=batch_size or checked.execution.batch_size,
    )
    _out().print(render.estimate_table(priced))
    for line in render.estimate_lines(priced):
        _out().print(line, markup=False, highlight=False, soft_wrap=True)


@app.command(short_help="Run a suite, or resume it.")
def run(
    suite: SuiteArgument,
    db: Database = DB,
    only: Only = None,
    limit: Limit = None,
    keep_old_code: KeepOldCode = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan and write nothing")] = False,
    workers: WorkerCount = None,
    devices: Devices = "auto",
    batch_size: BatchSize = None,
    executor: Annotated[str, typer.Option(metavar="NAME", help="local, ray, or inline: this process")] = "local",
    address: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="HOST:PORT", help="Ray cluster; default: one on this machine"),
    ] = None,
    resource: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME=AMOUNT", help="custom resource that each Ray task asks for; may be repeated"),
    ] = None,
) -> None:
    """Compute what is missing, and nothing else; run it again after an interruption."""
    if dry_run:
        plan(suite, db, only, limit, keep_old_code)
        return
    from harness.cli import render
    from harness.execution.driver.launch import Workers, amounts, launch

    who = Workers(executor, devices, workers, batch_size, address, amounts(resource or []))
    summary, made = launch(suite, db, only=only, limit=limit, keep_old_code=keep_old_code, workers=who, console=_err())
    if not made.jobs:
        _out().print(f"nothing to compute: {render.plan_summary(made)}", highlight=False)
        return
    lost = len(summary.failed) + len(summary.skipped)
    parts = [f"{summary.done} jobs done"]
    parts += [f"{summary.elsewhere} done by other runs"] if summary.elsewhere else []
    parts += [f"{lost} not: see `purebench status --db {db}`"] if lost else []
    _out().print(", ".join(parts), highlight=False, soft_wrap=True)
    if lost:
        raise typer.Exit(FAILED)


@app.command(short_help="Show how far suites have come.")
@reads("db")
def status(db: Database = DB, as_json: Json = False) -> None:
    """Show how far each suite has come, what is running, what has failed, and which cells' code has changed since."""
    from harness.cli import render
    from harness.store.read.edited import edited
    from harness.store.read.status import status as status_of

    found = status_of(db)
    if as_json:
        _print_json({**render.status_json(found), "edited": list(render.edited_lines(edited(db)))})
        return
    _out().print(render.status_table(found.suites))
    for line in (*render.status_lines(found), *render.edited_lines(edited(db))):
        _out().print(line, markup=False, highlight=False, soft_wrap=True)


@app.command(short_help="Write the page and the tables.")
@reads("db")
def report(
    db: Database = DB,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder for the files")] = Path("report"),
    suite: Annotated[Optional[str], typer.Option(metavar="NAME", help="only this suite")] = None,  # noqa: UP045
    decision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="RULE", help="how repeats are judged: mean, any, majority; the suite's rule unless told"),
    ] = None,
    own: Annotated[bool, typer.Option("--own", help="leave out what was run or computed in other databases")] = False,
    section: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="NAME",
            help="show this section in every format: one of `purebench ls sections`, or a class of a file, "
            "./mine.py:Mine; may be repeated",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write index.html, leaderboard.md, leaderboard.csv, .tex and what a probe saw; print the leaderboard."""
    from reports.render.json_file import boards_json
    from reports.render.terminal import leaderboard_tables
    from reports.sections.made import failures
    from reports.tables.describe import elsewhere
    from reports.write import make_report

    found, written = make_report(db, out, suite, decision, own=own, asked=section or ())
    for line in failures(found):
        _err().print(line, markup=False, highlight=False, soft_wrap=True)
    if as_json:
        _print_json(boards_json(found))
        return
    for table in leaderboard_tables(found, _out()):
        _out().print(table)
    for line in elsewhere(found.provenance):
        _out().print(line, markup=False, highlight=False, soft_wrap=True)
    page = next(path for path in written if path.suffix == ".html")
    _out().print(f"the page: {page.resolve()}", highlight=False, soft_wrap=True)


@app.command(short_help="Compare two databases, suites or rows.")
@reads("db", "first", "second")
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="DATABASE[:SUITE[/DEFENSE]], or with --db SUITE[/DEFENSE]")],
    second: Annotated[str, typer.Argument(metavar="B", help="likewise")],
    db: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--db", metavar="URL", help="the database of both"),
    ] = None,
    metrics: Annotated[bool, typer.Option("--metrics", help="metrics and costs too; reads every outcome")] = False,
    form: Annotated[Format, typer.Option("--format", help="how to write it")] = Format.TERMINAL,
) -> None:
    """Say in what two databases, suites or rows differ: in settings, then in numbers, with paired tests.

    Two databases: `compare old.db new.db`. Two suites of one: `compare --db runs.db small large`. Two rows:
    `compare --db runs.db mine/mae-pure mine/diffpure`, or `compare old.db:mine/dmae new.db:mine/dmae`.

    Cells are matched by the names of their parts; where each side has one suite, dataset, classifier or defense, its
    name does not matter. Rows on other examples, or with another budget, attack or decision, get no verdict.
    """
    from reports.compare.comparison import compare as look
    from reports.render import comparison as render

    found = look(first, second, db, metrics=metrics)
    if form == Format.TERMINAL:
        for part in render.terminal(found):
            _out().print(part)
    else:
        write = render.markdown if form == Format.MARKDOWN else render.as_json
        sys.stdout.write(printable(write(found)))


@app.command(short_help="Compute a part again, and compare.")
@reads("db")
def verify(
    db: Database = DB,
    fraction: Annotated[float, typer.Option(metavar="SHARE", help="of the results, above 0 and up to 1")] = 0.05,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", help="which results; the same seed takes the same. 0, or with --origin at random"),
    ] = None,
    suite: Annotated[Optional[str], typer.Option(metavar="NAME", help="only this suite")] = None,  # noqa: UP045
    origin: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="what came from this database, so that it may rank; see `db origins`"),
    ] = None,
    code: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="CODE",
            help="what may be run besides what is installed: a file that a suite took components from, or a "
            "module:function that one calls; may be repeated",
        ),
    ] = None,
    workers: WorkerCount = None,
    devices: Devices = "auto",
    flips: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="of predictions that may differ on other hardware or versions"
        ),
    ] = 0.02,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="by which means of metrics may differ there")
    ] = 0.05,
) -> None:
    """Compute a random part of the results again, attacks included, and compare.

    Nothing is written to the database, but with --origin that what others computed was found equal: of each of their
    cells that part and at least one result.

    On the same hardware with the same versions they must be equal to the last bit; elsewhere within a tolerance.
    Networks are not trained again: where their files are missing or others, a result cannot be verified, and the
    report says so. Exit code 1 if something differs or fails, or nothing could be verified.
    """
    from harness.artifacts import Folder
    from harness.cli import render
    from harness.core import local
    from harness.execution.recheck.result_comparison import Tolerance
    from harness.execution.recheck.verify import verify as look

    files = [one for one in code or () if one.endswith(".py")]
    local.know(local.read(Path(file), file) for file in files)
    found = look(
        db,
        Folder.default(),
        _err(),
        fraction=fraction,
        seed=seed,
        suite=suite,
        origin=origin,
        devices=devices,
        workers=workers,
        tolerance=Tolerance(flips, tolerance),
        allowed_calls=[one for one in code or () if one not in files],
    )
    for line in render.verified_lines(found):
        _out().print(line, markup=False, highlight=False, soft_wrap=True)
    if not found.sound:
        raise typer.Exit(FAILED)


@app.command(short_help="List suites, recipes and components.")
def ls(
    kind: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            metavar="[KIND]",
            help="suites, recipes, datasets, classifiers, defenses, attacks, certificates, networks, objectives, "
            "metrics, sections",
        ),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON Schema of a suite file")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="print components as a Markdown table")] = False,
    as_json: Json = False,
) -> None:
    """List what is shipped and installed: suites, recipes, components with their options."""
    from harness.cli import render
    from harness.core.errors import nearest
    from harness.core.registry import TABLES
    from harness.suite import catalog
    from harness.suite.schema import json_schema

    if schema:
        sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
        return
    shown = {"suites": catalog.suites, "recipes": catalog.recipes}
    known = [*shown, *(f"{one}s" for one in TABLES)]
    if kind is not None and kind not in known:
        raise UserError(f"expected one of {', '.join(known)}, got {kind!r}; {nearest(kind, known)}")
    if as_json:
        listed = {name: shown[name]() if name in shown else catalog.components(name[:-1]) for name in known}
        chosen = listed if kind is None else {kind: listed[kind]}
        _print_json({name: [asdict(one) for one in some] for name, some in chosen.items()})
        return
    for name in known if kind is None else [kind]:
        if markdown and name not in shown:
            sys.stdout.write(printable(render.components_markdown(name[:-1], catalog.components(name[:-1]))))
        elif name in shown:
            _out().print(render.files_table(name, shown[name]()))
        else:
            _out().print(render.components_table(name[:-1], catalog.components(name[:-1])))


@app.command("help", short_help="Show a page on a topic.")
def show_help(
    topic: Annotated[Optional[str], typer.Argument(metavar="[TOPIC]", help="all are listed otherwise")] = None,  # noqa: UP045
) -> None:
    """Show a page on a topic, or list the topics."""
    from harness.cli import render
    from harness.suite import catalog
    from harness.topics import topic as page
    from harness.topics import topics

    if topic is None:
        for name, text in topics().items():
            _out().print(f"{name:10} {text.partition(chr(10))[0].lstrip('# ')}", highlight=False, soft_wrap=True)
        return
    text = render.page(page(topic), catalog.components)
    if not _out().is_terminal:
        sys.stdout.write(text)
        return
    from rich.markdown import Markdown

    _out().print(Markdown(text))


@app.command(short_help="Look at the installation.")
def doctor() -> None:
    """Look at the installation: versions and who holds them, import names, extras, artifact folder, plug-ins."""
    from harness.cli import doctor as installation
    from harness.cli import render

    found = installation.findings()
    _out().print(render.findings_table(found))
    if any(one.sound is False for one in found):
        raise typer.Exit(MISTAKE)


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def _doubts(suite: Suite) -> None:
    """Say what is odd about a suite."""
    for doubt in suite.doubts:
        warn(_err(), doubt)


def main() -> None:
    """Run the command line and leave with its exit code."""
    from harness.cli.doctor import guard

    try:
        if "doctor" not in sys.argv[1:2]:
            guard()
        app()
    except UserError as error:
        for problem in error.problems:
            sys.stderr.write(printable(f"{problem}\n"))
        sys.exit(MISTAKE)
    except (SystemExit, KeyboardInterrupt) as end:
        # typer makes an exit code of Ctrl-C
        if isinstance(end, KeyboardInterrupt) or end.code == INTERRUPTED:
            then = "continues where it stopped" if sys.argv[1:2] == ["run"] else "begins anew"
            sys.stderr.write(f"interrupted; the same command {then}\n")
            sys.exit(INTERRUPTED)
        raise
    except BrokenPipeError:
        sys.exit(0)
    except Exception:
        sys.stderr.write(
            f"this is a bug of purebench {metadata.version('purebench')} "
            f"(Python {platform.python_version()}, {platform.platform()}); please report it with what follows\n"
        )
        sys.stderr.write(printable(traceback.format_exc()))
        sys.exit(BUG)


if __name__ == "__main__":
    main()
