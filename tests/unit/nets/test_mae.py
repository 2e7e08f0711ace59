"""The masked autoencoder against its definition, written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from harness.core.contracts import DataCard
from harness.draws import Draws
from harness.nets.mae import MAE, n_visible, normalised, patch_loss, sincos_positions, unnormalised
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
        assert float(patch_loss(guess, target, hidden)[image]) == pytest.approx(sum(squares) / len(squares), rel=1e-5)


def test_what_is_predicted_of_visible_patches_is_no_part_of_the_loss(mae, x):
    target = mae.patchify(x)
    hidden = torch.zeros(2, 12, dtype=torch.bool)
    hidden[:, 3] = True
    guess = torch.where(hidden[:, :, None], target, target + 9.0)
    assert patch_loss(guess, target, hidden).tolist() == [0.0, 0.0]


def test_positions_follow_their_formula():
    table = sincos_positions(8, 3, 5)
    assert table.shape == (15, 8)
    for row in range(3):
        for column in range(5):
            angles = [(place, place / 10000 ** (1 / 2)) for place in (row, column)]
            expected = [wave(angle) for pair in angles for wave in (math.sin, math.cos) for angle in pair]
            assert table[5 * row + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_positions_with_the_column_first_swap_the_halves():
    table, swapped = sincos_positions(8, 3, 5), sincos_positions(8, 3, 5, columns_first=True)
    assert torch.equal(swapped, table.roll(4, 1))
    assert not torch.equal(swapped, table)


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


def test_a_gradient_arrives_through_the_attention_that_was_asked_for(mae, x, order):
    """The difference quotient along a direction is the gradient's, and hidden patches have none."""
    double = MAE(SIZE, CARD).double().eval().requires_grad_(False)
    double.load_state_dict(mae.state_dict())

    def size_of_last_map(at):
        return (double(at, order, 0.5, attention=True).attention[-1] ** 2).sum()

    at = x.double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(size_of_last_map(at), at)
    direction = gradient / gradient.norm()
    with torch.no_grad():
        slope = (size_of_last_map(x + 1e-5 * direction) - size_of_last_map(x - 1e-5 * direction)) / 2e-5
    assert float(slope) == pytest.approx(float(gradient.norm()), rel=1e-5)
    hidden = double(at, order, 0.5).hidden
    touched = double.patchify(gradient).abs().sum(2) > 0
    assert torch.equal(touched, ~hidden)


# ---------------------------------------------------------------------- what a size may ask for


