"""Published weights in the place of training."""

from __future__ import annotations

import hashlib

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from harness.core.errors import UserError
from harness.nets.published import _rows, translated
from harness.nets.sizes import MAESize
from harness.testing.nets import CARD
from harness.training.loop import train
from harness.training.recipe import RecipeFile, TrainingPlan

NET = {"use": "mae", "patch": 4, "dim": 8, "depth": 1, "heads": 2, "decoder_dim": 8, "decoder_depth": 1} | {
    "decoder_heads": 2,
    "positions": "learned",
    "class_token": True,
}
SIZE = MAESize.model_validate(NET)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file with small random numbers under the authors' names; returns its tensors, its name and its hash."""
    monkeypatch.setenv("PUREBENCH_WEIGHTS", str(tmp_path))
    rng = torch.Generator().manual_seed(0)
    rows = _rows(SIZE, CARD.shape, column=0)
    tensors = {their: torch.randn(row.shape, generator=rng) for row in rows.values() for their in row.theirs}
    save_file(tensors, tmp_path / "tiny.safetensors")
    return tensors, "tiny.safetensors", hashlib.sha256((tmp_path / "tiny.safetensors").read_bytes()).hexdigest()


def imported(split, name, sha256, net=NET):
    objective = {"use": "published", "file": name, "sha256": sha256}
    plan = TrainingPlan.model_validate({"net": net, "objective": objective, "steps": 0})
    return train(plan, CARD, split, lambda share: None).net.state_dict()


def test_the_weights_are_those_of_the_file(split, file):
    tensors, name, sha256 = file
    found, wanted = imported(split, name, sha256), translated(tensors, SIZE, CARD.shape, name)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_another_file_under_the_name_is_refused(split, file):
    with pytest.raises(UserError, match="expected weights with sha256 000000000000 at"):
        imported(split, file[1], "0" * 64)


def test_an_absent_file_is_a_sentence(split, file):
    with pytest.raises(UserError, match=r"expected published weights at .*lost\.pth, found none; download them"):
        imported(split, "lost.pth", file[2])


def test_weights_of_another_size_are_refused(split, file):
    with pytest.raises(UserError, match=r"expected the .* tensors of a masked autoencoder of width 8 with 2 and 1"):
        imported(split, file[1], file[2], NET | {"depth": 2})
    with pytest.raises(UserError, match="expected a masked autoencoder to import weights into, got a cnn network"):
        imported(split, file[1], file[2], {"use": "cnn"})


@pytest.mark.parametrize("more", [{"steps": 3}, {"steps": 0, "init": "digits-mae"}])
def test_a_recipe_of_published_weights_trains_nothing(more):
    objective = {"use": "published", "file": "tiny.safetensors", "sha256": "0" * 64}
    text = {"name": "tiny", "dataset": {"use": "digits"}, "net": NET, "objective": objective}
    with pytest.raises(ValidationError, match="expected steps: 0 and no init with the objective 'published'"):
        RecipeFile.model_validate(text | more)
