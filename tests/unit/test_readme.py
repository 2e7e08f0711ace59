"""What the README and the help show can be pasted: its suites are sound, its code is what they name."""

from __future__ import annotations

import hashlib
import re
import shlex
import tomllib
from datetime import date
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import save_file

from harness.core import local
from harness.core.errors import UserError
from harness.core.extras import EXTRAS
from harness.data.digits import Digits
from harness.draws import Draws
from harness.store.tend.published import import_published
from harness.store.write.store import Store
from harness.suite.components import Resolver, training_plan
from harness.suite.document import Document
from harness.suite.load import load_suite, read_suite
from harness.testing import MetricContract, SectionContract
from harness.testing.section import measured
from harness.topics import topics
from harness.training.loop import train
from reports.write import write_report

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {"README": README, **topics()}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def yamls(begin: str) -> list[tuple[str, str]]:
    """Return page and text of the blocks of YAML that begin so."""
    return [(page, text) for page in PAGES for text in blocks(page, "yaml") if text.startswith(begin)]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (code,) = (block for block in blocks("own", "python") if "class Quantise" in block)
    (tmp_path / "mine.py").write_text(code)
    return tmp_path / "mine.py"


def test_each_block_of_yaml_is_of_a_kind_that_is_tried():
    known = [
        pair
        for begin in (
            *("name: mine", "name: wide", "matrix:", "defenses:", "datasets:", "metrics:"),
            *("- {dataset:", "name: cifar10-ddpm"),
        )
        for pair in yamls(begin)
    ]
    assert sorted(known) == sorted((page, text) for page in PAGES for text in blocks(page, "yaml"))


@pytest.mark.parametrize(("page", "text"), yamls("name: mine"))
def test_a_suite_is_sound(page, text, mine):
    path = mine.with_name("suite.yaml")
    path.write_text(text)
    suite = load_suite(str(path))
    assert suite.cells
    assert not suite.doubts


@pytest.mark.parametrize(("page", "text"), [*yamls("matrix:"), *yamls("defenses:")])
def test_a_part_of_a_suite_fits_into_the_one_before_it(page, text, tmp_path):
    suite = yaml.safe_load(blocks(page, "yaml")[0])
    for key, listed in yaml.safe_load(text).items():
        suite[key] = listed if key == "matrix" else [*suite[key], *listed]
    suite["attacks"].append({"name": "autoattack", "use": "autoattack"})
    suite["matrix"] = [{"impossible": "skip", **block} for block in suite["matrix"]]
    assert read_suite(yaml.safe_dump(suite), page, tmp_path).cells


def test_a_metric_of_ones_own_is_asked_for_and_keeps_its_contract(mine):
    ((page, text),) = yamls("metrics:")
    (code,) = (block for block in blocks(page, "python") if "class Sharpness" in block)
    mine.with_name("sharpness.py").write_text(code)
    (suite,) = (block for block in blocks(page, "yaml") if block.startswith("name: mine"))
    mine.with_name("suite.yaml").write_text(suite + text)
    loaded = load_suite(str(mine.with_name("suite.yaml")))
    assert [metric.spec.use for metric in loaded.metrics] == ["distances", "file:Sharpness"]
    component = local.entry_of(loaded.metrics[1].spec).load()

    class Contract(MetricContract):
        def make(self):
            return component()

    for name in (name for name in dir(Contract) if name.startswith("test_")):
        getattr(Contract(), name)()


def test_files_of_ones_own_lack_their_hashes_alone(mine, monkeypatch):
    ((page, text),) = yamls("datasets:")
    for variable in ("PUREBENCH_DATA", "PUREBENCH_WEIGHTS"):
        monkeypatch.setenv(variable, str(mine.parent))
    np.savez(mine.with_name("mine.npz"), images=np.zeros((64, 8, 8, 3), np.uint8), labels=np.arange(64) % 10)
    save_file({"weight": np.zeros(1, np.float32)}, mine.with_name("mine.safetensors"))
    for name in ("mine.npz", "mine.safetensors"):
        text = text.replace("…", hashlib.sha256(mine.with_name(name).read_bytes()).hexdigest(), 1)
    suite = next(there for here, there in yamls("name: mine") if here == page)
    path = mine.with_name("suite.yaml")
    path.write_text(yaml.safe_dump({**yaml.safe_load(suite), **yaml.safe_load(text)}))
    assert {cell.labels.classifier for cell in load_suite(str(path)).cells} == {"resnet"}


