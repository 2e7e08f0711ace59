"""Files and databases with something changed at random: each is read, or refused in a sentence.

The slow test has ten thousand cases, and holds each against two seconds of a core and 500 MB.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pickle
import random
import sqlite3
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save

import suites
from harness.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

#: what is put in the place of something
NUMBERS = ("0", "-1", "1e999", "9" * 400, "4e18", "nan", ".inf", "1e999999999", "0x10", "1_000")
WORDS = (
    "",
    "~",
    "[]",
    "{}",
    "[[[[",
    "*a",
    "&a [*a]",
    "!!python/object:os.system x",
    "\x00",
    "\u202e",
    "a: b: c",
    "- -",
)
PIECES = (b"", b"\x00", b"\xff" * 8, b"{", b"}" * 50, b"[" * 3000, b"9" * 40, b"PK\x03\x04", b"\x80\x04cos\nsystem\n")


def spoilt(content: bytes, draw: random.Random) -> bytes:
    """Change some bytes, cut some, double some, put some others in."""
    spoiled = bytearray(content)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(spoiled) + 1)
        match draw.randrange(5):
            case 0 if at < len(spoiled):
                spoiled[at] = draw.randrange(256)
            case 1:
                del spoiled[at : at + draw.choice((1, 8, 100, 10_000))]
            case 2:
                spoiled[at:at] = spoiled[at : at + draw.choice((1, 64, 1000))]
            case 3:
                spoiled[at:at] = draw.choice(PIECES)
            case _:
                spoiled[at : at + 8] = draw.randbytes(8)
    return bytes(spoiled)


def rewritten(text: str, draw: random.Random) -> str:
    """Change words, numbers and lines of a text."""
    lines = text.splitlines()
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(lines)) if lines else 0
        line = lines[at] if lines else ""
        match draw.randrange(6):
            case 0:
                lines[at : at + 1] = [line, line]
            case 1:
                lines[at : at + 1] = []
            case 2:
                lines[at : at + 1] = [f"{line}{draw.choice(WORDS)}"]
            case 3:
                lines[at : at + 1] = ["".join(draw.choice(NUMBERS) if one.isdigit() else one for one in line)]
            case 4:
                key, colon, _ = line.partition(":")
                lines[at : at + 1] = [f"{key}{colon} {draw.choice((*WORDS, *NUMBERS))}"]
            case _:
                lines[at : at + 1] = [draw.choice((" ", "  ", "\t", "- ")) + line]
    return "\n".join(lines)


# ---------------------------------------------------------------------- what is read


@cache
def _suites() -> tuple[str, ...]:
    return tuple(path.read_text() for path in sorted(Path(suites.__path__[0]).glob("*.yaml")))


@cache
def _recipes() -> tuple[str, ...]:
    return tuple(path.read_text() for path in sorted((Path(suites.__path__[0]) / "recipes").glob("*.yaml")))


def suite(draw: random.Random, folder: Path) -> None:
    from harness.suite.load import read_suite

    read_suite(rewritten(draw.choice(_suites()), draw), "suite.yaml", folder)


def recipe(draw: random.Random, folder: Path) -> None:
    from harness.suite.load import read_suite

    (folder / "net.yaml").write_text(rewritten(draw.choice(_recipes()), draw), encoding="utf-8")
    text = {
        "name": "x",
        "datasets": [{"name": "digits", "use": "digits"}],
        "classifiers": [{"name": "net", "use": "recipe", "params": {"recipe": "net.yaml"}}],
        "defenses": [{"name": "none", "use": "none"}],
        "evaluation": {"n_examples": 4},
    }
    read_suite(yaml.safe_dump(text), "suite.yaml", folder)


@cache
def _images() -> bytes:
    file = io.BytesIO()
    images = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)
    np.savez_compressed(file, images=images, labels=np.arange(6) % 2, mask=np.arange(6) < 5)
    return file.getvalue()


def dataset(draw: random.Random, folder: Path) -> None:
    from harness.data import npz

    content = spoilt(_images(), draw)
    (folder / "images.npz").write_bytes(content)
    file = {"file": "images.npz", "sha256": hashlib.sha256(content).hexdigest()}
    options = npz.NPZ.Options.model_validate({"test": [file], "n_classes": 2, "mask": "mask"})
    npz._headers.cache_clear()
    npz._load.cache_clear()
    npz._headers(folder, options)
    npz._load(folder, "test", options)


@cache
def _proposed() -> bytes:
    file = io.BytesIO()
    np.savez(file, ids=np.arange(5), images=np.zeros((5, 4, 4, 3), np.uint8))
    return file.getvalue()


def proposals(draw: random.Random, folder: Path) -> None:
    from harness.data import proposals as module

    packed = draw.random() < 0.5
    whole = _proposed() if packed else save({"ids": torch.arange(5), "images": torch.zeros(5, 3, 4, 4)})
    content = spoilt(whole, draw)
    path = folder / f"proposed.{'npz' if packed else 'safetensors'}"
    path.write_bytes(content)
    module._read.cache_clear()
    module._read(path, hashlib.sha256(content).hexdigest())


@cache
def _weights() -> tuple[bytes, ...]:
    tensors = {"conv.weight": torch.zeros(4, 3, 3, 3), "fc.bias": torch.zeros(4)}
    saved = []
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        file = io.BytesIO()
        torch.save(tensors, file, **options)
        saved.append(file.getvalue())
    return (*saved, save(tensors), pickle.dumps({"conv.weight": [1.0]}))


def weights(draw: random.Random, folder: Path) -> None:
    from harness.nets.files import told_normalisation
    from harness.nets.reading import bare_names, table, unpack

    content = spoilt(draw.choice(_weights()), draw)
    told_normalisation(content)
    bare_names(table(unpack(content, "a file"), "a file"))


def artifact(draw: random.Random, folder: Path) -> None:
    from harness.artifacts import Folder

    home = Folder(folder)
    made = home.save("weights", "0" * 64, {"x": torch.zeros(3)}, {"code": {}, "weights": {}})
    path = home.path("weights", made.digest)
    path.write_bytes(spoilt(path.read_bytes(), draw))
    home.about("weights", made.digest)
    home.numbers("weights", made.digest)
    home.load("weights", made.digest)


FIGURE = {
    "dataset": "digits",
    "norm": "Linf",
    "eps": "8/255",
    "method": "x",
    "attack": "pgd",
    "robust": 0.5,
    "source": "y",
}


def figures(draw: random.Random, folder: Path) -> None:
    from harness.store.tend.published import import_published

    kind = draw.choice(("yaml", "csv", "json"))
    if kind == "yaml":
        text = yaml.safe_dump([FIGURE, {**FIGURE, "method": "z"}])
    elif kind == "csv":
        file = io.StringIO()
        csv.DictWriter(file, FIGURE).writerows([dict(zip(FIGURE, FIGURE, strict=True)), FIGURE])
        text = file.getvalue()
    else:
        text = json.dumps({"clean_acc": "90.1", "autoattack_acc": "50", "eps": "8/255", "dataset": "cifar10"}, indent=1)
    (folder / "Linf").mkdir(exist_ok=True)
    path = folder / "Linf" / f"figures.{kind}"
    path.write_text(rewritten(text, draw), encoding="utf-8")
    import_published(str(folder / "empty.db"), [path])


VALUES: tuple[Any, ...] = (
    *(None, "", 0, -1, 2**62, 1e308, float("inf"), b"", b"\xff" * 9, "x" * 10_000, "../../x", "[]", "{}", '{"a": 1}'),
    *("9999-12-31 00:00:00.000000", "soon", "done", "running", "\x1b[2J\u202e", "f" * 64, '"x"', "1e999", "[" * 2000),
)


def database(draw: random.Random, folder: Path) -> None:
    """Put a value into a column of some rows, and read the database in every way."""
    from harness.store.read.edited import edited
    from harness.store.read.status import status
    from harness.store.tend.check import check, damage
    from reports.model.leaderboard import read_leaderboard

    path = folder / "runs.db"
    path.write_bytes((folder / "honest.db").read_bytes())
    connection = sqlite3.connect(path)
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    for _ in range(draw.randint(1, 3)):
        table = draw.choice(tables)
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        column, some = draw.choice(columns), draw.choice(("", " WHERE rowid = 1" if table != "outcomes" else ""))
        try:
            connection.execute(f'UPDATE {table} SET "{column}" = ?{some}', (draw.choice(VALUES),))
        except sqlite3.Error:  # a rule of the table stands in the way
            continue
    connection.commit()
    connection.close()
    from harness.artifacts import Folder

    for look in (
        lambda: check(str(path), Folder(folder)),
        lambda: status(str(path)),
        lambda: edited(str(path)),
        lambda: read_leaderboard(str(path)),
    ):
        try:
            look()
        except UserError:
            continue
        except Exception:
            assert damage(str(path)), "an error, and nothing is found damaged"


READERS: dict[str, tuple[Callable[[random.Random, Path], None], int]] = {
    "suite": (suite, 40),
    "recipe": (recipe, 40),
    "dataset": (dataset, 56),
    "proposals": (proposals, 40),
    "weights": (weights, 56),
    "artifact": (artifact, 30),
    "figures": (figures, 30),
    "database": (database, 12),
}


@pytest.fixture
def folder(tmp_path: Path, laid: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Path:
    from harness.store.write.store import Store

    laid(tmp_path / "honest.db")
    Store.open(str(tmp_path / "empty.db"), create=True).engine.dispose()
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    return tmp_path


def case(kind: str, number: int, folder: Path) -> float:
    """Read one case; return how long it took of a core."""
    began, said = time.process_time(), "read"
    try:
        READERS[kind][0](random.Random(f"{kind} {number}"), folder)
    except UserError as error:
        said = max(map(str, error.problems), key=len)
    assert 0 < len(said) < 5000, "a sentence that nobody reads"
    return time.process_time() - began


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", READERS)
def test_whatever_is_changed_it_is_read_or_refused_in_a_sentence(kind: str, folder: Path) -> None:
    for number in range(READERS[kind][1]):
        try:
            case(kind, number, folder)
        except Exception as error:
            pytest.fail(f"{kind} {number}: {type(error).__name__}: {error}")


def memory(name: str) -> float:
    """Return a line of what Linux says of this process's memory, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1000


def forget_peak() -> None:
    """Let the largest memory so far be what there is now."""
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", READERS)
def test_ten_thousand_of_them(kind: str, folder: Path, record_property: Callable[[str, object], None]) -> None:
    """Each within two seconds of a core and 500 MB."""
    total = sum(number for _, number in READERS.values())
    looks = os.access("/proc/self/clear_refs", os.W_OK)
    failed, slow, most = [], [], 0.0
    case(kind, 0, folder)  # what it takes to import what reads is no case's time
    for number in range(1000, 1000 + round(10_000 * READERS[kind][1] / total) + 1):
        if looks:
            forget_peak()
            before = memory("VmRSS")
        try:
            seconds = case(kind, number, folder)
            slow += [(number, round(seconds, 1))] if seconds > 2.0 else []
        except Exception as error:
            failed.append(f"{number}: {type(error).__name__}: {error}"[:300])
        if looks:
            most = max(most, memory("VmHWM") - before)
    record_property("cases", number - 999)
    record_property("largest memory of a case, MB", round(most))
    assert (failed, slow) == ([], [])
    assert most < 500
