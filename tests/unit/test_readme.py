"""What the README shows can be pasted: its suites are sound, its code is what they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from harness.core import local
from harness.draws import Draws
from harness.suite.load import load_suite

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def pasted(tmp_path: Path) -> list[Path]:
    """The suites of the README in a folder with its code."""
    (code,) = (block for block in blocks("python") if "class Quantise" in block)
    (tmp_path / "mine.py").write_text(code)
    paths = []
    for number, text in enumerate(block for block in blocks("yaml") if "\ndatasets:" in block):
        paths.append(tmp_path / f"suite-{number}.yaml")
        paths[-1].write_text(text)
    return paths


def test_its_suites_are_sound(pasted):
    suites = [load_suite(str(path)) for path in pasted]
    assert "mine" in [suite.name for suite in suites]
    assert all(suite.cells and not suite.doubts for suite in suites)


def test_its_purifier_does_what_it_says(pasted):
    code = local.read(pasted[0].with_name("mine.py"), "mine.py")
    quantise = local.entry("defense", "Quantise", code).load()
    x = Draws(("readme",), torch.arange(3)).uniform(1, 8, 8)
    found = quantise(quantise.Options(levels=3)).purify(x, {}, Draws(("draws",), torch.arange(3)))
    assert set(found.unique().tolist()) == {0.0, 0.5, 1.0}
