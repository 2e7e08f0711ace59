"""SOAP against its definition: the radius of the smallest auxiliary loss, example by example."""

import pytest
import torch
from pydantic import ValidationError

from defenses.soap import SOAP
from harness.core.contracts import Setting
from harness.core.errors import UserError
from harness.core.threat import Knowledge, Norm, Smoothing, ThreatModel
from harness.draws import Draws
from harness.replay import stored_graph
from harness.testing.nets import CARD, tiny_cnn, tiny_mae

DRAWS = Draws(("soap",), torch.arange(6))
WAYS = [
    ({"auxiliary": "reconstruction"}, tiny_mae),
    ({"auxiliary": "reconstruction", "mask_ratio": 0.5}, tiny_mae),
    ({"auxiliary": "consistency"}, tiny_cnn),
    ({"auxiliary": "consistency", "flip": True, "crop": 0.5}, tiny_cnn),
]
SMOOTHINGS = [Smoothing("tanh", 0.3), Smoothing("tanh", 2.0), Smoothing("normalised")]


@pytest.fixture
def x():
    return 0.1 + 0.8 * DRAWS.at("x").uniform(1, 8, 8)


def soap(**options):
    return SOAP(SOAP.Options(net="tiny", **({"steps": 3, "radii": 4} | options)))


@pytest.mark.parametrize(("options", "net"), WAYS)
def test_of_all_radii_the_one_of_smallest_loss_is_kept(x, options, net):
    nets = {"net": net()}
    best = soap(**options, eps=0.2).purify(x, nets, DRAWS)
    least = soap(**options).loss(best, nets, DRAWS)
    assert float((best - x).abs().max()) <= 0.2 + 1e-6
    tried = [x] + [soap(**options, eps=0.2 * part / 4, radii=1).purify(x, nets, DRAWS) for part in (1, 2, 3, 4)]
    losses = torch.stack([soap(**options).loss(one, nets, DRAWS) for one in tried])
    assert torch.allclose(least, losses.min(0).values, rtol=1e-5)
    assert bool((least < losses[0]).all())


def test_where_nothing_lowers_the_loss_the_image_stays():
    x = torch.full((6, 1, 8, 8), 0.5)  # the enlarged centre of a flat image is that image: the loss is zero already
    found = soap(auxiliary="consistency").purify(x, {"net": tiny_cnn()}, DRAWS)
    assert torch.equal(found, x)


@pytest.mark.parametrize(("options", "net"), WAYS)
def test_a_step_goes_down_the_gradient_by_finite_differences(x, options, net):
    nets, x, width = {"net": net().double()}, x.double(), 1e-7
    defense = soap(**options)
    at = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(defense.loss(at, nets, DRAWS).sum(), at)
    along = DRAWS.at("along").normal(1, 8, 8).double()
    ends = [defense.loss(x + sign * width * along, nets, DRAWS) for sign in (1.0, -1.0)]
    assert torch.allclose((gradient * along).sum((1, 2, 3)), (ends[0] - ends[1]) / (2 * width), rtol=1e-4, atol=1e-8)


def test_a_net_of_the_other_kind_is_told_in_a_sentence(x):
    with pytest.raises(UserError, match="expected a masked autoencoder as auxiliary network, got CNN; name"):
        soap().purify(x, {"net": tiny_cnn()}, DRAWS)
    with pytest.raises(UserError, match="expected a classifier as auxiliary network, got a masked autoencoder; name"):
        soap(auxiliary="consistency").purify(x, {"net": tiny_mae()}, DRAWS)


def test_soap_refuses_the_exact_gradient_alone():
    for knowledge in Knowledge:
        why = soap().refuses(Setting(CARD, ThreatModel(Norm.LINF, 0.1, knowledge), soap().traits)) or ""
        assert why.startswith("soap moves by sign(gradient)") is (knowledge is Knowledge.FULL)


# ---------------------------------------------------------------------- what an attacker differentiates


def gradient_of(purify, x, cotangent):
    at = x.clone().requires_grad_(True)
    (found,) = torch.autograd.grad((purify(at) * cotangent).sum(), at)
    return found


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize(("options", "net"), WAYS)
def test_a_smoothed_one_purifies_bit_for_bit_alike(x, options, net, smoothing):
    nets, hard = {"net": net()}, soap(**options)
    wanted = hard.purify(x, nets, DRAWS)
    soft = hard.smoothed(smoothing)
    assert torch.equal(soft.purify(x, nets, DRAWS), wanted)
    at = x.clone().requires_grad_(True)
    with_graph = soft.purify(at, nets, DRAWS)
    assert with_graph.requires_grad
    assert torch.equal(with_graph, wanted)
    assert not hard.purify(at, nets, DRAWS).requires_grad


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize(("options", "net"), WAYS)
def test_the_gradient_is_that_of_the_descent_whose_result_is_kept(x, options, net, smoothing):
    """Image by image, the smooth gradient of the one radius that was best, and the identity where none was."""
    nets, x, cotangent = {"net": net().double()}, x.double(), DRAWS.at("up").normal(1, 8, 8).double()
    x[0] = 0.5  # of a flat image the enlarged centre is the image: consistency lowers nothing there
    defense = soap(**options, eps=0.2)
    found = gradient_of(lambda at: defense.smoothed(smoothing).purify(at, nets, DRAWS), x, cotangent)

    least, wanted, kept = defense.loss(x, nets, DRAWS).detach(), cotangent.clone(), torch.zeros(6, dtype=torch.long)
    for part in (1, 2, 3, 4):
        one = soap(**options, eps=0.2 * part / 4, radii=1)
        loss = one.loss(one.purify(x, nets, DRAWS), nets, DRAWS).detach()
        slope = gradient_of(lambda at, one=one: one.smoothed(smoothing).purify(at, nets, DRAWS), x, cotangent)
        better = loss < least
        least = torch.where(better, loss, least)
        wanted = torch.where(better.reshape(-1, 1, 1, 1), slope, wanted)
        kept = torch.where(better, part, kept)
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert bool((kept[1:] > 0).all())
    assert bool(((found - cotangent)[1:].flatten(1).norm(dim=1) > 1e-3).all())
    if options["auxiliary"] == "consistency":
        assert int(kept[0]) == 0
        assert torch.equal(found[0], cotangent[0])


def test_the_replayed_gradient_is_that_of_the_stored_graph(x):
    nets, x, cotangent = {"net": tiny_mae().double()}, x.double(), DRAWS.at("up").normal(1, 8, 8).double()
    soft = soap(eps=0.5).smoothed(Smoothing())
    with stored_graph():
        wanted = gradient_of(lambda at: soft.purify(at, nets, DRAWS), x, cotangent)
    found = gradient_of(lambda at: soft.purify(at, nets, DRAWS), x, cotangent)
    assert float((found - wanted).norm()) < 1e-6 * float(wanted.norm())


@pytest.mark.parametrize("options", [{"radii": 0}, {"steps": 0}, {"auxiliary": "rotation"}, {"crop": 0}, {"eps": 0}])
def test_soap_checks_its_options(options):
    with pytest.raises(ValidationError):
        soap(**options)
