"""The masked autoencoder against its definition, written out."""

from __future__ import annotations

import math

import pytest
import torch

from harness.core.contracts import DataCard
from harness.draws import Draws
from harness.nets.mae import MAE, masked_loss, n_visible, sincos_positions
from harness.nets.sizes import MAESize

CARD = DataCard((3, 6, 8), 10, 1, "0" * 64)
SIZE = MAESize(use="mae", patch=2, dim=16, depth=2, heads=2, decoder_dim=8, decoder_depth=2, decoder_heads=2)


@pytest.fixture(scope="module")
def mae():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MAE(SIZE, CARD).eval().requires_grad_(False)


@pytest.fixture
def x():
    return Draws(("x",), torch.arange(2)).uniform(3, 6, 8)


@pytest.fixture
def order():
    return Draws(("order",), torch.arange(2)).permutation(12)


def test_patches_are_what_one_would_cut_out(mae, x):
    patches = mae.patchify(x)
    assert patches.shape == (2, 12, 12)
    for row in range(3):
        for column in range(4):
            cut = x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(patches[:, 4 * row + column], cut.permute(0, 2, 3, 1).flatten(1))


def test_unpatchify_undoes_patchify(mae, x):
    assert torch.equal(mae.unpatchify(mae.patchify(x)), x)
    patches = mae.patchify(x)
    assert torch.equal(mae.patchify(mae.unpatchify(patches)), patches)


def test_the_masked_loss_is_the_mean_over_pixels_of_hidden_patches(mae, x):
    target, guess = mae.patchify(x), mae.patchify(x.flip(3))
    hidden = torch.tensor([[True] * 5 + [False] * 7, [False, True] * 6])
    for image in range(2):
        squares = [
            float((guess[image, patch, pixel] - target[image, patch, pixel]) ** 2)
            for patch in range(12)
            if hidden[image, patch]
            for pixel in range(12)
        ]
        assert float(masked_loss(guess, target, hidden)[image]) == pytest.approx(sum(squares) / len(squares), rel=1e-5)


def test_what_is_predicted_of_visible_patches_is_no_part_of_the_loss(mae, x):
    target = mae.patchify(x)
    hidden = torch.zeros(2, 12, dtype=torch.bool)
    hidden[:, 3] = True
    guess = torch.where(hidden[:, :, None], target, target + 9.0)
    assert masked_loss(guess, target, hidden).tolist() == [0.0, 0.0]


def test_positions_follow_their_formula():
    table = sincos_positions(8, 3, 5)
    assert table.shape == (15, 8)
    for row in range(3):
        for column in range(5):
            angles = [(place, place / 10000 ** (1 / 2)) for place in (row, column)]
            expected = [wave(angle) for pair in angles for wave in (math.sin, math.cos) for angle in pair]
            assert table[5 * row + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_width_that_is_no_multiple_of_four_has_no_positions():
    with pytest.raises(ValueError, match="multiple of 4 for sine-cosine positions, got 6"):
        sincos_positions(6, 2, 2)


def test_a_patch_that_does_not_divide_the_image_is_refused():
    with pytest.raises(ValueError, match="expected a patch that divides 6 x 8 images, got 4"):
        MAE(SIZE.model_copy(update={"patch": 4}), CARD)


@pytest.mark.parametrize(
    ("ratio", "visible"), [(0.0, 16), (0.25, 12), (0.5, 8), (0.75, 4), (0.9, 1), (0.1, 14), (0.95, 0)]
)
def test_the_number_of_visible_patches_is_rounded_down(ratio, visible):
    assert n_visible(16, ratio) == visible


def test_rounding_in_binary_takes_no_patch_away():
    assert n_visible(10, 0.9) == 1
    assert n_visible(100, 0.71) == 29


def test_hidden_are_the_last_of_the_order(mae, x, order):
    found = mae(x, order, 0.5)
    for image in range(2):
        assert set(order[image, 6:].tolist()) == set(found.hidden[image].nonzero().flatten().tolist())


def test_a_hidden_patch_cannot_be_seen(mae, x, order):
    found = mae(x, order, 0.5)
    peeking = torch.where(found.hidden[:, :, None], 0.77, mae.patchify(x))
    again = mae(mae.unpatchify(peeking), order, 0.5)
    assert torch.equal(again.patches, found.patches)


def test_a_visible_patch_is_seen(mae, x, order):
    found = mae(x, order, 0.5)
    for patch in order[0, :6].tolist():
        patches = mae.patchify(x)
        patches[0, patch] = 1.0 - patches[0, patch]
        again = mae(mae.unpatchify(patches), order, 0.5)
        assert not torch.allclose(again.patches[0], found.patches[0], atol=1e-5)
        assert torch.equal(again.patches[1], found.patches[1])


def test_the_order_among_the_visible_does_not_matter(mae, x, order):
    shuffled = torch.cat([order[:, :6].flip(1), order[:, 6:].flip(1)], 1)
    assert torch.allclose(mae(x, shuffled, 0.5).patches, mae(x, order, 0.5).patches, atol=1e-5)


def test_attention_is_a_distribution_over_tokens(mae, x, order):
    maps = mae(x, order, 0.5, attention=True).attention
    assert [tuple(one.shape) for one in maps] == [(2, 2, 12, 12)] * 2
    for one in maps:
        assert bool((one >= 0).all())
        assert torch.allclose(one.sum(-1), torch.ones(2, 2, 12), atol=1e-5)


def test_attention_is_what_the_blocks_use(mae, x, order):
    """With the map in hand, the output of every attention layer follows: map times values, projected."""
    seen = []

    def keep(module, inputs, output):
        seen.append((module, inputs[0], output))

    hooks = [block.attn.register_forward_hook(keep) for block in mae.decoder]
    maps = mae(x, order, 0.5, attention=True).attention
    for hook in hooks:
        hook.remove()
    for (layer, tokens, output), found in zip(seen, maps, strict=True):
        q, k, v = layer.qkv(tokens).chunk(3, dim=-1)
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            direct = torch.softmax(q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(4), -1)
            assert torch.allclose(found[:, head], direct, atol=1e-6)
        mixed = torch.cat([found[:, head] @ v[..., 4 * head : 4 * head + 4] for head in range(2)], -1)
        assert torch.allclose(layer.proj(mixed), output, atol=1e-5)


def test_asking_for_attention_changes_nothing_else(mae, x, order):
    assert torch.equal(mae(x, order, 0.5, attention=True).patches, mae(x, order, 0.5).patches)
    assert mae(x, order, 0.5).attention == ()
