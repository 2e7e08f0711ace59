"""The hash of a component's code: what it covers, and what changes nothing."""

from __future__ import annotations

import importlib
import itertools
import py_compile
import sys
import textwrap

import pytest

from harness.core import registry
from harness.core.code_hashes import LOOP, UNREADABLE, forget, read_groups, source_hash
from harness.core.registry import BASES, TABLES
from harness.core.syntax import Family

#: a component in a package, what it takes from beside it in every way there is, and a neighbour that it does not take
FILES = {
    "__init__.py": '"""A shelf."""\n__version__ = "1"\n',
    "mine.py": '''
        """My attack."""
        from __future__ import annotations
        from typing import TYPE_CHECKING
        import math
        from . import tables
        from .steps import go as stride
        import {package}.deep.well

        if TYPE_CHECKING:
            from .other import Other

        class Mine:
            """Attacks."""
            version = 1

            def propose(self, x: Other) -> float:
                """Do it."""
                from .late import late
                return stride(x) + late() + tables.SIZE + {package}.deep.well.WATER + math.pi
    ''',
    "steps.py": "from .inner import deep\n\n\ndef go(x):\n    return deep * x\n",
    "inner.py": "deep = 1.5\n",
    "late.py": "def late():\n    return 0.25\n",
    "tables.py": "SIZE = 3\n",
    "deep/__init__.py": "",
    "deep/well.py": "WATER = 2.0\n",
    "other.py": "from .mine import Mine\n\n\nclass Other(Mine):\n    pass\n",
}
_names = itertools.count()


class Shelf:
    """A package of a fresh name, written anew for each look, since what was imported once stays."""

    def __init__(self, root):
        self.root, self.files = root, {name: textwrap.dedent(text) for name, text in FILES.items()}

    def write(self, files=None):
        package = f"a_shelf_{next(_names)}"
        for name, text in (files or self.files).items():
            file = self.root / package / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.replace("{package}", package), encoding="utf-8")
        importlib.invalidate_caches()
        forget()
        return package

    def hash(self, target="mine:Mine", files=None, **changed):
        files = dict(files or self.files)
        for name, (old, new) in changed.items():
            name = f"{name}.py" if name == "__init__" else name.replace("__", "/") + ".py"
            assert old in files[name]
            files[name] = files[name].replace(old, new)
        return source_hash(f"{self.write(files)}.{target}")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Shelf(tmp_path)
    forget()


@pytest.mark.parametrize(
    "changed",
    [
        {"mine": ("return stride(x)", "return 2 * stride(x)")},
        {"mine": ("math.pi", "math.e")},
        {"mine": ("version = 1", "version = 1\n    gain = 2")},
        {"steps": ("deep * x", "deep + x")},
        {"inner": ("1.5", "1.25")},
        {"late": ("0.25", "0.5")},
        {"tables": ("3", "4")},
        {"deep__well": ("2.0", "2")},
        {"mine": ("import math", "import cmath as math")},
        {"tables": ("SIZE = 3", "SIZE = 3\nimport builtins\nbuiltins.gain = 2")},
    ],
)
def test_whatever_a_component_takes_from_its_package_counts(shelf, changed):
    assert shelf.hash(**changed) != shelf.hash()


@pytest.mark.parametrize(
    "changed",
    [
        {"mine": ('"""My attack."""', '"""Another word."""')},
        {"mine": ('"""Attacks."""', "# a comment")},
        {"mine": ('"""Do it."""', '"""Do it.\n\n        At length.\n        """')},
        {"mine": ("return stride(x) +", "return (\n\n            stride(x)) +")},
        {"steps": ("def go(x):", "# so it goes\ndef go( x ):")},
        {"steps": ("from .inner import deep", "from .inner import deep as deep")},
        {"other": ("pass", "gain = 3")},
        {"__init__": ('"1"', '"2"')},
        {"mine": ("from .other import Other", "from .other import Another as Other")},
    ],
)
def test_words_layout_and_what_it_does_not_take_count_for_nothing(shelf, changed):
    assert shelf.hash(**changed) == shelf.hash()


def test_a_renamed_file_a_moved_module_and_another_alias_count_for_nothing(shelf):
    before = shelf.hash()
    files = dict(shelf.files)
    files["below/__init__.py"] = ""
    files["below/walk.py"] = files.pop("steps.py").replace(".inner", "..zinner")
    files["zinner.py"] = files.pop("inner.py")
    files["yours.py"] = files.pop("mine.py").replace("from .steps import go as stride", "from .below import walk")
    files["yours.py"] = files["yours.py"].replace("stride(x)", "walk.go(x)")
    files["other.py"] = files["other.py"].replace(".mine", ".yours")
    assert shelf.hash("yours:Mine", files) == before


