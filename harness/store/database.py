"""Database: opening one, and bringing its schema forward; SQLite by path, PostgreSQL by URL."""

from __future__ import annotations

import functools
import sqlite3
import time
import uuid
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import psutil
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Float

from harness.core.errors import Unreachable, UserError
from harness.core.extras import POSTGRESQL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import ExceptionContext

    from harness.store.tables import TableBase

MIGRATIONS = Path(__file__).parent / "migrations"

#: what purebench can keep its results in
BACKENDS = ("sqlite", "postgresql")

#: file systems where the locks of SQLite are known not to hold between machines
NETWORKED = ("nfs", "nfs4", "cifs", "smb2", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "fuse.sshfs")

#: tables that every database of purebench has, whatever its schema; others too have one of Alembic's
OURS = frozenset({"alembic_version", "suites", "cells", "results", "outcomes"})

#: how long a connection waits for others to let go of an SQLite file, in seconds
_PATIENCE = 30.0

#: how long a server is waited for, in seconds; a connection that went dead is noticed within a minute
_PATIENT = {"connect_timeout": 20, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}

#: names this programme among the advisory locks of a PostgreSQL server
_MIGRATION_LOCK = 0x70757265


class Clock(FunctionElement[float]):
    """Seconds since 1970 by the database's own clock, which all its drivers share."""

    type = Float()
    inherit_cache = True


@compiles(Clock, "sqlite")
def _clock_of_sqlite(element: Clock, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Clock, "postgresql")
def _clock_of_postgresql(element: Clock, compiler: Any, **options: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


def database_url(text: str) -> URL:
    """Read what ``--db`` takes: a path of an SQLite file, or an SQLAlchemy URL.

    ``postgresql://`` without a driver means psycopg.

    Raises:
        UserError: if it is neither, or of a kind that purebench does not know.
    """
    if "://" not in text:
        url = URL.create("sqlite", database=text)
    else:
        try:
            url = make_url(text)
        except ArgumentError as error:
            raise UserError(f"expected a path or an SQLAlchemy URL such as sqlite:///runs.db, got {text!r}") from error
    if url.get_backend_name() not in BACKENDS:
        raise UserError(f"expected a database of {' or '.join(BACKENDS)}, got {url.get_backend_name()!r}")
    if url.get_backend_name() == "sqlite" and _in_memory(url):
        raise UserError(
            f"expected a database that is there after the command, got {text!r}, which is one in memory; name a file, "
            "such as runs.db"
        )
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _in_memory(url: URL) -> bool:
    """Whether an SQLite database has no file, in any of the ways to say so, or a temporary one."""
    named = (url.database or "").strip()
    return not named or ":memory:" in named or "memory" in (url.query.get("mode"), _mode(named))


def _mode(named: str) -> str:
    """Return the mode that a name of the form ``file:name?mode=...`` asks for; empty where there is none."""
    return "".join(parse_qs(urlsplit(named).query).get("mode", [])) if named.startswith("file:") else ""


def file_of(url: URL) -> Path | None:
    """Return the file of an SQLite database; None for others."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    return Path(url.database)


def head() -> str:
    """Return the schema version that this code reads and writes."""
    revision = _scripts().get_current_head()
    if revision is None:
        raise RuntimeError("expected at least one migration beside the tables")
    return revision


def connect(text: str, *, create: bool = False) -> Engine:
    """Open a database of this code's schema; with ``create`` an absent one is made.

    Raises:
        UserError: if it is absent (without ``create``), of another schema version, out of reach, or no database.
    """
    path = file_of(database_url(text))
    if path is not None:
        _check_path(path, create)
    engine = _engine(text)
    if create and not inspect(engine).get_table_names():
        _migrate(engine)
    _check_revision(_revision(engine), text)
    _check_tables(engine, text)
    return engine


def upgrade(text: str) -> tuple[str, str, Path | None]:
    """Bring a database to this code's schema; return the version before, the one after and the copy made before.

    An SQLite file is copied beside itself first.

    Raises:
        UserError: if it is absent, no database of purebench, or written by a newer version.
    """
    path = file_of(database_url(text))
    if path is not None:
        _check_path(path, create=False)
    engine = _engine(text)
    before = _revision(engine)
    _check_tables(engine, text)
    if before is None or before == head() or before not in _revisions():
        _check_revision(before, text)
        return head(), head(), None
    copy = _copied(path, before) if path is not None else None
    _migrate(engine)
    engine.dispose()
    return before, head(), copy


def networked(path: Path) -> str | None:
    """Return the kind of the file system that a path is on if it is one shared over a network, else None."""
    path = path.absolute()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    kind = next((mounts[folder] for folder in (path, *path.parents) if folder in mounts), "")
    return kind if kind in NETWORKED else None


def insert_new(connection: Connection, table: type[TableBase], rows: Sequence[dict[str, Any]]) -> None:
    """Insert the rows that are not there yet; what is there stays as it is."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    if rows:
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)


