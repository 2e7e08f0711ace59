"""Datasets from npz files: small ones made here, and the real ones of the shared folder."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from pydantic import ValidationError

from harness.core.contracts import DataCard
from harness.core.errors import UserError
from harness.data.cifar10 import CIFAR10
from harness.data.npz import NPZ

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (10, 6, 8, 3), np.uint8)
LABELS = np.arange(10) % 3
MASK = np.arange(10) % 4 != 1


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Write an npz into the data folder; return how a suite names it."""
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))

    def write(name="pool.npz", **members):
        np.savez_compressed(tmp_path / name, **({"images": IMAGES, "labels": LABELS} | members))
        return {"file": name, "sha256": hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}

    return write


def dataset(*test, **options):
    return NPZ(NPZ.Options.model_validate({"test": list(test), "n_classes": 3} | options))


def test_images_are_what_the_file_has(put):
    made = dataset(put())
    split = made.load("test")
    wanted = IMAGES.transpose(0, 3, 1, 2).astype(np.float32)
    wanted /= 255.0
    assert np.array_equal(split.images, wanted)
    assert split.images.dtype == np.float32
    assert split.labels.tolist() == LABELS.tolist()
    assert split.ids.tolist() == list(range(10))
    assert split.labels.dtype == split.ids.dtype == np.int64
    card = made.card
    assert (card.shape, card.n_classes, card.n_test) == ((3, 6, 8), 3, 10)


@pytest.mark.parametrize("grey", [IMAGES[..., 0], IMAGES[..., :1]])
def test_grey_images_may_have_no_axis_for_it(put, grey):
    made = dataset(put(images=grey))
    assert made.card.shape == (1, 6, 8)
    assert np.array_equal(made.load("test").images, dataset(put()).load("test").images[:, :1])


def test_a_mask_leaves_rows_out_and_the_others_keep_their_numbers(put):
    made = dataset(put(good=MASK), mask="good")
    split = made.load("test")
    assert split.ids.tolist() == np.flatnonzero(MASK).tolist()
    assert split.labels.tolist() == LABELS[MASK].tolist()
    assert made.card.n_test == len(split.ids) == 7


def test_numbers_may_be_told(put):
    numbers = np.arange(10)[::-1] + 4_000_000_000
    split = dataset(put(number=numbers, good=MASK), index="number", mask="good").load("test")
    assert split.ids.tolist() == numbers[MASK].tolist()


def test_files_are_put_together_in_the_order_in_which_they_are_named(put):
    one = put("one.npz", images=IMAGES[:4], labels=LABELS[:4], good=MASK[:4])
    other = put("other.npz", images=IMAGES[4:], labels=LABELS[4:], good=MASK[4:])
    made = dataset(other, one, mask="good")
    whole = dataset(put(good=MASK)).load("test")
    split = made.load("test")
    order = np.array([*range(4, 10), *range(4)])
    used = MASK[order]
    assert split.ids.tolist() == np.flatnonzero(used).tolist()
    assert np.array_equal(split.images, whole.images[order][used])
    assert made.card.n_test == 7


def test_there_is_a_part_to_train_on_where_files_are_named(put):
    one, other = put("one.npz"), put("other.npz", labels=LABELS[::-1])
    made = dataset(one, train=[other])
    assert made.load("train").labels.tolist() == LABELS[::-1].tolist()
    with pytest.raises(UserError, match="expected files of the train part, got none; name them under `train`"):
        dataset(one).load("train")


def test_the_identity_follows_the_hashes_of_all_files(put):
    one, other = put("one.npz"), put("other.npz", labels=LABELS[::-1])
    cards = [dataset(one), dataset(other), dataset(one, train=[other]), dataset(one, other)]
    assert len({made.card.sha256 for made in cards}) == 4
    assert dataset(one).card == dataset(one).card
    assert isinstance(dataset(one).card, DataCard)


def test_a_plan_reads_headers_only(put, tmp_path):
    named = put()
    made = dataset({**named, "sha256": "0" * 64})
    assert made.card.n_test == 10
    with pytest.raises(UserError) as caught:
        made.load("test")
    assert str(caught.value) == (
        f"expected images with sha256 000000000000, got {named['sha256'][:12]} at {tmp_path / 'pool.npz'}; "
        "put the right file there, or name its hash where the file is named"
    )


def test_a_file_that_is_not_there_is_a_sentence(put, tmp_path):
    named = put()
    made = dataset({**named, "file": "lost.npz"})
    for ask in (lambda: made.card, lambda: made.load("test")):
        with pytest.raises(UserError) as caught:
            ask()
        assert f"expected images at {tmp_path / 'lost.npz'}, found none; put the file there" in str(caught.value)


