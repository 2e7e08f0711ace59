"""Which code did it."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from harness.core.sources import code_of, package_hash, source_hash
from harness.core.spec import Spec


def test_a_library_is_named_with_its_version_and_hash(toy):
    cell = toy.craft.cell
    apgd = code_of(replace(cell, attack=Spec.of("attack", "apgd", 1, {})))
    assert apgd["attack"] == source_hash("attacks.apgd")
    assert apgd["attack_library"] == package_hash("pyautoattack")
    assert apgd["attack_library_version"] == f"pyautoattack {metadata.version('pyautoattack')}"
    pgd = code_of(cell)
    assert set(pgd) == {"attack", "defense"}


def test_the_hash_of_a_component_covers_what_it_imports_of_its_own_package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "a_shelf_of_attacks"
    package.mkdir()
    files = {
        "__init__.py": "",
        "mine.py": "import json\nfrom a_shelf_of_attacks.steps import go\n",
        "steps.py": "def go():\n    from .inner import deep\n    return deep\n",
        "inner.py": "deep = 1\n",
        "other.py": "from a_shelf_of_attacks import mine\n",
    }

    def hashed():
        for name, text in files.items():
            (package / name).write_text(text, encoding="utf-8")
        source_hash.cache_clear()
        return [source_hash(f"a_shelf_of_attacks.{name}") for name in ("mine", "other")]

    first = hashed()
    files["other.py"] += "x = 2\n"
    mine, other = hashed()
    assert mine == first[0]
    assert other != first[1]
    files["inner.py"] = "deep = 2\n"
    assert hashed()[0] != mine
    source_hash.cache_clear()


def test_every_step_that_attacks_share_counts_for_each():
    import attacks.ascent

    pgd, square = source_hash("attacks.pgd"), source_hash("attacks.square")
    source_hash.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        read = type(Path()).read_bytes
        patch.setattr(
            Path, "read_bytes", lambda path: read(path) + (b"#" if str(path) == attacks.ascent.__file__ else b"")
        )
        assert source_hash("attacks.pgd") != pgd
        assert source_hash("attacks.square") == square
    source_hash.cache_clear()


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
