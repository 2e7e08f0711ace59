"""Published diffusion networks: diffusers' own files against diffusers' own network, and files refused by name."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from pydantic import ValidationError
from safetensors.torch import save_file

from defenses.diffpure import DiffPure
from harness.core.contracts import DataCard, Split
from harness.core.errors import UserError
from harness.core.spec import Spec
from harness.draws import Draws
from harness.nets.published_unets import read_unet
from harness.nets.sizes import DiffusersUNetSize, UNetSize
from harness.nets.unet import bare, build, schedule
from harness.nets.unsupported import refuse_file
from harness.suite.components import training_plan
from harness.training.loop import train
from harness.training.objective_options import PublishedObjective

#: google/ddpm-cifar10-32's config.json, but for the class and the version of the library
GOOGLE = {
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}

TINY = GOOGLE | {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "in_channels": 1,
    "out_channels": 1,
    "sample_size": 8,
}


def card(config):
    return DataCard((config["in_channels"], config["sample_size"], config["sample_size"]), 10, 2, "0" * 64)


def theirs(config):
    """Diffusers' network with numbers that no two of its tensors share, norms and biases included."""
    net = UNet2DModel(**config).eval().requires_grad_(False)
    rng = torch.Generator().manual_seed(5)
    for tensor in net.parameters():
        tensor.copy_(torch.randn(tensor.shape, generator=rng) / max(tensor[0].numel(), 16) ** 0.5)
    return net


