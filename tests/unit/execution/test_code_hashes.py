"""Which code did it, by role."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata

import pytest

from harness.core.code_hashes import (
    UNREADABLE,
    code_of,
    craft_code,
    package_hash,
    source_hash,
    training_code,
    unlike,
    unreadable,
    with_craft,
)
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel


def test_every_kind_of_component_and_what_belongs_to_none_has_its_hash(toy):
    code = code_of(toy.craft.cell)
    assert set(code) == {"judge", "victim", "dataset", "classifier", "classifier.recipe", "defense", "attack"}
    assert all(found.startswith("tree:") for found in code.values())
    assert code["attack"] == source_hash("attacks.pgd:PGD")
    assert code["classifier.recipe"] == source_hash("harness.nets.cnn:build")
    clean = replace(toy.craft.cell, attack=None, threat=None)
    certified = replace(clean, certificate=Spec.of("certificate", "smoothing", 1, {}))
    assert code.keys() - code_of(clean).keys() == {"victim", "attack"}
    assert code_of(certified).keys() - code_of(clean).keys() == {"certificate"}


def test_examples_are_made_by_the_code_that_the_attack_meets(toy):
    oblivious = toy.craft.cell
    adaptive = replace(oblivious, threat=ThreatModel(Norm.LINF, 0.2, Knowledge.BPDA))
    assert craft_code(adaptive).keys() - craft_code(oblivious).keys() == {"defense"}
    cheaper = Spec.of("defense", "blur", 1, {})
    surrogate = replace(oblivious, threat=ThreatModel(Norm.LINF, 0.2, Knowledge.SURROGATE), surrogate=cheaper)
    assert craft_code(surrogate).keys() - craft_code(oblivious).keys() == {"surrogate"}
    source = Spec.of("classifier", "robustbench", 1, {})
    transferred = replace(adaptive, source_classifier=source, source_defense=cheaper)
    assert code_of(transferred)["crafted_defense"] == source_hash("defenses.transforms:Blur")
    assert code_of(transferred)["crafted_classifier"] == source_hash("harness.nets.robustbench:RobustBench")


def test_what_crafted_the_examples_is_told_as_it_was_then():
    judged, crafted = {"judge": "a", "dataset": "b"}, {"dataset": "c", "attack": "d"}
    assert with_craft(judged, crafted) == {"judge": "a", "dataset": "b", "crafted_dataset": "c", "attack": "d"}


def test_a_training_counts_its_loop_its_objective_its_network_and_all_that_it_stands_on():
    data = Spec.of("dataset", "digits", 1, {})
    base = Spec.of("recipe", "cnn", 1, {"net": {"use": "cnn"}, "objective": {"use": "classify"}}, {"dataset": data})
    params = {"net": {"use": "cnn"}, "objective": {"use": "adversarial"}}
    robust = Spec.of(
        "recipe", "cnn", 1, params, {"dataset": data, "init": base, "attack": Spec.of("attack", "pgd", 1, {})}
    )
    code = training_code(robust)
    assert set(code) == {"loop", "objective", "net", "init.net", "dataset", "attack"}
    assert not unreadable(code)
    assert unlike(training_code(base), code) == ("objective",)
    nothing = Spec.of(
        "recipe", "resnet", 1, {"net": {"use": "resnet"}, "objective": {"use": "published"}}, {"dataset": data}
    )
    assert not unreadable(training_code(nothing))


def test_what_is_not_known_of_both_differs_in_nothing():
    now = {"attack": "tree:1", "defense": "tree:1", "judge": "tree:1", "classifier": UNREADABLE}
    then = {"attack": "0" * 64, "defense": "tree:2", "classifier": "tree:1", "probe": "tree:1"}
    assert unlike(then, now) == ("defense",)
    assert unreadable(now) == ("classifier",)
    libraries = {"attack_library": "0" * 64, "attack_library_version": "one 1"}
    assert unlike(libraries, {**libraries, "attack_library_version": "one 2"}) == ()
    assert unlike(libraries, {**libraries, "attack_library": "1" * 64}) == ("attack_library",)


def test_a_library_is_named_with_its_version_and_hash(toy):
    apgd = code_of(replace(toy.craft.cell, attack=Spec.of("attack", "apgd", 1, {})))
    assert apgd["attack"] == source_hash("attacks.apgd:APGD")
    assert apgd["attack_library"] == package_hash("pyautoattack")
    assert apgd["attack_library_version"] == f"pyautoattack {metadata.version('pyautoattack')}"


def test_the_hash_covers_names_and_contents_of_all_sources(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "a_library_of_attacks"
    (package / "inner").mkdir(parents=True)
    files = {"__init__.py": "", "inner/__init__.py": "x = 1\n", "notes.txt": "not a source"}

    def hashed():
        for name, text in files.items():
            (package / name).write_text(text, encoding="utf-8")
        package_hash.cache_clear()
        return package_hash(package.name)

    first = hashed()
    files["notes.txt"] = "another"
    assert hashed() == first
    files["inner/__init__.py"] = "x = 2\n"
    second = hashed()
    assert second != first
    (package / "inner" / "__init__.py").rename(package / "inner" / "other.py")
    del files["inner/__init__.py"]
    assert hashed() not in (first, second)
    package_hash.cache_clear()


def test_a_package_that_is_not_there_is_an_error():
    with pytest.raises(ModuleNotFoundError, match="expected an installed package 'no_such_library', found none"):
        package_hash("no_such_library")
