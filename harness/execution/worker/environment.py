"""Where work is done: commit, versions, hardware, threads, determinism flags; recorded with every result."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

#: seconds that git may take; what it says is worth no job
PATIENCE = 600.0

PACKAGES = ("torch", "torchvision", "timm", "diffusers", "pyautoattack", "robustbench", "numpy", "scikit-learn")


@functools.cache
def environment(device: str = "cpu", precision: str = "float32") -> dict[str, str]:
    """Return what may change a number, as plain words; hashes of attack and defense go with each result."""
    import torch

    facts = {name: _version(name) for name in ("purebench", *PACKAGES)}
    facts |= _commit()
    facts |= {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "host": platform.node(),
        "device": device,
        "precision": precision,
        "threads": str(torch.get_num_threads()),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()).lower(),
    }
    if device.startswith("cuda"):
        facts |= {
            "gpu": torch.cuda.get_device_name(device),
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
            "tf32": str(torch.backends.cuda.matmul.allow_tf32).lower(),
        }
    if os.environ.get("CUDA_VISIBLE_DEVICES"):
        facts["visible gpus"] = os.environ["CUDA_VISIBLE_DEVICES"]
    return facts


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _commit() -> dict[str, str]:
    """Return commit and dirty flag where the code runs from a git checkout, and git is there and answers."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return {"commit": "unknown", "dirty": "unknown"}

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
        except (OSError, subprocess.SubprocessError):
            return "unknown"
        return done.stdout.strip()

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": "unknown" if changes == "unknown" else str(bool(changes)).lower(),
    }


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