def lock_of(path: Path) -> FileLock:
    """Return the lock beside an SQLite file: held while it is made or brought forward, and by its one driver.

    It goes by the file, whatever link leads there.
    """
    there = path.resolve()
    return FileLock(there.with_name(there.name + ".lock"))


def _shown(text: str) -> str:
    """Return a URL without its password."""
    return database_url(text).render_as_string() if "://" in text else text


def _check_path(path: Path, create: bool) -> None:
    if path.is_dir():
        raise UserError(f"expected a database file, got the folder {path}; name a file in it")
    if path.exists():
        if path.stat().st_nlink > 1:
            raise UserError(
                f"expected a database file with one name, got {path}, which has {path.stat().st_nlink} (hard links), "
                "and two runs could write to it at once; copy it with `cp`, or take the other names away"
            )
        return
    if not create:
        raise UserError(f"expected a database at {path}, found none; `purebench run SUITE --db {path}` makes one")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"expected a folder for {path}, could not make it: {error}") from error


def _engine(text: str) -> Engine:
    """Return an engine that turns what its database complains about into a sentence.

    Raises:
        UserError: if there is no driver for such a database.
    """
    url = database_url(text)
    is_sqlite = url.get_backend_name() == "sqlite"
    patience = {} if is_sqlite else {name: value for name, value in _PATIENT.items() if name not in url.query}
    try:
        # a server's lost connection is noticed before it is used, so that it may be restarted during a run
        engine = create_engine(url, pool_pre_ping=not is_sqlite, connect_args=patience)
    except NoSuchModuleError as error:
        raise UserError(f"expected a database that SQLAlchemy can open, got {text!r}: {error}") from error
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise UserError(POSTGRESQL.missing(_shown(text)) or str(error)) from error
    if is_sqlite:
        event.listen(engine, "connect", _sqlite_pragmas)
    else:
        event.listen(engine, "do_connect", _call)
    event.listen(engine, "handle_error", functools.partial(_speak, text))
    # whoever lets go of an engine has said goodbye to the server
    weakref.finalize(engine, engine.pool.dispose)
    return engine


#: what a database says -> what to do
_REMEDIES = {
    "disk is full": "make room and run the same command again: what was recorded stays",
    "No space left": "make room on the server and run the same command again: what was recorded stays",
    "readonly": "choose a --db in a folder that can be written",
    "unable to open": "choose a --db in a folder that can be written",
    "malformed": "restore a copy, or save what can be read with `sqlite3 FILE .recover`",
    "not a database": "name a file that purebench made, or a new one",
    "locked": "another program holds it for long; close it and run the same command again",
    "disk I/O error": "see whether the disk is full or was taken away, then run the same command again",
    "permission denied": "ask its owner for the right to create and write tables there",
    "out of range": "a number is too large for its column; choose a smaller one",
    "onnection": "see whether the server is up and the URL is right",
    "resolve host": "see whether the URL is right",
}


#: what a server says, or who looks for one, while it is started or stopped
_AWAY = (
    *("onnection refused", "No such file", "starting up", "shutting down", "in recovery mode"),
    *("closed the connection", "terminating connection", "no answer within"),
)


def _speak(text: str, context: ExceptionContext) -> None:
    """Raise a sentence in the place of a database's complaint; rows that it refuses are a bug of ours and stay."""
    error = context.sqlalchemy_exception
    if context.is_pre_ping or not isinstance(error, DBAPIError) or isinstance(error, IntegrityError):
        return
    if isinstance(error, DataError) and "out of range" not in str(error.orig):
        return
    said = str(error.orig).strip().partition("\n")[0] or type(error.orig).__name__
    remedy = next((f"; {advice}" for sign, advice in _REMEDIES.items() if sign in said), "")
    server = database_url(text).get_backend_name() != "sqlite"
    away = server and (context.is_disconnect or any(sign in said for sign in _AWAY))
    kind = Unreachable if away else UserError
    raise kind(f"expected a purebench database at {_shown(text)}, but it answered: {said}{remedy}") from error


