"""The example plug-in: installed as a package of its own, found by entry points, run, tested by the contracts."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import harness

if TYPE_CHECKING:
    from conftest import Bench

EXAMPLE = Path(__file__).parents[1] / "plugin_example"
CONTRACTS = """
from harness.options import NoOptions
from harness.testing import AttackContract, DatasetContract, DefenseContract, MetricContract, NetworkContract
from harness.testing import ObjectiveContract, SectionContract
from purebench_example.blur import Blur
from purebench_example.fgsm import FGSM
from purebench_example.line import Line, Warm
from purebench_example.sharpness import Sharpness
from purebench_example.stripes import Stripes
from purebench_example.weakest import Weakest


class TestFGSM(AttackContract):
    random = False
    units = (1e-3, 3.0)  # torch's cross-entropy has no gradient left where a victim is surer than that
    classes = 2

    def make(self):
        return FGSM(NoOptions())


class TestBlur(DefenseContract):
    def make(self):
        return Blur(Blur.Options())


class TestLine(NetworkContract):
    def make(self):
        return Line()


class TestWarm(ObjectiveContract):
    def make(self):
        return Warm(Warm.Options(temperature=2.0))


class TestStripes(DatasetContract):
    def make(self):
        return Stripes()


class TestSharpness(MetricContract):
    def make(self):
        return Sharpness()


class TestWeakest(SectionContract):
    def make(self):
        return Weakest()
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the example, without a network."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", str(folder), str(EXAMPLE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def with_plugin(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))


@pytest.fixture
def bench(tiny_bench: type[Bench], tmp_path: Path) -> Bench:
    return tiny_bench.at(tmp_path)


#: what a report shows in every format where it is asked to
SECTIONS = ("purebench-example/weakest", "cells", "attention")


@pytest.mark.usefixtures("with_plugin")
def test_an_outsider_runs_beside_the_built_ins(bench: Bench) -> None:
    bench.process("run", str(bench.suites / "plugin.yaml"), "--db", str(bench.db), "--workers", "1")
    cells = harness.results(str(bench.db)).cells
    assert set(cells["status"]) == {"done"}
    accuracy = cells.set_index(["defense", "threat_model"])["accuracy"]
    assert accuracy["none", "oblivious"] < accuracy["none", "-"]
    assert len(cells) == 9
    _stands_in_every_format(bench)


def _stands_in_every_format(bench: Bench) -> None:
    """Its metric, its section, and the verdict on what its defense does to attention."""
    out = bench.db.parent / "report"
    asked = [word for name in SECTIONS for word in ("--section", name)]
    words = ("report", "--db", str(bench.db), "--out", str(out), *asked)
    formats = {"terminal": bench.process(*words).stdout, "json": bench.process(*words, "--json").stdout}
    formats["csv"] = "\n".join(f"{path.name}\n{path.read_text()}" for path in sorted(out.rglob("*.csv")))
    formats |= {path.suffix: path.read_text() for path in out.glob("leaderboard.*") if path.suffix != ".csv"}
    formats["page"] = (out / "index.html").read_text()
    assert set(formats) == {"terminal", "json", "csv", ".md", ".tex", "page"}
    for name, text in formats.items():
        assert "sharpness" in text, name
        assert "eakest" in text, name
        assert "examined" in text, name
        assert "reconstruction" in text, name
    for name in formats.keys() - {"csv"}:  # which has the numbers that verdicts are made of
        assert "examined, fgsm" in formats[name], name


@pytest.mark.usefixtures("with_plugin")
def test_ls_shows_the_outsider_and_says_why_another_is_broken(bench: Bench) -> None:
    shown = bench.process("ls", "defenses").stdout
    assert "purebench-example/blur" in shown
    assert "strength" in shown
    assert "purebench-example/line" in bench.process("ls", "networks").stdout
    assert "ModuleNotFoundError" in shown
    assert "purebench_example.absent" in bench.process("doctor", code=2).stdout.replace("\n", "")


@pytest.mark.usefixtures("with_plugin")
def test_a_broken_plug_in_is_told_when_it_is_asked_for(bench: Bench, tmp_path: Path) -> None:
    suite = tmp_path / "asks.yaml"
    text = (Path(__file__).parent / "suites" / "plugin.yaml").read_text()
    suite.write_text(text.replace("purebench-example/blur, params: {strength: 0.25}", "purebench-example/broken"))
    done = bench.process("validate", str(suite), code=2)
    assert "purebench-example/broken" in done.stderr
    assert "No module named" in done.stderr


def test_without_it_the_name_is_unknown(bench: Bench) -> None:
    done = bench.process("validate", str(Path(__file__).parent / "suites" / "plugin.yaml"), code=2)
    assert "purebench-example/blur" in done.stderr


@pytest.mark.usefixtures("with_plugin")
def test_its_author_can_use_the_contracts(tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(textwrap.dedent(CONTRACTS))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
