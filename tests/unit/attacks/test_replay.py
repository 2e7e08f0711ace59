"""Replay: what a file says is proposed, and what it should not say is a sentence."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from attacks.replay import Replay
from harness.core.contracts import Setting, Traits
from harness.core.errors import UserError
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.data.proposals import Proposals, packed, read_proposals
from harness.draws import Draws
from harness.execution.worker.judge import admit
from harness.testing.nets import CARD

IDS = np.array([7, 3, 40])
LINF = ThreatModel(Norm.LINF, 0.1, Knowledge.FULL)
FLOW = ThreatModel(Norm.FLOW, 0.5, Knowledge.FULL)


def images(n=3, shape=(1, 8, 8)):
    return np.random.default_rng(0).random((n, *shape), np.float32)


def npz(**members):
    content = io.BytesIO()
    np.savez_compressed(content, **members)
    return content.getvalue()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Write a file into the data folder; return the attack that replays it."""
    monkeypatch.setenv("PUREBENCH_DATA", str(tmp_path))

    def put(content, name="outside.npz"):
        (tmp_path / name).write_bytes(content)
        return Replay(Replay.Options(file=name, sha256=hashlib.sha256(content).hexdigest()))

    return put


class Silent:
    """A victim that must not be asked."""

    n_classes, random = 10, False

    def __init__(self):
        self.noted = {}

    def progress(self, fraction): ...

    def note(self, name, values):
        self.noted[name] = values

    def logits(self, x, draws):
        raise AssertionError("asked")


def propose(attack, examples, threat=LINF, dtype=torch.float32):
    x = torch.full((len(examples), 1, 8, 8), 0.5, dtype=dtype)
    victim = Silent()
    y = torch.zeros(len(examples), dtype=torch.int64)
    return x, attack.propose(victim, x, y, threat, Draws(("replay",), torch.tensor(examples))), victim.noted


def why(attack, threat=LINF):
    return attack.refuses(Setting(CARD, threat, Traits(True, False)))


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_examples_are_found_by_their_numbers_in_whatever_order(place, suffix):
    made = images()
    content = npz(ids=IDS, images=made) if suffix == "npz" else save({"ids": IDS, "images": made})
    attack = place(content, f"outside.{suffix}")
    assert why(attack) is None
    _, proposed, noted = propose(attack, [3, 40, 7])
    assert np.array_equal(proposed.numpy(), made[[1, 2, 0]])
    assert noted["absent"].tolist() == [0.0, 0.0, 0.0]


def test_bytes_are_what_a_dataset_makes_of_them(place):
    made = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    _, proposed, _ = propose(place(npz(ids=IDS, images=made)), [7, 3, 40])
    pixels = made.transpose(0, 3, 1, 2).astype(np.float32)
    pixels /= 255.0
    assert np.array_equal(proposed.numpy(), pixels)


def test_an_example_that_the_file_lacks_gets_its_clean_image_and_is_noted(place):
    attack = place(npz(ids=IDS, images=images()))
    x, proposed, noted = propose(attack, [5, 40, 100, 3], dtype=torch.float64)
    assert noted["absent"].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert torch.equal(proposed[[0, 2]], x[[0, 2]])
    assert not torch.equal(proposed[1], x[1])
    assert proposed.dtype == torch.float64


def test_a_file_without_examples_is_one_that_lacks_them_all(place):
    x, proposed, noted = propose(place(npz(ids=IDS[:0], images=images(0))), [1, 2])
    assert torch.equal(proposed, x)
    assert noted["absent"].tolist() == [1.0, 1.0]


def test_what_is_over_budget_is_the_judges_business(place):
    x, proposed, _ = propose(place(npz(ids=IDS, images=np.full((3, 1, 8, 8), 0.65, np.float32))), [7, 3, 9])
    admitted = admit(proposed, x, LINF)
    judged, faults = admitted.images, admitted.faults
    assert faults == ["proposal over budget", "proposal over budget", None]
    assert torch.allclose(judged[:2], x[:2] + 0.1)


