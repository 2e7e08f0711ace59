"""Which code did it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

import attacks.apgd
from harness.core.spec import Spec
from harness.run.sources import code_of, package_hash


def test_a_library_is_named_with_its_version_and_hash(toy):
    cell = toy.craft.cell
    apgd = code_of(replace(cell, attack=Spec.of("attack", "apgd", 1, {})))
    assert apgd["attack"] == hashlib.sha256(Path(attacks.apgd.__file__).read_bytes()).hexdigest()
    assert apgd["attack_library"] == package_hash("pyautoattack")
    assert apgd["attack_library_version"] == f"pyautoattack {metadata.version('pyautoattack')}"
    pgd = code_of(cell)
    assert set(pgd) == {"attack", "defense"}


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