def test_a_name_that_a_package_hands_on_is_what_it_stands_for(shelf):
    files = {**shelf.files, "__init__.py": "from .mine import Mine\nfrom .other import Other\n"}
    assert source_hash(f"{shelf.write(files)}:Mine") == shelf.hash()


def test_the_same_hash_in_whatever_order_modules_are_imported(shelf):
    one = {"mine.py": "from . import a\nfrom . import b\n\n\nclass Mine: ...\n", "a.py": "x = 1\n", "b.py": "y = 2\n"}
    other = {"mine.py": "from . import b\nfrom . import a\n\n\nclass Mine: ...\n", "b.py": "x = 1\n", "a.py": "y = 2\n"}
    one["__init__.py"] = other["__init__.py"] = ""
    assert shelf.hash(files=one) == shelf.hash(files=other)
    other["a.py"] = "y = 3\n"
    assert shelf.hash(files=one) != shelf.hash(files=other)


def test_modules_that_import_each_other_have_a_hash(shelf):
    files = {
        "__init__.py": "",
        "mine.py": "from .back import back\n\n\nclass Mine:\n    go = back\n",
        "back.py": "def back():\n    from .mine import Mine\n    return Mine\n",
    }
    assert shelf.hash(files=files) == shelf.hash(files=files)
    assert shelf.hash(files=files, back=("return Mine", "return 2")) != shelf.hash(files=files)


def test_all_that_is_taken_with_a_star_and_either_of_two_ways_count(shelf):
    files = {
        "__init__.py": "",
        "mine.py": "from .all import *\ntry:\n    from .fast import go\nexcept ImportError:\n    from .slow import go\n"
        "class Mine:\n    x = WIDE + go\n",
        "all.py": "WIDE = 1\n",
        "fast.py": "go = 1\n",
        "slow.py": "go = 2\n",
    }
    whole = shelf.hash(files=files)
    assert shelf.hash(files=files, all=("1", "2")) != whole
    assert shelf.hash(files=files, fast=("1", "3")) != whole
    assert shelf.hash(files=files, slow=("2", "3")) != whole
    fewer = {name: text for name, text in files.items() if name != "fast.py"}
    assert shelf.hash(files=fewer) != whole


def test_a_module_alone_takes_in_those_of_its_folder_and_no_other(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "a_lonely_attack.py").write_text(
        "import json\nfrom a_step_beside import go\n\n\nclass Mine:\n    x = go\n"
    )

    def hashed(step):
        (tmp_path / "a_step_beside.py").write_text(step)
        forget()
        importlib.invalidate_caches()
        return source_hash("a_lonely_attack:Mine", "nobody")

    first = hashed("go = 1\n")
    assert hashed("go = 1  # one\n") == first
    assert hashed("go = 2\n") != first
    (tmp_path / "something-1.0.dist-info").mkdir()  # a folder that things are installed into: neighbours are strangers
    assert hashed("go = 1\n") == hashed("go = 2\n")
    forget()


