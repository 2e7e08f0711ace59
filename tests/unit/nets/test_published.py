"""Published checkpoints: genuine names and shapes, and a forward pass written out from the definition."""

from __future__ import annotations

import argparse
import math
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from harness.core.contracts import DataCard
from harness.core.errors import UserError
from harness.nets import networks
from harness.nets.mae import MAE
from harness.nets.published import load, translated
from harness.nets.published_maes import DECODER, ENCODERS, contradiction
from harness.nets.sizes import IMAGENET, MAESize
from harness.training.objectives import Published

TINY = MAESize(
    use="mae",
    patch=4,
    dim=16,
    depth=2,
    heads=2,
    decoder_dim=8,
    decoder_depth=2,
    decoder_heads=4,
    positions="sincos-columns-first",
    class_token=True,
    norm_eps=1e-6,
    mean=IMAGENET[0],
    std=IMAGENET[1],
)
SHAPE = (3, 12, 12)


def table(dim, side):
    """Return the authors' positions (1, 1 + side ** 2, dim): nothing for the class token, then column, then row."""
    rows = [np.zeros(dim)]
    rates = [10000.0 ** (-k / (dim / 4)) for k in range(dim // 4)]
    for row in range(side):
        for column in range(side):
            rows.append(
                np.array([wave(place * rate) for place in (column, row) for wave in (np.sin, np.cos) for rate in rates])
            )
    return torch.from_numpy(np.stack(rows)).float()[None]


def authors(size, shape, device="cpu"):
    """Return a checkpoint with the names and shapes of facebookresearch/mae, small random numbers in it."""
    rng = torch.Generator().manual_seed(0)
    side, pixels = shape[1] // size.patch, shape[0] * size.patch**2

    def some(*lengths):
        if device == "meta":
            return torch.empty(lengths, device="meta")
        return 0.3 * torch.randn(lengths, generator=rng)

    found = {
        "cls_token": some(1, 1, size.dim),
        "pos_embed": table(size.dim, side),
        "mask_token": some(1, 1, size.decoder_dim),
        "decoder_pos_embed": table(size.decoder_dim, side),
        "patch_embed.proj.weight": some(size.dim, shape[0], size.patch, size.patch),
        "patch_embed.proj.bias": some(size.dim),
    }
    for prefix, depth, dim in (
        ("blocks", size.depth, size.dim),
        ("decoder_blocks", size.decoder_depth, size.decoder_dim),
    ):
        for number in range(depth):
            here = f"{prefix}.{number}"
            for norm in ("norm1", "norm2"):
                found[f"{here}.{norm}.weight"] = some(dim)
                found[f"{here}.{norm}.bias"] = some(dim)
            for layer, wide, narrow in (
                ("attn.qkv", 3 * dim, dim),
                ("attn.proj", dim, dim),
                ("mlp.fc1", 4 * dim, dim),
                ("mlp.fc2", dim, 4 * dim),
            ):
                found[f"{here}.{layer}.weight"] = some(wide, narrow)
                found[f"{here}.{layer}.bias"] = some(wide)
    for name, wide in (("norm", size.dim), ("decoder_norm", size.decoder_dim)):
        found[f"{name}.weight"] = some(wide)
        found[f"{name}.bias"] = some(wide)
    for name, wide, narrow in (
        ("decoder_embed", size.decoder_dim, size.dim),
        ("decoder_pred", pixels, size.decoder_dim),
    ):
        found[f"{name}.weight"] = some(wide, narrow)
        found[f"{name}.bias"] = some(wide)
    return found


def hugging_face(found):
    """Return the same checkpoint as Hugging Face keeps it."""
    block = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    rest = {
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj.weight": "vit.embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "vit.embeddings.patch_embeddings.projection.bias",
        "norm.weight": "vit.layernorm.weight",
        "norm.bias": "vit.layernorm.bias",
    }
    out = {}
    for name, tensor in found.items():
        if "blocks." not in name:
            out[rest.get(name, f"decoder.{name}")] = tensor
            continue
        stack, number, *inner, kind = name.split(".")
        here = ("decoder.decoder_layers." if stack == "decoder_blocks" else "vit.encoder.layer.") + number
        if inner == ["attn", "qkv"]:
            for word, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                out[f"{here}.attention.attention.{word}.{kind}"] = part.clone()
        else:
            out[f"{here}.{block['.'.join(inner)]}.{kind}"] = tensor
    return out


def forward(found, size, x, order, n_visible):
    """Return what the authors' network predicts (B, N, P) of normalised images, from the definition."""

    def norm(tokens, name):
        return F.layer_norm(tokens, tokens.shape[-1:], found[f"{name}.weight"], found[f"{name}.bias"], 1e-6)

    def linear(tokens, name):
        return tokens @ found[f"{name}.weight"].T + found[f"{name}.bias"]

    def block(tokens, name, heads):
        q, k, v = linear(norm(tokens, f"{name}.norm1"), f"{name}.attn.qkv").chunk(3, -1)
        width = tokens.shape[-1] // heads
        mixed = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            mixed.append((q[..., part] @ k[..., part].mT / math.sqrt(width)).softmax(-1) @ v[..., part])
        tokens = tokens + linear(torch.cat(mixed, -1), f"{name}.attn.proj")
        hidden = linear(norm(tokens, f"{name}.norm2"), f"{name}.mlp.fc1")
        hidden = hidden * 0.5 * (1.0 + torch.erf(hidden / math.sqrt(2.0)))
        return tokens + linear(hidden, f"{name}.mlp.fc2")

    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in IMAGENET)
    kernel, bias = found["patch_embed.proj.weight"], found["patch_embed.proj.bias"]
    grid = F.conv2d((x - mean) / std, kernel, bias, stride=size.patch)
    tokens = grid.flatten(2).mT + found["pos_embed"][:, 1:]
    predictions = []
    for image in range(len(x)):
        kept = order[image, :n_visible].tolist()
        seen = torch.cat([found["cls_token"][0] + found["pos_embed"][0, :1], tokens[image, kept]])[None]
        for number in range(size.depth):
            seen = block(seen, f"blocks.{number}", size.heads)
        seen = linear(norm(seen, "norm"), "decoder_embed")[0]
        places = [seen[0]] + [
            seen[1 + kept.index(place)] if place in kept else found["mask_token"][0, 0]
            for place in range(tokens.shape[1])
        ]
        out = (torch.stack(places) + found["decoder_pos_embed"][0])[None]
        for number in range(size.decoder_depth):
            out = block(out, f"decoder_blocks.{number}", size.decoder_heads)
        predictions.append(linear(norm(out, "decoder_norm"), "decoder_pred")[0, 1:])
    return torch.stack(predictions)


def images():
    rng = torch.Generator().manual_seed(7)
    return torch.rand(2, *SHAPE, generator=rng), torch.rand(2, 9, generator=rng).argsort(1)


def ours(weights, size=TINY):
    net = MAE(size, DataCard(SHAPE, 10, 1, "0" * 64)).eval().requires_grad_(False)
    net.load_state_dict(weights)
    return net


@pytest.mark.parametrize("column", [authors, lambda size, shape: hugging_face(authors(size, shape))])
@pytest.mark.parametrize("targets", ["raw", "normalised"])
def test_a_mapped_checkpoint_predicts_what_the_definition_says(column, targets):
    size = TINY.model_copy(update={"targets": targets})
    x, order = images()
    expected = forward(authors(size, SHAPE), size, x, order, 4)
    if targets == "raw":  # ours are pixels in [0, 1]; theirs are in ImageNet's units, channels innermost
        mean, std = (torch.tensor(values).repeat(16) for values in IMAGENET)
        expected = expected * std + mean
    found = ours(translated(column(size, SHAPE), size, SHAPE, "tiny"), size)(x, order, 0.5)
    assert expected.std() > 0.1
    assert torch.allclose(found.patches, expected, atol=2e-5)


def test_a_wrong_order_of_pixels_would_be_seen():
    x, order = images()
    weights = translated(authors(TINY, SHAPE), TINY, SHAPE, "tiny")
    channels_first = authors(TINY, SHAPE)["patch_embed.proj.weight"].flatten(1)
    wrong = ours(weights | {"embed.weight": channels_first})(x, order, 0.5)
    assert not torch.allclose(wrong.patches, ours(weights)(x, order, 0.5).patches, atol=1e-2)


def test_the_authors_names_and_hugging_faces_give_the_same_weights():
    one = translated(authors(TINY, SHAPE), TINY, SHAPE, "tiny")
    other = translated(hugging_face(authors(TINY, SHAPE)), TINY, SHAPE, "tiny")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_positions_that_are_declared_learned_come_from_the_file():
    size = TINY.model_copy(update={"positions": "learned"})
    found = authors(size, SHAPE)
    x, order = images()
    same = ours(translated(found, size, SHAPE, "tiny"), size)(x, order, 0.5).patches
    fixed = ours(translated(found, TINY, SHAPE, "tiny"))(x, order, 0.5).patches
    assert torch.allclose(same, fixed, atol=1e-5)
    found["pos_embed"] = found["pos_embed"].flip(1)
    assert torch.equal(ours(translated(found, size, SHAPE, "tiny"), size).positions, found["pos_embed"][0])


def published_size(vit):
    """Return the size of the published autoencoders of a ViT."""
    patch, dim, depth, heads = ENCODERS[vit]
    return MAESize(
        use="mae", patch=patch, dim=dim, depth=depth, heads=heads, positions="sincos-columns-first", class_token=True
    ).model_copy(update=DECODER)


@pytest.mark.parametrize(("vit", "million"), [("base", 111.7), ("large", 329.2), ("huge", 656.6)])
@pytest.mark.parametrize("renamed", [False, True])
def test_the_genuine_names_and_shapes_fit(vit, million, renamed):
    """On the meta device: shapes without numbers, but for the positions."""
    size, shape = published_size(vit), (3, 224, 224)
    found = authors(size, shape, "meta")
    assert tuple(found["pos_embed"].shape) == (1, 257 if vit == "huge" else 197, size.dim)
    weights = translated(hugging_face(found) if renamed else found, size, shape, vit)
    with torch.device("meta"):
        net = MAE(size, DataCard(shape, 1000, 1, "0" * 64))
    assert {key: value.shape for key, value in net.state_dict().items()} == {k: v.shape for k, v in weights.items()}
    assert sum(value.numel() for value in weights.values()) / 1e6 == pytest.approx(million, abs=0.05)


# ---------------------------------------------------------------------- files


def test_a_file_of_each_kind_is_read(tmp_path):
    found = authors(TINY, SHAPE)
    torch.save({"model": found, "epoch": 3, "args": argparse.Namespace(lr=0.1)}, tmp_path / "authors.pth")
    torch.save(hugging_face(found), tmp_path / "pytorch_model.bin")
    save_file(hugging_face(found), tmp_path / "model.safetensors")
    first = load(tmp_path / "authors.pth", TINY, SHAPE)
    MAE(TINY, DataCard(SHAPE, 10, 1, "0" * 64)).load_state_dict(first)
    for name in ("pytorch_model.bin", "model.safetensors"):
        again = load(tmp_path / name, TINY, SHAPE)
        assert all(torch.equal(first[key], again[key]) for key in first)


def test_half_precision_is_read_as_float32(tmp_path):
    save_file({name: tensor.half() for name, tensor in authors(TINY, SHAPE).items()}, tmp_path / "half.safetensors")
    assert {tensor.dtype for tensor in load(tmp_path / "half.safetensors", TINY, SHAPE).values()} == {torch.float32}


def test_a_file_of_an_encoder_alone_is_refused_whatever_its_name():
    found = {name: tensor for name, tensor in authors(TINY, SHAPE).items() if not name.startswith(("decoder", "mask"))}
    with pytest.raises(UserError, match=r"without its decoder in got\.pth.* take mae_visualize_vit_base\.pth"):
        translated(found, TINY, SHAPE, "got.pth")
    bare = {name.removeprefix("vit."): tensor for name, tensor in hugging_face(found).items()}
    with pytest.raises(UserError, match="without its decoder"):
        translated(bare, TINY, SHAPE, "got.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask_token": None}, r"got 1 missing \(mask_token\); give the name or the size"),
        ({"head.weight": torch.zeros(2)}, r"got 1 unexpected \(head\.weight\);"),
        ({"decoder_norm.bias": torch.zeros(9)}, r"got 1 of another shape \(decoder_norm\.bias \(9,\) for \(8,\)\);"),
        (
            {"mask_token": None, "cls_token": None, "norm.bias": None, "norm.weight": None, "b": torch.zeros(1)},
            r"got 4 missing \(mask_token, cls_token, norm\.weight, \.\.\.\), 1 unexpected \(b\);",
        ),
    ],
)
def test_other_tensors_are_refused_in_one_sentence(change, said):
    found = {name: tensor for name, tensor in (authors(TINY, SHAPE) | change).items() if tensor is not None}
    with pytest.raises(UserError, match=said) as caught:
        translated(found, TINY, SHAPE, "tiny.pth")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(
        "expected the 62 tensors of a masked autoencoder of width 16 with 2 and 2 blocks in tiny.pth, got "
    )


