"""What commands print: plans, catalogues, status; plain values in, rich renderables out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from harness.core.spec import short
from harness.execution.driver.progress import duration
from harness.store.read.origins import Kind
from harness.suite.plan import Plan, PlanVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.cli.doctor import Finding
    from harness.execution.recheck.estimate import PlanEstimate
    from harness.execution.recheck.verify import Verified
    from harness.store.read.edited import Edited
    from harness.store.read.origins import Origin
    from harness.store.read.status import Status, SuiteStatus
    from harness.suite.catalog import ComponentInfo, FileInfo

COLOURS = {PlanVerdict.RUN: "cyan", PlanVerdict.DONE: "green", PlanVerdict.STALE: "yellow", PlanVerdict.SKIPPED: "dim"}
#: what became of results that were computed again, in the order in which it is told
VERIFIED = {
    "equal": "equal to the last bit",
    "within": "within the tolerance",
    "different": "different",
    "failed": "failed",
    "not verifiable": "not verifiable",
}
VERBS = {"train": "train", "craft": "craft adversarial examples", "evaluate": "evaluate", "measure": "measure"}


def plan_table(plan: Plan) -> Table:
    """Show every cell with its verdict and reason."""
    table = Table(title="Cells", title_justify="left", header_style="bold")
    for column in ("cell", "defense", "attack", "threat model", "verdict", "reason"):
        table.add_column(column, overflow="fold")
    for planned in plan.cells:
        labels, cell = planned.member.labels, planned.member.cell
        table.add_row(
            short(cell.digest) if cell else "-",
            escape(f"{labels.defense} + {labels.classifier} on {labels.dataset}"),
            escape(labels.attack_title),
            escape(labels.threat_model),
            f"[{COLOURS[planned.verdict]}]{planned.verdict}",
            escape(planned.reason),
        )
    return table


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return a plan in plain values: a mapping per cell, and how many jobs of each kind are left."""
    cells = [
        {
            **one.member.labels.as_dict(),
            "attack": one.member.labels.attack_title,
            "id": one.member.cell.digest if one.member.cell else None,
            "verdict": str(one.verdict),
            "reason": one.reason,
        }
        for one in plan.cells
    ]
    return {"cells": cells, "jobs": {kind: len(plan.jobs_of(kind)) for kind in VERBS}}


def plan_jobs(plan: Plan) -> Iterable[str]:
    """Say which jobs are behind a plan, a line per kind."""
    for component in plan.unreadable:
        yield f"the source of {component} cannot be read, so that a change of it goes unnoticed: raise its version then"
    if not plan.jobs:
        yield "nothing to compute: " + plan_summary(plan)
        return
    for kind, verb in VERBS.items():
        jobs = plan.jobs_of(kind)
        if jobs:
            yield f"{verb}: {len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}"
            for title in dict.fromkeys(str(job).rpartition(" #")[0] or str(job) for job in jobs):
                yield f"  {title}"
    yield plan_summary(plan)


def plan_summary(plan: Plan) -> str:
    """Count the verdicts in a sentence."""
    counts = [f"{plan.count(verdict)} {verdict}" for verdict in PlanVerdict if plan.count(verdict)]
    return f"{len(plan.cells)} cells: {', '.join(counts)}"


def estimate_table(found: PlanEstimate) -> Table:
    """Show what each defense costs, and what defenses share."""
    table = Table(title="Estimate", title_justify="left", header_style="bold")
    for column in ("for", "jobs", "s per image judged", "s per image attacked", "device time", "share"):
        table.add_column(column, justify="left" if column == "for" else "right")
    for line in found.lines:
        sign = "~ " if line.rough else ""
        table.add_row(
            escape(line.name),
            str(line.jobs),
            "-" if line.evaluating is None else f"{line.evaluating:.2g}",
            "-" if line.crafting is None else f"{sign}{line.crafting:.2g}",
            sign + duration(line.seconds),
            f"{line.seconds / found.seconds:.0%}" if found.seconds else "-",
        )
    return table


def estimate_lines(found: PlanEstimate) -> Iterable[str]:
    """Say what it comes to, and what to think of it."""
    who = "1 worker" if found.workers == 1 else f"{found.workers} workers"
    yield (
        f"about {found.seconds / 3600:.2g} device-hours: {duration(found.wall)} with {who}, if none waits for another"
    )
    if found.stand_ins:
        yield f"networks that are not trained yet were stood in for: {', '.join(found.stand_ins)}"
    if any(line.rough for line in found.lines):
        yield (
            "~ an attack in it leaves images alone once they are wrong: it takes longer the more images withstand"
            + (", and of networks that are not trained yet that is not known" if found.stand_ins else "")
        )


def components_table(kind: str, components: Sequence[ComponentInfo]) -> Table:
    """Show the components of a kind with their options."""
    table = Table(title=f"{kind}s", title_justify="left", header_style="bold", show_lines=True)
    for column in ("name", "what", "options"):
        table.add_column(column, overflow="fold")
    for one in components:
        options = [
            f"[bold]{escape(option.name)}[/]: {escape(option.type)}"
            + (" (required)" if option.default is None else f" = {escape(option.default)}")
            + (f" [dim]{escape(option.description)}[/]" if option.description else "")
            for option in one.options
        ]
        about = [escape(one.fault or one.summary)]
        about += [f"[dim]{escape(line)}[/]" for line in (one.source, ", ".join(_flags(one))) if line]
        table.add_row(escape(one.name), "\n".join(about), "\n".join(options) or "[dim]none[/]")
    return table