def with_options(card=CARD, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MAE(SIZE.model_copy(update=options), card).eval().requires_grad_(False)
    return net


@pytest.mark.parametrize("columns_first", [False, True])
@pytest.mark.parametrize("class_token", [False, True])
def test_fixed_positions_are_no_weights_and_the_class_token_stands_at_zero(class_token, columns_first):
    net = with_options(class_token=class_token, positions="sincos-columns-first" if columns_first else "sincos")
    assert not any("positions" in name for name in net.state_dict())
    assert ("class_token" in net.state_dict()) == class_token
    places = sincos_positions(16, 3, 4, columns_first)
    assert torch.equal(net.positions[int(class_token) :], places)
    assert net.positions[: int(class_token)].tolist() == [[0.0] * 16] * class_token


def test_learned_positions_are_weights_and_learn(x, order):
    net = with_options(positions="learned", class_token=True).requires_grad_(True)
    assert net.positions.shape == (13, 16)
    assert net.decoder_positions.shape == (13, 8)
    found = net(x, order, 0.5)
    net.loss(found, x).mean().backward()
    seen = torch.tensor([True, *(~found.hidden).any(0).tolist()])  # the class token's, and what one image shows
    assert not bool(seen.all())
    for table, learns in ((net.positions, seen), (net.decoder_positions, torch.ones(13, dtype=torch.bool))):
        assert 0.01 < float(table.detach().std()) < 0.03
        assert torch.equal(table.grad.abs().sum(1) > 0, learns)


def test_attention_has_a_place_for_the_class_token(x, order):
    maps = with_options(class_token=True)(x, order, 0.5, attention=True).attention
    assert [tuple(one.shape) for one in maps] == [(2, 2, 13, 13)] * 2
    assert torch.allclose(maps[0].sum(-1), torch.ones(2, 2, 13), atol=1e-5)


def test_options_that_are_not_asked_for_leave_the_first_weights_alone(mae):
    learned = with_options(positions="learned", class_token=True).state_dict()
    for name in ("embed.weight", "bridge.weight", "hidden_token", "decoder.1.mlp.fc2.weight"):
        assert torch.equal(learned[name], mae.state_dict()[name])


def test_pixels_are_normalised_by_channel_on_the_way_in_and_back_on_the_way_out(mae, x, order):
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    net = with_options(mean=mean, std=std)
    patches = net.patchify(x)
    for pixel in range(12):
        expected = (patches[:, :, pixel] - mean[pixel % 3]) / std[pixel % 3]
        assert torch.allclose(net.standardise(patches)[:, :, pixel], expected, atol=1e-6)
    assert torch.allclose(net.unstandardise(net.standardise(patches)), patches, atol=1e-6)
    # the same pixels in the network's units are the same prediction in those units
    units = [torch.tensor(values).reshape(3, 1, 1) for values in (mean, std)]
    same = ((x - units[0]) / units[1] + 1.0) / 2.0
    expected = 2.0 * mae(same, order, 0.5).patches - 1.0
    assert torch.allclose(net.standardise(net(x, order, 0.5).patches), expected, atol=1e-5)


def test_the_default_is_two_x_minus_one_bit_for_bit(mae, x):
    patches = mae.patchify(x)
    assert torch.equal(mae.standardise(patches), 2.0 * patches - 1.0)
    guess = 3.0 * torch.randn(patches.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mae.unstandardise(guess), (guess + 1.0) / 2.0)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_number_of_channels_that_is_not_the_images_is_refused(name):
    with pytest.raises(ValueError, match=f"expected one {name} or 3, one per channel, got 2"):
        with_options(**{name: (0.5, 0.5)})


def test_normalised_targets_of_a_single_value_are_refused():
    with pytest.raises(ValueError, match="expected patches of two values at least for normalised targets, got one"):
        with_options(DataCard((1, 6, 8), 10, 1, "0" * 64), patch=1, targets="normalised")


# ---------------------------------------------------------------------- targets and losses


def by_hand(patch):
    """Return mean and root of unbiased variance + 1e-6 of the numbers of a patch, in plain Python."""
    mean = sum(patch) / len(patch)
    variance = sum((value - mean) ** 2 for value in patch) / (len(patch) - 1)
    return mean, math.sqrt(variance + 1e-6)


def test_normalised_patches_follow_their_formula(mae, x):
    patches = mae.patchify(x)
    found = normalised(patches)
    for image in range(2):
        for patch in range(12):
            numbers = patches[image, patch].tolist()
            mean, deviation = by_hand(numbers)
            assert found[image, patch].tolist() == pytest.approx([(n - mean) / deviation for n in numbers], abs=1e-5)
    assert torch.allclose(unnormalised(found, patches), patches, atol=1e-6)


def test_a_flat_patch_is_normalised_to_zero():
    flat = torch.full((1, 2, 12), 0.25)
    assert torch.equal(normalised(flat), torch.zeros(1, 2, 12))
    assert torch.equal(unnormalised(torch.zeros(1, 2, 12), flat), flat)


@pytest.mark.parametrize("detach_target", [False, True])
@pytest.mark.parametrize("units", ["own", "raw", "normalised"])
@pytest.mark.parametrize("where", ["masked", "visible", "all"])
@pytest.mark.parametrize("targets", ["raw", "normalised"])
def test_losses_are_what_a_loop_over_patches_gives(x, order, targets, where, units, detach_target):
    net = with_options(targets=targets, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    found = net(x, order, 0.25)
    loss = net.loss(found, x, where, units, detach_target)
    assert loss.shape == (2,)
    mean, std = np.tile([0.1, 0.2, 0.3], 4), np.tile([0.5, 0.25, 0.125], 4)
    for image in range(2):
        errors = []
        for patch in range(12):
            if where != "all" and bool(found.hidden[image, patch]) != (where == "masked"):
                continue
            true = np.array(net.patchify(x)[image, patch].tolist())
            guess = np.array(found.patches[image, patch].tolist())
            middle, deviation = by_hand(list((true - mean) / std))
            if targets == "normalised":
                guess = (guess * deviation + middle) * std + mean  # pixels
            if units == "normalised" or (units == "own" and targets == "normalised"):
                true, guess = (((one - mean) / std - middle) / deviation for one in (true, guess))
            errors.append(((true - guess) ** 2).mean())
        assert len(errors) == {"masked": 3, "visible": 9, "all": 12}[where]
        assert float(loss[image]) == pytest.approx(np.mean(errors), rel=1e-4)


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def as_the_authors_have_it(net, x, order, targets):
    """The loss of He et al.'s code: pixels standardised before anything else, patches with channels innermost."""
    predicted = []
    handle = net.predict.register_forward_hook(lambda module, given, found: predicted.append(found))
    hidden = net(x, order, 0.5).hidden
    handle.remove()
    mean, std = (torch.tensor(IMAGENET[name]).to(x).reshape(3, 1, 1) for name in ("mean", "std"))
    standardised = (x - mean) / std
    target = torch.einsum("nchpwq->nhwpqc", standardised.reshape(len(x), 3, 3, 2, 4, 2)).reshape(len(x), 12, 12)
    if targets == "normalised":
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6) ** 0.5
    error = ((predicted[0] - target) ** 2).mean(-1)
    return (error * hidden).sum(1) / hidden.sum(1)


@pytest.mark.parametrize("targets", ["raw", "normalised"])
def test_the_standardised_loss_is_that_of_the_authors_code(x, order, targets):
    net, at = with_options(targets=targets, **IMAGENET).double(), x.double().requires_grad_(True)
    wanted = as_the_authors_have_it(net, at, order, targets)
    (slope,) = torch.autograd.grad(wanted.sum(), at)
    gradients = {}
    for units in ("standardised", "own"):
        loss = net.loss(net(at, order, 0.5), at, units=units)
        (gradients[units],) = torch.autograd.grad(loss.sum(), at)
        if units == "standardised" or targets == "normalised":
            assert torch.allclose(loss, wanted, rtol=1e-9)
            assert torch.allclose(gradients[units], slope, rtol=1e-6, atol=1e-9 * float(slope.abs().max()))
    # in pixels, channels have other shares of it
    alike = torch.nn.functional.cosine_similarity(gradients["own"].flatten(), slope.flatten(), dim=0)
    assert (float(alike) > 1 - 1e-9) is (targets == "normalised")


@pytest.mark.parametrize("targets", ["raw", "normalised"])
def test_with_one_deviation_for_all_channels_the_standardised_loss_is_a_multiple(x, order, targets):
    net = with_options(targets=targets)
    own, standardised = (net.loss(net(x, order, 0.5), x, units=units) for units in ("own", "standardised"))
    assert torch.allclose(standardised, own * (4.0 if targets == "raw" else 1.0), rtol=1e-5)


def test_the_loss_is_by_default_that_of_hidden_patches(mae, x, order):
    found = mae(x, order, 0.5)
    assert torch.equal(patch_loss(found.patches, mae.patchify(x), found.hidden), mae.loss(found, x))


@pytest.mark.parametrize("targets", ["raw", "normalised"])
def test_a_detached_target_lets_the_gradient_through_the_visible_input_only(x, order, targets):
    net = with_options(targets=targets)
    at = x.clone().requires_grad_(True)
    found = net(at, order, 0.5)
    touched = {}
    for detach in (False, True):
        (gradient,) = torch.autograd.grad(net.loss(found, at, detach_target=detach).sum(), at, retain_graph=True)
        touched[detach] = net.patchify(gradient).abs().sum(2) > 0
    assert torch.equal(touched[True], ~found.hidden)
    assert bool(touched[False].all())


def test_the_gradient_of_a_normalised_target_goes_through_mean_and_deviation(x, order):
    """A target that is scaled and shifted is the same target, so no gradient points that way."""
    net = with_options(targets="normalised")
    at = x.clone().requires_grad_(True)
    found = net(x, order, 0.5)
    (gradient,) = torch.autograd.grad(net.loss(found, at).sum(), at)
    gradient, patches = net.patchify(gradient), net.patchify(x)
    scale = gradient.norm(dim=2)
    assert bool((scale[found.hidden] > 0).all())
    shift = gradient.sum(2)
    stretch = (gradient * (patches - patches.mean(2, keepdim=True))).sum(2)
    assert bool((shift.abs() <= 1e-4 * scale + 1e-7).all())
    assert bool((stretch.abs() <= 1e-4 * scale + 1e-7).all())


def test_the_target_is_what_the_loss_compares_with(x, order):
    for targets in ("raw", "normalised"):
        net = with_options(targets=targets)
        found = net(x, order, 0.5)
        assert torch.allclose(patch_loss(found.patches, net.target(x), found.hidden), net.loss(found, x), rtol=1e-5)
        perfect = found._replace(patches=net.target(x))
        assert net.loss(perfect, x).tolist() == pytest.approx([0.0, 0.0], abs=1e-9)
        assert net.loss(perfect, x, "all", "raw").tolist() == pytest.approx([0.0, 0.0], abs=1e-9)
        assert torch.allclose(net.pixels(net.target(x), x), x, atol=1e-5)


def test_normalised_predictions_get_mean_and_deviation_of_the_images_that_are_named(x, order):
    net = with_options(targets="normalised", mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    noisy = x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    found = net(noisy, order, 0.0)
    images = {}
    for name, like in (("input", x), ("noisy", noisy)):
        images[name] = net.pixels(found.patches, like)
        inside = net.standardise(net.patchify(images[name]))
        for image, patch in ((0, 0), (1, 7)):
            middle, deviation = by_hand(net.standardise(net.patchify(like))[image, patch].tolist())
            expected = [value * deviation + middle for value in found.patches[image, patch].tolist()]
            assert inside[image, patch].tolist() == pytest.approx(expected, abs=1e-4)
    assert not torch.allclose(images["input"], images["noisy"], atol=1e-2)


def test_raw_predictions_are_pixels_whatever_image_is_named(mae, x, order):
    found = mae(x, order, 0.5)
    assert torch.equal(mae.pixels(found.patches, x), mae.unpatchify(found.patches))


# ---------------------------------------------------------------------- one of a size that can be worked out


def worked_out(net, image, kept):
    """Return the prediction (N, P) of a net of one block, one head, in numpy and double precision."""
    weights = {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}

    def norm(rows, name, eps):
        rows = [(row - row.mean()) / np.sqrt(((row - row.mean()) ** 2).mean() + eps) for row in rows]
        return np.stack(rows) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(rows, name):
        return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def block(rows, name):
        q, k, v = np.split(linear(norm(rows, f"{name}.norm1", 0.25), f"{name}.attn.qkv"), 3, axis=1)
        mixed = np.zeros_like(q)
        for i in range(len(rows)):
            scores = np.array([np.exp(q[i] @ k[j] / math.sqrt(q.shape[1])) for j in range(len(rows))])
            mixed[i] = sum(scores[j] / scores.sum() * v[j] for j in range(len(rows)))
        rows = rows + linear(mixed, f"{name}.attn.proj")
        hidden = linear(norm(rows, f"{name}.norm2", 0.25), f"{name}.mlp.fc1")
        gelu = np.vectorize(lambda value: value * 0.5 * (1.0 + math.erf(value / math.sqrt(2.0))))
        return rows + linear(gelu(hidden), f"{name}.mlp.fc2")

    cuts = []
    for row, column in ((0, 0), (0, 2), (2, 0), (2, 2)):
        cuts.append([2.0 * image[0][row + i][column + j] - 1.0 for i in (0, 1) for j in (0, 1)])
    tokens = linear(np.array(cuts), "embed") + weights["positions"][1:]
    seen = np.stack([weights["class_token"][0, 0] + weights["positions"][0]] + [tokens[place] for place in kept])
    seen = linear(norm(block(seen, "encoder.0"), "norm", 1e-6), "bridge")
    places = [seen[0]] + [
        seen[1 + kept.index(place)] if place in kept else weights["hidden_token"][0, 0] for place in range(4)
    ]
    out = block(np.stack(places) + weights["decoder_positions"], "decoder.0")
    return (linear(norm(out[1:], "decoder_norm", 1e-6), "predict") + 1.0) / 2.0


@pytest.mark.parametrize(("ratio", "n_kept"), [(0.0, 4), (0.25, 3), (0.5, 2), (0.75, 1)])
def test_a_net_of_four_tokens_and_one_block_gives_what_is_worked_out(ratio, n_kept):
    size = SIZE.model_copy(
        update={"dim": 4, "depth": 1, "heads": 1, "decoder_dim": 2, "decoder_depth": 1, "decoder_heads": 1}
        | {"positions": "learned", "class_token": True, "norm_eps": 0.25}
    )
    rng = torch.Generator().manual_seed(3)
    net = MAE(size, DataCard((1, 4, 4), 10, 1, "0" * 64)).eval().requires_grad_(False)
    for weight in net.parameters():
        weight.copy_(torch.randn(weight.shape, generator=rng))
    image, order = torch.rand(1, 1, 4, 4, generator=rng), torch.tensor([[2, 0, 3, 1]])
    found = net(image, order, ratio)
    expected = worked_out(net, image[0].tolist(), order[0, :n_kept].tolist())
    assert np.ptp(expected) > 0.5
    assert np.allclose(found.patches[0].numpy(), expected, atol=1e-5)
