"""Ray: where its tasks run, what they see of the machine, what they bring along, how they end."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

import harness
from harness.artifacts import Folder
from harness.core.cell import Cell, Labels, Shard
from harness.core.errors import UserError
from harness.core.job import Craft, Train
from harness.core.result import Artifact, Done, Failed
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel

if TYPE_CHECKING:
    from conftest import Bench

ray = pytest.importorskip("ray", reason="Ray comes with purebench[ray]")
pytestmark = [
    pytest.mark.slow,
    # sockets and files that Ray leaves to the collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


def job(name: str) -> Train:
    return Train(Spec.of("recipe", "cnn", 1, {}, label=name))


# ---------------------------------------------------------------------- what tasks do here


def look(job, folder, terms, progress):
    """Say what the process sees, after long enough that another task has to run beside it."""
    time.sleep(1.0)
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG")
    return Done(environment={name: os.environ.get(name, "") for name in names} | {"device": terms.device})


def die(job, folder, terms, progress):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(job, folder, terms, progress):
    if str(job) == "hangs":
        time.sleep(3600)
    return Done()


def leave(job, folder, terms, progress):
    """Say which process it was; one of the jobs leaves it other than it was."""
    left = ("changed: a flag",) if str(job) == "leaves" else ()
    return Done(environment={"process": str(os.getpid())}, left=left)


def forget(job, folder, terms, progress):
    raise RuntimeError("the work broke its promise not to raise")


def starve(job, folder, terms, progress):
    return Failed("no memory left", out_of_memory=True)


def fetch_and_make(job, folder, terms, progress):
    """Read the weights that the job needs, and leave something of its own."""
    content = folder.path("weights", job.needs[0]).read_bytes()
    folder.place("adversarial", job.digest, b"made of " + content)
    return Done(artifacts=(Artifact(job.digest, "adversarial", "0", 1),), environment={"root": str(folder.root)})


class Elsewhere(Folder):
    """A folder that is another one to whoever it is sent to, as on another machine."""

    def __reduce__(self):
        return Folder, (Path(str(self.root) + "-of-the-worker"),)


# ---------------------------------------------------------------------- the cluster


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init(
        num_cpus=2,
        num_gpus=2,
        resources={"lab": 1},
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


@pytest.fixture
def executor(tmp_path):
    from harness.execution.executors.ray import RayExecutor

    opened = []

    def make(work, devices="cpu", folder=None, **options):
        opened.append(RayExecutor(folder or Folder(tmp_path / "home"), devices, work=work, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def ends(executor, number):
    """Wait for so many ends, by ticket."""
    found = {}
    while len(found) < number:
        found |= {one.ticket: one for one in executor.wait()[0]}
    return found


def test_tasks_that_run_at_a_time_see_one_gpu_each_and_not_the_same(executor):
    crew = executor(look, "cuda")
    assert crew.capacity == 2
    for ticket in (1, 2):
        crew.submit(ticket, job(f"look-{ticket}"), None)
    seen = [one.done.environment for one in ends(crew, 2).values()]
    assert {one["CUDA_VISIBLE_DEVICES"] for one in seen} == {"0", "1"}
    assert {one["device"] for one in seen} == {"cuda:0"}
    assert {(one["OMP_NUM_THREADS"], one["CUBLAS_WORKSPACE_CONFIG"]) for one in seen} == {("1", ":4096:8")}


def test_tasks_on_the_cpu_see_no_gpu_and_one_thread(executor):
    crew = executor(look, "cpu")
    crew.submit(1, job("look"), None)
    seen = ends(crew, 1)[1].done.environment
    assert (seen["device"], seen["CUDA_VISIBLE_DEVICES"], seen["OMP_NUM_THREADS"]) == ("cpu", "", "1")


def test_a_custom_resource_limits_how_many_run_at_a_time(executor):
    assert executor(look, "cpu").capacity == 2
    assert executor(look, "cpu", resources={"lab": 1}).capacity == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resources": {"moon": 1}}, "moon of 1, it has 0"),
        ({"devices": "cuda:1"}, "expected --devices auto, cpu or cuda"),
    ],
)
def test_what_the_cluster_lacks_is_a_sentence(executor, options, said):
    with pytest.raises(UserError, match=said):
        executor(look, **options)


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:1", "nobody answers there .*ray start --head --port 1"), ("here", "expected --address HOST:PORT")],
)
def test_a_cluster_that_is_not_there_is_a_sentence_at_once(address, said):
    from harness.execution.executors.ray import _start

    with pytest.raises(UserError, match=said):
        _start(address, None, None)


def test_a_task_that_dies_is_told_apart_from_one_that_fails(executor):
    crew = executor(die)
    crew.submit(1, job("dies"), None)
    assert ends(crew, 1)[1].worker_died
    crew = executor(forget)
    crew.submit(2, job("forgets"), None)
    one = ends(crew, 1)[2]
    assert not one.worker_died
    assert "broke its promise" in one.reason
    crew = executor(starve)
    crew.submit(3, job("starves"), 8)
    assert ends(crew, 1)[3].out_of_memory


def test_a_process_in_which_a_task_left_something_does_no_other(executor):
    crew = executor(leave, resources={"lab": 1})
    processes = []
    for ticket, name in enumerate(["leaves", "goes", "leaves", "goes"]):
        crew.submit(ticket, job(name), None)
        processes.append(ends(crew, 1)[ticket].done.environment["process"])
    first, second, third, fourth = processes
    assert first not in (second, third, fourth)
    assert fourth not in (second, third)


def test_a_task_that_hangs_is_cancelled_and_its_place_is_free_again(executor):
    crew = executor(hang, resources={"lab": 1})
    crew.submit(1, job("hangs"), None)
    crew.wait()
    crew.cancel(1)
    crew.submit(2, job("goes"), None)
    assert ends(crew, 1)[2].done == Done()


def test_what_a_job_needs_travels_with_it_and_what_it_makes_comes_back(executor, tmp_path):
    recipe = Spec.of("recipe", "cnn", 1, {}, label="toy-cnn")
    cell = Cell(
        dataset=Spec.of("dataset", "digits", 1, {}),
        classifier=Spec.of("classifier", "recipe", 1, {}, {"recipe": recipe}),
        defense=Spec.of("defense", "none", 1, {}),
        attack=Spec.of("attack", "pgd", 1, {}),
        threat=ThreatModel(Norm.LINF, 0.2, Knowledge.OBLIVIOUS),
        seed=0,
        subset_seed=0,
        labels=Labels("digits", "cnn", "none", "pgd", "oblivious"),
    )
    home = Elsewhere(tmp_path / "home")
    craft = Craft(cell, Shard(0, 0, 2))
    home.place("weights", craft.needs[0], b"weights")
    crew = executor(fetch_and_make, folder=home)
    crew.submit(1, craft, None)
    assert ends(crew, 1)[1].done.environment["root"].endswith("-of-the-worker")
    assert home.path("adversarial", craft.digest).read_bytes() == b"made of weights"


def test_ray_measures_what_local_workers_measure(tiny: Bench, tmp_path: Path) -> None:
    bench = type(tiny).at(tmp_path)
    bench.run("tiny", "--executor", "ray", "--devices", "cpu")
    found, wanted = harness.results(str(bench.db)), harness.results(str(tiny.db))
    pd.testing.assert_frame_equal(found.examples, wanted.examples, check_exact=True)
