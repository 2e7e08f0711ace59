"""The toy victims have the optimum that they claim, and the contracts ask for little."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from harness.core.threat import BALLS, Norm
from harness.draws import Draws
from harness.testing.victims import LinearVictim, NoisyLinearVictim

everywhere = pytest.mark.parametrize(("norm", "n_classes"), [(norm, n) for norm in BALLS for n in (2, 3, 10, 63)])


@everywhere
def test_the_distance_is_that_of_the_closed_form(norm, n_classes):
    victim = LinearVictim(n_classes)
    x, y, _ = victim.images(8)
    weight, bias = victim.net[2].weight.detach(), victim.net[2].bias.detach()
    logits = x.flatten(1) @ weight.T + bias
    for image in range(8):
        distances = []
        for other in set(range(n_classes)) - {int(y[image])}:
            difference = weight[y[image]] - weight[other]
            sizes = difference.abs()
            dual = {Norm.LINF: sizes.sum(), Norm.L2: sizes.norm(), Norm.L1: sizes.max()}
            distances.append(float((logits[image, y[image]] - logits[image, other]) / dual[norm]))
        assert min(distances) == pytest.approx(victim.distance(norm), rel=1e-4)


@everywhere
def test_the_nearest_misclassified_point_is_at_that_distance_and_in_range(norm, n_classes):
    victim = LinearVictim(n_classes)
    x, y, draws = victim.images(6)
    rows = victim.net[2].weight.detach()
    towards = (rows[(y + 1) % n_classes] - rows[y]).reshape(x.shape)
    # in L1 spread over all pixels that count, so that none leaves its range
    unit = {Norm.LINF: towards.sign(), Norm.L2: towards / towards[0].norm(), Norm.L1: towards / towards[0].abs().sum()}
    for share, correct in ((0.999, True), (1.001, False)):
        point = x + share * victim.distance(norm) * unit[norm]
        assert 0.0 <= float(point.min()) <= float(point.max()) <= 1.0
        assert bool(((victim.logits(point, draws).argmax(1) == y) == correct).all())
        assert bool(((victim.margins(point, y) > 0) == correct).all())


def test_margins_fall_at_the_dual_norm():
    victim = LinearVictim()
    x, y, _ = victim.images()
    for norm in BALLS:
        assert victim.margins(x, y).tolist() == pytest.approx([victim.distance(norm) * victim.dual(norm)] * 6, rel=1e-4)


def test_the_noisy_victim_draws_by_address():
    victim = NoisyLinearVictim()
    x, _, draws = victim.images()
    first = victim.logits(x, draws.at("a"))
    assert torch.equal(victim.logits(x, draws.at("a")), first)
    assert not torch.equal(victim.logits(x, draws.at("b")), first)
    assert torch.allclose(victim.logits(x[2:3], draws.at("a").take(slice(2, 3))), first[2:3], atol=1e-5)


def test_draws_of_other_images_are_refused():
    victim = LinearVictim()
    x, _, _ = victim.images()
    with pytest.raises(AssertionError, match=r"draws of its 6 images, got those of 2; use draws\.take"):
        victim.logits(x, Draws(("few",), torch.arange(2)))


@pytest.mark.parametrize("n", [1, 64])
def test_a_victim_has_as_many_classes_as_there_are_rows(n):
    with pytest.raises(ValueError, match=f"expected 2 to 63 classes, got {n}"):
        LinearVictim(n)


def test_the_contracts_import_nothing_but_torch_and_the_ground():
    code = "import sys, harness.testing; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    # pydantic is part of the ground: the options of every base class are checked by it
    unwanted = {"pytest", "timm", "diffusers", "pandas", "sqlalchemy", "attacks", "defenses"}
    assert not unwanted & set(done.stdout.split())
