"""Images of your own in npz files: named, hashed and checked, so that nothing but a suite has to be written for them.

What is hashed are the files, since whoever hands one on can say the hash of it, and ``sha256sum`` tells whether it came
through whole. So the same pixels in another package are another dataset; ``cifar10``, of which there are two packages,
hashes pixels. A plan looks at the headers alone and believes the hashes; whatever is loaded is hashed first.
"""

from __future__ import annotations

import functools
import hashlib
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from harness.components import Dataset
from harness.core.contracts import DataCard, Split
from harness.core.errors import UserError
from harness.core.spec import digest_of
from harness.data.archive import BROKEN, header, opened
from harness.data.files import data_folder
from harness.options import Options as BaseOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: a member that need not be there
Member = Annotated[str, Field(min_length=1)] | None


class Packed(BaseOptions):
    """An npz file in the data folder."""

    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.npz$", description="name, without a folder")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="hash of the file")


class NPZ(Dataset):
    """Images from npz files in the data folder: ``images`` uint8, NHWC or grey NHW, and ``labels``, integers from 0.

    Nothing in a file is run: no pickles are read. Pixels become real numbers in [0, 1]. The number of an image, which
    its random draws go by, is its row among all rows of the part, or what the member ``index`` says.
    """

    version: ClassVar[int] = 1

    class Options(BaseOptions):
        """Which files, and which rows of them."""

        test: tuple[Packed, ...] = Field(min_length=1, description="files of the part to evaluate on, in order")
        train: tuple[Packed, ...] = Field((), description="files of the part to train on; without any there is none")
        n_classes: int = Field(ge=2, description="number of labels, which run from 0")
        mask: Member = Field(None, description="member with a truth value per row: whether it is used")
        index: Member = Field(None, description="member with the images' numbers in their source")

    options: Options

    @property
    def card(self) -> DataCard:
        """What the headers of the test files say; they are trusted to belong to the files that are named.

        Raises:
            UserError: if a file is missing or is no such npz.
        """
        shape, n_test = _headers(data_folder(), self.options)
        hashes = {part: [one.sha256 for one in getattr(self.options, part)] for part in ("test", "train")}
        return DataCard(shape=shape, n_classes=self.options.n_classes, n_test=n_test, sha256=digest_of(hashes))

    def load(self, part: str) -> Split:
        """Return the part ``train`` or ``test``: all rows in the order of the files, but for those that are masked.

        Raises:
            UserError: if a file is missing, is another one than was named, or holds something else; or if there is no
                such part.
        """
        return _load(data_folder(), part, self.options)


@functools.lru_cache(maxsize=8)
def _headers(root: Path, options: NPZ.Options) -> tuple[tuple[int, int, int], int]:
    """Return the shape of an image ``(C, H, W)`` and the number of rows that are used, of the test part."""
    shapes: set[tuple[int, int, int]] = set()
    used = 0
    for packed in options.test:
        with _explained(root / packed.file), (root / packed.file).open("rb") as file, opened(file) as members:
            with members.zip.open("images.npy") as member:
                shape, dtype = header(member)
            shapes.add(_channels_first(shape, dtype))
            used += shape[0] if options.mask is None else int(_mask(members[options.mask], shape[0]).sum())
    if len(shapes) > 1:
        known = " and ".join(map(str, sorted(shapes)))
        raise UserError(f"expected test images of one shape, got {known}; name files that belong together")
    return shapes.pop(), used


@functools.lru_cache(maxsize=2)
def _load(root: Path, part: str, options: NPZ.Options) -> Split:
    files: tuple[Packed, ...] = getattr(options, part)
    if not files:
        raise UserError(f"expected files of the {part} part, got none; name them under `{part}` of the dataset")
    shape, _ = _headers(root, options)
    read = [_read(root / packed.file, packed.sha256, options) for packed in files]
    for packed, (images, *_) in zip(files, read, strict=True):
        if images.shape[1:] != shape:
            raise UserError(f"expected images {shape}, as in the test part, got {images.shape[1:]} in {packed.file}")
    pixels, labels, numbers, used = (np.concatenate(columns) for columns in zip(*read, strict=True))
    ids = np.arange(len(labels)) if options.index is None else numbers
    if len(np.unique(ids[used])) < used.sum():
        raise UserError(f"expected a number for each image of the {part} part, got the same for two in {options.index}")
    images = pixels[used].astype(np.float32)
    images /= 255.0
    return Split(images, labels[used], ids[used].astype(np.int64))


def _read(path: Path, sha256: str, options: NPZ.Options) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images ``(N, C, H, W)`` uint8, labels, numbers in the source, 0 where none are told, and a mask."""
    with _explained(path):
        content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(
            f"expected images with sha256 {sha256[:12]}, got {found[:12]} at {path}; put the right file there, or name "
            "its hash where the file is named"
        )
    with _explained(path), opened(io.BytesIO(content)) as members:
        images, labels = members["images"], members["labels"]
        _channels_first(images.shape, images.dtype)
        n = len(images)
        labels = _integers("labels", labels, n, options.n_classes)
        numbers = np.zeros(n, np.int64)
        if options.index is not None:
            numbers = _integers(options.index, members[options.index], n, 2**32)
        used = np.ones(n, bool) if options.mask is None else _mask(members[options.mask], n)
        return (images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)), labels, numbers, used


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Make a sentence of whatever is wrong with a file."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(
            f"expected images at {path}, found none; put the file there, or set PUREBENCH_DATA to the folder it is in"
        ) from error
    except BROKEN as error:
        said = str(error).strip("'\"")
        raise UserError(f"expected images and labels as npz without pickles at {path}, but: {said}") from error


def _channels_first(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int, int]:
    """Return the shape of an image ``(C, H, W)``."""
    if dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)) or 0 in shape:
        raise ValueError(f"expected images uint8 (N, H, W, 1 or 3) or (N, H, W), got {dtype} {shape}")
    height, width, channels = (*shape[1:], 1)[:3]
    return channels, height, width


def _integers(name: str, values: np.ndarray, n: int, stop: int) -> np.ndarray:
    """Return integers ``(n,)`` from 0 to ``stop - 1``."""
    if values.shape != (n,) or values.dtype.kind not in "iu":
        raise ValueError(f"expected {name} as integers ({n},), got {values.dtype} {values.shape}")
    if values.min() < 0 or values.max() >= stop:
        raise ValueError(f"expected {name} from 0 to {stop - 1}, got {values.min()} to {values.max()}")
    return values.astype(np.int64)


def _mask(values: np.ndarray, n: int) -> np.ndarray:
    if values.shape != (n,) or values.dtype != bool:
        raise ValueError(f"expected a mask of truth values ({n},), got {values.dtype} {values.shape}")
    if not values.any():
        raise ValueError("expected a mask that leaves some rows, got one that leaves none")
    return values
