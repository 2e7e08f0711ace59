"""CIFAR-10: 60,000 real 32 x 32 colour images of ten classes (Krizhevsky 2009), from files that you have.

Two layouts are read from the data folder: the folder ``cifar-10-batches-bin`` of the official binary archive, or
``cifar10-test.npz`` and ``cifar10-train-0.npz`` to ``-4`` with ``images`` (NHWC, uint8) and ``labels``. Either becomes
records of the binary archive: a byte with the label, then 3072 bytes of pixels, channel by channel and row by row.

What is hashed are the records, never files or paths, so that the same pixels are the same data however they are packed.
The npz files have 97 images as JPEG copies, whose pixels differ from the archive's by 5.8 grey levels on average. By
default those places are left out of both layouts: what is left is equal, its hash is known beforehand, so a plan reads
no file, every load is checked, and results from either layout count as one.
"""

from __future__ import annotations

import functools
import hashlib
import lzma
import zipfile
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from harness.components import Dataset
from harness.core.contracts import DataCard, Split
from harness.core.errors import UserError
from harness.data.files import data_folder
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from pathlib import Path

#: bytes of a record, and records of a file
RECORD, BATCH = 1 + 3 * 32 * 32, 10_000

ARCHIVE = "cifar-10-batches-bin"

#: part -> its files, in the order of the images: in the archive, and as npz
FILES = {
    "test": (("test_batch.bin",), ("cifar10-test.npz",)),
    "train": (
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        tuple(f"cifar10-train-{number}.npz" for number in range(5)),
    ),
}

# fmt: off
#: part -> places of the images that are JPEG copies in the npz files
COPIES = {
    "test": (
        1259, 1369, 1422, 2245, 2737, 2935, 3695, 3718, 4085, 4496, 5791, 5896, 6286, 7580, 7707, 7724, 7832, 8117,
        8551, 9254,
    ),
    "train": (
        4298, 5949, 7066, 7237, 7248, 7630, 8006, 8831, 8968, 9415, 10336, 10408, 12762, 12834, 13546, 21493, 25728,
        26098, 26927, 27621, 28435, 28728, 29694, 29747, 30329, 31066, 31367, 31462, 31625, 31663, 32777, 33641, 33661,
        34067, 34276, 34387, 34825, 35160, 35646, 36733, 37329, 37474, 37567, 38384, 38925, 39358, 39385, 39613, 39840,
        39888, 39971, 40805, 41779, 42004, 42389, 42611, 43357, 43883, 44882, 45168, 45240, 46175, 46435, 46538, 46624,
        47393, 47597, 48081, 48124, 48333, 48821, 48836, 49321, 49429, 49631, 49830, 49857,
    ),
}
# fmt: on

#: part -> hash of all other records, the same in both layouts
ORIGINALS_SHA256 = {
    "test": "20243591dbebc9e6ebeb9cc523dcd7efb3fbf00c08e71be49991b16db4157819",
    "train": "ee19d1ecbc9dbceb3291f4ce17286a90c8bfc61a246bafefb79c2b9dfc451306",
}

#: part -> hash of the records at those places, as the npz files have them
COPIES_SHA256 = {
    "test": "c60965a28af032b860271179a14c7d409b1ac8bda213e1b90536d31729f0d6bf",
    "train": "f54fbbd145c245e07824d4035d9c5e3f3f6af47f07290d14873c299ed1976519",
}


