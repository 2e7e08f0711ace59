"""What is recorded of where work is done."""

from __future__ import annotations

import subprocess

import pytest

from harness.execution.worker import environment


def absent(*told, **options):
    raise FileNotFoundError("git")


def silent(command, *, timeout, **options):
    raise subprocess.TimeoutExpired(command, timeout)


def refusing(command, *, check, **options):
    assert check
    raise subprocess.CalledProcessError(128, command)


@pytest.mark.parametrize("git", [absent, silent, refusing])
def test_a_git_that_does_not_answer_is_no_reason_for_a_job_to_fail(monkeypatch, git):
    monkeypatch.setattr(environment.Path, "exists", lambda path: True)
    monkeypatch.setattr(environment.subprocess, "run", git)
    assert environment._commit() == {"commit": "unknown", "dirty": "unknown"}


def test_commit_and_changes_are_what_git_says(monkeypatch):
    said = {"rev-parse": "c0ffee\n", "status": " M harness/draws.py\n"}
    monkeypatch.setattr(environment.Path, "exists", lambda path: True)
    monkeypatch.setattr(
        environment.subprocess,
        "run",
        lambda command, **options: subprocess.CompletedProcess(command, 0, said[command[3]], ""),
    )
    assert environment._commit() == {"commit": "c0ffee", "dirty": "true"}
    said["status"] = ""
    assert environment._commit()["dirty"] == "false"
