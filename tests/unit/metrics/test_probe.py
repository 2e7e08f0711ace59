"""Attention-matrix variation and the reconstruction loss of the probe, against loops."""

import numpy as np
import pytest
import torch

from harness.draws import Draws
from harness.metrics.probe import Probe, ProbeView, by_head, last_and_mean, variation
from harness.nets.mae import patch_loss
from harness.testing.nets import tiny_mae

DRAWS = Draws(("attention",), torch.arange(3))
MASKS = DRAWS.at("masks")


@pytest.fixture(scope="module")
def probe():
    return Probe(tiny_mae(), mask_ratio=0.5, masks=2)


@pytest.fixture(scope="module")
def x():
    return DRAWS.at("x").uniform(1, 8, 8)


def seen(word):
    """Return made-up attention: two masks, three layers, two heads, four tokens."""
    maps = [[torch.softmax(DRAWS.at(word, m, t).normal(2, 4, 4), -1) for t in range(3)] for m in range(2)]
    return ProbeView(torch.zeros(3), maps)


def test_variation_is_the_frobenius_norm_of_the_difference_averaged_over_masks():
    other, clean = seen("other"), seen("clean")
    found = variation(other, clean)
    assert found.shape == (3, 3, 2)
    for image in range(3):
        for layer in range(3):
            for head in range(2):
                total = 0.0
                for mask in range(2):
                    a = other.attention[mask][layer][image, head].tolist()
                    b = clean.attention[mask][layer][image, head].tolist()
                    squares = [(a[i][j] - b[i][j]) ** 2 for i in range(4) for j in range(4)]
                    total += sum(squares) ** 0.5
                assert float(found[image, layer, head]) == pytest.approx(total / 2, rel=1e-5)


def test_the_spectral_norm_is_the_largest_singular_value():
    other, clean = seen("other"), seen("clean")
    found = variation(other, clean, "spectral")
    for image, layer, head in np.ndindex(3, 3, 2):
        gaps = [
            (other.attention[mask][layer] - clean.attention[mask][layer])[image, head].double().numpy()
            for mask in range(2)
        ]
        largest = [np.sqrt(np.linalg.eigvalsh(gap.T @ gap)[-1]) for gap in gaps]
        assert float(found[image, layer, head]) == pytest.approx(sum(largest) / 2, rel=1e-4)
    assert (found <= variation(other, clean) * (1 + 1e-6)).all()


def test_by_head_has_both_images_in_both_norms():
    adversarial, purified, clean = seen("adversarial"), seen("purified"), seen("clean")
    found = by_head(adversarial, purified, clean)
    assert found.shape == (3, 2, 2, 3, 2)
    assert torch.equal(found[:, 0, 0], variation(adversarial, clean))
    assert torch.equal(found[:, 1, 1], variation(purified, clean, "spectral"))


def test_last_is_of_the_last_layer_and_mean_of_all():
    amv = variation(seen("other"), seen("clean"))
    last, mean = last_and_mean(amv)
    for image in range(3):
        layers = [sum(float(amv[image, layer, head]) for head in range(2)) / 2 for layer in range(3)]
        assert float(last[image]) == pytest.approx(layers[-1], rel=1e-5)
        assert float(mean[image]) == pytest.approx(sum(layers) / 3, rel=1e-5)


def test_identical_images_vary_by_zero(probe, x):
    assert not variation(probe.look(x.clone(), MASKS), probe.look(x, MASKS)).any()


def test_other_images_and_other_masks_vary(probe, x):
    here = probe.look(x, MASKS)
    assert (variation(probe.look(1.0 - x, MASKS), here) > 0).all()
    assert (variation(probe.look(x, DRAWS.at("other masks")), here) > 0).all()


def test_the_same_draws_look_through_the_same_masks(probe, x):
    orders = []

    def keep(module, args, kwargs):
        orders.append(args[1])

    handle = probe.mae.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        probe.look(x, MASKS)
        probe.look(1.0 - x, MASKS)
    finally:
        handle.remove()
    assert len(orders) == 4
    assert torch.equal(orders[0], orders[2])
    assert torch.equal(orders[1], orders[3])
    assert not torch.equal(orders[0], orders[1])


def test_an_image_is_seen_alike_in_any_batch(probe, x):
    alone = probe.look(x[2:], MASKS.take(slice(2, 3)))
    together = probe.look(x, MASKS)
    assert torch.allclose(alone.reconstruction, together.reconstruction[2:], rtol=1e-5)
    assert torch.allclose(alone.attention[1][1][0], together.attention[1][1][2], atol=1e-6)


def test_reconstruction_is_the_mean_loss_over_the_masks(probe, x):
    losses = []
    for mask in range(2):
        found = probe.mae(x, MASKS.at("probe", mask).permutation(16), 0.5)
        losses.append(patch_loss(found.patches, probe.mae.patchify(x), found.hidden))
    assert torch.allclose(probe.look(x, MASKS).reconstruction, (losses[0] + losses[1]) / 2)
