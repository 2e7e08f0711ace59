"""What the README and the help show can be pasted: its suites are sound, its code is what they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

from harness.core import local
from harness.core.errors import UserError
from harness.data.digits import Digits
from harness.draws import Draws
from harness.store.tend.published import import_published
from harness.store.write.store import Store
from harness.suite.components import Resolver, training_plan
from harness.suite.document import Document
from harness.suite.load import load_suite, read_suite
from harness.topics import topics
from harness.training.loop import train

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
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
        for begin in ("name: mine", "name: wide", "matrix:", "defenses:", "- {dataset:", "name: cifar10-ddpm")
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


def test_pages_have_titles_and_readme_names_each():
    for name, text in topics().items():
        assert text.startswith("# ")
        assert f"| `{name}` |" in README
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES)
def test_a_command_that_is_shown_has_the_options_that_it_names(page):
    from typer.main import get_command

    from harness.cli.commands import app

    root = get_command(app)
    for line in re.findall(r"^    purebench (.*)$", PAGES[page], re.MULTILINE):
        words = line.partition("#")[0].split()
        command = root.commands[words[0]]
        if words[0] == "db":
            command, words = command.commands[words[1]], words[1:]
        known = {option for one in command.params for option in one.opts}
        assert {word for word in words if word.startswith("--")} <= known, line
