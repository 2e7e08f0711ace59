"""CIFAR-10 from files, on a toy with the same layouts and on the real images."""

import hashlib

import numpy as np
import pytest

from harness.artifacts import Folder
from harness.core.errors import UserError
from harness.data import cifar10
from harness.data.cifar10 import CIFAR10
from harness.data.files import data_folder

BATCH = 12
COPIES = {"test": (3,), "train": (2, 40)}


def dataset(**options):
    return CIFAR10(CIFAR10.Options(**options))


def sha256(records):
    return hashlib.sha256(np.ascontiguousarray(records).data).hexdigest()


def save_archive(root, records):
    folder = root / cifar10.ARCHIVE
    folder.mkdir()
    for part, rows in records.items():
        for name, some in zip(cifar10.FILES[part][0], np.split(rows, len(rows) // BATCH), strict=True):
            some.tofile(folder / name)


def save_npz(root, records):
    for part, rows in records.items():
        for name, some in zip(cifar10.FILES[part][1], np.split(rows, len(rows) // BATCH), strict=True):
            images = some[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            np.savez(root / name, images=images, labels=some[:, 0].astype(np.int64))


SAVE = {"archive": save_archive, "npz": save_npz}


@pytest.fixture
def records(monkeypatch):
    """Twelve images per file instead of ten thousand, and hashes to match."""
    rng = np.random.default_rng(0)
    made = {}
    for part, files in (("test", 1), ("train", 5)):
        made[part] = rng.integers(0, 256, (files * BATCH, cifar10.RECORD), np.uint8)
        made[part][:, 0] %= 10
        copied = np.isin(np.arange(files * BATCH), COPIES[part])
        monkeypatch.setitem(cifar10.COPIES, part, COPIES[part])
        monkeypatch.setitem(cifar10.ORIGINALS_SHA256, part, sha256(made[part][~copied]))
        monkeypatch.setitem(cifar10.COPIES_SHA256, part, sha256(made[part][copied]))
    monkeypatch.setattr(cifar10, "BATCH", BATCH)
    return made


@pytest.fixture(params=sorted(SAVE))
def layout(request):
    return request.param


@pytest.fixture
def toy(records, layout, tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    SAVE[layout](tmp_path, records)
    return records


def test_files_lie_where_the_user_says_or_in_the_artifact_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PUREBENCH_DATA", raising=False)
    assert data_folder() == Folder.default().root / "data"
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    assert data_folder() == tmp_path


def test_pixels_come_as_shares_of_one_channel_by_channel(toy):
    split = dataset(lossless=False).load("test")
    assert split.images.shape == (12, 3, 32, 32)
    assert split.images.dtype == np.float32
    # the archive's own order: label, 1024 red values row by row, then green, then blue
    assert split.images[5, 2, 7, 30] == np.float32(toy["test"][5, 1 + 2 * 1024 + 7 * 32 + 30]) / np.float32(255)
    assert split.labels.dtype == np.int64
    assert (split.labels == toy["test"][:, 0]).all()


def test_train_files_follow_each_other(toy):
    split = dataset(lossless=False).load("train")
    assert (split.labels == toy["train"][:, 0]).all()
    assert (split.ids == np.arange(60)).all()


def test_images_that_not_all_copies_have_are_left_out_and_the_rest_keep_their_numbers(toy):
    data = dataset()
    split = data.load("test")
    assert split.ids.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    assert (split.labels == toy["test"][split.ids, 0]).all()
    assert data.card.n_test == len(split.labels)
    assert len(data.load("train").labels) == 58


def test_all_images_can_be_asked_for(toy):
    data = dataset(lossless=False)
    assert data.card.n_test == len(data.load("test").labels) == 12


def test_both_layouts_of_the_same_pixels_are_the_same_data(records, tmp_path, monkeypatch):
    found = []
    for name, save in SAVE.items():
        (tmp_path / name).mkdir()
        save(tmp_path / name, records)
        monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path / name))
        for lossless in (True, False):
            data = dataset(lossless=lossless)
            split = data.load("test")
            found.append((lossless, data.card, split.images.tobytes(), split.labels.tobytes(), split.ids.tobytes()))
    assert found[:2] == found[2:]


def test_what_is_left_out_makes_other_data(toy):
    assert dataset().card.sha256 != dataset(lossless=False).card.sha256


def test_originals_in_place_of_copies_change_only_the_data_that_has_them(records, tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    copies = dataset().card, dataset(lossless=False)
    save_npz(tmp_path, records)
    copied = copies[1].card.sha256
    changed = {part: rows.copy() for part, rows in records.items()}
    changed["test"][3, 100] ^= 1
    save_archive(tmp_path, changed)
    assert dataset().card == copies[0]
    assert dataset(lossless=False).card.sha256 != copied
    assert len(dataset(lossless=False).load("test").labels) == 12


def test_a_card_needs_no_files(tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    card = dataset().card
    assert (card.shape, card.n_classes, card.n_test) == ((3, 32, 32), 10, 9980)


def test_evaluation_needs_no_training_images(toy, tmp_path):
    for file in [*tmp_path.rglob("data_batch_*"), *tmp_path.rglob("cifar10-train-*")]:
        file.unlink()
    assert len(dataset().load("test").labels) == 11


def test_a_part_is_read_once(toy, tmp_path):
    first = dataset().load("test")
    for file in [*tmp_path.rglob("*.bin"), *tmp_path.rglob("*.npz")]:
        file.unlink()
    assert dataset().load("test") is first


def test_missing_files_are_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    wanted = (
        r"expected CIFAR-10's test images as cifar10-test.npz or the folder cifar-10-batches-bin of the official "
        r"binary archive in .*, found none; put the files there, or set PUREBENCH_DATA to the folder that has them"
    )
    with pytest.raises(UserError, match=wanted):
        dataset().load("test")
    with pytest.raises(UserError, match=wanted):
        _ = dataset(lossless=False).card


def test_a_missing_file_of_the_archive_is_named(tmp_path, monkeypatch, records):
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    save_archive(tmp_path, records)
    (tmp_path / cifar10.ARCHIVE / "data_batch_3.bin").unlink()
    with pytest.raises(UserError, match=r"train images as data_batch_3.bin in .*cifar-10-batches-bin, found none"):
        dataset().load("train")


def test_a_file_that_was_cut_short_is_a_sentence(toy, tmp_path):
    (path,) = [*tmp_path.rglob("test_batch.bin"), *tmp_path.rglob("cifar10-test.npz")]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=rf"images of CIFAR-10 in .*{path.name}, but the file is damaged .*get it agai"):
        dataset().load("test")


@pytest.mark.parametrize(
    "members",
    [
        {"labels": np.zeros(BATCH)},
        {"images": np.zeros((BATCH, 32, 32, 3)), "labels": np.zeros(BATCH)},
        {"images": np.zeros((BATCH, 3, 32, 32), np.uint8), "labels": np.zeros(BATCH)},
        {"images": np.array([object()]), "labels": np.zeros(BATCH)},
    ],
    ids=["no images", "images of floats", "images of another shape", "a pickle"],
)
def test_another_npz_of_that_name_is_a_sentence(records, tmp_path, monkeypatch, members):
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    np.savez(tmp_path / "cifar10-test.npz", **members)
    with pytest.raises(UserError, match=r"in .*cifar10-test.npz, but the file is damaged"):
        dataset().load("test")


@pytest.mark.parametrize("save", [np.save, lambda file, _: file.write(b"no images")], ids=["one array", "a text"])
def test_a_file_that_is_no_npz_is_a_sentence(records, tmp_path, monkeypatch, save):
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    with (tmp_path / "cifar10-test.npz").open("wb") as file:
        save(file, records["test"])
    with pytest.raises(UserError, match=r"in .*cifar10-test.npz, but the file is damaged"):
        dataset().load("test")


def test_one_changed_pixel_is_refused(records, layout, tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    records["test"][7, 1000] ^= 1
    SAVE[layout](tmp_path, records)
    with pytest.raises(UserError, match=r"expected CIFAR-10's test images with content hash .*, got .*; put the unch"):
        dataset().load("test")


def test_one_changed_label_is_refused(records, layout, tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    records["train"][50, 0] += 1
    SAVE[layout](tmp_path, records)
    with pytest.raises(UserError, match="expected CIFAR-10's train images with content hash"):
        dataset().load("train")


def test_a_changed_copy_is_refused_where_it_is_wanted(records, tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    records["test"][3, 1000] ^= 1
    save_npz(tmp_path, records)
    assert len(dataset().load("test").labels) == 11
    with pytest.raises(UserError, match="expected CIFAR-10's test images with content hash"):
        dataset(lossless=False).load("test")


@pytest.mark.shared
def test_the_real_images_are_what_is_promised(shared, monkeypatch):
    monkeypatch.setenv("PUREBENCH_DATA", str(shared / "data"))
    split = dataset(lossless=False).load("test")
    assert np.bincount(split.labels).tolist() == [1000] * 10
    assert split.images.mean((0, 2, 3), np.float64) == pytest.approx([0.49422, 0.48513, 0.45041], abs=1e-5)
    kept = dataset().load("test")
    assert len(kept.labels) == dataset().card.n_test == 9980
    with np.load(shared / "data" / "cifar10-test.npz") as members:
        assert (kept.ids == members["index"][members["lossless"]]).all()


@pytest.mark.shared
def test_the_real_images_as_the_official_archive_has_them_are_the_same_data(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_DATA", str(shared / "data"))
    packed = dataset().load("test")
    with np.load(shared / "data" / "cifar10-test.npz") as members:
        images, labels = members["images"], members["labels"]
    content = np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(10_000, -1)], 1)
    (tmp_path / cifar10.ARCHIVE).mkdir()
    content.astype(np.uint8).tofile(tmp_path / cifar10.ARCHIVE / "test_batch.bin")
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))
    unpacked = dataset().load("test")
    assert (unpacked.images == packed.images).all()
    assert (unpacked.labels == packed.labels).all()


@pytest.mark.shared
@pytest.mark.slow
def test_the_real_training_images_are_what_is_promised(shared, monkeypatch):
    monkeypatch.setenv("PUREBENCH_DATA", str(shared / "data"))
    split = dataset().load("train")
    assert len(split.labels) == 49_923
    assert split.images.mean((0, 2, 3), np.float64) == pytest.approx([0.49140, 0.48216, 0.44653], abs=1e-3)
