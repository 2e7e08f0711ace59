"""Devices and seats, with a made-up nvidia-smi on the path."""

from __future__ import annotations

import os

import pytest

from harness.core.errors import UserError
from harness.execution.executors.devices import cores, gpus, seats

TWO = r"""
if [ "$*" = "--query-gpu=index,uuid --format=csv,noheader" ]; then
    printf '0, GPU-aa11\n1, GPU-bb22\n'
fi
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Puts an nvidia-smi that does as it is told on the path, and nothing else."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def build(script=TWO):
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{script}")
        tool.chmod(0o755)

    return build


def shown(found):
    return [seat.environment["CUDA_VISIBLE_DEVICES"] for seat in found]


def test_auto_takes_every_gpu_with_a_worker_each(machine):
    machine()
    found = seats("auto")
    assert shown(found) == ["0", "1"]
    # a worker sees its own GPU only, which is the first one there
    assert {seat.device for seat in found} == {"cuda:0"}


def test_auto_is_a_worker_per_core_where_there_is_no_gpu(machine):
    found = seats("auto")
    assert [seat.device for seat in found] == ["cpu"] * cores()


def test_cpu_shows_no_gpu_to_anyone(machine):
    machine()
    found = seats("cpu", 3)
    assert [seat.device for seat in found] == ["cpu"] * 3
    assert shown(found) == [""] * 3


def test_gpus_are_taken_in_the_order_told(machine):
    machine()
    assert shown(seats("cuda:1, cuda:0")) == ["1", "0"]
    assert shown(seats("cuda:1")) == ["1"]


@pytest.mark.parametrize("devices", ["cpu", "cuda:0"])
def test_every_worker_has_one_thread(machine, devices):
    machine()
    variables = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    assert {seats(devices)[0].environment[name] for name in variables} == {"1"}


def test_a_gpu_is_numbered_as_nvidia_smi_does_and_adds_in_one_order(machine):
    machine()
    environment = seats("cuda:0")[0].environment
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert environment["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("1", ["1"]), ("1,0", ["0", "1"]), ("GPU-bb22", ["1"]), ("GPU-bb", ["1"]), ("", []), ("7", [])],
)
def test_a_gpu_that_the_environment_hides_is_not_there(machine, monkeypatch, visible, expected):
    machine()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == expected


@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'", "printf '\\n'"])
def test_an_nvidia_smi_that_names_no_gpu_means_that_there_is_none(machine, script):
    machine(script)
    assert gpus() == []


def test_a_hidden_gpu_cannot_be_asked_for(machine, monkeypatch):
    machine()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(UserError, match=r"expected GPUs that this machine shows, got cuda:0; it shows cuda:1$"):
        seats("cuda:0")


@pytest.mark.parametrize(
    ("devices", "workers", "sentence"),
    [
        ("cuda:2", None, r"expected GPUs that this machine shows, got cuda:2; it shows cuda:0, cuda:1$"),
        ("cuda:0,cuda:0", None, r"expected each GPU once, .*, got 'cuda:0,cuda:0'$"),
        ("cuda", None, r"expected --devices auto, cpu, or GPUs such as cuda:0,cuda:1, got 'cuda'$"),
        ("cpu,cuda:0", None, r"expected --devices auto, cpu, or GPUs .*, got 'cpu,cuda:0'$"),
        ("", None, r"expected --devices auto, cpu, or GPUs .*, got ''$"),
        ("cuda:0", 4, r"expected --workers with --devices cpu only: a GPU has one worker$"),
        ("auto", 4, r"expected --workers with --devices cpu only: a GPU has one worker$"),
    ],
)
def test_a_wrong_device_is_a_sentence(machine, devices, workers, sentence):
    machine()
    with pytest.raises(UserError, match=sentence):
        seats(devices, workers)


def test_a_machine_without_gpus_says_so(machine):
    with pytest.raises(UserError, match=r"got cuda:0; it shows none$"):
        seats("cuda:0")


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert cores() == 3
