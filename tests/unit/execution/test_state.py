"""What a job changes in its process besides its result is seen, told by name, and put back."""

from __future__ import annotations

import builtins
import ctypes
import gc
import os
import random
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from harness.core.job import Train, plugins
from harness.core.spec import Spec
from harness.execution.worker import judge as evaluate
from harness.execution.worker import state
from harness.execution.worker.state import State, Watch, seed


class _Mode(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def _relu(x, inplace=False):
    return x


#: what is done, and the name by which it is told
CHANGES = {
    "mkldnn": lambda: torch._C._set_mkldnn_enabled(False),
    "numbers near nought": lambda: torch.set_flush_denormal(True),
    "threads of torch": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "default type": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "gradient mode": lambda: torch.set_grad_enabled(False),
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "precision of products": lambda: torch.set_float32_matmul_precision("medium"),
    "cudnn benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "tf32 of products": lambda: torch.set_float32_matmul_precision("medium"),
    "plain attention": lambda: torch.backends.cuda.enable_math_sdp(False),
    "errors of numpy": lambda: np.seterr(all="raise"),
    "working directory": lambda: os.chdir("/"),
    "environment": lambda: os.environ.__setitem__("OMP_NUM_THREADS", "7"),
    "import path": lambda: sys.path.insert(0, "/nowhere"),
    "recursion limit": lambda: sys.setrecursionlimit(5000),
    "garbage collector": gc.disable,
    "signals": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "trace": lambda: sys.settrace(lambda *_: None),
    "hooks on all modules": lambda: torch.nn.modules.module.register_module_forward_hook(lambda *_: None),
}

EXCHANGES = {
    "torch.nn.functional.softmax": lambda: setattr(F, "softmax", lambda *_, **__: None),
    "torch.nn.functional.relu": lambda: setattr(F.relu, "__code__", _relu.__code__),
    "torch.nn.functional.dropout": lambda: setattr(F.dropout, "__defaults__", (0.9, True, False)),
    "torch.Tensor.argmax": lambda: setattr(torch.Tensor, "argmax", lambda *_: None),
    "torch.nn.modules.conv.Conv2d.forward": lambda: setattr(torch.nn.Conv2d, "forward", lambda *_: None),
    "harness.execution.worker.judge.Judge.outcomes": lambda: setattr(evaluate.Judge, "outcomes", lambda *_: None),
    "harness.execution.worker.judge.len": lambda: setattr(evaluate, "len", lambda _: 0),
    "builtins.sum": lambda: setattr(builtins, "sum", lambda *_: 0),
    "numpy.mean": lambda: setattr(np, "mean", lambda *_: 1.0),
    "random.random": lambda: setattr(random, "random", lambda: 0.5),
}


@pytest.fixture
def stood():
    """How things stand; they do so again afterwards, whatever the test found."""
    before = State()
    yield before
    before.put_back()


def test_nothing_changed_is_nothing_told(stood):
    stood.accept()
    assert stood.changes() == []


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_told_and_put_back(stood, name):
    stood.accept()
    CHANGES[name]()
    told = stood.changes()
    stood.put_back()
    assert f"changed: {name}" in told or (name == "tf32 of products" and "changed: precision of products" in told)
    assert stood.changes() == []


@pytest.mark.parametrize("name", EXCHANGES)
def test_an_exchanged_function_is_told_and_put_back(stood, name):
    stood.accept()
    EXCHANGES[name]()
    told = stood.changes()
    stood.put_back()
    assert f"exchanged: {name}" in told
    assert stood.changes() == []


def test_what_can_be_seen_and_not_put_back_is_told(stood):
    stood.accept()  # pytest has a variable for the test under way
    ctypes.CDLL(None).fesetround(0x400)
    told = stood.changes()
    ctypes.CDLL(None).fesetround(0)
    assert "changed: rounding" in told
    with _Mode():
        assert "changed: modes of torch functions" in stood.changes()
    end = threading.Event()
    left = threading.Thread(target=end.wait)
    left.start()
    told = stood.changes()
    end.set()
    left.join()
    assert told == ["changed: threads"]
    child = subprocess.Popen(["sleep", "100"])
    told = stood.changes()
    child.kill()
    child.wait()
    assert told == ["changed: processes"]
    assert stood.changes() == []


def test_what_a_persons_own_process_changes_between_jobs_is_no_jobs_doing(stood, monkeypatch, tmp_path):
    monkeypatch.setattr(state, "_state", stood)
    monkeypatch.setattr(F, "softmax", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    watch = Watch()
    watch.begin()
    assert watch.notes() == {}
    monkeypatch.setattr(F, "relu", lambda *_: None)
    assert watch.notes() == {"exchanged: torch.nn.functional.relu": (1.0, 1)}
    assert watch.end() == ("exchanged: torch.nn.functional.relu",)
    assert watch.state.changes() == []
    monkeypatch.undo()
    stood.accept()


def test_random_numbers_that_nobody_addresses_begin_where_the_job_says():
    def draw(digest):
        seed(digest)
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    first = draw("ab" * 32)
    assert draw("cd" * 32) != first
    assert draw("ab" * 32) == first


def test_the_plug_ins_of_a_job_are_those_of_all_that_it_stands_on():
    dataset = Spec.of("dataset", "their-data/set", 1, {})
    recipe = Spec.of("recipe", "cnn", 1, {}, {"dataset": dataset})
    assert plugins(Train(recipe)) == {"their-data"}
    assert plugins(Train(Spec.of("recipe", "cnn", 1, {}))) == frozenset()