def former(weights):
    """Attention under the names that it had in 2022."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    found = {}
    for name, tensor in weights.items():
        for now, then in names.items():
            name = name.replace(f".{now}.", f".{then}.")
        found[name] = tensor
    return found


def imported(folder, file, config, monkeypatch, net=None):
    """Return the network of a recipe of published weights."""
    monkeypatch.setenv("PUREBENCH_WEIGHTS", str(folder))
    sha256 = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    objective = {"use": "published", "file": file, "sha256": sha256}
    net = net or {"use": "diffusers-unet"} | config
    plan = training_plan(Spec.of("recipe", "unet", 1, {"net": net, "objective": objective, "steps": 0}))
    data = card(config)
    images = np.zeros((2, *data.shape), np.float32)
    return train(plan, data, Split(images, np.array([0, 1]), np.arange(2)), lambda share: None).net


def states(config):
    return Draws(("states",), torch.arange(2)).normal(*card(config).shape), torch.tensor([0, 731])


@pytest.fixture(scope="module")
def google(tmp_path_factory):
    """A network of the published configuration, saved by diffusers in both formats; its folder and what it predicts."""
    folder = tmp_path_factory.mktemp("google")
    net = theirs(GOOGLE)
    assert sum(tensor.numel() for tensor in net.parameters()) == 35_746_307
    for safe in (True, False):
        net.save_pretrained(folder, safe_serialization=safe)
    again = UNet2DModel.from_pretrained(folder)
    with torch.no_grad():
        return folder, again(*states(GOOGLE)).sample


@pytest.mark.parametrize("file", ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"])
def test_the_published_configuration_predicts_what_diffusers_does_bit_for_bit(google, file, monkeypatch):
    folder, wanted = google
    net = imported(folder, file, GOOGLE, monkeypatch)
    assert not net.training
    found = net(*states(GOOGLE))
    assert float(wanted.std()) > 0.1
    assert torch.equal(found, wanted)


def test_the_defaults_are_the_published_configuration():
    assert DiffusersUNetSize(use="diffusers-unet") == DiffusersUNetSize.model_validate(
        {"use": "diffusers-unet"} | GOOGLE
    )


@pytest.mark.parametrize("ending", ["bin", "safetensors"])
def test_attention_under_its_former_names_is_the_same(tmp_path, monkeypatch, ending):
    net = theirs(TINY)
    weights = former(net.state_dict())
    assert sum("proj_attn" in name for name in weights) == 8
    file = f"former.{ending}"
    if ending == "bin":
        torch.save(weights, tmp_path / file)
    else:
        save_file(weights, tmp_path / file)
    found = imported(tmp_path, file, TINY, monkeypatch)
    assert torch.equal(found(*states(TINY)), net(*states(TINY)).sample)


@pytest.mark.parametrize(
    "change",
    [
        {"flip_sin_to_cos": True},
        {"freq_shift": 0},
        {"downsample_padding": 1},
        {"norm_eps": 1e-2},
        {"norm_num_groups": 2},
        {"attn_norm_num_groups": 2},
        {"attention_head_dim": 4},
        {"mid_block_scale_factor": 2},
    ],
)
def test_every_key_that_the_weights_do_not_show_reaches_the_network(change):
    """The same weights under another key predict something else, and what diffusers predicts under it."""
    config, net = TINY | change, theirs(TINY)
    ours = build(DiffusersUNetSize.model_validate({"use": "diffusers-unet"} | config), card(config)).eval()
    bare(ours).load_state_dict(net.state_dict())
    other = UNet2DModel(**config).eval()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        found = ours(*states(TINY))
        assert torch.equal(found, other(*states(TINY)).sample)
    assert not torch.allclose(found, net(*states(TINY)).sample, atol=1e-4)


def test_a_level_between_two_steps_is_taken_as_it_is():
    net = theirs(TINY)
    x, _ = states(TINY)
    found = [net(x, torch.tensor([step, step])).sample for step in (10.0, 10.4, 11.0)]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])
    assert torch.equal(found[0], net(x, torch.tensor([10, 10])).sample)


def test_the_schedule_is_the_published_one():
    """google/ddpm-cifar10-32's scheduler_config.json: linear, 0.0001 to 0.02, 1,000 steps."""
    told = DDPMScheduler(num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    assert torch.equal(schedule().betas, told.betas)
    assert np.allclose(schedule().betas.numpy(), np.linspace(1e-4, 2e-2, 1000), atol=1e-9)


@pytest.mark.parametrize("sampler", ["ddpm", "sde"])
def test_a_published_network_purifies(tmp_path, monkeypatch, sampler):
    """The same images as diffusers' own network behind the same defense."""
    net = theirs(TINY)
    net.save_pretrained(tmp_path)
    ours = imported(tmp_path, "diffusion_pytorch_model.safetensors", TINY, monkeypatch)

    class Plain(torch.nn.Module):
        def forward(self, state, level):
            return net(state, level).sample

    draws = Draws(("purify",), torch.arange(2))
    x = draws.at("x").uniform(1, 8, 8)
    defense = DiffPure(DiffPure.Options(unet="published", t_star=20, steps=4, sampler=sampler))
    found = defense.purify(x, {"unet": ours}, draws)
    assert torch.equal(found, defense.purify(x, {"unet": Plain()}, draws))
    assert 0.0 <= float(found.min()) <= float(found.max()) <= 1.0
    assert float((found - x).abs().mean()) > 0.01


def test_weights_of_our_own_kind_of_network_are_read_too(tmp_path, monkeypatch):
    size = {"use": "unet", "channels": [8, 16], "layers": 1, "groups": 4}
    net = build(UNetSize.model_validate(size), card(TINY)).eval().requires_grad_(False)
    bare(net).save_pretrained(tmp_path)
    found = imported(tmp_path, "diffusion_pytorch_model.safetensors", TINY, monkeypatch, size)
    assert torch.equal(found(*states(TINY)), net(*states(TINY)))


# ---------------------------------------------------------------------- files of other networks


def test_a_file_of_another_network_is_refused_by_its_first_tensor(tmp_path):
    net = UNet2DModel(**TINY)
    wide = UNet2DModel(**TINY | {"block_out_channels": [8, 32]})
    save_file(wide.state_dict(), tmp_path / "wide.safetensors")
    with pytest.raises(UserError) as caught:
        read_unet(tmp_path / "wide.safetensors", net)
    first = "down_blocks.1.attentions.0.group_norm.weight"
    assert str(caught.value) == (
        f"expected the {len(net.state_dict())} tensors of the U-Net that the net describes in wide.safetensors, got "
        f"others: the first that differs is {first}, of shape (32,) in place of (16,); write the net as the "
        "config.json of the file does"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conv_in.weight": None, "conv_in.bias": None}, r"conv_in\.weight, which is missing;"),
        ({"conv_out.bias": torch.zeros(6)}, r"conv_out\.bias, of shape \(6,\) in place of \(1,\);"),
        ({"class_embedding.weight": torch.zeros(10, 32)}, r"class_embedding\.weight, which such a network has not;"),
        (
            {"mid_block.attentions.0.query.weight": torch.zeros(16, 16)},
            r"mid_block\.attentions\.0\.query\.weight, which such a network has not;",
        ),
    ],
)
def test_one_tensor_too_few_or_too_many_is_named(tmp_path, change, said):
    net = UNet2DModel(**TINY)
    weights = {name: tensor for name, tensor in (net.state_dict() | change).items() if tensor is not None}
    torch.save(weights, tmp_path / "odd.bin")
    with pytest.raises(UserError, match=said):
        read_unet(tmp_path / "odd.bin", net)


