"""What came from a stranger's database: marked, beside ours, never in its place, and gone when it is forgotten."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime

import pytest
from pandas.testing import assert_frame_equal
from sqlalchemy import select
from typer.testing import CliRunner

from harness.artifacts import Folder
from harness.cli.commands import app
from harness.core.contracts import Traits
from harness.core.errors import UserError
from harness.store.read.frames import results
from harness.store.read.latest import latest_suites
from harness.store.read.origins import Kind, confirm, find_origin, forget, identity, origins
from harness.store.read.provenance import provenance
from harness.store.read.status import status
from harness.store.tables import ArtifactRow, CellRow, JobRow, MeasureRow, ResultRow, TableBase
from harness.store.tend.check import check
from harness.store.tend.merge import merge
from harness.store.write.store import Store
from reports.model.leaderboard import read_leaderboard
from reports.write import write_report


@pytest.fixture
def ours(machine):
    made = machine("ours")
    made.measure(0, 12)
    made.measure(0, 12, attacked=False)
    return made


@pytest.fixture
def theirs(machine):
    """The same cells by other weights and with other outcomes."""
    made = machine("theirs", weights="b" * 64, shift=1)
    made.measure(0, 12)
    made.measure(0, 12, attacked=False)
    return made


def write(path, statement, *values):
    connection = sqlite3.connect(path)
    assert connection.execute(statement, values).rowcount > 0
    connection.commit()
    connection.close()


def dump(url):
    with Store.open(str(url)).engine.connect() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in TableBase.metadata.sorted_tables
        }


def sound(url, tmp_path):
    return check(str(url), Folder(tmp_path / "artifacts")).findings == ()


def shown(url, tmp_path, **options):
    """Every file of a report, but for what it says of others."""
    out = tmp_path / "report"
    return {path.name: path.read_text() for path in write_report(str(url), out, **options)}


def test_a_database_has_a_name_of_its_own(ours, theirs):
    names = []
    for one in (ours, theirs):
        with one.store.engine.connect() as connection:
            names.append(identity(connection))
    assert names[0] != names[1]
    assert all(len(name) == 32 for name in names)


def test_a_strangers_results_of_our_cells_change_no_figure_of_ours(ours, theirs, tmp_path):
    before = results(str(ours.path))
    report = shown(ours.path, tmp_path)
    merged = merge([str(theirs.path)], str(ours.path))
    assert merged.added[0].foreign
    assert merged.added[0].results == 2
    after = results(str(ours.path))
    for mine, yours in zip(before, after, strict=True):
        assert_frame_equal(mine, yours)
    assert set(after.cells["origin"]) == {None}
    again = shown(ours.path, tmp_path)
    for name, text in report.items():  # lines are added, and none of ours has changed
        assert set(text.splitlines()) - set(again[name].splitlines()) == set(), name
    assert shown(ours.path, tmp_path, own=True) == report
    assert sound(ours.path, tmp_path)


def test_it_is_said_how_they_differ_on_the_page_and_by_the_merge(ours, theirs, tmp_path):
    merged = merge([str(theirs.path)], str(ours.path))
    (origin,) = origins(ours.store)
    told = [note for note in merged.notes if "outcomes differ; ours are shown" in note]
    assert len(told) == 2
    (suite,) = provenance(str(ours.path)).suites
    assert [one.common for one in suite.disputes] == [24, 24]
    assert all(one.differing == 16 for one in suite.disputes)  # of three places in a row they differ in two
    page = shown(ours.path, tmp_path)
    for name in ("index.html", "leaderboard.md"):
        assert f"{origin.name} " in page[name].replace("\\_", "_")
        assert "16 of 24 outcomes differ; ours are shown" in page[name]


def test_the_same_results_of_a_stranger_stand_beside_ours_too(ours, machine, tmp_path):
    same = machine("same")
    same.measure(0, 12)
    merged = merge([str(same.path)], str(ours.path))
    assert merged.added[0].results == 1
    assert not [note for note in merged.notes if "differ" in note]
    (suite,) = provenance(str(ours.path)).suites
    assert [one.differing for one in suite.disputes] == [0]
    assert sound(ours.path, tmp_path)


def test_a_suite_of_the_year_9999_does_not_hide_ours(ours, theirs, tmp_path):
    theirs.declare("Theirs")
    write(theirs.path, "UPDATE suites SET declared_at = '9999-12-31 00:00:00.000000'")
    merge([str(theirs.path)], str(ours.path))
    assert latest_suites(ours.store)["toy"].title == "A toy"
    assert [one.title for one in provenance(str(ours.path)).suites] == ["A toy"]
    ours.declare("Ours, edited")  # and running it again brings it to the front
    assert latest_suites(ours.store)["toy"].title == "Ours, edited"


def test_a_clock_of_ours_that_was_set_back_does_not_hide_what_is_run_now(ours):
    far = datetime(9998, 1, 1, tzinfo=UTC)
    with ours.store.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE suites SET declared_at = '{far:%Y-%m-%d %H:%M:%S}.000000'")
    ours.declare("Edited")
    assert latest_suites(ours.store)["toy"].title == "Edited"


def test_what_nobody_measured_here_is_shown_in_its_own_suite_marked_and_unranked(machine, theirs, tmp_path):
    empty = Store.open(str(tmp_path / "ours.db"), create=True)
    merge([str(theirs.path)], str(tmp_path / "ours.db"))
    (origin,) = origins(empty)
    found = read_leaderboard(str(tmp_path / "ours.db"))
    (section,) = found.sections
    assert section.suite.origin == str(origin)
    rows = [row for board in section.boards for row in board.rows]
    assert [row.rank for row in rows] == [None] * len(rows)
    (mae,) = (row for row in rows if row.defense == "mae")
    assert mae.unranked == f"computed in {origin} and not again here; see `purebench verify --origin`"
    assert mae.worst is not None
    cells = results(str(tmp_path / "ours.db")).cells
    assert list(cells["origin"]) == [str(origin), str(origin), None]
    assert status(str(tmp_path / "ours.db")).suites[0].origin == str(origin)
    assert results(str(tmp_path / "ours.db"), own=True).cells.empty


def test_in_a_suite_of_ours_it_counts_for_nothing(machine, theirs, tmp_path):
    half = machine("half")
    half.measure(0, 12, attacked=False)
    before = results(str(half.path)).cells
    merge([str(theirs.path)], str(half.path))
    assert_frame_equal(results(str(half.path)).cells, before)
    (suite,) = provenance(str(half.path)).suites
    assert [one.ours for one in suite.disputes] == [None, pytest.approx(16 / 24)]
    assert "and nothing of it was measured here" in str(suite.disputes[0])


def test_running_a_strangers_suite_makes_it_ours_and_measures_it(machine, theirs, tmp_path):
    merge([str(theirs.path)], str(tmp_path / "new.db"))
    mine = machine("new")  # opens it and declares the suite
    assert provenance(str(mine.path)).suites[0].origin == ""
    assert set(results(str(mine.path)).cells["status"]) == {"missing", "skipped"}
    assert mine.store.covered([row[0] for row in dump(mine.path)["cells"]]) == {
        row[0]: [] for row in dump(mine.path)["cells"]
    }
    mine.measure(0, 12)
    assert set(results(str(mine.path)).cells["status"]) == {"done", "missing", "skipped"}
    assert sound(mine.path, tmp_path)


def test_how_a_job_of_ours_stands_a_stranger_has_no_say_in(machine, theirs):
    mine = machine("mine")
    mine.fail(0, 12)
    before = {row.digest: row.status for row in _jobs(mine)}
    merge([str(theirs.path)], str(mine.path))
    after = {row.digest: row.status for row in _jobs(mine)}
    assert {digest: after[digest] for digest in before} == before


def _jobs(machine):
    with machine.store.engine.connect() as connection:
        return connection.execute(select(JobRow.digest, JobRow.status)).all()


def test_what_a_defense_is_a_stranger_has_no_say_in(machine, theirs, tmp_path):
    told = json.dumps(vars(Traits(random=False, differentiable=True)))
    write(theirs.path, "UPDATE cells SET random = 0, traits = ?", told)
    merge([str(theirs.path)], str(tmp_path / "mine.db"))
    machine("mine")
    assert [row[-3] for row in dump(tmp_path / "mine.db")["cells"]] == [None, None]
    with Store.open(str(tmp_path / "mine.db")).engine.connect() as connection:
        assert list(connection.scalars(select(CellRow.random))) == [True, True]


def test_a_rehearsal_says_the_same_and_writes_nothing(ours, theirs, tmp_path):
    before = dump(ours.path)
    told = merge([str(theirs.path)], str(ours.path), dry_run=True)
    assert dump(ours.path) == before
    assert merge([str(theirs.path)], str(ours.path)) == told
    absent = tmp_path / "absent.db"
    assert merge([str(theirs.path)], str(absent), dry_run=True).added[0].results == 2
    assert not absent.exists()


def test_a_second_merge_adds_nothing(ours, theirs):
    merge([str(theirs.path)], str(ours.path))
    before = dump(ours.path)
    merged = merge([str(theirs.path)], str(ours.path))
    assert merged.added[0][1:5] == (0, 0, 0, ())
    assert dump(ours.path) == before


def test_a_copy_of_ours_is_a_stranger_unless_it_is_said_to_be_ours(ours, tmp_path):
    copy = tmp_path / "copy.db"
    ours.store.engine.dispose()
    copy.write_bytes(ours.path.read_bytes())
    write(copy, "UPDATE outcomes SET prediction = 5, correct = 0 WHERE place = 1")
    with pytest.raises(UserError, match=r"correct.* not as the outcomes have it; nothing of it was merged"):
        merge([str(copy)], str(ours.path))
    copy.write_bytes(ours.path.read_bytes())
    assert merge([str(copy)], str(ours.path), own=True).added[0].results == 0
    assert merge([str(copy)], str(ours.path)).added[0].results == 2
    assert [one.kind for one in origins(ours.store)] == [Kind.FOREIGN]


def test_what_a_stranger_has_from_others_is_left_out_and_said(ours, theirs, machine):
    third = machine("third", weights="c" * 64)
    third.measure(0, 12)
    merge([str(third.path)], str(theirs.path))
    merged = merge([str(theirs.path)], str(ours.path))
    assert merged.added[0].results == 2
    assert any("1 results that it has from elsewhere were left out" in note for note in merged.notes)
    assert len(origins(ours.store)) == 1


# ---------------------------------------------------------------------- adoption


def numbers(store):
    with store.engine.connect() as connection:
        arrived = select(ResultRow.id).where(ResultRow.arrival.is_not(None)).order_by(ResultRow.id)
        return list(connection.scalars(arrived))


def test_what_was_confirmed_ranks_and_what_arrives_later_takes_that_back(machine, theirs, tmp_path):
    url = str(tmp_path / "mine.db")
    merge([str(theirs.path)], url)
    store = Store.open(url)
    assert confirm(store, numbers(store)) == 2
    (origin,) = origins(store)
    assert (origin.cells, origin.adopted) == (2, 2)
    (section,) = read_leaderboard(url).sections
    assert [row.foreign for board in section.boards for row in board.rows] == [""] * sum(
        len(board.rows) for board in section.boards
    )
    theirs.n_examples = 16
    theirs.declare()
    theirs.measure(12, 16)
    merge([str(theirs.path)], url)
    (origin,) = origins(store)
    assert (origin.cells, origin.adopted) == (2, 1)
    assert confirm(store, numbers(store)) == 2
    assert sound(url, tmp_path)


def test_a_confirmed_cell_is_read_in_a_suite_of_ours_until_it_is_measured_here(machine, theirs, tmp_path):
    mine = machine("mine")
    merge([str(theirs.path)], str(mine.path))
    confirm(mine.store, numbers(mine.store))
    cells = results(str(mine.path)).cells
    assert list(cells["status"]) == ["done", "done", "skipped"]
    assert set(cells["origin"][:2]) == {str(origins(mine.store)[0])}
    mine.measure(0, 12)
    mine.measure(0, 12, attacked=False)
    assert set(results(str(mine.path)).cells["origin"]) == {None}


# ---------------------------------------------------------------------- forgetting


def test_what_is_forgotten_is_gone_and_all_else_is_as_it_was(ours, theirs, machine, tmp_path):
    other = machine("other", weights="c" * 64)
    other.measure(0, 12)
    before = dump(ours.path)
    theirs.declare("Theirs")
    merge([str(theirs.path), str(other.path)], str(ours.path))
    confirm(ours.store, numbers(ours.store))
    for name in ("theirs.db", "other.db"):
        forget(ours.store, find_origin(ours.store, name))
        assert sound(ours.path, tmp_path)
    after = dump(ours.path)
    components = {table: after.pop(table) == before.pop(table) for table in ("components",)}
    assert components == {"components": True}  # theirs were ours as well
    assert after == before


def test_what_both_have_stays_when_one_is_forgotten(ours, machine, tmp_path):
    same = machine("same")
    same.measure(0, 12)
    merge([str(same.path)], str(tmp_path / "new.db"))
    mine = machine("new")
    mine.measure(0, 12)
    forget(mine.store, find_origin(mine.store, "same.db"))
    assert list(results(str(mine.path)).cells["status"]) == ["done", "missing", "skipped"]
    with mine.store.engine.connect() as connection:  # the networks were found here too
        assert len(connection.execute(select(ArtifactRow.digest)).all()) == 2
        assert {row.arrival for row in connection.execute(select(MeasureRow.arrival))} == {None}
    assert sound(mine.path, tmp_path)


def test_an_origin_that_is_not_there_is_a_sentence(ours, theirs):
    with pytest.raises(UserError, match="nothing in this database comes from elsewhere"):
        find_origin(ours.store, "x.db")
    merge([str(theirs.path)], str(ours.path))
    with pytest.raises(UserError, match=r"expected one of theirs\.db \([0-9a-f]{12}\), got 'their.db'; did you mean"):
        find_origin(ours.store, "their.db")
    assert find_origin(ours.store, "theirs.db") == find_origin(ours.store, origins(ours.store)[0].database[:8])


def test_the_commands_list_and_forget(ours, theirs):
    merge([str(theirs.path)], str(ours.path))
    listed = CliRunner().invoke(app, ["db", "origins", str(ours.path)], env={"COLUMNS": "200"})
    assert listed.exit_code == 0
    assert "theirs.db" in listed.stdout
    assert "others'" in listed.stdout
    gone = CliRunner().invoke(app, ["db", "forget", str(ours.path), "theirs.db"])
    assert gone.stdout.startswith("forgotten: theirs.db (")
    assert origins(ours.store) == ()


def test_a_server_is_merged_and_forgotten_alike(ours, theirs, postgresql, tmp_path):
    url = postgresql()
    merge([str(ours.path)], url, own=True)
    before = results(url).cells
    merge([str(theirs.path)], url)
    assert_frame_equal(results(url).cells, before)
    store = Store.open(url)
    confirm(store, numbers(store))
    forget(store, find_origin(store, "theirs.db"))
    assert sound(url, tmp_path)
