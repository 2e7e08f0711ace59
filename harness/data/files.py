"""Where files of data are that you have placed: nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path

from harness.artifacts import Folder


def data_folder() -> Path:
    """Return the folder that ``PUREBENCH_DATA`` names, else ``data`` in the artifact folder."""
    named = os.environ.get("PUREBENCH_DATA")
    return Path(named) if named else Folder.default().root / "data"