def _call(dialect: Any, record: Any, given: Sequence[Any], named: dict[str, Any]) -> Any:
    from harness.store.server import Connection  # which only those have who installed psycopg

    return Connection.connect(*given, **named)


def _sqlite_pragmas(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    try:
        patience = f"busy_timeout={1000 * _PATIENCE:.0f}"
        for pragma in (patience, "foreign_keys=ON", "synchronous=NORMAL", "cache_size=-65536"):
            cursor.execute(f"PRAGMA {pragma}")
        if _is_ours(cursor):
            _write_ahead(cursor)
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error):  # a database in a folder that cannot be written can still be read
            raise
    except UnicodeDecodeError as error:  # what SQLite says of a damaged schema repeats the damage
        raise sqlite3.DatabaseError("database disk image is malformed") from error
    cursor.close()


def _is_ours(cursor: sqlite3.Cursor) -> bool:
    """Whether purebench made a file or may yet do so; to one of someone else nothing is written, not even a mode."""
    names = {name for (name,) in cursor.execute("SELECT name FROM sqlite_master")}
    return not names or names >= OURS


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Switch to a write-ahead log; of two that switch at one moment SQLite turns one away without waiting."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.01)


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


@functools.cache
def _scripts() -> ScriptDirectory:
    """Read the migrations, which are the same as long as the process lives."""
    return ScriptDirectory.from_config(_alembic())


def _revisions() -> set[str]:
    return {script.revision for script in _scripts().walk_revisions()}


def _revision(engine: Engine) -> str | None:
    """Return the schema version of a database; None where it is not purebench's."""
    if not set(inspect(engine).get_table_names()) >= OURS:
        return None
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _migrate(engine: Engine) -> None:
    """Run the migrations, all or none; of several processes that want to, one does and the others find it done."""
    path = file_of(engine.url)
    if path is not None:
        try:
            with lock_of(path).acquire(timeout=60), engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA foreign_keys=OFF")  # a table is changed by making it anew
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # Python's driver begins at rows only, not at tables
                _go_forward(connection)
                _name(connection)
                lost = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(3)
                if lost:
                    raise RuntimeError(f"expected references that lead somewhere after the migration, got {lost}")
                connection.commit()
                connection.exec_driver_sql("PRAGMA foreign_keys=ON")
        except Timeout as error:
            raise UserError(
                f"expected to bring {path} forward, but a run is writing to it; wait for its end"
            ) from error
        return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        _go_forward(connection)
        _name(connection)


def _name(connection: Connection) -> None:
    """Give a database a name of its own, by which others know where its results were computed."""
    if connection.execute(text("SELECT 1 FROM origins WHERE kind = 'here'")).first() is None:
        new = text("INSERT INTO origins (database, kind) VALUES (:name, 'here')")
        connection.execute(new, {"name": uuid.uuid4().hex})


def _go_forward(connection: Connection) -> None:
    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _check_revision(found: str | None, text: str) -> None:
    if found == head():
        return
    if found is None:
        raise UserError(
            f"expected a purebench database at {_shown(text)}, got one with other tables or none; name another"
        )
    if found in _revisions():
        raise UserError(
            f"expected a purebench database of schema {head()} at {_shown(text)}, got the older {found}; "
            f"bring it forward with `purebench db upgrade {_shown(text)}`"
        )
    raise UserError(
        f"expected a purebench database of schema {head()} at {_shown(text)}, got {found}, which a newer purebench "
        "wrote; bring purebench forward with `pip install --upgrade purebench`"
    )


def _check_tables(engine: Engine, text: str) -> None:
    """Refuse an SQLite file in which reading runs what somebody wrote: a view in a table's place, or a trigger."""
    if engine.dialect.name != "sqlite":
        return
    with engine.connect() as connection:
        query = "SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index') ORDER BY name LIMIT 1"
        found = connection.exec_driver_sql(query).first()
    if found is not None:
        raise UserError(
            f"expected a database of tables alone at {_shown(text)}, got the {found[0]} {found[1]!r}, which purebench "
            "did not make; take it away or restore a copy"
        )


def _copied(path: Path, revision: str) -> Path:
    """Copy an SQLite file, whatever is still in its write-ahead log included."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    copy = path.with_name(f"{path.name}.{revision}-{stamp}")
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()
    return copy
