"""Components from a file of the user's own: what is read, what its hash sees, and how it is imported."""

from __future__ import annotations

import pickle
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from harness.core import local
from harness.core.errors import UserError
from harness.core.local import Code, entry_of, is_code, know, read, written
from harness.core.spec import Spec
from harness.core.syntax import Family

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MINE = """
    import helpers
    from parts.inner import NUMBER

    class Mine:
        version = 1
        Options = None
        both = (helpers.WORD, NUMBER)

        def purify(self, x, nets, draws):
            return x

        def later(self):
            from late import LATE
            return LATE
"""
FILES = {
    "mine.py": MINE,
    "helpers.py": "WORD = 'a'\n",
    "late.py": "import helpers\nLATE = helpers.WORD * 2\n",
    "parts/__init__.py": "",
    "parts/inner.py": "from .other import NUMBER\n",
    "parts/other.py": "NUMBER = 3\n",
    "unrelated.py": "raise RuntimeError\n",
}


@pytest.fixture
def lay(tmp_path: Path) -> Callable[..., Path]:
    """Writes files into a folder and returns that with ``mine.py``."""

    def write(folder: str = "a", **changed: str) -> Path:
        for name, text in {**FILES, **{key.replace("__", "/") + ".py": text for key, text in changed.items()}}.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return tmp_path / folder / "mine.py"

    return write


def code(path: Path) -> Code:
    found = read(path, path.name)
    know([found])
    return found


@pytest.mark.parametrize(
    ("use", "found"),
    [
        ("./mine.py:Mine", ("./mine.py", "Mine")),
        ("../a b/mine.py:Mine", ("../a b/mine.py", "Mine")),
        ("mine.py:Mine", ("mine.py", "Mine")),
        ("mine.py", None),
        ("mine:Mine", None),
        ("mine.py:", None),
        ("mine.py:a.b", None),
        ("lab/wavelet", None),
    ],
)
def test_how_a_suite_writes_it(use, found):
    assert written(use) == found


def test_what_is_imported_from_the_folder_belongs_to_it_and_nothing_else(lay):
    found = read(lay(), "mine.py")
    assert [path for path, _ in found.files] == sorted(set(FILES) - {"unrelated.py"})


def test_its_names_lead_to_its_neighbours_also_within_functions(lay):
    mine = code(lay()).component("Mine")
    assert mine.both == ("a", 3)
    assert mine().later() == "aa"
    assert not {"helpers", "parts", "late", "mine"} & sys.modules.keys()


def test_two_folders_with_files_of_the_same_names_do_not_meet(lay):
    one, other = code(lay("a")), code(lay("b", helpers="WORD = 'b'\n", parts__other="NUMBER = 4\n"))
    assert one.component("Mine").both == ("a", 3)
    assert other.component("Mine").both == ("b", 4)
    assert other.component("Mine")().later() == "bb"


def test_an_edit_within_one_process_is_heeded(lay):
    before = code(lay()).component("Mine")
    after = code(lay(helpers="WORD = 'z'\n")).component("Mine")
    assert (before.both, after.both) == (("a", 3), ("z", 3))


def test_a_neighbour_goes_before_a_library_of_its_name(lay):
    path = lay(mine="from json import WORD\n\nclass Mine:\n    word = WORD\n", json="WORD = 'own'\n")
    assert code(path).component("Mine").word == "own"
    assert "dumps" in dir(sys.modules["json"])


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"helpers": "'''Words.'''\n\n# a comment\nWORD = (\n    'a'\n)\n"}, True),
        ({"unrelated": "WORD = 5\n"}, True),
        ({"helpers": "WORD = 'b'\n"}, False),
        ({"late": "import helpers\nLATE = helpers.WORD * 3\n"}, False),
        ({"parts__other": "NUMBER = 4\n"}, False),
        ({"mine": MINE.replace("(helpers.WORD, NUMBER)", "(NUMBER, helpers.WORD)")}, False),
    ],
)
def test_the_hash_is_of_what_it_does(lay, changed, same):
    assert (read(lay("a"), "a").hash == read(lay("b", **changed), "b").hash) is same


def test_another_name_of_the_file_makes_no_difference(lay):
    before = read(lay(), "mine.py")
    path = lay("b")
    assert read(path.rename(path.with_name("yours.py")), "yours.py").hash == before.hash


def test_it_travels_to_another_process(lay):
    sent = pickle.loads(pickle.dumps(read(lay(), "mine.py")))
    assert sent.hash == read(lay(), "mine.py").hash
    assert sent.component is not None


def spec(source: str, kind: str = "defense") -> Spec:
    return Spec.of(kind, f"{local.LOCAL}Mine", 1, {local.SOURCE: source})


def test_a_spec_leads_to_what_this_process_knows(lay):
    found = code(lay())
    loaded = entry_of(spec(found.hash)).load()
    assert issubclass(loaded, found.component("Mine"))
    assert loaded is entry_of(spec(found.hash)).load()
    assert local.sources([Spec.of("classifier", "x", 1, {}, {"part": spec("f" * 64)})]) == {"f" * 64}


def test_what_is_not_at_hand_is_a_sentence():
    with pytest.raises(UserError, match=r"expected the file with the defense Mine .*which is not at hand.*--code FILE"):
        entry_of(spec("0" * 64)).load()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def (:\n", "expected Python in .*mine.py, got a syntax error on line 1"),
        ("x = 1\x00\n", "expected Python in .*mine.py, got a syntax error"),
        ("import nowhere_to_be_found\n", "importing it failed with ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "importing it failed with SystemExit: 3; mend mine.py"),
        ("class Other:\n    pass\n", "importing it failed with AttributeError"),
        ("class Mine:\n    pass\n", "it has no version and no Options; mend mine.py"),
        ("Mine = 3\n", "it has no version and no Options"),
    ],
)
def test_a_file_that_will_not_do_is_a_sentence(lay, text, said):
    path = lay()
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        local.entry("defense", "Mine", code(path)).load()


def test_a_file_that_is_none_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"expected Python code in mine\.py, but No such file"):
        read(tmp_path / "mine.py", "mine.py")
    (tmp_path / "mine.py").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="it is not UTF-8 text"):
        read(tmp_path / "mine.py", "mine.py")


def test_there_is_a_largest_size(tmp_path):
    (tmp_path / "mine.py").write_text(f"x = '{'a' * local.MOST_CHARACTERS}'\n")
    with pytest.raises(UserError, match=r"expected at most 200 files and 300000 characters of code beside mine\.py"):
        read(tmp_path / "mine.py", "mine.py")


def test_a_recorded_text_is_held_against_its_hash_and_not_run(lay):
    found = read(lay(mine="raise SystemExit\n"), "mine.py")
    assert is_code(found.main, dict(found.files), found.hash)
    assert not is_code(found.main, {**dict(found.files), "mine.py": "x = 1\n"}, found.hash)
    assert not is_code(found.main, {"mine.py": 3}, found.hash)
    assert not is_code("other.py", dict(found.files), found.hash)
    assert not is_code("mine.py", {"mine.py": "(" * 100_000}, found.hash)


def test_a_family_can_be_read_from_elsewhere():
    family = Family({"a"}.__contains__, whole=True, find=lambda name: None)
    assert family.hash("a:x") is None
