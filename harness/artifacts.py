"""Artifacts: checkpoints and adversarial batches, addressed by the digest of what made them.

They live in ``PUREBENCH_HOME``, else in the platform's cache folder, as safetensors: no pickle, so a file from
elsewhere cannot run code. A file appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from harness.core.errors import UserError
from harness.core.result import Artifact
from harness.folders import check_writable

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from harness.core.job import Job

#: bytes of the longest header that safetensors reads; a damaged file may claim any length
_HEADER = 100_000_000


@dataclass(frozen=True)
class Folder:
    """The artifact folder."""

    root: Path

    @classmethod
    def default(cls) -> Folder:
        """Return the folder that the environment names, else the platform's."""
        named = os.environ.get("PUREBENCH_HOME")
        return cls(Path(named) if named else Path(platformdirs.user_cache_dir("purebench", appauthor=False)))

    def check_writable(self) -> None:
        """See whether artifacts can be written here; leave nothing behind.

        Raises:
            UserError: if they cannot.
        """
        for folder in (self.root, self.root / "weights", self.root / "adversarial"):
            check_writable(folder, "networks and adversarial examples", "set PUREBENCH_HOME to another")

    def path(self, kind: str, digest: str) -> Path:
        """Return where an artifact of a kind (``weights``, ``adversarial``) is, or would be."""
        return self.root / kind / digest[:2] / f"{digest}.safetensors"

    def has(self, kind: str, digest: str) -> bool:
        """Whether the artifact is there."""
        return self.path(kind, digest).is_file()

    def has_made(self, job: Job) -> bool:
        """Whether what a job makes is there; an evaluation makes no file."""
        kind = {"train": "weights", "craft": "adversarial"}.get(job.kind)
        return kind is None or self.has(kind, job.digest)

    def sha256(self, kind: str, digest: str) -> str | None:
        """Return the hash of the content, or None if the artifact is not there."""
        path = self.path(kind, digest)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None

    def about(self, kind: str, digest: str) -> dict[str, Any] | None:
        """Return what was kept with an artifact, reading its header only; None if it is missing or damaged."""
        try:
            with self.path(kind, digest).open("rb") as file:
                about: dict[str, Any] = _kept(file.read(8), file.read, kind, digest)["about"]
                return about
        except (OSError, KeyError, TypeError, ValueError, RecursionError):
            return None

    def numbers(self, kind: str, digest: str) -> str | None:
        """Return the hash of an artifact's tensors alone, as its header has it; None if it is missing or damaged.

        It is the same wherever and whenever the same numbers are made; a file's hash covers what was kept with them.
        """
        try:
            with self.path(kind, digest).open("rb") as file:
                return str(_kept(file.read(8), file.read, kind, digest)["sha256"])
        except (OSError, KeyError, TypeError, ValueError, RecursionError):
            return None

    def save(
        self, kind: str, digest: str, tensors: dict[str, Tensor], about: dict[str, Any], label: str = ""
    ) -> Artifact:
        """Write an artifact and return its description.

        Args:
            kind: ``weights`` or ``adversarial``.
            digest: of what made it.
            tensors: the content.
            about: plain JSON kept with it, such as the cost of making it.
            label: a title for people.
        """
        from safetensors.torch import save

        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        kept = {"about": about, "digest": digest, "sha256": _sha256_of_tensors(save(whole))}
        data = save(whole, {"purebench": json.dumps(kept)})  # one entry: several would stand in any order
        self.place(kind, digest, data)
        return Artifact(digest, kind, hashlib.sha256(data).hexdigest(), len(data), label)

    def place(self, kind: str, digest: str, data: bytes) -> None:
        """Write the bytes of an artifact, as another folder has them; the file appears whole or not at all."""
        path = self.path(kind, digest)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise UserError(
                f"expected to write {kind} into {self.root}, got {error}; set PUREBENCH_HOME to a folder with room"
            ) from error

    def load(self, kind: str, digest: str, label: str = "") -> tuple[dict[str, Tensor], dict[str, Any], Artifact]:
        """Read an artifact: its tensors, what was kept with it, and its description.

        Raises:
            UserError: if it is missing or damaged; deleting the file makes the next run build it again.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self.path(kind, digest)
        try:
            data = path.read_bytes()
            tensors: dict[str, Tensor] = load(data)
            kept = _kept(data[:8], lambda length: data[8 : 8 + length], kind, digest)
            about: dict[str, Any] = kept["about"]
            if kept["sha256"] != _sha256_of_tensors(data):
                raise ValueError("its numbers are not those that were written")
        except FileNotFoundError as error:
            raise UserError(f"expected {kind} at {path}, found nothing; run the suite again to make them") from error
        except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise UserError(
                f"expected {kind} as safetensors at {path}, but the file is damaged ({error}); delete it and run again"
            ) from error
        return tensors, about, Artifact(digest, kind, hashlib.sha256(data).hexdigest(), len(data), label)


def _kept(first: bytes, read: Callable[[int], bytes], kind: str, digest: str) -> dict[str, Any]:
    """Return what ``save`` kept, from the JSON header of a safetensors file: eight bytes of length, then the header.

    Raises:
        ValueError: if there is none, or it is that of another adversarial batch. Weights are known by their content,
            and stand in for others where time is estimated. Files of old do not say which they are.
    """
    length = int.from_bytes(first, "little")
    if length > _HEADER:
        raise ValueError(f"a header of {length} bytes")
    kept: dict[str, Any] = json.loads(json.loads(read(length))["__metadata__"]["purebench"])
    if kind == "adversarial" and kept.get("digest", digest) != digest:
        raise ValueError(f"it is the artifact {str(kept['digest'])[:12]}")
    return kept


def _sha256_of_tensors(data: bytes) -> str:
    """Return the hash of what follows the header."""
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
