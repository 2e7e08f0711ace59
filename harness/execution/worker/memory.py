"""Memory: the most that a block of work needed above what was in use when it began.

On a GPU torch's allocator counts it. On a CPU it is the resident memory of the process: Linux remembers its peak, and
forgets it when told to (proc(5), ``clear_refs``); where it may not be told, as elsewhere, a thread looks every few
milliseconds and can miss what was held for less.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")

#: seconds between two looks of the thread
INTERVAL = 0.005


@dataclass
class Watched:
    """Filled in when the watched block ends: its peak in bytes; None where it is not known."""

    peak: int | None = None


def watch(device: torch.device) -> AbstractContextManager[Watched]:
    """Watch the memory of a device, or of this process where the device is its CPU; never raises."""
    if device.type == "cuda":
        return _allocated(device)
    if device.type != "cpu":
        return nullcontext(Watched())
    return _resident() if forget_peak() else _sampled()


def tidy() -> None:
    """Give memory that was freed and kept back to the system, so that what needs it next is seen to need it."""
    trim = _trimmer()
    if trim is not None:
        trim(0)


@functools.cache
def _trimmer() -> Callable[[int], int] | None:
    """Return the C library's ``malloc_trim``; None where it has none."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):
        return None
    return trim


@contextmanager
def _allocated(device: torch.device) -> Iterator[Watched]:
    watched = Watched()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    yield watched
    watched.peak = torch.cuda.max_memory_allocated(device) - before


def forget_peak() -> bool:
    """Make the peak of this process what it has now; whether the system let us."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return _status() is not None


@contextmanager
def _resident() -> Iterator[Watched]:
    """Read the peak that Linux keeps.

    Pages of libraries that the block was the first to touch are no memory of its own and are taken off, as many as
    there are at the end: the first block of a process may come out too small, and none too large by them.
    """
    watched = Watched()
    before = _status()
    yield watched
    after = _status()
    if before is not None and after is not None:
        libraries = max(after[1] - before[1], 0)
        watched.peak = max(after[0] - before[0] - libraries, 0)


def _status() -> tuple[int, int] | None:
    """Return the peak of the resident memory and what of it now belongs to files, in bytes."""
    try:
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        peak, files = (int(lines[name].split()[0]) * 1024 for name in ("VmHWM", "RssFile"))
    except (OSError, ValueError, KeyError, IndexError):
        return None
    return peak, files


@contextmanager
def _sampled() -> Iterator[Watched]:
    """Look from a thread; where it saw nothing in time, the peak is not known."""
    watched, process, over = Watched(), psutil.Process(), threading.Event()
    seen = [_rss(process)]

    def look() -> None:
        while not over.wait(INTERVAL):
            seen.append(_rss(process))

    thread = threading.Thread(target=look, name="memory", daemon=True)
    thread.start()
    try:
        yield watched
        seen.append(_rss(process))
    finally:
        over.set()
        thread.join()
    if None not in seen:
        watched.peak = max(one - (seen[0] or 0) for one in seen if one is not None) or None


def _rss(process: psutil.Process) -> int | None:
    try:
        return int(process.memory_info().rss)
    except (psutil.Error, OSError):
        return None
