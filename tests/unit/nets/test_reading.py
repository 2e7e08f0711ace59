"""Weights are read from bytes without running anything, and whatever is wrong with them is a sentence of ours."""

import argparse
import hashlib
import io
import json
import pickle
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save

from harness.core.errors import UserError
from harness.nets.files import FromFile
from harness.nets.published import load
from harness.nets.published_unets import read_unet
from harness.nets.reading import bare_names, check_names, table, unpack
from harness.nets.sizes import MAESize
from harness.testing.nets import CARD

TENSORS = {"weight": torch.ones(2), "bias": torch.zeros(1)}


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the file ran')",))


def packed(found, **options):
    content = io.BytesIO()
    torch.save(found, content, **options)
    return content.getvalue()


def scripted():
    content = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), content)
    return content.getvalue()


def unknown_kind():
    header = json.dumps({"a": {"dtype": "F4", "shape": [1], "data_offsets": [0, 1]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0"


WHOLE = packed(TENSORS)

#: files that are none, and what is said of each
UNREADABLE = {
    "nothing": (b"", "it is empty"),
    "text": (b"hello", "it is damaged, or has another format"),
    "a page": (b"<!DOCTYPE html><html>not found</html>", "it is damaged, or has another format"),
    "a pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "it is damaged, or has another",
    ),
    "a broken archive": (b"PK\x03\x04" + bytes(40), "it is damaged, or has another format"),
    "half of one": (WHOLE[: len(WHOLE) // 2], "it is damaged, or has another format"),
    "half of safetensors": (save(TENSORS)[:-3], "it is damaged, or has another format"),
    "no header": ((5).to_bytes(8, "little") + b"{abcd", "it is damaged, or has another format"),
    "an unknown kind of number": (unknown_kind(), "it is damaged, or has another format"),
    "a plain pickle": (pickle.dumps(TENSORS), "it is damaged, or has another format"),
    "a trap": (packed({"model": Trap()}), "it asks for exec, which is code that is not run here"),
    "a plain trap": (pickle.dumps(Trap()), "it is damaged, or has another format"),
    "a module": (packed(torch.nn.Linear(1, 1)), "it asks for torch.nn.modules.linear.Linear, which is code"),
    "a script": (scripted(), "it is an archive of TorchScript, which is code"),
}

#: files that can be read, and hold no table of tensors
OTHERWISE = {
    "numbers": packed({"epoch": 3}),
    "a list": packed([torch.ones(1)]),
    "a tensor": packed(torch.ones(1)),
    "numbered": packed({0: torch.ones(1)}),
    "an optimiser": packed({"state": {}, "param_groups": []}),
    "nothing": packed({}),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_one_sentence_and_no_advice_to_run_it(kind):
    content, reason = UNREADABLE[kind]
    with pytest.raises(UserError) as caught:
        unpack(content, "net.pt")
    said = str(caught.value)
    start = "expected tensors and nothing that could run in net.pt, but it cannot be read so ("
    assert said.startswith(start + reason)
    assert said.endswith("take the file as it was published, or save the tensors alone as safetensors")
    assert "weights_only" not in said
    assert "\n" not in said


@pytest.mark.parametrize("kind", OTHERWISE)
def test_what_is_no_table_is_a_sentence(kind):
    with pytest.raises(UserError, match=r"expected a table of tensors in net\.pt, alone or as `model`, got something"):
        table(unpack(OTHERWISE[kind], "net.pt"), "net.pt")


@pytest.mark.parametrize(
    "content",
    [
        packed(TENSORS),
        packed(TENSORS, _use_new_zipfile_serialization=False),
        save(TENSORS),
        packed({"model": TENSORS, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.5), "epoch": np.int64(3)}),
    ],
    ids=["torch", "torch before 1.6", "safetensors", "with a run's options"],
)
def test_tensors_are_read_whatever_lies_beside_them(content):
    found = table(unpack(content, "net.pt"), "net.pt")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


# ---------------------------------------------------------------------- names

TWICE = {"conv1": torch.ones(1), "module.conv1": torch.zeros(1), "bn": torch.ones(1), "module.bn": torch.ones(1)}


def test_the_same_tensor_with_and_without_a_prefix_is_refused():
    with pytest.raises(UserError, match=r"got both conv1 and module\.conv1, and 1 more such pairs; save the tensors"):
        check_names(TWICE, "net.pt")
    check_names({"module.conv1": TENSORS["bias"], "conv2": TENSORS["bias"]}, "net.pt")


def test_a_prefix_is_taken_away_where_all_names_have_it():
    assert list(bare_names({"module.a": TENSORS["bias"], "module.b.c": TENSORS["bias"]})) == ["a", "b.c"]
    mixed = {"module.a": TENSORS["bias"], "b": TENSORS["bias"]}
    assert list(bare_names(mixed)) == list(mixed)


# ---------------------------------------------------------------------- every way that a file goes


def classifier(content, folder):
    (folder / "net.safetensors").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    shown = type(CARD)((3, 32, 32), 10, 1, "0" * 64)
    FromFile(FromFile.Options(net="resnet20", file="net.safetensors", sha256=sha256)).load({}, shown)


def autoencoder(content, folder):
    (folder / "net.pth").write_bytes(content)
    load(folder / "net.pth", MAESize(use="mae"))


def diffusion(content, folder):
    (folder / "net.bin").write_bytes(content)
    read_unet(folder / "net.bin", torch.nn.Linear(1, 1))


@pytest.mark.parametrize("way", [classifier, autoencoder, diffusion])
@pytest.mark.parametrize(
    "content",
    [*(content for content, _ in UNREADABLE.values()), *OTHERWISE.values(), save(TWICE), save({"odd": torch.ones(1)})],
    ids=[*UNREADABLE, *(f"holds {kind}" for kind in OTHERWISE), "twice", "others"],
)
def test_every_kind_of_network_refuses_every_such_file(way, content, tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError) as caught:
        way(content, tmp_path)
    said = str(caught.value)
    assert re.match(r"expected (tensors|a table|each tensor once|weights of|the \d+ tensors) ", said)
    assert "weights_only" not in said
