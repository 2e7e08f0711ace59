"""The AMV oracle: it lowers the variation that it is said to lower, and nobody may attack it."""

import pytest
import torch

from defenses.amv_oracle import AMVOracle
from harness.core.contracts import Setting
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.metrics.probe import Probe, variation
from harness.testing.nets import CARD, tiny_mae

DRAWS = Draws(("oracle",), torch.arange(5))


@pytest.fixture
def clean():
    return 0.1 + 0.8 * DRAWS.at("x").uniform(1, 8, 8)


def attacked(clean):
    return (clean + 0.1 * DRAWS.at("attack").normal(1, 8, 8).sign()).clamp(0.0, 1.0)


def oracle(**options):
    return AMVOracle(AMVOracle.Options(mae="tiny", **options))


@pytest.mark.parametrize("layers", ["last", "all"])
def test_what_it_lowers_is_the_metric_of_the_reports(clean, layers):
    probe = Probe(tiny_mae(), mask_ratio=0.5, masks=1)
    seen = [probe.look(images, DRAWS) for images in (attacked(clean), clean)]
    metric = variation(*seen).mean(2)  # (B, layers), heads averaged
    wanted = metric[:, -1] if layers == "last" else metric.mean(1)
    found = oracle(layers=layers).variation(attacked(clean), clean, {"mae": probe.mae}, DRAWS.at("probe"))
    assert torch.allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("layers", ["last", "all"])
def test_the_variation_falls_and_the_budget_holds(clean, layers):
    x, nets = attacked(clean), {"mae": tiny_mae()}
    defense = oracle(layers=layers, steps=20, step_size=0.02, eps=0.1, halve_step=True, mask_mode="fixed")
    found = defense.purify(x, nets, DRAWS, clean=clean)
    before = defense.variation(x, clean, nets, DRAWS.at("mask", 0))
    after = defense.variation(found, clean, nets, DRAWS.at("mask", 0))
    assert bool((after < 0.7 * before).all())
    assert float((found - x).abs().max()) <= 0.1 + 1e-6
    assert float(found.min()) >= 0.0
    assert float(found.max()) <= 1.0


def test_the_gradient_is_that_of_the_variation_by_finite_differences(clean):
    clean, nets, width = clean.double(), {"mae": tiny_mae().double()}, 1e-6
    defense = oracle(masks=2)
    at = attacked(clean).requires_grad_(True)
    (gradient,) = torch.autograd.grad(defense.variation(at, clean, nets, DRAWS.at("mask")).sum(), at)
    along = DRAWS.at("along").normal(1, 8, 8).double()
    with torch.no_grad():
        ends = [
            defense.variation(attacked(clean) + sign * width * along, clean, nets, DRAWS.at("mask"))
            for sign in (1.0, -1.0)
        ]
    slope = (ends[0] - ends[1]).reshape(5, 2).sum(1) / (2 * width)
    assert torch.allclose((gradient * along).sum((1, 2, 3)), slope, rtol=1e-4)


def test_a_clean_image_stays_as_it_is(clean):
    found = oracle(steps=3).purify(clean, {"mae": tiny_mae()}, DRAWS, clean=clean)
    assert torch.equal(found, clean)


def test_it_has_to_be_shown_the_clean_images(clean):
    with pytest.raises(ValueError, match="expected the clean images beside 5 attacked ones, got none"):
        oracle().purify(clean, {"mae": tiny_mae()}, DRAWS)


def test_whoever_knows_of_it_is_refused():
    for knowledge in Knowledge:
        why = oracle().refuses(Setting(CARD, ThreatModel(Norm.LINF, 0.1, knowledge), oracle().traits))
        assert (why is None) is (knowledge is Knowledge.OBLIVIOUS)
        assert why is None or "use knowledge: oblivious" in why