def test_a_recipe_lacks_its_hash_alone(tmp_path):
    ((_, text),) = yamls("name: cifar10-ddpm")
    (tmp_path / "net.yaml").write_text(text)
    suite = {
        "name": "x",
        "datasets": [{"name": "digits", "use": "digits"}],
        "classifiers": [{"name": "net", "use": "recipe", "params": {"recipe": "net.yaml"}}],
        "defenses": [{"name": "none", "use": "none"}],
        "evaluation": {"n_examples": 4},
    }
    with pytest.raises(UserError) as told:
        read_suite(yaml.safe_dump(suite), "suite.yaml", tmp_path)
    assert [one.key for one in told.value.problems if "cifar" not in one.sentence.lower()] == ["objective.sha256"]


def test_the_network_is_trained_by_the_objective_beside_it(tmp_path):
    (code,) = (block for block in blocks("own", "python") if "class Wide" in block)
    ((_, text),) = yamls("name: wide")
    (tmp_path / "wide.py").write_text(code)
    (tmp_path / "wide.yaml").write_text(text)
    resolver = Resolver(tmp_path)
    recipe = resolver.recipe("wide.yaml", Document("", {}, {}), ())
    assert resolver.problems == []
    assert recipe is not None
    digits = Digits(Digits.Options())
    found = train(training_plan(recipe), digits.card, digits.load("train"), lambda share: None)
    assert found.net[1].out_features == 128
    assert found.curve[-1][1] < 0.5 * found.curve[0][1]


def test_published_figures_are_taken(tmp_path):
    ((_, text),) = yamls("- {dataset:")
    (tmp_path / "published.yaml").write_text(text)
    Store.open(str(tmp_path / "runs.db"), create=True).engine.dispose()
    import_published(str(tmp_path / "runs.db"), [tmp_path / "published.yaml"])


def test_the_purifier_does_what_it_says(mine):
    quantise = local.entry("defense", "Quantise", local.read(mine, "mine.py")).load()
    x = Draws(("readme",), torch.arange(3)).uniform(1, 8, 8)
    found = quantise(quantise.Options(levels=3)).purify(x, {}, Draws(("draws",), torch.arange(3)))
    assert set(found.unique().tolist()) == {0.0, 0.5, 1.0}


def test_the_section_stands_in_a_report(tmp_path):
    (code,) = (block for block in blocks("own", "python") if "class Weakest" in block)
    (tmp_path / "weakest.py").write_text(code)
    section = local.entry("section", "Weakest", local.read(tmp_path / "weakest.py", "weakest.py")).load()

    class TestWeakest(SectionContract):
        def make(self):
            return section()

    for name in vars(SectionContract):
        if name.startswith("test_"):
            getattr(TestWeakest(), name)()
    asked = [f"{tmp_path / 'weakest.py'}:Weakest", "costs"]
    paths = write_report(measured(tmp_path / "runs.db"), tmp_path / "out", asked=asked)
    (table,) = [path for path in paths if path.name == "Weakest-1.csv"]
    lines = [line.split(",")[3:6] for line in table.read_text().splitlines()]
    assert lines == [["defense", "attack", "left"], ["mine", "pgd full", "0.25"], ["none", "pgd full", "0.75"]]


def test_pages_have_titles_and_readme_names_each():
    for name, text in topics().items():
        assert text.startswith("# ")
        assert f"| `{name}` |" in README
    assert len(README.splitlines()) <= 150


def commands(page: str) -> list[str]:
    """Return the command lines of purebench that a page shows, without comments and where a shell sends the output."""
    lines = re.findall(r"^    purebench (.*)$", PAGES[page], re.MULTILINE)
    return [re.split(r"\s+[#>](?=\s)", line)[0].strip() for line in lines]


def parsed(words: list[str]) -> None:
    """Read a command line as typer does, and run nothing."""
    from typer.main import get_command

    from harness.cli.commands import app

    command = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    command.make_context("purebench", list(words))


