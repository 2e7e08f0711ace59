"""Jobs as Ray tasks, on this machine or on a cluster; results, and what jobs make, come back to the driver.

A task gets what it needs from the driver's artifact folder through Ray's object store and hands back what it made, so
the machines of a cluster need no folder in common. Trying again is left to the scheduler: Ray is told not to.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts import Folder
from harness.core.errors import UserError
from harness.core.extras import RAY
from harness.core.job import Evaluate, Job, Terms, code, plugins
from harness.core.result import Done, Failed
from harness.execution.executors.devices import ONE_THREAD, REPEATABLE
from harness.execution.executors.executor import Ended, ended
from harness.execution.executors.local import attempt

try:
    import ray
except ModuleNotFoundError as error:
    raise UserError(RAY.missing("--executor ray") or str(error)) from error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.execution.executors.local import Work

#: seconds between two looks at the tasks
TICK = 0.5

#: kind, digest and content hash of an artifact, and where its bytes are in Ray's object store
Parcel = tuple[str, str, str, list[Any]]


#: what Ray raises where a process or a machine went away under a task
DEATHS = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError)


class RayExecutor:
    """A task per job.

    Args:
        folder: where the driver keeps artifacts.
        devices: ``cpu``: a core for each job; ``cuda``: a GPU; ``auto``: a GPU if the cluster has any.
        address: of the cluster; one on this machine is started if None.
        resources: custom resources that each task asks for.
        cpus: cores of a cluster started here; all if None.
        work: what a task does with a job.
        gpus: logical GPUs of a cluster started here; what Ray finds if None.
    """

    def __init__(
        self,
        folder: Folder,
        devices: str = "auto",
        address: str | None = None,
        resources: Mapping[str, float] | None = None,
        cpus: int | None = None,
        work: Work = attempt,
        gpus: int | None = None,
    ) -> None:
        self.folder, self.work, self.resources = folder, work, dict(resources or {})
        if devices not in ("auto", "cpu", "cuda"):
            raise UserError(f"expected --devices auto, cpu or cuda with --executor ray, got {devices!r}")
        self.mine = not ray.is_initialized()
        if self.mine:
            _start(address, cpus, gpus)
        there = ray.cluster_resources()
        self.gpus = 1.0 if devices == "cuda" or (devices == "auto" and there.get("GPU", 0) >= 1) else 0.0
        self.device = {"auto": "auto", "cpu": "cpu", "cuda": "cuda:0"}[devices]
        wants = {"CPU": 1.0, "GPU": self.gpus, **self.resources}
        for name, amount in wants.items():
            if there.get(name, 0) < amount:
                self.close()
                raise UserError(f"expected a Ray cluster with {name} of {amount:g}, it has {there.get(name, 0):g}")
        # a task without a GPU of its own is shown none
        self.environment = {**ONE_THREAD, **(REPEATABLE if self.gpus else {"CUDA_VISIBLE_DEVICES": ""})}
        self.wants = {name: amount for name, amount in wants.items() if amount > 0}
        self.flying: dict[Any, tuple[int, frozenset[str]]] = {}
        self.left: Counter[frozenset[str]] = Counter()  # how many tasks of the same plug-ins left something behind
        self.sent: dict[tuple[str, str], Any] = {}

    @property
    def capacity(self) -> int:
        """As many jobs as the cluster, which may grow, has room for; at least one."""
        there = ray.cluster_resources()
        return max(1, min(int(there.get(name, 0) / amount) for name, amount in self.wants.items()))

    def submit(self, ticket: int, job: Job, batch_size: int | None) -> None:
        """Send a job with what it needs."""
        served = plugins(job)
        task = ray.remote(_task).options(
            num_cpus=1,
            num_gpus=self.gpus,
            resources=self.resources,
            max_retries=0,
            name=f"{job.kind} {job}",
            # processes are shared among tasks of one such environment alone: of the same plug-ins, and while these
            # leave nothing behind
            runtime_env={"env_vars": {**self.environment, "PUREBENCH_SERVES": self._serves(served)}},
        )
        terms = Terms(batch_size, self.device, code=code(job))
        parcels = [parcel for kind, digest in needed(job) if (parcel := self._parcel(kind, digest)) is not None]
        # references within a list are not fetched by Ray: a task that has the file already fetches nothing
        self.flying[task.remote(self.work, job, self.folder, terms, parcels)] = (ticket, served)

    def _serves(self, plugins: frozenset[str]) -> str:
        return " ".join([*sorted(plugins), str(self.left[plugins])])

    def _parcel(self, kind: str, digest: str) -> Parcel | None:
        sha256 = self.folder.sha256(kind, digest)
        if sha256 is None:
            return None
        if (digest, sha256) not in self.sent:
            self.sent[digest, sha256] = ray.put(self.folder.path(kind, digest).read_bytes())
        return kind, digest, sha256, [self.sent[digest, sha256]]

    def wait(self) -> tuple[Sequence[Ended], dict[int, float]]:
        """Return after a tick at most; how far a task has come is not known."""
        if not self.flying:
            return [], {}
        ready, _ = ray.wait(list(self.flying), timeout=TICK)
        return [self._read(reference) for reference in ready], {}

    def _read(self, reference: Any) -> Ended:
        ticket, served = self.flying.pop(reference)
        try:
            found, made = ray.get(reference)
        except DEATHS as error:
            return Ended(ticket, reason=f"the worker died ({type(error).__name__})", worker_died=True)
        except ray.exceptions.OutOfMemoryError:
            return Ended(ticket, reason="the machine ran out of memory", out_of_memory=True)
        except ray.exceptions.RayError as error:
            return Ended(ticket, reason=f"Ray could not run it: {str(error).strip().splitlines()[-1]}")
        for kind, digest, content in made:
            self.folder.place(kind, digest, content)
        self.left[served] += bool(found.left)
        return ended(ticket, found)

    def at_work(self, ticket: int) -> bool:
        """Whether a task was sent; whether it has begun is not known."""
        return True

    def cancel(self, ticket: int) -> None:
        """Kill the process that does the task."""
        for reference, (its, _) in list(self.flying.items()):
            if its == ticket:
                del self.flying[reference]
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """Stop what is under way; leave the cluster, or end it if it was started here."""
        for reference in getattr(self, "flying", {}):
            ray.cancel(reference, force=True)
        if self.mine:
            ray.shutdown()


def needed(job: Job) -> list[tuple[str, str]]:
    """Return kind and digest of the artifacts that a job reads."""
    crafted = job.craft.digest if isinstance(job, Evaluate) and job.craft else None
    found = [("weights", digest) for digest in job.needs if digest != crafted]
    return [*found, ("adversarial", crafted)] if crafted else found


def _start(address: str | None, cpus: int | None, gpus: int | None) -> None:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    fresh = {} if address else {"num_cpus": cpus, "num_gpus": gpus, "include_dashboard": False}
    where = address or "this machine"
    if address:
        _reach(address)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **fresh)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        said = str(error).strip().splitlines()[0]
        raise UserError(
            f"expected a Ray cluster at {where}, got: {said}; see whether it is up, of the same version of Ray, and "
            "whether RAY_AUTH_MODE and the token here are those of the cluster"
        ) from error


def _reach(address: str) -> None:
    """Knock at ``host:port``, since Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"expected --address HOST:PORT, such as 127.0.0.1:6379, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"expected a Ray cluster at {address}, but nobody answers there ({error}); start one with "
            f"`ray start --head --port {port}`"
        ) from error


def _task(
    work: Work, job: Job, folder: Folder, terms: Terms, parcels: Sequence[Parcel]
) -> tuple[Done | Failed, list[tuple[str, str, bytes]]]:
    """Do a job where Ray has put it; return the outcome and what it made that the driver may lack."""
    here = folder if _writable(folder.root) else Folder(Path(tempfile.gettempdir()) / "purebench-artifacts")
    for kind, digest, sha256, reference in parcels:
        if here.sha256(kind, digest) != sha256:
            here.place(kind, digest, ray.get(reference[0]))
    found = work(job, here, terms, lambda share: None)
    made = []
    if isinstance(found, Done):
        new = [item for item in found.artifacts if item.digest == job.digest]
        made = [(item.kind, item.digest, here.path(item.kind, item.digest).read_bytes()) for item in new]
    return found, made


def _writable(root: Path) -> bool:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(root, os.W_OK)