def test_a_deeper_checkpoint_is_not_read_as_a_shallow_one():
    deep = authors(TINY.model_copy(update={"depth": 3}), SHAPE)
    with pytest.raises(UserError, match=r"got 12 unexpected \(blocks\.2\.norm1\.weight,"):
        translated(deep, TINY, SHAPE, "deep.pth")


@pytest.mark.parametrize("name", ["pos_embed", "decoder_pos_embed"])
def test_other_positions_than_the_fixed_ones_are_refused(name):
    found = authors(TINY, SHAPE)
    found[name] = found[name].clone()
    found[name][0, 0] = 0.5  # the class token's place
    with pytest.raises(UserError, match=f"fixed positions 'sincos-columns-first' in {name} of tiny.pth, got others"):
        translated(found, TINY, SHAPE, "tiny.pth")
    rows = TINY.model_copy(update={"positions": "sincos"})
    with pytest.raises(UserError, match="fixed positions 'sincos' in pos_embed"):
        translated(authors(TINY, SHAPE), rows, SHAPE, "tiny.pth")


#: the authors' base network, but for what a test changes
BASE = {"use": "mae", "patch": 16, "dim": 768, "depth": 12, "heads": 12, "decoder_dim": 512, "decoder_depth": 8} | {
    "decoder_heads": 16,
    "class_token": True,
}


