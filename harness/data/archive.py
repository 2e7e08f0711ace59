"""Archives of arrays, as ``numpy.savez`` writes them, from anybody: nothing in them is run.

What their headers say is held against the file before any memory is taken.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: what a file that is no sound archive may raise
BROKEN = (
    *(OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError),
    *(IndexError, MemoryError, SyntaxError, AssertionError),
    *(lzma.LZMAError, zlib.error, zipfile.BadZipFile, struct.error, tokenize.TokenError),
)

#: bytes that a member may have whatever its file, and how many times its size in the file beyond that; images of one
#: colour are packed to less than a hundredth, and only what is meant to fill a memory is so large
_PLAIN, _RATIO = 2**28, 100


@contextmanager
def opened(file: Path | IO[bytes]) -> Iterator[Any]:
    """Open an archive whose headers agree with its members; yields numpy's table of them.

    Raises:
        ValueError: if they do not, and whatever else is in ``BROKEN``.
    """
    with np.load(file, allow_pickle=False) as members:
        if not isinstance(members, np.lib.npyio.NpzFile):
            raise ValueError("a single array, where an archive of several was expected")
        archive: Any = members.zip
        for info in archive.infolist():
            _hold(archive, info)
        yield members


def header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype from the beginning of an array's file."""
    major, _ = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    return shape, dtype


def _hold(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Hold what a member says of its size against what the archive has of it.

    Raises:
        ValueError: if it says more or less.
    """
    if info.file_size > _PLAIN + _RATIO * info.compress_size:
        raise ValueError(f"{info.filename}: {info.file_size} bytes packed into {info.compress_size}")
    if not info.filename.endswith(".npy"):
        return
    with archive.open(info) as member:
        shape, dtype = header(member)
        size, begun = int(np.prod([1, *map(int, shape)], dtype=object)) * dtype.itemsize, member.tell()
    if dtype.hasobject:
        raise ValueError(f"{info.filename}: objects of Python, where numbers were expected")
    if begun + size != info.file_size:
        raise ValueError(f"{info.filename}: {shape} {dtype}, and {info.file_size - begun} bytes of it")
