"""A plug-in is edited without another version: what was measured by the old code is measured anew, and nothing else."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

import pytest
import yaml

import harness

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Bench

PLUGIN = {
    "__init__.py": "",
    "attack.py": '''
        """An attack of this plug-in."""
        from harness.options import NoOptions
        from {package}.steps import push

        class Push:
            """Moves every pixel the same way."""
            version = 1
            Options = NoOptions

            def __init__(self, options): ...

            def refuses(self, setting):
                return None

            def propose(self, victim, x, y, threat, draws):
                return push(x, threat.eps)
    ''',
    "steps.py": "def push(x, eps):\n    return (x + 0.5 * eps).clamp(0, 1)\n",
    "defense.py": '''
        """A defense of this plug-in."""
        from harness.core.contracts import Traits
        from harness.options import NoOptions
        from {package} import strength

        class Dim:
            """Dims."""
            version = 1
            Options = NoOptions
            traits = Traits(random=False, differentiable=True)

            def __init__(self, options): ...

            def refuses(self, setting):
                return None

            def purify(self, x, nets, draws):
                return strength.HOW_MUCH * x
    ''',
    "strength.py": "HOW_MUCH = 0.75\n",
    "classifier.py": '''
        """A classifier of this plug-in."""
        from harness.options import NoOptions

        class Sums:
            """Looks at where an image is bright."""
            version = 1
            Options = NoOptions

            def __init__(self, options): ...

            def load(self, nets, data):
                import torch

                class Net(torch.nn.Module):
                    def forward(self, x):
                        return x.flatten(1)[:, 20:30] * 1.0

                return Net()
    ''',
}
KINDS = {"attacks": "push = {package}.attack:Push", "defenses": "dim = {package}.defense:Dim"}
KINDS["classifiers"] = "sums = {package}.classifier:Sums"
SUITE = {
    "name": "edited",
    "datasets": [{"name": "digits", "use": "digits"}],
    "classifiers": [{"name": "sums", "use": "edited-plugin/sums"}],
    "defenses": [{"name": "none", "use": "none"}, {"name": "dim", "use": "edited-plugin/dim"}],
    "attacks": [{"name": "push", "use": "edited-plugin/push"}],
    "threat_models": [
        {"name": "oblivious", "use": "Linf", "params": {"eps": 0.2, "knowledge": "oblivious"}},
        {"name": "full", "use": "Linf", "params": {"eps": 0.2, "knowledge": "full"}},
    ],
    "evaluation": {"n_examples": 8, "shard_size": 8},
}


class Plugin:
    """The plug-in in a folder of its own, and a suite that uses it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.package = folder / "site", "edited_plugin"
        about = self.root / f"{self.package}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: edited-plugin\nVersion: 1.0\n")
        points = [f"[purebench.{kind}]\n{line.format(package=self.package)}\n" for kind, line in KINDS.items()]
        (about / "entry_points.txt").write_text("\n".join(points))
        for name, text in PLUGIN.items():
            self.write(name, textwrap.dedent(text).replace("{package}", self.package))
        self.suite = folder / "edited.yaml"
        self.ask(8)

    def write(self, name: str, text: str) -> None:
        (self.root / self.package).mkdir(exist_ok=True)
        (self.root / self.package / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / self.package / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def ask(self, n_examples: int) -> None:
        evaluation = {"n_examples": n_examples, "shard_size": 8}
        self.suite.write_text(yaml.safe_dump({**SUITE, "evaluation": evaluation}))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    made = Plugin(tmp_path)
    path = os.pathsep.join([str(made.root), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # an edit within the same second is an edit
    return made


def test_an_edit_is_noticed_and_words_and_names_of_files_are_not(
    plugin: Plugin, tiny_bench: type[Bench], tmp_path: Path
) -> None:
    bench = tiny_bench.at(tmp_path / "bench")
    suite, db = str(plugin.suite), str(bench.db)
    bench.process("run", suite, "--db", db, "--workers", "1")
    plugin.edit("attack.py", "Moves every pixel the same way.", "Pushes.")
    plugin.edit("attack.py", f"{plugin.package}.steps", f"{plugin.package}.walk")
    (plugin.root / plugin.package / "steps.py").rename(plugin.root / plugin.package / "walk.py")
    assert "nothing to compute" in bench.process("run", suite, "--db", db).stdout
    plugin.edit("walk.py", "0.5 * eps", "eps")
    plugin.edit("strength.py", "0.75", "0.5")
    changed = bench.process("status", "--db", db).stdout
    assert changed.count("changed: cell") == 5  # all but clean images of no defense
    assert "edited: digits/sums/dim/clean/-): its code has changed since: defense edited-plugin/dim" in changed
    kept = bench.process("run", suite, "--db", db, "--keep-old-code").stdout
    assert "nothing to compute" in kept

    fresh = str(tmp_path / "fresh.db")  # in the folder there are examples of the old attack
    bench.process("run", suite, "--db", fresh, "--workers", "1")
    bench.process("run", suite, "--db", db, "--workers", "1")
    after, anew = (harness.results(one).cells.set_index(["defense", "threat_model"])["linf"] for one in (db, fresh))
    assert after["none", "oblivious"] == pytest.approx(0.2, abs=1e-6)
    assert after.dropna().to_dict() == anew.dropna().to_dict()
    assert len(after) == len(anew) == 6


@pytest.mark.slow
def test_more_examples_of_an_edited_classifier_are_not_added_to_those_of_the_old_one(
    plugin: Plugin, tiny_bench: type[Bench], tmp_path: Path
) -> None:
    bench = tiny_bench.at(tmp_path / "bench")
    suite, db = str(plugin.suite), str(bench.db)
    bench.process("run", suite, "--db", db, "--workers", "1", "--only", "attack=clean")
    plugin.edit("classifier.py", "20:30", "30:40")
    plugin.ask(16)
    bench.process("run", suite, "--db", db, "--workers", "1", "--only", "attack=clean")
    fresh = str(tmp_path / "fresh.db")
    bench.process("run", suite, "--db", fresh, "--workers", "1", "--only", "attack=clean")
    one, other = (harness.results(name).examples for name in (db, fresh))
    keys = ["defense", "place"]
    assert len(one) == 32
    assert one.sort_values(keys)["prediction"].tolist() == other.sort_values(keys)["prediction"].tolist()