def test_where_there_is_no_source_the_compiled_file_counts_and_where_there_is_none_that_is_said(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def compiled(text):
        source = tmp_path / "a_sealed_attack.src"
        source.write_text(text)
        py_compile.compile(str(source), str(tmp_path / "a_sealed_attack.pyc"), dfile="sealed", doraise=True)
        forget()
        importlib.invalidate_caches()
        return source_hash("a_sealed_attack:Mine", "nobody")

    first = compiled("class Mine: x = 1\n")
    assert first.startswith("tree:")
    assert compiled("class Mine: x = 2\n") != first
    assert compiled("class Mine: x = 1\n") == first
    assert source_hash("no_such_attack:Mine", "nobody") == UNREADABLE
    forget()


# ---------------------------------------------------------------------- purebench's own


@pytest.mark.parametrize("kind", TABLES)
def test_every_component_of_purebench_has_a_hash_of_its_own_and_needs_no_torch_for_it(kind):
    table = importlib.import_module(TABLES[kind]).TABLE
    hashes = {name: source_hash(target) for name, target in table.items()}
    assert all(found.startswith("tree:") for found in hashes.values())
    assert len(set(hashes.values())) == len(hashes)


def own(module):
    return module.partition(".")[0] in ("harness", "attacks", "defenses")


def changed(monkeypatch, module, old, new):
    """Return a family of purebench's modules as if one of them read otherwise."""
    from importlib.machinery import SourceFileLoader

    read = SourceFileLoader.get_source

    def other(loader, name):
        text = read(loader, name)
        if name != module:
            return text
        assert old in text
        return text.replace(old, new)

    monkeypatch.setattr(SourceFileLoader, "get_source", other)
    return Family(own, whole=False)


def test_every_definition_that_attacks_share_counts_for_each_that_takes_it_and_for_no_other(monkeypatch):
    attacks = {
        name: f"attacks.{name}:{what}" for name, what in (("pgd", "PGD"), ("square", "Square"), ("replay", "Replay"))
    }
    before = {name: Family(own, whole=False).hash(target) for name, target in attacks.items()}
    family = changed(monkeypatch, "attacks.ascent", "def ascend(", "def ascend(  # with a word\n    ")
    assert family.hash(attacks["pgd"]) == before["pgd"]
    monkeypatch.undo()
    family = changed(monkeypatch, "attacks.ascent", "def ascend(", "GAIN = 2\n\n\n@GAIN\ndef ascend(")
    after = {name: family.hash(target) for name, target in attacks.items()}
    assert {name for name in attacks if after[name] != before[name]} == {"pgd"}


def test_a_base_class_of_components_counts_by_its_name_alone(monkeypatch):
    target, aside = "attacks.fgsm:FGSM", tuple(BASES.values())
    before, whole = (Family(own, whole=False).hash(target, some) for some in (aside, ()))
    assert source_hash(target) == f"tree:{before}"
    family = changed(monkeypatch, "harness.components", "bool] = False", "bool] = bool(0)")
    assert family.hash(target, aside) == before
    assert family.hash(target) != whole


def test_the_geometry_of_budgets_counts_for_attacks_though_it_is_in_another_package(monkeypatch):
    before = Family(own, whole=False).hash("attacks.pgd:PGD")
    family = changed(monkeypatch, "harness.bounds", "def project(", "@abs\ndef project(")
    assert family.hash("attacks.pgd:PGD") != before
    assert family.hash("defenses.none:NoDefense") == Family(own, whole=False).hash("defenses.none:NoDefense")


def test_the_description_of_an_option_is_for_people(monkeypatch):
    before = Family(own, whole=False).hash("harness.nets.classifiers:Trained")
    family = changed(monkeypatch, "harness.nets.classifiers", "recipe of the classifier", "which one")
    assert family.hash("harness.nets.classifiers:Trained") == before


def test_an_objective_is_an_entry_of_its_table(monkeypatch):
    targets = [f"harness.training.losses:LOSSES[{name}]" for name in ("classify", "reconstruct")]
    before = [Family(own, whole=False).hash(target) for target in targets]
    family = changed(monkeypatch, "harness.training.losses", "F.cross_entropy(net(batch.x), batch.y)", "net(batch.x)")
    after = [family.hash(target) for target in targets]
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, False]


@pytest.mark.parametrize("half", ["cnn", "dir", "mae", "resnet"])
def test_a_joint_network_is_its_halves_too(monkeypatch, half):
    before = Family(own, whole=False).hash("harness.nets.joint:build")
    family = changed(monkeypatch, f"harness.nets.{half}", "def build(", "@abs\ndef build(")
    assert family.hash("harness.nets.joint:build") != before


@pytest.mark.parametrize(
    ("module", "name"), [("harness.nets.networks", "cnn"), ("harness.training.objectives", "classify")]
)
def test_a_network_or_an_objective_more_leaves_every_checkpoint_as_it_was(monkeypatch, module, name):
    components = ("network", "objective")
    code = {
        getattr(entry.load(), "code", entry.target) for kind in components for entry in registry.entries(kind).values()
    }
    targets = sorted({LOOP, *(one for one in code if one.startswith("harness."))})
    before = [Family(own, whole=False).hash(target) for target in targets]
    family = changed(
        monkeypatch, module, f'    "{name}": ', f'    "another": "harness.another:Another",\n    "{name}": '
    )
    assert [family.hash(target) for target in targets] == before


def test_the_shipped_list_reads_groups_that_share_a_hash_as_one():
    groups = read_groups("# words\ntree:a tree:b  # pgd: equal to the last bit\n\ntree:c tree:b\ntree:d tree:e\n")
    assert groups["tree:a"] == groups["tree:c"] == {"tree:a", "tree:b", "tree:c"}
    assert groups["tree:d"] == {"tree:d", "tree:e"}
    assert "words" not in groups


def test_the_hash_is_the_same_in_every_version_of_python(shelf):
    """Pinned over a source of its own: it must not follow what the standard library's dump looks like."""
    files = {
        "__init__.py": "",
        "mine.py": "class Mine:\n    def go(self, *a, k=1.5, **b):\n        return f'{a!r:>3}', k\n",
    }
    assert shelf.hash(files=files) == PINNED, sys.version


PINNED = "tree:a5122adb14d9842d4b747c4c09089671be479a34a59b3383a1eaedf33d6db228"
