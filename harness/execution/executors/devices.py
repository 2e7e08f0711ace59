"""Devices: what a machine has, and the workers that are put on it; asked without torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: libraries read these when they start; a worker has one thread whatever the machine has
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

#: so that a GPU adds in the same order every time, and numbers mean what nvidia-smi shows
REPEATABLE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@dataclass(frozen=True)
class Seat:
    """Where one worker sits: a GPU of its own, or a core.

    Attributes:
        device: as torch calls it inside the worker; a GPU worker sees one GPU only, so it is ``cuda:0`` there.
        environment: variables that the worker starts with.
    """

    device: str
    environment: Mapping[str, str] = field(default_factory=dict)


def seats(devices: str = "auto", workers: int | None = None) -> list[Seat]:
    """Return the seats for ``--devices`` and ``--workers``.

    Args:
        devices: ``auto`` (every GPU, else the CPU), ``cpu``, or GPUs by number, such as ``cuda:0,cuda:1``.
        workers: how many on the CPU; one per core unless told.

    Raises:
        UserError: if a device is not there, or the words are no devices.
    """
    there = gpus()
    words = [word.strip() for word in devices.split(",")]
    if words == ["auto"]:
        words = [f"cuda:{number}" for number in there] or ["cpu"]
    if words == ["cpu"]:
        # no GPU is shown, so that torch does not wake one up
        return [Seat("cpu", {**ONE_THREAD, "CUDA_VISIBLE_DEVICES": ""})] * (workers or cores())
    numbers = [match[1] for word in words if (match := re.fullmatch(r"cuda:(\d+)", word))]
    if len(numbers) < len(words):
        raise UserError(f"expected --devices auto, cpu, or GPUs such as cuda:0,cuda:1, got {devices!r}")
    missing = [number for number in numbers if number not in there]
    if missing:
        seen = ", ".join(f"cuda:{number}" for number in there) or "none"
        raise UserError(f"expected GPUs that this machine shows, got cuda:{missing[0]}; it shows {seen}")
    if len(set(numbers)) < len(numbers):
        raise UserError(f"expected each GPU once, since a worker has it for itself, got {devices!r}")
    if workers is not None:
        raise UserError("expected --workers with --devices cpu only: a GPU has one worker")
    return [Seat("cuda:0", {**ONE_THREAD, **REPEATABLE, "CUDA_VISIBLE_DEVICES": number}) for number in numbers]


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """Return the numbers of the NVIDIA GPUs that may be used, as nvidia-smi and CUDA_VISIBLE_DEVICES have them."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shutil.which("nvidia-smi") is None or shown == "":
        return []
    asked = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    there = re.findall(r"^(\d+), *(\S+)", done.stdout, re.MULTILINE)
    allowed = None if shown is None else [word.strip() for word in shown.split(",")]
    return [number for number, uuid in there if allowed is None or any(_names(word, number, uuid) for word in allowed)]


def _names(word: str, number: str, uuid: str) -> bool:
    """Whether a word of CUDA_VISIBLE_DEVICES means a GPU: its number, or how its UUID begins."""
    return word == number or (word.startswith("GPU-") and uuid.startswith(word))
