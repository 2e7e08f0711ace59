"""Plug-ins that raise what is no error, or what cannot be printed: it is that job's failure and nobody else's."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
import yaml
from sqlalchemy import select

from harness.store.tables import JobRow
from harness.store.write.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Bench

PURIFIERS = '''
    """Purifiers that end in their own way."""
    import os
    from harness.core.contracts import Traits
    from harness.options import NoOptions

    class Unprintable(Exception):
        def __str__(self):
            raise KeyboardInterrupt("not even this")

    class _Hostile:
        version = 1
        Options = NoOptions
        traits = Traits(random=False, differentiable=True)

        def __init__(self, options): ...

        def refuses(self, setting):
            return None

    def _that(name, end):
        def purify(self, x, nets, draws):
            end()
            return x

        return type(name, (_Hostile,), {"purify": purify, "__doc__": "Ends.", "__module__": __name__})

    def _raises(error):
        def end():
            raise error
        return end

    Interrupt = _that("Interrupt", _raises(KeyboardInterrupt()))
    Generator = _that("Generator", _raises(GeneratorExit("over")))
    Quit = _that("Quit", _raises(SystemExit(0)))
    Base = _that("Base", _raises(BaseException("of the base")))
    Silent = _that("Silent", _raises(Unprintable()))
    Surrogate = _that("Surrogate", _raises(ValueError("half \\ud800 of a pair")))
    Nul = _that("Nul", _raises(ValueError("nul \\0, escape \\x1b[2J")))
    Long = _that("Long", _raises(ValueError("x" * 10**7)))
    Exit = _that("Exit", lambda: os._exit(0))

    class Segfault(_Hostile):
        """Reads what is not there."""
        def purify(self, x, nets, draws):
            import ctypes
            return ctypes.string_at(0)
'''

#: what each is told to have failed with
ENDS = {
    "interrupt": "KeyboardInterrupt: ",
    "generator": "GeneratorExit: over",
    "quit": "SystemExit: 0",
    "base": "BaseException: of the base",
    "silent": "Unprintable: (its message cannot be printed)",
    "surrogate": r"ValueError: half \ud800 of a pair",
    "nul": r"ValueError: nul \x00, escape \x1b[2J",
    "long": "xxx ... (10000000 characters)",
    "exit": "the worker died",
    "segfault": "the worker died",
}


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package, about = tmp_path / "site" / "hostile_plugin", tmp_path / "site" / "hostile_plugin-1.0.dist-info"
    about.mkdir(parents=True)
    package.mkdir()
    (package / "__init__.py").write_text(textwrap.dedent(PURIFIERS))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile-plugin\nVersion: 1.0\n")
    points = "\n".join(f"{name} = hostile_plugin:{name.capitalize()}" for name in ENDS)
    (about / "entry_points.txt").write_text(f"[purebench.defenses]\n{points}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    defenses = [{"name": name, "use": f"hostile-plugin/{name}"} for name in ENDS]
    text = {
        "name": "hostile",
        "datasets": [{"name": "digits", "use": "digits"}],
        "classifiers": [{"name": "cnn", "use": "recipe", "params": {"recipe": "untrained.yaml"}}],
        "defenses": [{"name": "none", "use": "none"}, *defenses],
        "evaluation": {"n_examples": 4, "shard_size": 4},
        "execution": {"retries": 0},
    }
    net = {"use": "cnn", "width": 4, "hidden": 8}
    recipe = {"name": "untrained", "dataset": {"use": "digits"}, "net": net, "objective": {"use": "classify"}}
    (tmp_path / "untrained.yaml").write_text(yaml.safe_dump({**recipe, "steps": 0}))
    (tmp_path / "hostile.yaml").write_text(yaml.safe_dump(text))
    return tmp_path / "hostile.yaml"


def ended(url: str) -> dict[str, tuple[str, str]]:
    """Return how the job of each defense ended, and what was recorded of why."""
    with Store.open(url).session() as session:
        rows = session.execute(select(JobRow.label, JobRow.status, JobRow.reason).where(JobRow.kind == "evaluate"))
        return {label.split("/")[2]: (status, reason or "") for label, status, reason in rows}


def test_each_fails_by_itself_and_says_why(suite: Path, tiny_bench: type[Bench], tmp_path: Path) -> None:
    bench = tiny_bench.at(tmp_path / "bench")
    done = bench.process("run", str(suite), "--db", str(bench.db), "--workers", "2", code=1)
    found = ended(str(bench.db))
    assert found.pop("none") == ("done", "")
    assert found.keys() == ENDS.keys()
    for name, (status, reason) in found.items():
        assert (status, ENDS[name] in reason) == ("failed", True), reason
        assert len(reason) < 2500
    assert "\x1b" not in done.stderr + done.stdout
    assert "a bug of purebench" not in done.stderr


def test_a_server_keeps_what_they_said(
    suite: Path, tiny_bench: type[Bench], tmp_path: Path, postgresql: Callable[[], str]
) -> None:
    bench, url = tiny_bench.at(tmp_path / "bench"), postgresql()
    bench.process("run", str(suite), "--db", url, "--workers", "1", "--only", "defense=*u*", code=1)
    found = ended(url)
    assert {"nul", "surrogate", "interrupt"} <= found.keys()
    assert [(status, ENDS[name] in reason) for name, (status, reason) in found.items()] == [("failed", True)] * len(
        found
    )
