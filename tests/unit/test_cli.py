"""The command line as a newcomer meets it: sentences, exit codes, no torch before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from harness.cli.commands import app

MINE = """
name: mine
datasets: [{name: digits, use: digits}]
classifiers: [{name: cnn, use: recipe, params: {recipe: digits-cnn}}]
defenses: [{name: none, use: none}]
attacks: [{name: pgd, use: pgd, params: {steps: 3}}]
threat_models: [{name: blind, use: Linf, params: {eps: 8/255, knowledge: oblivious}}]
evaluation: {n_examples: 8}
"""


def purebench(*words, before="", home=None):
    code = f"import sys; sys.argv = ['purebench', *{list(words)!r}]\nfrom harness.cli.commands import main\n{before}\n"
    code += "try:\n    main()\nfinally:\n    sys.stderr.write('TORCH' * ('torch' in sys.modules))\n"
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return path


@pytest.mark.parametrize(
    "words",
    [
        *(["--help"], ["ls"], ["ls", "--schema"], ["validate", "quickstart"], ["validate", "digits-certified"]),
        ["plan", "quickstart", "--db", "absent.db"],
    ],
)
def test_these_start_without_torch(words):
    done = purebench(*words)
    assert done.returncode == 0, done.stderr
    assert "TORCH" not in done.stderr


def test_status_and_report_start_without_torch(tmp_path, mine):
    from harness.store.write.store import Store
    from harness.suite.load import load_suite

    db = str(tmp_path / "runs.db")
    Store.open(db, create=True).declare(load_suite(str(mine)).declaration())
    for words in (["status", "--db", db], ["report", "--db", db, "--out", str(tmp_path / "out")]):
        done = purebench(*words)
        assert done.returncode == 0, done.stderr
        assert "TORCH" not in done.stderr
    assert (tmp_path / "out" / "index.html").exists()


def test_a_comparison_starts_without_torch_and_is_written_in_three_ways(tmp_path, mine):
    from harness.store.write.store import Store
    from harness.suite.load import load_suite

    db = str(tmp_path / "runs.db")
    Store.open(db, create=True).declare(load_suite(str(mine)).declaration())
    done = purebench("compare", db, f"{db}:mine/none")
    assert done.returncode == 0, done.stderr
    assert "TORCH" not in done.stderr
    assert "settings: the same" in done.stdout
    for form, sign in (("markdown", "## "), ("json", "{")):
        assert sign in CliRunner().invoke(app, ["compare", db, f"{db}:mine/none", "--format", form]).stdout


def test_a_comparison_with_nothing_is_a_mistake(tmp_path):
    done = purebench("compare", "--db", str(tmp_path / "absent.db"), "one", "two")
    assert done.returncode == 2
    assert "expected a database" in done.stderr


def test_a_plan_shows_cells_and_jobs_and_writes_nothing(tmp_path, mine):
    done = purebench("plan", str(mine), "--db", str(tmp_path / "runs.db"))
    assert "not measured yet" in done.stdout
    assert "train: 1 job" in done.stdout
    assert "2 cells: 2 run" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_a_dry_run_is_a_plan(tmp_path, mine):
    done = purebench("run", str(mine), "--db", str(tmp_path / "runs.db"), "--dry-run")
    assert "2 cells: 2 run" in done.stdout
    assert not (tmp_path / "runs.db").exists()


def test_every_mistake_is_told_at_once_and_nothing_is_written(tmp_path, mine):
    mine.write_text(MINE.replace("steps: 3", "stepz: 3").replace("8/255", "-1").replace("use: none", "use: nine"))
    done = purebench("run", str(mine), "--db", str(tmp_path / "runs.db"))
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "mine.yaml:" in line]
    assert len(lines) == 3
    assert any("stepz" in line and "did you mean 'steps'" in line and "mine.yaml:6" in line for line in lines)
    assert any("'none'" in line and "mine.yaml:5" in line for line in lines)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs.db").exists()


def test_a_mistake_in_the_arguments_writes_nothing(tmp_path, mine):
    done = purebench("run", str(mine), "--db", str(tmp_path / "runs.db"), "--only", "defence=none")
    assert done.returncode == 2
    assert "did you mean 'defense'" in done.stderr
    assert not (tmp_path / "runs.db").exists()


def test_an_unknown_suite_names_the_nearest():
    done = purebench("validate", "quickstrat")
    assert done.returncode == 2
    assert "quickstart" in done.stderr


def test_a_bug_of_ours_says_so():
    broken = "import harness.suite.load as load\ndef no(name): raise RuntimeError('boom')\nload.load_suite = no"
    done = purebench("validate", "quickstart", before=broken)
    assert done.returncode == 3
    assert "this is a bug of purebench" in done.stderr


@pytest.mark.parametrize(
    ("command", "then"),
    [(("validate",), "begins anew"), (("run", "--db", "runs.db"), "continues where it stopped")],
)
def test_an_interrupt_has_its_own_code_and_says_what_the_same_command_does(tmp_path, command, then):
    stopped = (
        "import harness.suite.load as load\ndef no(name): raise KeyboardInterrupt\nload.load_suite = no\n"
        f"import os; os.chdir({str(tmp_path)!r})"
    )
    done = purebench(*command, "quickstart", before=stopped)
    assert done.returncode == 130
    assert done.stderr == f"interrupted; the same command {then}\n"


def test_ls_shows_components_with_options_and_the_schema_is_json():
    shown = purebench("ls", "defenses").stdout
    for word in ("mae-pure", "mask_ratio", "diffpure", "t_star", "dmae", "optimises"):
        assert word in shown
    assert json.loads(purebench("ls", "--schema").stdout)["title"] == "purebench suite"


def test_a_suite_is_checked_without_a_database_torch_or_pandas(tmp_path):
    heavy = ("sqlalchemy", "alembic", "torch", "pandas", "scipy", "sklearn", "harness.store", "harness.execution")
    odd = tmp_path / "odd.yaml"
    odd.write_text(MINE.replace("eps: 8/255", "eps: 0.9"))
    for suite, doubt in (("quickstart", False), (str(odd), True)):
        told = f"import atexit; atexit.register(lambda: print('HEAVY', sorted(set({heavy}) & sys.modules.keys())))"
        done = purebench("validate", suite, before=told)
        assert done.returncode == 0, done.stderr
        assert ("warning: " in done.stderr) is doubt
        assert "HEAVY []" in done.stdout


def test_the_doctor_is_content_here():
    done = purebench("doctor")
    assert done.returncode == 0, done.stdout
    assert "artifact folder" in done.stdout


def test_a_package_from_elsewhere_stops_the_command(tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "__init__.py").write_text("")
    done = purebench("validate", "quickstart", before=f"sys.path.insert(0, {str(tmp_path)!r})")
    assert done.returncode == 2
    assert "expected the package 'reports' beside" in done.stderr
    assert "virtual environment of its own" in done.stderr