def test_flows_are_replayed_under_flows_and_images_under_all_else(place):
    flows = np.random.default_rng(0).normal(size=(3, 2, 8, 8)).astype(np.float32)
    attack = place(npz(ids=IDS, flows=flows))
    assert why(attack, FLOW) is None
    assert why(attack) == "expected images (1, 8, 8) in outside.npz, got flows (2, 8, 8)"
    with pytest.raises(UserError, match="expected images"):
        propose(attack, [40, 8])
    _, proposed, noted = propose(attack, [40, 8], FLOW)
    assert np.array_equal(proposed[0].numpy(), flows[2])
    assert not proposed[1].any()
    assert noted["absent"].tolist() == [0.0, 1.0]
    other = place(npz(ids=IDS, images=images()), "images.npz")
    assert why(other, FLOW) == "expected flows (2, 8, 8) in images.npz, got images (1, 8, 8)"
    assert why(other, ThreatModel(Norm.CORRUPTION, 3.0, Knowledge.FULL)) is None


BAD = {
    "no archive": (b"hello", "got a file that is no npz without pickles"),
    "a pickle": (npz(ids=IDS, images=np.array([{}] * 3)), "got a file that is no npz without pickles"),
    "no ids": (npz(images=images()), "got the members images where ids and images were expected"),
    "no images": (npz(ids=IDS), "got the members ids where ids and images were expected"),
    "both": (npz(ids=IDS, images=images(), flows=images()), "got the members flows, ids, images where"),
    "real ids": (npz(ids=IDS.astype(float), images=images()), "got ids (3,) float64 where a list of integers"),
    "an id twice": (npz(ids=np.array([1, 2, 1]), images=images()), "got the same id more than once"),
    "too few": (npz(ids=IDS, images=images(2)), "got images (2, 1, 8, 8) for 3 ids"),
    "flat": (npz(ids=IDS, images=images()[:, 0]), "got images (3, 8, 8) for 3 ids"),
    "integers": (npz(ids=IDS, images=images().astype(np.int64)), "got images of int64"),
    "too bright": (npz(ids=IDS, images=255 * images()), "got images with pixels outside [0, 1]"),
    "not finite": (npz(ids=IDS, images=images() * np.nan), "got images with pixels outside [0, 1]"),
    "no pairs": (npz(ids=IDS, flows=images()), "got flows (3, 1, 8, 8) that are not all finite pairs"),
    "lost flows": (npz(ids=IDS, flows=images(3, (2, 8, 8)) * np.inf), "that are not all finite pairs of moves"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_not_as_it_should_be_is_a_sentence(place, tmp_path, kind):
    content, sentence = BAD[kind]
    told = why(place(content))
    assert told.startswith(f"expected adversarial examples at {tmp_path / 'outside.npz'}, got ")
    assert sentence in told
    with pytest.raises(UserError) as caught:
        propose(place(content), [1])
    assert str(caught.value) == told


def test_a_safetensors_that_is_none_is_a_sentence(place):
    assert "got a file that is no safetensors" in why(place(b"hello", "outside.safetensors"))


def test_another_file_and_none_are_sentences(place, tmp_path):
    attack = place(npz(ids=IDS, images=images()))
    (tmp_path / "outside.npz").write_bytes(b"something else")
    assert "expected adversarial examples with sha256" in why(attack)
    (tmp_path / "outside.npz").unlink()
    assert f"at {tmp_path / 'outside.npz'}, got No such file or directory; put the file there" in why(attack)


def test_images_of_another_size_do_not_fit(place):
    attack = place(npz(ids=IDS, images=images(3, (3, 8, 8))))
    assert why(attack) == "expected images (1, 8, 8) in outside.npz, got images (3, 8, 8)"


@pytest.mark.parametrize("file", ["../outside.npz", "/etc/outside.npz", "outside.pkl", "a/b.npz", ".npz"])
def test_a_name_is_no_path(file):
    with pytest.raises(ValueError, match="should match pattern"):
        Replay.Options(file=file, sha256="0" * 64)


@pytest.mark.parametrize("flows", [False, True])
def test_what_is_packed_is_what_is_read_and_the_same_bytes_again(place, flows):
    made = Proposals(IDS, images(3, (2, 8, 8)), flows)
    attack = place(packed(made))
    read = read_proposals("outside.npz", attack.options.sha256)
    assert read.ids.tolist() == sorted(IDS)
    assert np.array_equal(read.values, made.values[np.argsort(IDS)])
    assert read.flows is flows
    assert packed(made) == packed(made)
