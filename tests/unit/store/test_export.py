"""Frames that leave are the frames that come back."""

from __future__ import annotations

import importlib.util

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

from harness.cli.commands import app
from harness.core.errors import UserError
from harness.store.read.frames import results
from harness.store.tend.export import FRAMES, export

READ = {"parquet": pd.read_parquet, "csv": pd.read_csv}


@pytest.fixture
def url(machine):
    made = machine("runs")
    made.measure(0, 12)
    made.measure(0, 4, attacked=False)
    return str(made.path)


@pytest.mark.parametrize("kind", READ)
def test_the_frames_come_back_with_every_digit(url, tmp_path, kind):
    paths = export(url, tmp_path / "out", kind)
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in FRAMES]
    for path, frame in zip(paths, results(url), strict=True):
        read = READ[kind](path)
        assert list(read) == list(frame)
        assert len(read) == len(frame) > 0
        assert_frame_equal(read, frame, check_dtype=False, check_exact=True, check_column_type=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)


def test_what_else_is_in_the_folder_stays(url, tmp_path):
    (tmp_path / "cells.csv").write_text("an export of yesterday")
    (tmp_path / "notes.txt").write_text("mine")
    export(url, tmp_path, "csv", "toy")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "cells.csv").read_text().startswith("suite,id,")


def test_parquet_without_pyarrow_is_a_sentence(url, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"the package pyarrow .* pip install 'purebench\[parquet\]', or take csv"):
        export(url, tmp_path / "out", "parquet")
    assert not (tmp_path / "out").exists()


def test_an_unknown_suite_is_a_sentence(url, tmp_path):
    with pytest.raises(UserError, match="did you mean 'toy'"):
        export(url, tmp_path / "out", "csv", "tyo")


def test_a_folder_that_cannot_be_written_is_a_sentence(url, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"expected to write frames into .*taken, got: Not a directory; choose another"):
        export(url, tmp_path / "taken", "csv")


def test_the_command_names_the_files(url, tmp_path):
    done = CliRunner().invoke(app, ["db", "export", url, "--format", "csv", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert done.stdout.split() == [str(tmp_path / "out" / f"{name}.csv") for name in FRAMES]
    assert CliRunner().invoke(app, ["db", "export", url, "--format", "xml", "--out", str(tmp_path)]).exit_code == 2
