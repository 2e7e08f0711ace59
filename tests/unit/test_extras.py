"""What only some suites need: a suite that asks for it without its package is told so before anything is computed."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.commands import app
from harness.core.code_hashes import code_of, forget
from harness.core.errors import UserError
from harness.core.extras import EXTRAS, POSTGRESQL, Extra, lacking
from harness.core.registry import TABLES, entries
from harness.store.database import connect
from harness.suite.load import read_suite

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))

SUITE = """
name: mine
datasets: [{name: digits, use: digits}]
classifiers: [{name: cnn, use: recipe, params: {recipe: digits-cnn}}]
defenses:
  - {name: none, use: none}
  - {name: diffpure, use: diffpure, params: {unet: digits-unet, sampler: torchsde}}
attacks:
  - {name: ddn, use: ddn}
  - {name: bb, use: brendel-bethge}
threat_models: [{name: l2, use: L2, params: {eps: 1, knowledge: oblivious}}]
certificates: [{name: smoothing, use: smoothing, params: {sigma: 0.25, n0: 10, n: 100}}]
evaluation: {n_examples: 8}
"""

#: the lines of the suite and what it asks for there
ASKED = {
    "suite.yaml:7: defenses[1].params.sampler": "torchsde",
    "suite.yaml:9: attacks[0].use": "foolbox",
    "suite.yaml:10: attacks[1].use": "brendel-bethge",
    "suite.yaml:12: certificates[0].use": "certificates",
}


def hide(monkeypatch, *packages):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name in packages else there(name, *of))


@pytest.fixture
def plain(monkeypatch):
    """An installation without extras."""
    hide(monkeypatch, *(package for one in EXTRAS for package in one.packages))


def test_extras_are_those_that_can_be_installed():
    told = {name for name in PYPROJECT["project"]["optional-dependencies"] if name not in ("dev", "all")}
    assert {extra.name for extra in EXTRAS} == told
    (everything,) = PYPROJECT["project"]["optional-dependencies"]["all"]
    assert told - {"foolbox"} == set(re.findall(r"[\w-]+", everything.partition("[")[2]))


def test_no_extra_is_needed_by_a_plain_installation():
    plain = {re.match(r"[\w-]+", requirement)[0] for requirement in PYPROJECT["project"]["dependencies"]}
    assert not plain & {package for extra in EXTRAS for package in extra.packages}


def test_what_asks_for_an_extra_is_registered():
    for extra in EXTRAS:
        for kind, name in extra.components:
            assert name in entries(kind)
        for option, value in extra.options:
            fields = [entry.load().Options.model_fields for kind in TABLES for entry in entries(kind).values()]
            assert any(option in one and value in str(one[option].annotation) for one in fields)


def test_each_attack_of_a_library_that_is_not_plain_asks_for_it():
    plain = {re.match(r"[\w-]+", requirement)[0] for requirement in PYPROJECT["project"]["dependencies"]}
    for name, entry in entries("attack").items():
        library = getattr(entry.load(), "library", None)
        if library is not None and library not in plain:
            assert any(("attack", name) in extra.components and library in extra.packages for extra in EXTRAS), name


def test_a_suite_that_lacks_packages_is_told_at_each_place(plain, tmp_path):
    with pytest.raises(UserError) as told:
        read_suite(SUITE, "suite.yaml", tmp_path)
    lines = [str(problem) for problem in told.value.problems]
    assert len(lines) == len(ASKED)
    for line, (where, extra) in zip(lines, ASKED.items(), strict=True):
        assert re.fullmatch(
            rf"{re.escape(where)}: expected the packages? .* for .*, which (is|are) not installed; "
            rf"pip install 'purebench\[{extra}\]'",
            line,
        ), line


def test_a_suite_that_lacks_nothing_is_sound(tmp_path):
    assert read_suite(SUITE, "suite.yaml", tmp_path).cells


def test_a_recipe_that_trains_against_an_attack_without_its_library_is_told(plain, tmp_path):
    shipped = (Path(__file__).parents[2] / "suites/recipes/digits-cnn-pgd-at.yaml").read_text(encoding="utf-8")
    recipe = re.sub(r"^attack:.*\n(?:[ ].*\n)*", "attack: {use: ddn}\n", shipped, flags=re.MULTILINE)
    (tmp_path / "net.yaml").write_text(recipe.replace("use: Linf", "use: L2"))
    suite = SUITE.partition("defenses:")[0].replace("digits-cnn", "net.yaml") + "defenses: [{name: none, use: none}]\n"
    with pytest.raises(UserError, match=r"the attack ddn, which is not installed; pip install 'purebench\[foolbox\]'"):
        read_suite(suite + "evaluation: {n_examples: 8}\n", "suite.yaml", tmp_path)


def test_the_quickstart_asks_for_no_extra(plain):
    assert CliRunner().invoke(app, ["validate", "quickstart"]).exit_code == 0


def test_one_missing_package_is_named_alone(monkeypatch):
    hide(monkeypatch, "numba")
    ((where, problem),) = lacking("attack", "brendel-bethge", {})
    assert where == ""
    assert problem.sentence == "expected the package numba for the attack brendel-bethge, which is not installed"


def test_the_code_of_a_cell_is_known_as_far_as_it_is_installed(tmp_path, monkeypatch):
    cells = read_suite(SUITE, "suite.yaml", tmp_path).cells
    (cell,) = (one for one in cells if (one.labels.defense, one.labels.attack) == ("none", "ddn"))
    whole = code_of(cell)
    forget()
    hide(monkeypatch, "foolbox")
    assert whole.keys() - code_of(cell).keys() == {"attack_library", "attack_library_version"}
    forget()


def test_a_server_without_its_driver_is_a_sentence(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=re.escape(POSTGRESQL.remedy)):
        connect("postgresql://me@host/bench")


def test_the_doctor_lists_extras_and_what_they_are_for(plain):
    done = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.stdout
    for extra in EXTRAS:
        (line,) = (line for line in done.stdout.splitlines() if f"extra {extra.name} " in line)
        assert extra.purpose in line
        assert f"not installed: {extra.remedy}" in line


def test_the_doctor_says_who_holds_a_package_back():
    done = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "300"})
    assert "held to ==1.0.9 by robustbench" in done.stdout
    assert "held to <81 by purebench, since robustbench imports pkg_resources" in done.stdout


def test_the_doctor_finds_a_torchvision_that_is_not_of_its_torch(monkeypatch):
    there = metadata.version
    releases = {"torch": "2.14.1+cpu", "torchvision": "0.29.1"}
    monkeypatch.setattr(metadata, "version", lambda name: releases.get(name) or there(name))
    done = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert "torchvision 0.29.1 does not go with torch 2.14.1+cpu" in done.stdout
    releases["torchvision"] = "0.29.1+cpu"
    assert CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "300"}).exit_code == 0


def test_an_extra_that_is_there_has_nothing_missing():
    assert Extra("plain", ("torch", "numpy"), "nothing").missing("nobody") is None
