"""What an archive says of itself is held against it before any memory is taken."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from harness.data.archive import BROKEN, opened


def archive(**members: bytes) -> io.BytesIO:
    """An archive of members as they are given."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(f"{name}.npy", content)
    file.seek(0)
    return file


def array(shape: str, body: bytes = b"", dtype: str = "'|u1'") -> bytes:
    """An array's file with a header of any shape."""
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


def test_an_honest_one_is_opened_with_all_its_members():
    file = io.BytesIO()
    np.savez_compressed(file, images=np.zeros((4, 3, 3), np.uint8), labels=np.arange(4), none=np.zeros((0, 5)))
    file.seek(0)
    with opened(file) as members:
        assert sorted(members.files) == ["images", "labels", "none"]
        assert members["labels"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (array("(1000000000000, 32, 32)", b"\0" * 64), "64 bytes of it"),
        (array("(3,)", b"\0" * 2), "2 bytes of it"),
        (array("(3,)", b"\0" * 4), "4 bytes of it"),
        (array("(-1,)", b""), None),
        (array("(2,)", b"\0" * 16, "'|O'"), "objects of Python"),
        (array("(" * 900 + ")" * 900), None),
        (array("(1e9,)", b""), None),
        (array("(3,", b""), None),
        (array("'many'", b""), None),
        (array("(3,)", b"", "[[[["), None),
        (b"\x93NUMPY\x01\x00\xff\xff", None),
        (b"\x93NUMPY\x09\x00" + b"\0" * 30, None),
        (b"\x93NUMPY\x01\x00\x08\x00'''\\\n \t\n", None),
        (b"no array at all", None),
        (b"", None),
    ],
    ids=range(15),
)
def test_a_header_that_is_none_or_says_something_else_is_refused(member, said):
    with pytest.raises(BROKEN, match=said), opened(archive(images=member)):
        pass


def test_what_fills_a_memory_is_refused_unread():
    size = 2**28 + 200_000_000
    content = array(f"({size},)") + b"\0" * size
    with pytest.raises(ValueError, match=rf"{len(content)} bytes packed into \d+"), opened(archive(images=content)):
        pass


def test_one_array_and_what_is_no_archive_are_refused():
    for content in (array("(3,)", b"\0" * 3), b"PK\x03\x04 and no more", b""):
        with pytest.raises(BROKEN), opened(io.BytesIO(content)):
            pass
