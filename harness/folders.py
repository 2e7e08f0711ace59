"""Folders that are written to: whether one can be, asked before any work is done for it."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from harness.core.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


def check_writable(folder: Path, what: str, remedy: str) -> None:
    """See whether files can be written into a folder, or whether it can be made; leave nothing behind.

    Args:
        folder: it need not be there.
        what: is to be written, for the sentence.
        remedy: what to do where it cannot.

    Raises:
        UserError: if it cannot.
    """
    folder = folder.absolute()
    try:
        there = next(path for path in (folder, *folder.parents) if _is_there(path))
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"expected to write {what} into {folder}, got: {error.strerror or error}; {remedy}") from None


def _is_there(path: Path) -> bool:
    """Whether there is anything of that name; a name that no file can have is an error of the system's."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
