"""How workers start: what they have of their driver, and what they have not."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")

# no "if __name__": a worker that took this for its main module would begin workers of its own
DRIVER = """
    import json, os, sys
    from pathlib import Path
    from harness.artifacts import Folder
    from harness.core.job import Train
    from harness.core.result import Done
    from harness.core.spec import Spec
    from harness.execution.executors.devices import Seat
    from harness.execution.executors.local import LocalExecutor

    print("began", flush=True)

    def work(job, folder, terms, progress):
        import os, sys
        imported = "torch" in sys.modules
        import numpy, torch
        return Done(environment={
            "imported": imported, "torch": torch.__file__, "folder": os.getcwd(),
            "main": hasattr(sys.modules["__main__"], "work"), "drawn": numpy.random.random(),
            "SAID": os.environ.get("SAID"), "GONE": os.environ.get("GONE"), "MINE": os.environ.get("MINE"),
            "PYTHONSAFEPATH": os.environ.get("PYTHONSAFEPATH"),
        })

    def look(**own):
        executor = LocalExecutor(Folder(Path("x").resolve()), [Seat("cpu", own)], work)
        executor.submit(1, Train(Spec.of("recipe", "cnn", 1, {})), None)
        ended = []
        while not ended:
            ended = executor.wait()[0]
        executor.close()
        return ended[0].done.environment

    os.environ["GONE"] = "there"
    first = look()
    os.environ["SAID"] = "later"
    del os.environ["GONE"]
    os.chdir("deeper")
    second = look(MINE="seat")
    print(json.dumps([first, second]))
"""


def test_a_worker_has_its_drivers_variables_and_folder_as_they_are_then_and_not_its_main_module(tmp_path):
    script, here = tmp_path / "script" / "driver.py", tmp_path / "here"
    (here / "deeper").mkdir(parents=True)
    script.parent.mkdir()
    script.write_text(textwrap.dedent(DRIVER))
    for name in ("torch", "timm"):  # a folder that happens to hold such a file is not where packages come from
        (here / f"{name}.py").write_text("raise RuntimeError")
    done = subprocess.run([sys.executable, str(script)], cwd=here, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    said, _, found = done.stdout.partition("\n")
    assert said == "began"
    first, second = json.loads(found)
    assert first["imported"]
    assert second["imported"]
    assert "site-packages" in first["torch"]
    assert not first["main"]
    names = ("GONE", "SAID", "MINE", "PYTHONSAFEPATH")
    assert [first[name] for name in names] == ["there", None, None, None]
    assert [second[name] for name in names] == [None, "later", "seat", None]
    assert (first["folder"], second["folder"]) == (str(here), str(here / "deeper"))
    assert first["drawn"] != second["drawn"]


IMPORTS = """
    import torch

    def asked(*anything):
        raise SystemExit("the driver of a GPU was asked, and its state does not survive a fork")

    for name in ("is_available", "device_count", "init", "_lazy_init", "current_device"):
        setattr(torch.cuda, name, asked)
    import harness.execution.executors.preload
    from harness.execution.worker import jobs as work
"""


def test_what_is_imported_before_workers_are_forked_wakes_no_gpu():
    subprocess.run([sys.executable, "-P", "-c", textwrap.dedent(IMPORTS)], check=True)
