"""Published weights in the place of training."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from harness.core.contracts import DataCard, Split
from harness.core.errors import UserError
from harness.core.spec import Spec
from harness.draws import Draws
from harness.nets.published import _rows, translated
from harness.nets.resnet import ResNet
from harness.nets.sizes import MAESize, ResNetSize
from harness.suite.components import training_plan
from harness.testing.nets import CARD
from harness.training.loop import train
from harness.training.objective_options import PublishedObjective
from harness.training.objectives import Published
from harness.training.recipe import RecipeFile

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
    plan = training_plan(Spec.of("recipe", "net", 1, {"net": net, "objective": objective, "steps": 0}))
    return train(plan, CARD, split, lambda share: None).net.state_dict()


def test_the_weights_are_those_of_the_file(split, file):
    tensors, name, sha256 = file
    found, wanted = imported(split, name, sha256), translated(tensors, SIZE, CARD.shape, name)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_another_file_under_the_name_is_refused(split, file):
    with pytest.raises(UserError, match="expected weights with sha256 000000000000, got"):
        imported(split, file[1], "0" * 64)


def test_an_absent_file_is_a_sentence(split, file):
    with pytest.raises(UserError, match=r"expected weights at .*lost\.pth, got No such file"):
        imported(split, "lost.pth", file[2])


def test_weights_of_another_size_are_refused(split, file):
    with pytest.raises(UserError, match=r"expected the .* tensors of a masked autoencoder of width 8 with 2 and 1"):
        imported(split, file[1], file[2], NET | {"depth": 2})
    with pytest.raises(
        UserError, match=r"expected a masked autoencoder, a residual network or a U-Net to .* got a cnn"
    ):
        imported(split, file[1], file[2], {"use": "cnn"})


@pytest.mark.parametrize("more", [{"steps": 3}, {"steps": 0, "init": "digits-mae"}])
def test_a_recipe_of_published_weights_trains_nothing(more):
    objective = {"use": "published", "file": "tiny.safetensors", "sha256": "0" * 64}
    text = {"name": "tiny", "dataset": {"use": "digits"}, "net": NET, "objective": objective}
    recipe = RecipeFile.model_validate(text | more)
    told = recipe.misfit(Published(PublishedObjective.model_validate(objective)))
    assert told.startswith("expected steps: 0 and no init with the objective 'published'")


RESNET = {"use": "resnet", "depth": 8}
IMAGES = DataCard(shape=(3, 32, 32), n_classes=10, n_test=2, sha256="0" * 64)


@pytest.fixture
def residual(tmp_path, monkeypatch):
    """A residual network of eight layers as a parallel module would have saved it, without batch norm's counters."""
    monkeypatch.setenv("PUREBENCH_WEIGHTS", str(tmp_path))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = ResNet(1, 10)
    kept = {f"module.{name}": value for name, value in net.state_dict().items() if "num_batches" not in name}
    save_file(kept, tmp_path / "eight.safetensors")
    return net.eval(), hashlib.sha256((tmp_path / "eight.safetensors").read_bytes()).hexdigest()


def test_a_residual_network_of_a_recipe_is_the_one_of_the_file_behind_its_normalisation(residual):
    net, sha256 = residual
    objective = {"use": "published", "file": "eight.safetensors", "sha256": sha256}
    plan = training_plan(Spec.of("recipe", "net", 1, {"net": RESNET, "objective": objective, "steps": 0}))
    x = Draws(("x",), torch.arange(2)).uniform(3, 32, 32)
    split = Split(x.numpy(), np.array([0, 1]), np.arange(2))
    found = train(plan, IMAGES, split, lambda share: None).net(x)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        wanted = net((x - mean[:, None, None]) / std[:, None, None])
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_residual_network_of_another_depth_is_refused(residual):
    objective = {"use": "published", "file": "eight.safetensors", "sha256": residual[1]}
    plan = training_plan(
        Spec.of("recipe", "net", 1, {"net": RESNET | {"depth": 14}, "objective": objective, "steps": 0})
    )
    split = Split(np.zeros((2, 3, 32, 32), np.float32), np.array([0, 1]), np.arange(2))
    with pytest.raises(UserError, match=r"expected weights of a resnet14 in eight\.safetensors, got others"):
        train(plan, IMAGES, split, lambda share: None)


def test_a_depth_that_no_residual_network_has_is_refused():
    with pytest.raises(ValidationError, match=r"expected a depth of 6 n \+ 2, such as 20, 32 or 56, got 18"):
        ResNetSize.model_validate(RESNET | {"depth": 18})