WRONG = {
    "real pixels": ({"images": IMAGES / 255}, "expected images uint8 (N, H, W, 1 or 3) or (N, H, W), got float64"),
    "channels first": ({"images": IMAGES.transpose(0, 3, 1, 2)}, "got uint8 (10, 3, 6, 8)"),
    "flat": ({"images": IMAGES.reshape(10, -1)}, "got uint8 (10, 144)"),
    "none": ({"images": IMAGES[:0], "labels": LABELS[:0]}, "got uint8 (0, 6, 8, 3)"),
    "too few labels": ({"labels": LABELS[:9]}, "expected labels as integers (10,), got int64 (9,)"),
    "real labels": ({"labels": LABELS / 2}, "expected labels as integers (10,), got float64 (10,)"),
    "a class too many": ({"labels": LABELS + 1}, "expected labels from 0 to 2, got 1 to 3"),
    "a class below": ({"labels": LABELS - 1}, "expected labels from 0 to 2, got -1 to 1"),
    "a pickle": ({"labels": np.array([{}] * 10)}, "objects of Python, where numbers were expected"),
    "numbers that are none": ({"number": LABELS / 2}, "expected number as integers (10,), got float64"),
    "numbers too large": ({"number": LABELS + 2**32}, "expected number from 0 to 4294967295, got"),
    "a mask of numbers": ({"good": LABELS}, "expected a mask of truth values (10,), got int64 (10,)"),
    "a mask of all": ({"good": LABELS < 0}, "expected a mask that leaves some rows"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_in_a_file_is_one_sentence(put, tmp_path, kind):
    members, sentence = WRONG[kind]
    made = dataset(put(**{"number": np.arange(10), "good": MASK} | members), index="number", mask="good")
    with pytest.raises(UserError) as caught:
        made.load("test")
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(
        f"expected images and labels as npz without pickles at {tmp_path / 'pool.npz'}, but: "
    )
    assert sentence in str(caught.value)


@pytest.mark.parametrize("member", ["labels", "images", "good"])
def test_a_member_that_is_not_there_is_a_sentence(put, tmp_path, member):
    put()  # the folder is that of the environment
    members = {"images": IMAGES, "labels": LABELS, "good": MASK}
    del members[member]
    np.savez(tmp_path / "pool.npz", **members)
    sha256 = hashlib.sha256((tmp_path / "pool.npz").read_bytes()).hexdigest()
    with pytest.raises(UserError, match=f"{member}.* is not a file in the archive|no item named .*{member}"):
        dataset({"file": "pool.npz", "sha256": sha256}, mask="good").load("test")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_npz_is_a_sentence(put, tmp_path, content):
    put()
    (tmp_path / "pool.npz").write_bytes(content)
    made = dataset({"file": "pool.npz", "sha256": hashlib.sha256(content).hexdigest()})
    for ask in (lambda: made.card, lambda: made.load("test")):
        with pytest.raises(UserError, match="expected images and labels as npz without pickles at"):
            ask()


def test_a_file_that_was_cut_short_or_changed_is_never_loaded(put, tmp_path):
    named = put()
    content = (tmp_path / "pool.npz").read_bytes()
    (tmp_path / "pool.npz").write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    with pytest.raises(UserError, match=r"expected images (with sha256|and labels as npz)"):
        dataset(named).load("test")


def test_parts_and_files_of_other_shapes_do_not_fit(put):
    one, other = put("one.npz"), put("other.npz", images=IMAGES[:, :4])
    with pytest.raises(UserError, match=r"expected test images of one shape, got \(3, 4, 8\) and \(3, 6, 8\)"):
        _ = dataset(one, other).card
    with pytest.raises(
        UserError, match=r"expected images \(3, 6, 8\), as in the test part, got \(3, 4, 8\) in other.npz"
    ):
        dataset(one, train=[other]).load("train")


def test_two_images_of_one_number_would_draw_the_same(put):
    twice, first = np.arange(10) // 2, np.arange(10) % 2 == 0
    wanted = "expected a number for each image of the test part, got the same for two in number"
    with pytest.raises(UserError, match=wanted):
        dataset(put(number=twice), index="number").load("test")
    split = dataset(put(number=twice, first=first), index="number", mask="first").load("test")
    assert split.ids.tolist() == list(range(5))


@pytest.mark.parametrize("file", ["../pool.npz", "/pool.npz", "pool.zip", "a/pool.npz"])
def test_a_name_is_no_path(file):
    with pytest.raises(ValidationError, match="should match pattern"):
        dataset({"file": file, "sha256": "0" * 64})


def test_a_dataset_without_test_images_is_none():
    with pytest.raises(ValidationError, match="at least 1 item"):
        dataset()


# ---------------------------------------------------------------------- real images


@pytest.mark.shared
def test_real_images_by_their_names_are_those_of_the_built_in_dataset(shared, monkeypatch):
    monkeypatch.setenv("PUREBENCH_DATA", str(shared / "data"))
    sha256 = "4ba2469e440adf73a0b02ca67328dbb07eb8191714e85f1a57a92ee01d3d1ae9"
    named = {"file": "cifar10-test.npz", "sha256": sha256}
    made = dataset(named, n_classes=10, mask="lossless", index="index")
    built_in = CIFAR10(CIFAR10.Options())
    split, wanted = made.load("test"), built_in.load("test")
    assert np.array_equal(split.images, wanted.images)
    assert np.array_equal(split.labels, wanted.labels)
    assert np.array_equal(split.ids, wanted.ids)
    assert (made.card.shape, made.card.n_test) == (built_in.card.shape, built_in.card.n_test)


@pytest.mark.shared
def test_a_pool_of_another_dataset_needs_nothing_but_its_hash(shared, monkeypatch):
    monkeypatch.setenv("PUREBENCH_DATA", str(shared / "data"))
    named = {"file": "cifar100-pool.npz", "sha256": "4bea3b297e3931d6eeaf5f354f1ffcccf99b679baf7d76539e21ee74fbd12f83"}
    made = dataset(named, n_classes=100)
    split = made.load("test")
    assert (made.card.shape, made.card.n_test) == ((3, 32, 32), 3000)
    assert np.bincount(split.labels).tolist() == [30] * 100
    assert split.images.mean((0, 2, 3)).tolist() == pytest.approx([0.507, 0.487, 0.441], abs=0.005)