@pytest.mark.parametrize(
    ("file", "settings", "change", "said"),
    [
        ("mae_visualize_vit_base.pth", None, {}, None),
        ("mae_pretrain_vit_base_full.pth", None, {"targets": "normalised"}, None),
        ("mae_pretrain_vit_base_full.pth", None, {}, "targets: normalised, as the name mae_pretrain_vit_base_full.pth"),
        (
            "mae_visualize_vit_base.pth",
            None,
            {"targets": "normalised"},
            "expected a net with targets: raw, as the name",
        ),
        ("vit-mae-base.safetensors", None, {"heads": 8}, "heads: 12, as the name vit-mae-base.safetensors has it, got"),
        ("vit-mae-base.bin", None, {"decoder_heads": 8}, "expected a net with decoder_heads: 16, as the name"),
        (
            "own.pth",
            {"norm_pix_loss": True},
            {},
            "targets: normalised, as the training run kept in own.pth has it, got",
        ),
        ("own.pth", {"norm_pix_loss": False}, {"targets": "normalised"}, "targets: raw, as the training run"),
        ("own.pth", {"norm_pix_loss": True}, {"targets": "normalised"}, None),
        ("own.pth", {"model": "mae_vit_base_patch16"}, {"heads": 6}, "heads: 12, as the training run kept in own.pth"),
        ("own.pth", {"model": "mae_vit_base_patch16", "lr": 0.1}, {}, None),
        ("own.pth", None, {"heads": 16}, "heads: 12, as the published network of these widths and depths has it, got"),
        ("own.pth", None, {"heads": 6, "depth": 6}, None),  # a network that nobody has published
        ("own.pth", None, {}, None),
    ],
)
@pytest.mark.parametrize("kept", [argparse.Namespace, dict])
def test_what_a_file_says_of_heads_and_targets_is_compared(file, settings, change, said, kept):
    size = MAESize.model_validate(BASE | change)
    told = contradiction(size, file, None if settings is None else kept(**settings))
    if said is None:
        assert told is None
    else:
        assert said in told
        assert told.endswith("; correct the net of the recipe")


