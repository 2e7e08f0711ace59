"""Artifacts appear whole or not at all."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from harness.artifacts import Folder
from harness.core.errors import UserError

DIGEST = "ab" + 62 * "0"
ABOUT = {"curve": [[1, 2.5]], "seconds": 1.5, "name": "façade"}


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "home")


@pytest.fixture
def tensors():
    return {"weight": torch.arange(6.0).reshape(2, 3).T, "steps": torch.tensor(3), "mask": torch.tensor([True, False])}


def files(folder):
    return [path for path in folder.root.rglob("*") if path.is_file()]


def test_what_was_saved_is_loaded(folder, tensors):
    saved = folder.save("weights", DIGEST, tensors, ABOUT, "tiny")
    found, about, artifact = folder.load("weights", DIGEST, "tiny")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    assert about == ABOUT
    assert artifact == saved


def test_the_description_is_that_of_the_file_and_nothing_else_is_left(folder, tensors):
    artifact = folder.save("weights", DIGEST, tensors, ABOUT, "tiny")
    path = folder.path("weights", DIGEST)
    assert files(folder) == [path]
    assert artifact.bytes == path.stat().st_size
    assert artifact.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == folder.sha256("weights", DIGEST)
    assert (artifact.digest, artifact.kind, artifact.label) == (DIGEST, "weights", "tiny")


def test_the_same_content_is_the_same_file(folder, tensors):
    assert folder.save("weights", DIGEST, tensors, ABOUT) == folder.save("weights", DIGEST, tensors, ABOUT)


def test_the_hash_of_the_numbers_covers_them_and_nothing_else(folder, tensors):
    folder.save("weights", DIGEST, tensors, ABOUT)
    before = folder.numbers("weights", DIGEST)
    folder.save("weights", DIGEST, tensors, {"seconds": 2.5})
    assert folder.numbers("weights", DIGEST) == before
    folder.save("weights", DIGEST, {**tensors, "steps": torch.tensor(4)}, ABOUT)
    assert folder.numbers("weights", DIGEST) != before
    folder.path("weights", DIGEST).write_bytes(b"damaged")
    assert folder.numbers("weights", DIGEST) is None


def test_a_changed_bit_among_the_numbers_is_noticed(folder, tensors):
    folder.save("weights", DIGEST, tensors, ABOUT)
    path = folder.path("weights", DIGEST)
    data = bytearray(path.read_bytes())
    data[8 + int.from_bytes(data[:8], "little")] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"the file is damaged \(its numbers are not those that were written\); delete"):
        folder.load("weights", DIGEST)


def test_a_file_of_another_programme_is_refused(folder):
    folder.place("weights", DIGEST, save({"weight": torch.ones(2)}, {"format": "pt"}))
    with pytest.raises(UserError, match="the file is damaged"):
        folder.load("weights", DIGEST)


def test_about_reads_the_header_only(folder, tensors):
    folder.save("weights", DIGEST, tensors, ABOUT)
    path = folder.path("weights", DIGEST)
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    path.write_bytes(data[:header])
    assert folder.about("weights", DIGEST) == ABOUT


@pytest.mark.parametrize(
    "damage", [b"", b"short", b"\x02" + 7 * b"\0" + b"{}", b"\x02" + 7 * b"\0" + b"[]", 7 * b"\xff" + b"\0{}"]
)
def test_about_of_a_damaged_file_is_none(folder, tensors, damage):
    folder.save("weights", DIGEST, tensors, ABOUT)
    folder.path("weights", DIGEST).write_bytes(damage)
    assert folder.about("weights", DIGEST) is None


def test_what_is_missing_is_missing(folder):
    assert not folder.has("weights", DIGEST)
    assert folder.sha256("weights", DIGEST) is None
    assert folder.about("weights", DIGEST) is None
    with pytest.raises(UserError, match=r"^expected weights at .*, found nothing; run the suite again to make them$"):
        folder.load("weights", DIGEST)


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_a_damaged_file_is_a_sentence(folder, tensors, kept):
    folder.save("adversarial", DIGEST, tensors, ABOUT)
    path = folder.path("adversarial", DIGEST)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"but the file is damaged \(.*\); delete it and run again$"):
        folder.load("adversarial", DIGEST)


def test_a_file_that_the_harness_did_not_write_is_damaged(folder):
    from safetensors.torch import save

    path = folder.path("weights", DIGEST)
    path.parent.mkdir(parents=True)
    path.write_bytes(save({"weight": torch.ones(2)}))
    with pytest.raises(UserError, match="but the file is damaged"):
        folder.load("weights", DIGEST)
    assert folder.about("weights", DIGEST) is None


def test_a_folder_that_cannot_be_written_is_a_sentence(folder, tensors):
    folder.root.write_text("a file, no folder")
    with pytest.raises(UserError, match="set PUREBENCH_HOME to a folder with room"):
        folder.save("weights", DIGEST, tensors, ABOUT)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_nothing_behind(folder, tensors, monkeypatch, call):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    if call == "fsync":
        monkeypatch.setattr("harness.artifacts.os.fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        folder.save("weights", DIGEST, tensors, ABOUT)
    assert not folder.has("weights", DIGEST)
    assert files(folder) == []


def test_the_environment_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PUREBENCH_HOME", str(tmp_path))
    assert Folder.default().root == tmp_path
    monkeypatch.delenv("PUREBENCH_HOME")
    assert Folder.default().root.name == "purebench"


def test_a_file_that_was_put_in_the_place_of_another_is_noticed(folder, tensors):
    other = "cd" + 62 * "0"
    for digest in (DIGEST, other):
        folder.save("adversarial", digest, tensors, ABOUT)
    path, twin = (folder.path("adversarial", digest) for digest in (DIGEST, other))
    twin.unlink()
    twin.symlink_to(path)  # a copy or a link
    assert folder.about("adversarial", other) is None
    assert folder.numbers("adversarial", other) is None
    with pytest.raises(UserError, match="it is the artifact ab0000000000"):
        folder.load("adversarial", other)
    folder.save("adversarial", other, tensors, ABOUT)  # which takes the place of the link, not of what it leads to
    assert folder.load("adversarial", other)[1] == ABOUT
    assert folder.load("adversarial", DIGEST)[1] == ABOUT


def test_a_file_from_before_they_said_which_they_are_is_read(folder, tensors):
    kept = {"about": ABOUT, "sha256": hashlib.sha256(_body(save(tensors_of(tensors)))).hexdigest()}
    folder.place("adversarial", DIGEST, save(tensors_of(tensors), {"purebench": json.dumps(kept)}))
    assert folder.load("adversarial", DIGEST)[1] == ABOUT


def tensors_of(tensors):
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _body(data):
    return data[8 + int.from_bytes(data[:8], "little") :]
