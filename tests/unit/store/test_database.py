"""What --db, --out and PUREBENCH_HOME may name; what is no database of ours is a sentence and stays as it is."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import DataError
from typer.testing import CliRunner

from harness.artifacts import Folder
from harness.cli.commands import app
from harness.core.errors import UserError
from harness.folders import check_writable
from harness.store.database import OURS, _speak, connect, database_url, upgrade
from harness.store.tables import TableBase
from harness.store.write.store import Store

IN_MEMORY = [
    ":memory:",
    "",
    " ",
    "sqlite://",
    "sqlite:///",
    "sqlite:///:memory:",
    "sqlite+pysqlite:///:memory:",
    "sqlite:///file::memory:?cache=shared&uri=true",
    "sqlite:///file:runs?mode=memory&uri=true",
]

COMMANDS = {
    "run": lambda db, out: ["run", "quickstart", "--db", db],
    "plan": lambda db, out: ["plan", "quickstart", "--db", db],
    "dry run": lambda db, out: ["run", "quickstart", "--db", db, "--dry-run"],
    "status": lambda db, out: ["status", "--db", db],
    "report": lambda db, out: ["report", "--db", db, "--out", out],
    "compare": lambda db, out: ["compare", db, db],
    "verify": lambda db, out: ["verify", "--db", db],
    "check": lambda db, out: ["db", "check", db],
    "upgrade": lambda db, out: ["db", "upgrade", db],
    "merge from": lambda db, out: ["db", "merge", db, "--into", f"{out}.db"],
    "merge into": lambda db, out: ["db", "merge", f"{out}.db", "--into", db],
    "export": lambda db, out: ["db", "export", db, "--out", out, "--format", "csv"],
    "import": lambda db, out: ["db", "import", db, "rows.csv"],
}


def told(words):
    """Return the sentence that a command ends with."""
    ended = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(ended.exception, UserError), ended.output
    return str(ended.exception)


def others(path: Path, *tables: str) -> Path:
    with sqlite3.connect(path) as connection:
        for table in tables:
            connection.execute(f"CREATE TABLE {table} (id INTEGER, version_num TEXT)")
            connection.execute(f"INSERT INTO {table} VALUES (1, 'a1b2c3')")
    connection.close()
    return path


@pytest.mark.parametrize("text", IN_MEMORY)
def test_a_database_in_memory_is_refused(text):
    with pytest.raises(UserError, match=r"expected a database that is there after the command, got .*; name a file"):
        database_url(text)


#: the ways in; every command takes one of them
WAYS = {"reads": connect, "writes": lambda text: connect(text, create=True), "peeks": Store.peek, "upgrades": upgrade}

#: tables of someone else's; the second are what MLflow, Airflow and many others have
STRANGERS = [("notes",), ("alembic_version", "runs"), ("alembic_version", "results", "suites")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tables", STRANGERS, ids=" ".join)
def test_a_database_of_someone_else_is_refused_and_stays_as_it_is(way, tables, tmp_path):
    path = others(tmp_path / "strange.db", *tables)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"at .*strange.db, got one with other tables or none; name another"):
        WAYS[way](str(path))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_is_no_database_is_refused(way, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("nothing that a database would have, " * 100)
    with pytest.raises(UserError, match=r"notes.txt, but it answered: file is not a database; name a file"):
        WAYS[way](str(path))


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_goes_another_way(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    others(tmp_path / "strange.db", "alembic_version", "runs")
    Path("rows.csv").write_text("dataset\n")
    if command == "merge into":
        Store.open("out.db", create=True).engine.dispose()
    assert "strange.db, got one with other tables or none; name another" in told(COMMANDS[command]("strange.db", "out"))
    assert "one in memory; name a file" in told(COMMANDS[command]("sqlite:///:memory:", "out"))
    assert not Path(":memory:").exists()


def test_every_schema_has_the_tables_that_ours_are_known_by(tmp_path):
    assert set(TableBase.metadata.tables) | {"alembic_version"} >= OURS
    first = Path(__file__).parents[3] / "harness/store/migrations/versions/0001_first_release.py"
    for name in OURS - {"alembic_version"}:
        assert f'"{name}"' in first.read_text()


def test_an_integer_that_a_server_cannot_hold_is_a_sentence_and_other_rows_stay_a_bug():
    def complaint(said):
        error = DataError("INSERT", {}, RuntimeError(said))
        return SimpleNamespace(sqlalchemy_exception=error, is_pre_ping=False, is_disconnect=False)

    with pytest.raises(UserError, match="out of range; a number is too large for its column; choose a smaller one"):
        _speak("postgresql://host/runs", complaint("integer out of range"))
    _speak("postgresql://host/runs", complaint("invalid text representation"))


def test_an_empty_file_becomes_one(tmp_path):
    (tmp_path / "new.db").touch()
    connect(str(tmp_path / "new.db"), create=True).dispose()
    connect(str(tmp_path / "new.db")).dispose()


# ---------------------------------------------------------------------- folders


def no_folder(tmp_path: Path) -> Path:
    """Return a folder that nobody can make, whoever asks: what is above it is a file."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "folder"


def dangling(tmp_path: Path) -> Path:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at" / "all")
    return tmp_path / "link"


def a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    return tmp_path / "file"


def kernel(tmp_path: Path) -> Path:
    return Path("/proc/purebench")


def too_long(tmp_path: Path) -> Path:
    return tmp_path / ("a" * 300)


UNFIT = [no_folder, dangling, a_file, kernel, too_long]


@pytest.mark.parametrize("unfit", UNFIT)
def test_a_folder_that_cannot_be_written_is_told(unfit, tmp_path):
    with pytest.raises(UserError, match=r"expected to write frames into /.*, got: .*; choose another$"):
        check_writable(unfit(tmp_path), "frames", "choose another")


def test_looking_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "a" / "b", "frames", "choose another")
    check_writable(tmp_path, "frames", "choose another")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("unfit", UNFIT)
@pytest.mark.parametrize("command", ["report", "export"])
def test_out_is_looked_at_before_anything_is_read(unfit, command, tmp_path, monkeypatch):
    def never(*words, **more):
        raise AssertionError("the database was read")

    monkeypatch.setattr("reports.write.read_leaderboard", never)
    monkeypatch.setattr("harness.store.tend.export.results", never)
    Store.open(str(tmp_path / "runs.db"), create=True).engine.dispose()
    said = told(COMMANDS[command](str(tmp_path / "runs.db"), unfit(tmp_path)))
    assert "; choose another --out" in said


def test_out_of_adversarial_examples_and_of_cards_too(tmp_path):
    Store.open(str(tmp_path / "runs.db"), create=True).engine.dispose()
    for more in (["--format", "robustbench"], ["--format", "adversarial", "--cell", "abc"]):
        said = told(["db", "export", tmp_path / "runs.db", "--out", no_folder(tmp_path), *more])
        assert said.startswith("expected to write ")
        assert said.endswith("; choose another --out")


@pytest.mark.parametrize("below", ["", "weights", "adversarial"])
def test_the_home_and_its_folders_are_looked_at(below, tmp_path):
    home = tmp_path / "home"
    (home / below).parent.mkdir(exist_ok=True)
    (home / below).write_text("a file in a folder's place")
    with pytest.raises(UserError, match="set PUREBENCH_HOME to another"):
        Folder(home).check_writable()