@pytest.mark.parametrize("normalised", [True, False])
def test_a_checkpoint_with_other_targets_than_the_recipe_says_is_refused(normalised, tmp_path):
    path = tmp_path / "tiny.pth"
    torch.save({"model": authors(TINY, SHAPE), "args": argparse.Namespace(norm_pix_loss=normalised)}, path)
    fitting, other = ("normalised", "raw") if normalised else ("raw", "normalised")
    load(path, TINY.model_copy(update={"targets": fitting}), SHAPE)
    with pytest.raises(
        UserError, match=f"expected a net with targets: {fitting}, as the training run kept in tiny.pth"
    ):
        load(path, TINY.model_copy(update={"targets": other}), SHAPE)


def test_a_recipe_that_contradicts_the_name_of_its_file_is_refused_when_it_is_read():
    objective = {"use": "published", "file": "mae_pretrain_vit_base_full.pth", "sha256": "0" * 64}
    published = Published(Published.Options.model_validate(objective))
    told = published.refuses(networks.MAE(MAESize.model_validate(BASE)))
    assert told.startswith("expected a net with targets: normalised, as the name")
    assert published.refuses(networks.MAE(MAESize.model_validate(BASE | {"targets": "normalised"}))) is None


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the file ran')",))


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x80\x02.", pickle.dumps(Trap()), b"PK\x03\x04" + bytes(40)],
    ids=["empty", "text", "hollow", "trap", "broken archive"],
)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_sentence(content, ending, tmp_path):
    path = tmp_path / f"got.{ending}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"expected tensors and nothing that could run in .*, but it cannot") as caught:
        load(path, TINY, SHAPE)
    assert "\n" not in str(caught.value)


def test_a_pickled_module_is_not_run(tmp_path):
    torch.save({"model": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match="nothing that could run"):
        load(tmp_path / "trap.pth", TINY, SHAPE)


def test_a_missing_file_and_a_file_of_something_else_are_refused(tmp_path):
    with pytest.raises(UserError, match="found none; download it and put it there"):
        load(tmp_path / "none.pth", TINY, SHAPE)
    torch.save({"epoch": 3}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match="expected a table of tensors"):
        load(tmp_path / "odd.pth", TINY, SHAPE)