def _flags(one: ComponentInfo) -> list[str]:
    traits = vars(one.traits) if one.traits else {}
    flags = [name.replace("_", " ") for name, holds in traits.items() if holds is True]
    return [*flags, "smooth signs"] if one.smooth else flags


def components_markdown(kind: str, components: Sequence[ComponentInfo]) -> str:
    """Return the same as a Markdown table, for a page: name, what it does, options with defaults, flags, source."""
    lines = [f"| {kind} | what it does | is | options, with their defaults | from |", "|---|---|---|---|---|"]
    for one in components:
        options = [
            f"`{option.name}`" + (" (required)" if option.default is None else f" {option.default}")
            for option in one.options
        ]
        cells = (f"`{one.name}`", one.fault or one.summary, ", ".join(_flags(one)), ", ".join(options), one.source)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") or "-" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def page(text: str, components: Callable[[str], Sequence[ComponentInfo]]) -> str:
    """Return a page with the tables that it asks for: where it names the command that prints one, for people."""
    return re.sub(
        r"<!-- purebench ls (\w+)s --markdown -->\n",
        lambda asked: components_markdown(asked[1], components(asked[1])),
        text,
    )


def files_table(title: str, files: Sequence[FileInfo]) -> Table:
    """Show shipped files by name."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("name")
    table.add_column("title")
    for file in files:
        table.add_row(escape(file.name), escape(file.title))
    return table


def status_table(suites: Sequence[SuiteStatus]) -> Table:
    """Count the cells of each suite by status."""
    table = Table(header_style="bold")
    for column in ("suite", "done", "partial", "missing", "skipped", "examples"):
        table.add_column(column, justify="left" if column == "suite" else "right")
    for suite in suites:
        name = f"{suite.name}, run in {suite.origin}" if suite.origin else suite.name
        counts = (suite.done, suite.partial, suite.missing, suite.skipped, suite.examples)
        table.add_row(escape(name), *map(str, counts))
    return table


def status_json(found: Status) -> dict[str, Any]:
    """Return how a database stands in plain values."""
    return {
        "suites": [one._asdict() for one in found.suites],
        "jobs": [one._asdict() for one in found.counts],
        "drivers": found.drivers,
        "seconds_left": found.seconds_left,
        "troubles": list(found.troubles),
    }


def status_lines(found: Status) -> Iterable[str]:
    """Say what is under way, how fast it goes and how long it takes, and what did not go well."""
    if found.counts:
        statuses = dict.fromkeys(count.status for count in found.counts)
        yield "jobs: " + ", ".join(f"{found.jobs(status)} {status}" for status in statuses)
    if found.drivers:
        runs = "1 run is" if found.drivers == 1 else f"{found.drivers} runs are"
        left = found.seconds_left
        rate = [f"{60 / one.seconds:.1f} {one.kind} jobs a minute and worker" for one in found.paces if one.seconds > 0]
        ending = f"about {duration(left)} left" if left is not None else "too early to say how long it takes"
        yield f"{runs} under way with {found.jobs('running')} jobs: " + ", ".join([*rate, ending])
    yield from found.troubles


def edited_lines(found: Sequence[Edited]) -> Iterable[str]:
    """Say which cells were measured by other code than what is at hand, and what to do."""
    for one in found:
        yield f"changed: {one}"
    if found:
        yield "the next run measures them anew; with --keep-old-code what is there stays, where you know it is the same"


def verified_lines(found: Verified) -> Iterable[str]:
    """Say what a verification found: how many results are in which state, then every one that is not equal."""
    yield f"{len(found.findings)} of {found.total} results were drawn, {found.checked} computed again"
    for state, words in VERIFIED.items():
        number = sum(one.state == state for one in found.findings)
        if number or state == "equal":
            yield f"{number} {words}"
    if found.adopted is not None:
        yield f"{found.adopted} cells of that origin may rank by it; --seed {found.seed} draws the same results"
    if found.elsewhere:
        yield f"recorded elsewhere: {'; '.join(found.elsewhere)}"
        yield f"there {found.tolerance}"
    if found.batches:
        equal = f"{found.equal_batches} equal to the last bit"
        yield f"{found.batches} adversarial batches compared with their files, {equal}"
    for one in found.findings:
        if one.state != "equal":
            yield f"{one.state}: cell {short(one.result.cell)} {one.result}: {one.said}"
    if found.same_code:
        yield "other code gave the same results; purebench takes it for the same once its list has these lines:"
        yield from map(str, found.same_code)


def origins_table(found: Sequence[Origin]) -> Table:
    """Show which databases results came from."""
    table = Table(header_style="bold")
    for column in (
        "origin",
        "database",
        "counts as",
        "arrived",
        "sha256",
        "cells",
        "may rank",
        "results",
        "suites",
    ):
        table.add_column(column, overflow="fold")
    for one in found:
        ours = one.kind is Kind.OWN
        table.add_row(
            escape(one.name),
            short(one.database),
            "ours" if ours else "others'",
            f"{one.arrived_at:%Y-%m-%d %H:%M}",
            short(one.sha256 or "-"),
            str(one.cells),
            "all" if ours else str(one.adopted),
            str(one.results),
            str(one.suites),
        )
    return table


def findings_table(findings: Sequence[Finding]) -> Table:
    """Show what the doctor found."""
    table = Table(header_style="bold")
    for column in ("", "looked at", "found"):
        table.add_column(column, overflow="fold")
    for one in findings:
        sign = {True: "[green]ok", False: "[red]no", None: "-"}[one.sound]
        table.add_row(sign, escape(one.subject), escape(one.found))
    return table