def test_weights_of_half_precision_are_read_as_float32(tmp_path):
    net = UNet2DModel(**TINY)
    save_file({name: tensor.half() for name, tensor in net.state_dict().items()}, tmp_path / "half.safetensors")
    assert {tensor.dtype for tensor in read_unet(tmp_path / "half.safetensors", net).values()} == {torch.float32}


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the file ran')",))


def test_a_file_that_would_run_code_does_not(tmp_path):
    torch.save({"conv_in.weight": Trap()}, tmp_path / "trap.bin")
    with pytest.raises(UserError, match="expected tensors and nothing that could run"):
        read_unet(tmp_path / "trap.bin", UNet2DModel(**TINY))


def test_the_hash_is_looked_at_first(tmp_path, monkeypatch):
    monkeypatch.setenv("PUREBENCH_WEIGHTS", str(tmp_path))
    (tmp_path / "net.bin").write_bytes(b"something else")
    objective = {"use": "published", "file": "net.bin", "sha256": "0" * 64}
    told = {"net": {"use": "diffusers-unet"} | TINY, "objective": objective, "steps": 0}
    plan = training_plan(Spec.of("recipe", "diffusers-unet", 1, told))
    split = Split(np.zeros((2, 1, 8, 8), np.float32), np.array([0, 1]), np.arange(2))
    with pytest.raises(UserError, match="expected weights with sha256 000000000000, got"):
        train(plan, card(TINY), split, lambda share: None)


# ---------------------------------------------------------------------- what is refused before anything is read


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("checkpoint_8.pth", r"the score network of Song et al\. 2021 .*take google/ddpm-cifar10-32"),
        ("32x32_ckpt_8_diffusion.pth", r"the score network of Song et al\. 2021"),
        ("score_sde_model.pth", r"the score network of Song et al\. 2021"),
        ("256x256_diffusion_uncond.pt", "guided-diffusion's network for ImageNet .*a variance beside the noise"),
        ("guided_model.pth", "guided-diffusion's network for ImageNet"),
        ("edm-cifar10-32x32-uncond-vp.pkl", "EDM's denoiser .*a pickle that brings code with it"),
        ("hao_ddpm.pth", r"a port of Ho et al\.'s network .*take google/ddpm-cifar10-32"),
        ("ema_cifar10", r"a port of Ho et al\.'s network"),
        ("ema_cifar10.ckpt", r"a port of Ho et al\.'s network"),
        ("cifar10_uncond_50M_500K.pt", r"improved-diffusion's network .*4,000 steps of a cosine schedule"),
    ],
)
def test_a_known_file_without_an_adapter_is_refused_where_the_recipe_is_read(file, said):
    objective = {"use": "published", "file": file, "sha256": "0" * 64}
    with pytest.raises(ValidationError, match=said) as caught:
        PublishedObjective.model_validate(objective)
    (error,) = caught.value.errors()
    assert error["loc"] == ("file",)
    assert f"expected weights that there is an adapter for, got {file}: " in error["msg"]


@pytest.mark.parametrize("file", ["diffusion_pytorch_model.bin", "ddpm-cifar10-32.safetensors", "checkpoint_9.pth"])
def test_other_names_are_not_refused(file):
    assert refuse_file(file) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"down_block_types": ["DownBlock2D"]}, "expected as many down_block_types as block_out_channels, got 1 for 4"),
        ({"up_block_types": ["UpBlock2D"] * 5}, "expected as many up_block_types as block_out_channels, got 5 for 4"),
        ({"out_channels": 6}, "expected as many out_channels as in_channels, got 6 for 3; a network that learns"),
        ({"norm_num_groups": 48}, "expected norm_num_groups that divides all block_out_channels, got 48 for 128"),
        ({"attention_head_dim": 3}, "expected attention_head_dim that divides all block_out_channels, got 3 for 128"),
        ({"center_input_sample": True}, "Input should be False"),
        ({"time_embedding_type": "fourier"}, "Input should be 'positional'"),
        ({"down_block_types": ["SkipDownBlock2D"] * 4}, "'DownBlock2D' or 'AttnDownBlock2D'"),
    ],
)
def test_a_configuration_that_is_not_ours_is_refused(change, said):
    with pytest.raises(ValidationError, match=said):
        DiffusersUNetSize.model_validate({"use": "diffusers-unet"} | GOOGLE | change)


def test_images_of_another_shape_are_refused():
    size = DiffusersUNetSize.model_validate({"use": "diffusers-unet"} | TINY)
    with pytest.raises(UserError, match=r"expected images \(1, 8, 8\) for a net of in_channels 1 and sample_size 8"):
        build(size, card(GOOGLE))
