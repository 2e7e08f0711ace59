"""Attacks beside independent implementations of them, on real images and published classifiers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import torch
from pyautoattack import AutoAttack as Library
from torch import nn

from attacks.apgd import APGD
from attacks.autoattack import AutoAttack
from attacks.pgd import PGD
from harness import bounds
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.data.cifar10 import CIFAR10
from harness.draws import Draws
from harness.execution.worker.victim import DefendedVictim
from harness.nets.files import FromFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

pytestmark = pytest.mark.shared

#: figures, shown with ``--log-cli-level=INFO``
LOG = logging.getLogger("agreement")

#: how many of the first test images
MANY, SOME = 256, 32

#: on how many of them attacks may differ that are the same: a gradient's sign hangs on its last digit here and there,
#: and the digit on the processor
FEW = 3

HASHES = {
    "resnet20": ("cifar10-resnet20", "8dfe6515fae54568c22253d2d378ac94781be7ea59dcdd5df41d5a49ff5d9a53"),
    "resnet2b": ("cifar10-resnet2b-adv", "005a3e645e337e2ecfc8fabba58067860e40bdaeb86fa33cae7a3b01b0db4697"),
    "cnn-a": ("cifar10-cnn-a-adv", "14d6303b10df9798230ef3e875eb7dd77fe55b11ef651e2be91753a0f32856d6"),
}

#: two that were trained adversarially and take seconds, and one that has no robustness and takes minutes
NETS = ["resnet2b", "cnn-a", pytest.param("resnet20", marks=pytest.mark.slow)]


@pytest.fixture
def real(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[nn.Module, Tensor, Tensor]]:
    """Return by name a classifier, and the first test images with their labels."""
    monkeypatch.setenv("PUREBENCH_DATA", str(shared / "data"))
    monkeypatch.setenv("PUREBENCH_WEIGHTS", str(shared / "weights"))

    def load(name: str) -> tuple[nn.Module, Tensor, Tensor]:
        data = CIFAR10(CIFAR10.Options())
        file, sha256 = HASHES[name]
        net = FromFile(FromFile.Options(net=name, file=f"{file}.safetensors", sha256=sha256)).load({}, data.card)
        split = data.load("test")
        return net.requires_grad_(False), torch.from_numpy(split.images[:MANY]), torch.from_numpy(split.labels[:MANY])

    return load


def proposals(attack: object, net: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float) -> Tensor:
    victim = DefendedVictim(net, None, {}, Knowledge.OBLIVIOUS, 10)
    threat = ThreatModel(norm, eps, Knowledge.OBLIVIOUS)
    found: Tensor = attack.propose(victim, x, y, threat, Draws(("agreement",), torch.arange(len(x))))  # type: ignore[attr-defined]
    assert float(bounds.size(found - x, norm).max()) <= eps + bounds.tolerance(eps)
    return found


def right(net: nn.Module, images: Tensor, y: Tensor) -> int:
    with torch.no_grad():
        return int((net(images).argmax(1) == y).sum())


class Watched(nn.Module):
    """A classifier that remembers which images it got wrong at any time: libraries propose their last iterate."""

    def __init__(self, net: nn.Module, y: Tensor) -> None:
        super().__init__()
        self.net, self.y, self.fooled = net, y, torch.zeros_like(y, dtype=torch.bool)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        self.fooled |= logits.detach().argmax(1) != self.y
        return logits


def by_foolbox(net: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float, steps: int) -> Tensor:
    import foolbox

    kind = {Norm.LINF: foolbox.attacks.LinfPGD, Norm.L2: foolbox.attacks.L2PGD}[norm]
    attack = kind(abs_stepsize=2.5 * eps / steps, steps=steps, random_start=False)
    model = foolbox.PyTorchModel(net.eval(), bounds=(0.0, 1.0), device="cpu")
    _, found, _ = attack(model, x, foolbox.criteria.Misclassification(y), epsilons=eps)
    return found


def by_torchattacks(net: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float, steps: int) -> Tensor:
    import torchattacks

    told = {"eps": eps, "alpha": 2.5 * eps / steps, "steps": steps, "random_start": False}
    if norm is Norm.LINF:
        return torchattacks.PGD(net.eval(), **told)(x, y)
    # it averages the loss over the batch: beside its usual 1e-10, gradients of confident classifiers would not count
    return torchattacks.PGDL2(net.eval(), eps_for_division=1e-20, **told)(x, y)


def slow(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("library", [by_foolbox, by_torchattacks])
@pytest.mark.parametrize(("norm", "eps"), [slow(Norm.LINF, 2 / 255), (Norm.LINF, 8 / 255), (Norm.L2, 0.5)])
@pytest.mark.parametrize("name", NETS)
def test_pgd_agrees_with_libraries(real, name, norm, eps, library):
    net, x, y = real(name)
    ours = right(net, proposals(PGD(PGD.Options(steps=20, random_start=False)), net, x, y, norm, eps), y)
    watched = Watched(net, y)
    last = right(watched, library(watched, x, y, norm, eps, 20), y)
    best = int((~watched.fooled).sum())
    LOG.info(f"of {MANY}: {best} by {library.__name__}, {last} at its last step, {ours} ours")
    assert abs(ours - best) <= FEW
    assert ours <= last + FEW


# ---------------------------------------------------------------------- AutoAttack through the harness


@pytest.mark.parametrize(
    ("name", "norm", "eps", "told"),
    [
        ("cnn-a", Norm.LINF, 8 / 255, {"version": "custom", "attacks": ["apgd-ce", "apgd-dlr"]}),
        slow("cnn-a", Norm.LINF, 8 / 255, {"version": "standard"}),
        slow("resnet2b", Norm.L2, 0.5, {"version": "custom", "attacks": ["apgd-dlr", "fab-t"]}),
        slow("cnn-a", Norm.L1, 5.0, {"version": "custom", "attacks": ["apgd-ce", "fab"]}),
        slow("resnet2b", Norm.LINF, 2 / 255, {"version": "rand"}),
    ],
    ids=lambda value: value["version"] if isinstance(value, dict) else None,
)
def test_autoattack_is_that_of_its_authors(real, name, norm, eps, told):
    net, x, y = real(name)
    x, y = x[:SOME], y[:SOME]
    found = proposals(AutoAttack(AutoAttack.Options(**told)), net, x, y, norm, eps)
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    seed = Draws(("agreement",), torch.arange(SOME)).at("library").seed() % 2**31
    library = Library(net, norm=norm.value, eps=eps, seed=seed, **told)
    with torch.random.fork_rng():
        expected, predicted = library.run_standard_evaluation(x, y, batch_size=SOME)
    LOG.info(f"of {SOME}: {int((predicted == y).sum())}")
    assert torch.equal(net(found).argmax(1), predicted)
    assert torch.equal(found, expected)


# ---------------------------------------------------------------------- among each other


# in L1, steps that are as sparse as can be are not the best ones for a network: APGD widens them
@pytest.mark.parametrize(("norm", "eps", "apart"), [(Norm.LINF, 8 / 255, 4), (Norm.L2, 0.5, 4), slow(Norm.L1, 5.0, 12)])
def test_apgd_is_no_weaker_than_pgd_and_pgd_not_much_weaker(real, norm, eps, apart):
    net, x, y = real("resnet2b")
    x, y = x[:128], y[:128]
    stand = {
        name: right(net, proposals(attack, net, x, y, norm, eps), y)
        for name, attack in {
            "pgd": PGD(PGD.Options(steps=50)),
            "pgd on the margin": PGD(PGD.Options(steps=50, loss="margin")),
            "apgd": APGD(APGD.Options(steps=50)),
            "apgd on dlr": APGD(APGD.Options(steps=50, loss="dlr")),
        }.items()
    }
    LOG.info(f"of {len(x)}: {right(net, x, y)} clean, {stand}")
    assert max(stand.values()) < right(net, x, y)
    assert stand["apgd"] <= stand["pgd"] + FEW
    assert stand["pgd"] <= stand["apgd"] + apart
