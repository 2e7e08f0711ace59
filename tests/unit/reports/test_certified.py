"""What certificates say, against counts done by hand; boards and worst cases without them."""

import csv
import io
from dataclasses import replace

import pytest
from rich.console import Console

from harness.artifacts import Folder
from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import Member
from harness.core.job import Evaluate
from harness.core.result import Artifact, Cost, Done, Outcome
from harness.core.spec import Spec
from harness.store.read.frames import results
from harness.store.tend.check import check
from harness.store.write.store import Store
from reports.model.certified import certified, columns_up_to
from reports.model.leaderboard import read_leaderboard
from reports.render.csv_file import csv_text
from reports.render.html import html
from reports.render.latex import latex
from reports.render.markdown import markdown
from reports.render.terminal import leaderboard_tables

#: class and radius of each example; all are of class 3, and -1 abstains
SEEN = [(3, 0.55), (3, 0.25), (-1, 0.0), (5, 0.0)]
COST = Cost(4, 40.0, 4400, 0, 4400)


def certificate(bench, defense, name="vote", **options):
    """Return a cell with a certificate as a member of a suite."""
    clean = bench.cell(defense, None)
    spec = Spec.of("certificate", "smoothing", 1, {"sigma": 0.25, "n": 1000, **options})
    cell = replace(clean, certificate=spec, labels=Labels("digits", "cnn", defense, certificate=name))
    return Member(cell.labels, cell, random=False)


def record(path, cell: Cell, seen, start=0):
    store = Store.open(path)
    job = Evaluate(cell, Shard(0, start, start + len(seen)), 0, 1)
    outcomes = tuple(
        Outcome(100 + place, place, 0, label=3, prediction=found, correct=found == 3, radius=radius)
        for place, (found, radius) in enumerate(seen, start)
    )
    weights = tuple(Artifact(one.digest, "weights", "a" * 64, 1000, "cnn") for one in cell.recipes())
    store.finish(store.queue.claim(job), job, Done(artifacts=weights, outcomes=outcomes, defense_cost=COST))


@pytest.fixture
def path(toy):
    """The toy suite with certificates: one finished, one partial, one missing, one refused."""
    members = [certificate(toy, defense) for defense in ("mae-pure", "dmae", "none")]
    told = "It is <shown> the clean image."
    refused = Member(Labels("digits", "cnn", "amv-oracle", certificate="vote"), None, False, told)
    toy.members += [*members, refused]
    found = toy.write()
    record(found, members[0].cell, SEEN)
    record(found, members[1].cell, SEEN[:2])
    return found


def lines(path):
    (section,) = read_leaderboard(path).sections
    (table,) = section.certified
    return table, {line.entry.defense: line for line in table.lines}