SHOWN = [(page, line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize(("page", "line"), [pair for pair in SHOWN if not pair[1].startswith("--")])
def test_a_command_line_that_is_shown_is_one(page, line):
    parsed(shlex.split(line))


def test_a_command_line_that_is_none_is_found():
    from typer.exceptions import TyperException

    for line in ("plan", "run quickstart --dbb x", "verify --fraction half", "report surplus", "ls --schema --only x"):
        with pytest.raises(TyperException):
            parsed(shlex.split(line))


@pytest.mark.parametrize("page", PAGES)
def test_a_command_in_the_text_has_the_options_that_it_names(page):
    from typer.main import get_command

    from harness.cli.commands import app

    root = get_command(app)
    options = {"--help", "--install-completion"}
    waiting = [root]
    while waiting:
        command = waiting.pop()
        options |= {option for one in command.params for option in one.opts}
        waiting += getattr(command, "commands", {}).values()
    text = PAGES[page]
    for words in (inline.split() for inline in re.findall(r"`purebench ([^`]*)`", text)):
        command = root.commands.get(words[0])
        assert command is not None or words[0].startswith("--"), words
        if words[0] == "db" and len(words) > 1:
            assert words[1] in command.commands
        elif words[0] == "help" and len(words) > 1 and words[1] != "TOPIC":
            assert words[1] in topics()
    ours = re.sub(r"^    (?!purebench).*$", "", text, flags=re.MULTILINE)  # of other programmes
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", ours)) <= options


#: commands that take seconds and no torch
CHEAP = ("ls", "validate", "plan", "doctor", "help")


@pytest.mark.parametrize(
    ("page", "line"), [(page, line) for page, line in SHOWN if line.split()[0] in CHEAP and "--estimate" not in line]
)
def test_a_cheap_command_that_is_shown_runs(page, line, mine, monkeypatch):
    from typer.testing import CliRunner

    from harness.cli.commands import app

    monkeypatch.chdir(mine.parent)
    ((_, suite),) = [pair for pair in yamls("name: mine") if pair[0] == "suites"]
    Path("mine.yaml").write_text(suite)
    done = CliRunner().invoke(app, shlex.split(line), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.output


@pytest.mark.parametrize("page", ["README", "install"])
def test_a_target_of_make_that_is_shown_is_one(page):
    shown = set(re.findall(r"\bmake ([a-z][a-z-]*)", re.sub(r"(?s)```.*?```", "", PAGES[page])))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    assert shown
    assert shown <= known


def test_each_extra_is_in_the_help_and_what_is_installed_there_is_one():
    for extra in EXTRAS:
        assert f"| `{extra.name}` | {extra.purpose} |" in PAGES["install"]
    known = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for page in PAGES.values():
        for names in re.findall(r"(?:pip install '?\.|purebench)\[([\w,-]+)\]", page):
            assert set(names.split(",")) <= known


def test_releases_that_the_help_says_are_held_back_are():
    asked = metadata.requires("robustbench")
    told = re.search(r"`robustbench` is at its newest release, (\S+), and asks for (.*), no others", PAGES["install"])
    assert told[1] == metadata.version("robustbench")
    for name, release in re.findall(r"`(\w+)` ([\d.]+)", told[2]):
        assert any(re.fullmatch(rf"{name} ?\(?=={re.escape(release)}\)?", one) for one in asked)


def test_python_that_is_shown_twice_is_the_same():
    assert blocks("python", "python") == blocks("README", "python")


def test_each_block_of_python_is_one_that_is_run():
    """Those of README and results are run by ``tests/integration/test_api.py``, that of own is the fixture here."""
    shown = [(page, text) for page in PAGES for text in blocks(page, "python")]
    assert sorted(page for page, _ in shown) == ["README", *["own"] * 4, "python", "results"]
    languages = {name for page in PAGES.values() for name in re.findall(r"^```(\w+)$", page, re.MULTILINE)}
    assert languages == {"python", "yaml", "text"}


def test_the_citation_can_be_read_and_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["cff-version"] == "1.2.0"
    assert (cited["title"], cited["version"]) == (project["name"], project["version"])
    assert (cited["license"], cited["abstract"]) == (project["license"], project["description"])
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith(f"{cited['license']} License")
    assert cited["authors"] == [{"name": "The purebench developers"}]
    assert cited["message"]
    assert cited["type"] == "software"
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {cited['version']}, {cited['date-released']}\n" in changes
    assert date.fromisoformat(cited["date-released"])
