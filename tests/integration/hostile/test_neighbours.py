"""Plug-ins that change what others are measured with: honest rows stay the same to the last bit, and theirs say it.

All are measured by one worker: a row of nobody's defense, one of an honest purifier of the same distribution as the
others, and each of the others before and after them.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from sqlalchemy import select

from harness.store.tables import CellRow, ComponentRow, MeasureRow, OutcomeRow, ResultRow
from harness.store.write.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Bench

PURIFIERS = '''
    """Purifiers that return what they are given, and change something else."""
    import builtins, ctypes, gc, os, random, signal, subprocess, sys, threading, time
    import numpy as np
    import torch
    from torch.nn import functional as F
    from torch.overrides import TorchFunctionMode
    from harness.core.contracts import Traits
    from harness.options import NoOptions

    class Honest:
        """Darkens."""
        version = 1
        Options = NoOptions
        traits = Traits(random=False, differentiable=True)

        def __init__(self, options): ...

        def refuses(self, setting):
            return None

        def purify(self, x, nets, draws):
            return x * 0.9

    class Overriding(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            return function(*args, **(kwargs or {}))

    def that(change):
        """A purifier that changes something, once in each process."""
        done = []

        def purify(self, x, nets, draws):
            if not done:
                done.append(None)
                change()
            return x * 0.9

        return type("Meddling", (Honest,), {"purify": purify, "__doc__": "Meddles.", "__module__": __name__})

    def judge():
        from harness.execution.worker import judge as evaluate
        evaluate.sum = lambda *_: 0

    def nothing(*_, **__):
        return None

    def slower(softmax):
        return lambda *given, **named: softmax(*given, **named) * 1.0000001

    def hook():
        torch.nn.modules.module.register_module_forward_hook(lambda module, given, out: out * 1.000001)

    CHANGES = {
        "mkldnn": lambda: torch._C._set_mkldnn_enabled(False),
        "denormal": lambda: torch.set_flush_denormal(True),
        "threads": lambda: torch.set_num_threads(3),
        "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
        "autocast": lambda: torch.set_autocast_enabled("cpu", True),
        "deterministic": lambda: torch.use_deterministic_algorithms(True),
        "precision": lambda: torch.set_float32_matmul_precision("medium"),
        "benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
        "attention": lambda: torch.backends.cuda.enable_flash_sdp(False),
        "numpy": lambda: np.seterr(all="raise"),
        "folder": lambda: os.chdir("/"),
        "variables": lambda: os.environ.update(OMP_NUM_THREADS="7"),
        "path": lambda: sys.path.insert(0, "/nowhere"),
        "recursion": lambda: sys.setrecursionlimit(9000),
        "collector": gc.disable,
        "signals": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        "hooks": hook,
        "rounding": lambda: ctypes.CDLL(None).fesetround(0x800),
        "mode": lambda: Overriding().__enter__(),
        "thread": lambda: threading.Thread(target=time.sleep, args=(600,), daemon=True).start(),
        "process": lambda: subprocess.Popen(["sleep", "600"]),
        "softmax": lambda: setattr(F, "softmax", slower(F.softmax)),
        "conv": lambda: setattr(torch.nn.Conv2d, "extra_repr", nothing),
        "judge": judge,
        "chance": lambda: setattr(random, "random", lambda: 0.5),
    }

    for name, change in CHANGES.items():
        globals()[name.capitalize()] = that(change)
'''

#: by plug-in, what its row is to say
TOLD = {
    "mkldnn": "changed: mkldnn",
    "denormal": "changed: numbers near nought",
    "threads": "changed: threads of torch",
    "anomaly": "changed: anomaly mode",
    "autocast": "changed: autocast",
    "deterministic": "changed: deterministic algorithms",
    "precision": "changed: precision of products",
    "benchmark": "changed: cudnn benchmark",
    "attention": "changed: flash attention",
    "numpy": "changed: errors of numpy",
    "folder": "changed: working directory",
    "variables": "changed: environment",
    "path": "changed: import path",
    "recursion": "changed: recursion limit",
    "collector": "changed: garbage collector",
    "signals": "changed: signals",
    "hooks": "changed: hooks on all modules",
    "rounding": "changed: rounding",
    "mode": "changed: modes of torch functions",
    "thread": "changed: threads",
    "process": "changed: processes",
    "softmax": "exchanged: torch.nn.functional.softmax",
    "conv": "exchanged: torch.nn.modules.conv.Conv2d.extra_repr",
    "judge": "exchanged: harness.execution.worker.judge.sum",
    "chance": "exchanged: random.random",
}


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two suites: the honest rows alone, and beside the others."""
    package, about = tmp_path / "site" / "meddling", tmp_path / "site" / "meddling-1.0.dist-info"
    about.mkdir(parents=True)
    package.mkdir()
    (package / "__init__.py").write_text(textwrap.dedent(PURIFIERS))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: meddling\nVersion: 1.0\n")
    points = "\n".join(f"{name} = meddling:{name.capitalize()}" for name in ("honest", *TOLD))
    (about / "entry_points.txt").write_text(f"[purebench.defenses]\n{points}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    net = {"use": "cnn", "width": 4, "hidden": 8}
    recipe = {"name": "untrained", "dataset": {"use": "digits"}, "net": net, "objective": {"use": "classify"}}
    (tmp_path / "untrained.yaml").write_text(yaml.safe_dump({**recipe, "steps": 0}))
    honest = [{"name": "none", "use": "none"}, {"name": "dark", "use": "meddling/honest"}]
    others = [{"name": name, "use": f"meddling/{name}"} for name in TOLD]
    texts = {"alone": honest, "beside": [*others[::2], *honest, *others[1::2]]}
    paths = {}
    for name, defenses in texts.items():
        text = {
            "name": name,
            "datasets": [{"name": "digits", "use": "digits"}],
            "classifiers": [{"name": "cnn", "use": "recipe", "params": {"recipe": "untrained.yaml"}}],
            "defenses": defenses,
            "attacks": [{"name": "pgd", "use": "pgd", "params": {"steps": 3}}],
            "threat_models": [
                {"name": knowledge, "use": "Linf", "params": {"eps": 0.2, "knowledge": knowledge}}
                for knowledge in ("oblivious", "full")
            ],
            "evaluation": {"n_examples": 4, "shard_size": 4},
            "execution": {"retries": 0},
        }
        if name == "beside":  # the others are many, and meet no attack that has to be made for each
            known = {"defenses": [one["name"] for one in others], "threat_models": ["oblivious"]}
            text["matrix"] = [known, {"defenses": ["none", "dark"]}]
        paths[name] = tmp_path / f"{name}.yaml"
        paths[name].write_text(yaml.safe_dump(text))
    return paths


def rows(url: str) -> dict[tuple[str, str | None], Any]:
    """Return notes, outcomes and metrics by the defense's registered name and the threat model's digest."""
    columns = [column for column in OutcomeRow.__table__.columns if column.name != "result"]
    found: dict[tuple[str, str | None], Any] = {}
    with Store.open(url).engine.connect() as connection:
        query = select(*ResultRow.__table__.columns, ComponentRow.use, CellRow.threat)
        query = query.join(CellRow, CellRow.digest == ResultRow.cell)
        for row in connection.execute(query.join(ComponentRow, ComponentRow.digest == CellRow.defense)).all():
            seen = connection.execute(select(*columns).where(OutcomeRow.result == row.id)).all()
            told = (MeasureRow.metric, MeasureRow.names, MeasureRow.sums, MeasureRow.numbers)
            measures = connection.execute(select(*told).where(MeasureRow.result == row.id)).all()
            assert len(measures) == 1  # distances, which a suite asks for that names no metrics
            found[row.use, row.threat] = (row.notes, row.correct, seen, measures)
    return found


def test_honest_rows_are_the_same_beside_each_and_each_is_told(
    suites: dict[str, Path], tiny_bench: type[Bench], tmp_path: Path
) -> None:
    bench = tiny_bench.at(tmp_path / "bench")
    found = {}
    for name, path in suites.items():
        db = str(tmp_path / f"{name}.db")
        bench.process("run", str(path), "--db", db, "--workers", "1")
        found[name] = rows(db)
    for key, alone in found["alone"].items():
        assert found["beside"][key][1:] == alone[1:], key
        assert not [one for one in alone[0] or {} if one.startswith(("changed", "exchanged"))]
    assert len(TOLD) >= 20
    for name, told in TOLD.items():
        notes = found["beside"][f"meddling/{name}", None][0]
        assert told in (notes or {}), (name, notes)
    report = bench.process("report", "--db", str(tmp_path / "beside.db"), "--out", str(tmp_path / "out"))
    assert report.returncode == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert "measuring it exchanged functions that it was measured with: torch.nn.functional.softmax" in page
    assert "changed: rounding" in page