def test_shares_are_counted_within_each_radius(path):
    table, found = lines(path)
    assert (table.dataset, table.classifier) == ("digits", "cnn")
    assert table.radii == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    one = found["mae-pure"]
    assert [share.share for share in one.shares] == [0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert {share.n for share in one.shares} == {4}
    assert (one.shares[0].low, one.shares[0].high) == (pytest.approx(0.1500, abs=1e-4), pytest.approx(0.8500, abs=1e-4))
    assert one.abstained.share == 0.25
    assert one.mean == pytest.approx((0.55 + 0.25) / 4)
    assert one.entry.defense_cost.evaluations == 1100


def test_a_radius_counts_where_it_is_reached_and_no_further(path):
    _, found = lines(path)
    rows = results(path).radii
    at = {eps: certified([found["mae-pure"].entry], rows.assign(radius=eps))[0] for eps in (0.1, 0.09999)}
    assert [share.share for share in at[0.1].lines[0].shares[-1:]] == [0.5]
    assert at[0.09999].radii[-1] < 0.1


def test_what_is_partial_missing_or_refused_says_so(path):
    table, found = lines(path)
    assert [line.entry.status for line in table.lines] == ["done", "partial", "missing", "skipped"]
    assert found["dmae"].shares[0].n == 2
    assert found["none"].shares == found["amv-oracle"].shares == ()
    assert [entry.defense for entry in table.reasons] == ["dmae", "none", "amv-oracle"]


def test_only_the_examples_that_the_suite_asks_for_count(bench):
    small = bench(n_examples=2)
    member = certificate(small, "dmae")
    small.members.append(member)
    path = small.write()
    record(path, member.cell, SEEN)
    assert len(results(path).radii) == 2
    assert results(path).radii.columns.tolist() == [
        *("id", "suite", "dataset", "classifier", "defense", "attack", "threat_model"),
        *("place", "label", "prediction", "correct", "radius"),
    ]


def shown(board):
    """Return what a board says, without when and by whom it was measured."""
    cells = [(entry.attack, entry.accuracy, entry.state) for entry in board.entries]
    return board.title, board.columns, [(row.defense, row.rank, row.worst) for row in board.rows], cells


def test_boards_are_what_they_are_without_certificates(path, toy, bench, tmp_path):
    plain = type(toy)(tmp_path / "plain.db", n_examples=4)
    plain.add("none", None, "1", "1", "1", "1")
    with_them = read_leaderboard(path).sections[0]
    ours = [certificate(plain, "none")]
    before = plain.write()
    (without,) = read_leaderboard(before).sections
    assert without.certified == ()
    again = type(toy)(tmp_path / "again.db", n_examples=4)
    again.add("none", None, "1", "1", "1", "1")
    again.members += ours
    written = again.write()
    record(written, ours[0].cell, SEEN)
    (both,) = read_leaderboard(written).sections
    assert [shown(board) for board in both.boards] == [shown(board) for board in without.boards]
    assert both.certified
    # neither among the attacks of a board, nor where refused cells without a budget are listed
    assert {entry.attack for board in with_them.boards for entry in board.entries} == {"clean", "pgd"}
    assert not any(entry.certified for entry in with_them.homeless)
    assert [row.defense for board in with_them.boards for row in board.rows].count("amv-oracle") == 0


def test_a_suite_without_certificates_reads_none(toy):
    path = toy.write()
    assert len(results(path).radii) == 0
    assert read_leaderboard(path).sections[0].certified == ()
    assert "certified, L2" not in html(read_leaderboard(path))


def test_a_database_with_certificates_is_sound(path, tmp_path):
    assert check(path, Folder(tmp_path / "none")).findings == ()


def test_every_rendering_has_them(path):
    board = read_leaderboard(path)
    page = html(board)
    assert "certified, L2" in page
    assert "<shown>" not in page
    assert "It is &lt;shown&gt; the clean image." in page
    text = markdown(board)
    assert "| mae-pure | vote | 50.0 \\[15.0, 85.0\\] |" in text
    assert "### digits / cnn / certified, L2" in text
    assert "digits / cnn / certified, L2" in latex(board)
    console = Console(width=200, file=io.StringIO())
    for table in leaderboard_tables(board, console):
        console.print(table)
    shown = console.file.getvalue()
    assert "certified, L2" in shown
    assert "partial, 2 of 4" in shown
    rows = [row for row in csv.DictReader(io.StringIO(csv_text(board))) if row["row"] == "certified"]
    mine = [row for row in rows if row["defense"] == "mae-pure"]
    assert [float(row["radius"]) for row in mine] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert [float(row["accuracy"]) for row in mine] == [0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert {row["norm"] for row in rows} == {"L2"}
    cells = [row for row in csv.DictReader(io.StringIO(csv_text(board))) if row["row"] == "cell"]
    assert len(cells) == len(board.sections[0].entries)


def test_a_line_falls_where_radii_end(path):
    table, _ = lines(path)
    plot = table.drawing
    assert [line.name for line in plot.lines] == ["mae-pure, vote", "dmae, vote"]
    assert len({line.dash for line in plot.lines}) == 2
    points = plot.lines[0].points
    full, none = (plot.bottom - share * (plot.bottom - plot.top) for share in (0.5, 0.0))
    half = (full + none) / 2
    assert [y for _, y in points] == pytest.approx([full, full, half, half, none], abs=0.1)
    xs = [plot.left + radius / 0.55 * (plot.right - plot.left) for radius in (0, 0.25, 0.25, 0.55, 0.55)]
    assert [x for x, _ in points] == pytest.approx(xs, abs=0.1)
    heights = sorted(line.label[1] for line in plot.lines)
    assert heights[1] - heights[0] >= 15


def test_nothing_is_drawn_where_nothing_is_certified(bench):
    alone = bench()
    member = certificate(alone, "dmae")
    alone.members.append(member)
    path = alone.write()
    record(path, member.cell, [(-1, 0.0)] * 4)
    table, found = lines(path)
    assert table.radii == (0.0,)
    assert table.drawing is None
    assert found["dmae"].abstained.share == 1.0
    assert "certified, L2" in html(read_leaderboard(path))


@pytest.mark.parametrize(
    ("largest", "columns"),
    [
        (0.0, [0]),
        (0.616, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        (0.953, [0, 0.25, 0.5, 0.75]),
        (1.906, [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]),
        (3.81, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]),
        (0.3, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
    ],
)
def test_columns_are_round_and_few(largest, columns):
    assert list(columns_up_to(largest)) == pytest.approx(columns)