class CIFAR10(Dataset):
    """Photographs of ten kinds of things, 32 x 32 colour pixels; the files are yours to place."""

    version: ClassVar[int] = 1

    class Options(BaseOptions):
        """Which images."""

        lossless: bool = Field(
            True, description="leave out the 97 of 60,000 images (20 of the test part) that not all copies have exactly"
        )

    options: Options

    @property
    def card(self) -> DataCard:
        """What is known before loading; files are looked at only where the 97 images are wanted."""
        hashes = [*ORIGINALS_SHA256.values()]
        if not self.options.lossless:
            hashes += [_sha256_of_copies(data_folder(), part) for part in COPIES]
        return DataCard(
            shape=(3, 32, 32),
            n_classes=10,
            n_test=BATCH - (len(COPIES["test"]) if self.options.lossless else 0),
            sha256=hashlib.sha256("".join(hashes).encode()).hexdigest(),
        )

    def load(self, part: str) -> Split:
        """Return the part ``train`` or ``test`` in the official order; read once per process, so not to be changed."""
        return _load(data_folder(), part, self.options.lossless)


@functools.lru_cache(maxsize=2)
def _load(root: Path, part: str, lossless: bool) -> Split:
    records = np.concatenate([_read(path) for path in _paths(root, part)])
    copied = np.isin(np.arange(len(records)), COPIES[part])
    _compare(root, part, records[~copied], ORIGINALS_SHA256[part])
    if not lossless:
        _compare(root, part, records[copied], _sha256_of_copies(root, part))
    rows = np.flatnonzero(~copied) if lossless else np.arange(len(records))
    images = records[rows, 1:].astype(np.float32)
    images /= 255.0
    return Split(images.reshape(-1, 3, 32, 32), records[rows, 0].astype(np.int64), rows)


def _compare(root: Path, part: str, records: np.ndarray, promised: str) -> None:
    found = hashlib.sha256(np.ascontiguousarray(records).data).hexdigest()
    if found != promised:
        raise UserError(
            f"expected CIFAR-10's {part} images with content hash {promised[:12]}, got {found[:12]} in {root}; "
            "put the unchanged files there"
        )


def _paths(root: Path, part: str) -> list[Path]:
    """Return the files of a part; the archive's, where its folder is there.

    Raises:
        UserError: if one is missing.
    """
    archive, packed = FILES[part]
    binary = (root / ARCHIVE).is_dir()
    paths = [root / ARCHIVE / name for name in archive] if binary else [root / name for name in packed]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        either = "" if binary else f" or the folder {ARCHIVE} of the official binary archive"
        raise UserError(
            f"expected CIFAR-10's {part} images as {missing[0].name}{either} in {missing[0].parent}, found none; "
            "put the files there, or set PUREBENCH_DATA to the folder that has them"
        )
    return paths


def _read(path: Path) -> np.ndarray:
    """Return the records of a file, ``(10000, 3073)`` uint8.

    Raises:
        UserError: if it is no such file.
    """
    try:
        records = np.fromfile(path, np.uint8) if path.suffix == ".bin" else _unpack(path)
        return records.reshape(BATCH, RECORD)
    except (OSError, EOFError, KeyError, TypeError, ValueError, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise UserError(
            f"expected {BATCH:,} images of CIFAR-10 in {path}, but the file is damaged ({error}); get it again"
        ) from error


def _unpack(path: Path) -> np.ndarray:
    with path.open("rb") as file, np.load(file) as members:  # unpacks a member anew at every access
        images, labels = members["images"], members["labels"]
    if images.dtype != np.uint8 or images.shape != (BATCH, 32, 32, 3) or labels.shape != (BATCH,):
        raise ValueError(f"images {images.shape} {images.dtype}, labels {labels.shape}")
    pixels = images.transpose(0, 3, 1, 2).reshape(BATCH, RECORD - 1)
    return np.concatenate([labels.astype(np.uint8)[:, None], pixels], 1)


def _sha256_of_copies(root: Path, part: str) -> str:
    """Return the hash of the records at the places of the copies: the archive's are read, few as they are."""
    paths = _paths(root, part)
    if paths[0].suffix != ".bin":
        return COPIES_SHA256[part]
    found = hashlib.sha256()
    for place in COPIES[part]:
        with paths[place // BATCH].open("rb") as file:
            file.seek(place % BATCH * RECORD)
            found.update(file.read(RECORD))
    return found.hexdigest()
