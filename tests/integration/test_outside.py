"""Adversarial examples leave one database as a file and are judged in another, with the same verdicts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from pandas.testing import assert_frame_equal
from sqlalchemy import select

import harness
from harness.artifacts import Folder
from harness.core.errors import UserError
from harness.store.tables import ResultRow
from harness.store.tend.adversarial import export_adversarial
from harness.store.write.store import Store
from harness.suite.load import load_suite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Bench

    from harness.suite.suite import Suite

#: attacks whose examples are replayed, each under its threat model
REPLAYED = [("pgd", "Linf"), ("stadv", "flow")]

#: what identifies an outcome, and what is seen of it
PLACE, SEEN = ["defense", "place", "repeat"], ["example", "label", "prediction", "correct", "fault", "linf", "l2"]


@pytest.fixture(scope="module")
def bench(
    tiny_bench: type[Bench],
    tmp_path_factory: pytest.TempPathFactory,
    with_networks: Callable[[Suite, Path], None],
) -> Bench:
    made = tiny_bench.at(tmp_path_factory.mktemp("outside"))
    with_networks(load_suite(str(made.suites / "outside.yaml")), made.home)
    made.run("outside", "--workers", "2")
    return made


def cells(bench: Bench, attack: str, threat: str) -> dict[str, str]:
    """Return the ids of the cells of an attack, by defense."""
    frame = harness.results(str(bench.db), "outside").cells
    rows = frame[(frame["attack"] == attack) & (frame["threat_model"] == threat)]
    return dict(zip(rows["defense"], rows["id"], strict=True))


def test_what_is_exported_gets_the_same_verdicts_when_it_is_replayed(bench: Bench, tmp_path: Path) -> None:
    for recipe in ("tiny-cnn.yaml", "tiny-dmae.yaml"):
        (tmp_path / recipe).write_text((bench.suites / recipe).read_text())
    suite = yaml.safe_load((bench.suites / "outside.yaml").read_text())
    suite |= {"name": "replay", "attacks": [], "matrix": []}
    for attack, threat in REPLAYED:
        for defense, cell in cells(bench, attack, threat).items():
            path, sha256 = export_adversarial(str(bench.db), bench.home / "data", cell, Folder(bench.home))
            name = f"{attack}-on-{defense}"
            suite["attacks"].append({"name": name, "use": "replay", "params": {"file": path.name, "sha256": sha256}})
            suite["matrix"].append({"defenses": [defense], "attacks": [name], "threat_models": [threat]})
    (tmp_path / "replay.yaml").write_text(yaml.safe_dump(suite))
    bench.purebench("run", str(tmp_path / "replay.yaml"), "--db", str(bench.db), "--workers", "1")
    first, second = (harness.results(str(bench.db), name).examples for name in ("outside", "replay"))
    for attack, threat in REPLAYED:
        one = first[(first["attack"] == attack) & (first["threat_model"] == threat)]
        other = second[second["attack"].str.startswith(f"{attack}-on-")]
        assert len(one) == 2 * 12
        assert not one["correct"].all()
        assert_frame_equal(*(frame.sort_values(PLACE).reset_index(drop=True)[PLACE + SEEN] for frame in (one, other)))


def test_the_command_writes_the_same_file_and_tells_its_hash(bench: Bench, tmp_path: Path) -> None:
    cell = cells(bench, "pgd", "Linf")["none"]
    path, sha256 = export_adversarial(str(bench.db), tmp_path / "here", cell, Folder(bench.home))
    out = tmp_path / "there"
    words = ["--out", str(out), "--format", "adversarial", "--cell", cell]
    done = bench.purebench("db", "export", str(bench.db), *words)
    assert done.stdout == f"{out / path.name}\nsha256: {sha256}\n"
    assert (out / path.name).read_bytes() == path.read_bytes()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def test_oblivious_examples_are_one_file_for_all_defenses(bench: Bench, tmp_path: Path) -> None:
    contents = set()
    for cell in cells(bench, "pgd", "blind").values():
        path, _ = export_adversarial(str(bench.db), tmp_path, cell, Folder(bench.home))
        contents.add(path.read_bytes())
    assert len(contents) == 1
    with np.load(tmp_path / f"{cell}.npz") as members:
        assert members["images"].shape == (12, 1, 8, 8)
        assert members["ids"].shape == (12,)


def test_attacks_of_smallest_perturbation_run_like_any_other(bench: Bench) -> None:
    frame = harness.results(str(bench.db), "outside").cells
    frame = frame[frame["attack"] == "deepfool"]
    assert set(frame["status"]) == {"done"}
    assert not frame["faults"].any()
    assert float(frame["accuracy"].min()) < 1.0
    with Store.open(str(bench.db)).session() as session:
        for cell in frame["id"]:
            noted = session.scalars(select(ResultRow.notes).where(ResultRow.cell.startswith(cell))).all()
            assert sum(notes.get("distance_not_finite", notes["distance"])[1] for notes in noted) == 12
            assert 0.0 < max(notes["distance"][0] for notes in noted) <= 1.0


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("clean", "expected a cell with an attack, got"),
        ("", "expected --cell to name one cell by its id, got '', which names none"),
        ("none such", "got 'none such', which names none; reports show the ids"),
    ],
)
def test_a_cell_that_has_none_is_a_sentence(bench: Bench, tmp_path: Path, cell: str, sentence: str) -> None:
    named = cells(bench, "clean", "-")["none"] if cell == "clean" else cell
    with pytest.raises(UserError) as caught:
        export_adversarial(str(bench.db), tmp_path, named, Folder(bench.home))
    assert sentence in str(caught.value)


def test_examples_that_are_elsewhere_are_a_sentence(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected adversarial at .*, found nothing; run the suite again to make them"):
        export_adversarial(str(bench.db), tmp_path, cells(bench, "pgd", "Linf")["none"], Folder(tmp_path))


def test_a_cell_without_the_format_and_the_format_without_a_cell_are_mistakes(bench: Bench, tmp_path: Path) -> None:
    for words in (["--format", "adversarial"], ["--format", "csv", "--cell", "abc"]):
        done = bench.purebench("db", "export", str(bench.db), "--out", str(tmp_path), *words, code=2)
        assert "expected --cell together with --format adversarial, and with no other" in done.stderr
