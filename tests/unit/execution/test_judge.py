"""The judge: success is decided here, whatever an attack proposes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from measured import metric
from measured import row as measured_row
from torch import nn

from harness import bounds
from harness.core.contracts import Traits
from harness.core.errors import UserError
from harness.core.registry import find
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.execution.worker.cost import Meter
from harness.execution.worker.judge import Batch, Judge, admit
from harness.execution.worker.measure import LoadedMetric, MetricCollector
from harness.metrics.probe import Probe
from harness.testing.nets import tiny_mae

EPS = 0.1
LINF = ThreatModel(Norm.LINF, EPS, Knowledge.OBLIVIOUS)
L2 = ThreatModel(Norm.L2, EPS, Knowledge.OBLIVIOUS)
IDS = torch.tensor([40, 41, 42, 43])


class Bright(nn.Module):
    """Class 1 if the mean pixel is above one half, else class 0; not a number on an image of ones."""

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        logits = torch.stack([0.5 - mean, mean - 0.5], 1)
        return torch.where((mean == 1.0)[:, None], torch.nan, logits)


class Same:
    traits = Traits(random=False, differentiable=True)

    def purify(self, x, nets, draws):
        return x.clone()


class Shuffle:
    """Replaces each image by a dark or a bright one, by lot."""

    traits = Traits(random=True, differentiable=True)

    def purify(self, x, nets, draws):
        return (0.25 + 0.5 * (draws.uniform(1, 1, 1) < 0.5)).expand_as(x)


class Restore:
    """Gives the clean image back, which only the judge can show it."""

    traits = Traits(random=False, differentiable=False, oracle=True)

    def purify(self, x, nets, draws, clean=None):
        return clean.clone()


def batch(level=0.45):
    x = torch.full((4, 1, 8, 8), level)
    return Batch(x, torch.zeros(4, dtype=torch.int64), IDS, torch.arange(4))


def judge(proposed, threat=LINF, *, defense=None, metrics=(), repeats=1, clean=None, probe=None, classifier=None):
    """Return an outcome with its metrics per example and repeat."""
    clean = clean or batch()
    judging = Judge(classifier or Bright(), defense or Same(), {}, Meter())
    draws = Draws(("judge",), clean.ids)
    told = []
    asked = [metric(use) for use in metrics]
    taken = [
        LoadedMetric(one.spec, find("metric", one.spec.use).load()(), probe if one.probed else None, {}, {})
        for one in asked
    ]
    collector = MetricCollector(taken, 0, len(clean), range(repeats))
    admitted = admit(proposed, clean.x, threat)
    take = collector.of_examples(clean, admitted.images, draws.at("masks"))

    def watch(repeat, purified, logits):
        take(repeat, lambda: (purified, logits))

    rows, cost = judging.outcomes(clean, admitted, threat, range(repeats), draws.at("evaluate"), watch, told.append)
    assert told == [(done + 1) / repeats for done in range(repeats)]
    assert cost.images == len(clean.x) * repeats
    numbers = {}
    for one in collector.measurements():
        kind = "<f4" if one.shape else "<f8"
        grid = np.frombuffer(one.values, kind).reshape(len(one.names), len(clean), repeats, *one.shape)
        numbers |= dict(zip(one.names, grid, strict=True))
    return [
        measured_row(**vars(one), **{name: grid[one.place, one.repeat] for name, grid in numbers.items()})
        for one in rows
    ]


def judged(proposed, x, threat):
    """Return the images that are judged, and what was wrong with each proposal."""
    admitted = admit(proposed, x, threat)
    return admitted.images, admitted.faults


def test_rows_name_their_examples_and_success_is_judged_here():
    proposed = batch().x.clone()
    proposed[1] += EPS
    rows = judge(proposed)
    assert [row.example for row in rows] == IDS.tolist()
    assert [row.place for row in rows] == [0, 1, 2, 3]
    assert [row.prediction for row in rows] == [0, 1, 0, 0]
    assert [row.correct for row in rows] == [True, False, True, True]
    assert all(row.fault is None and row.label == 0 for row in rows)


def test_clean_input_has_neither_perturbation_nor_faults():
    rows = judge(None, None, metrics=["distances"])
    assert all(row.correct and row.fault is None and row.linf == row.l2 == 0.0 for row in rows)


def test_broken_proposals_are_faults_and_are_repaired():
    x = batch(0.95).x
    proposed = x.clone()
    proposed[0, 0, 0, 0] = math.nan
    proposed[1, 0, 0, 0] = math.inf
    proposed[2] = 1.02
    proposed[3] = 0.0
    found, faults = judged(proposed, x, LINF)
    assert faults == ["proposal not finite", "proposal not finite", "proposal out of range", "proposal over budget"]
    assert torch.equal(found[:2], x[:2])
    assert torch.equal(found[2], torch.ones_like(x[2]))
    assert torch.allclose(found[3], x[3] - EPS)


@pytest.mark.parametrize("threat", [LINF, L2])
def test_a_proposal_over_budget_is_judged_at_the_budget(threat):
    clean = batch()
    proposed = clean.x + 2.0 * EPS * bounds.steepest(torch.ones_like(clean.x), threat.norm)
    rows = judge(proposed, threat, metrics=["distances"])
    size = "linf" if threat.norm is Norm.LINF else "l2"
    for row in rows:
        assert row.fault == "proposal over budget"
        assert getattr(row, size) == pytest.approx(EPS, rel=1e-4)


def test_a_cheat_does_not_pay():
    clean = batch(0.3)  # within the budget it stays dark
    rows = judge(torch.full_like(clean.x, 0.9), clean=clean)
    assert all(row.correct and row.fault == "proposal over budget" for row in rows)


@pytest.mark.parametrize("threat", [LINF, L2])
def test_a_proposal_within_the_budget_is_left_as_it_is(threat):
    x = batch().x
    proposed = bounds.random_point(x, EPS, threat.norm, Draws(("point",), IDS))
    edge = bounds.project(x + 1.0, x, EPS, threat.norm)  # on the boundary, up to rounding
    for point in (proposed, edge):
        found, faults = judged(point, x, threat)
        assert faults == [None] * 4
        assert torch.equal(found, point)


def test_a_double_proposal_is_judged_in_the_images_own_precision():
    found, faults = judged(batch().x.double(), batch().x, LINF)
    assert found.dtype == torch.float32
    assert faults == [None] * 4


def test_logits_that_are_not_finite_are_wrong_and_a_fault():
    clean = batch(0.95)
    proposed = clean.x.clone()
    proposed[2] = 1.0
    rows = judge(proposed, clean=clean)
    assert rows[2].prediction == -1
    assert not rows[2].correct
    assert rows[2].fault == "logits not finite"
    assert [row.prediction for row in rows if row.fault is None] == [1, 1, 1]


class Holed:
    """Loses a pixel of the images that are bright."""

    def __init__(self, votes=1):
        self.traits = Traits(random=votes > 1, differentiable=True, votes=votes)

    def purify(self, x, nets, draws):
        lost = (x.amax((1, 2, 3), keepdim=True) > 0.9) & (draws.at("lot").uniform(1, 1, 1) < 0.7)
        return torch.where(lost & (torch.arange(8) == 0), torch.nan, x)


class Forgiving(nn.Module):
    """Takes what is not a number for white, and so makes a class of everything."""

    def forward(self, x):
        return Bright()(x.nan_to_num(1.0).clamp(0.0, 0.94))


def test_a_purified_image_that_is_not_finite_is_wrong_whatever_the_classifier_makes_of_it():
    clean = batch(0.95)
    clean = replace(clean, y=torch.ones(4, dtype=torch.int64))
    rows = judge(None, None, defense=Holed(), clean=clean, classifier=Forgiving(), repeats=8)
    lost = [row for row in rows if row.fault == "purified image not finite"]
    assert 0 < len(lost) < len(rows)
    assert all(row.prediction == -1 and not row.correct for row in lost)
    assert all(row.prediction == 1 and row.correct and row.fault is None for row in rows if row not in lost)


def test_neither_is_it_outvoted():
    clean = replace(batch(0.95), y=torch.ones(4, dtype=torch.int64))
    rows = judge(None, None, defense=Holed(votes=9), clean=clean, classifier=Forgiving(), repeats=4)
    # that nine lots of 0.7 all miss has a probability of 2e-5
    assert all(row.prediction == -1 and row.fault.endswith("not finite") for row in rows)


def test_a_broken_proposal_that_breaks_the_classifier_is_the_classifiers_fault():
    rows = judge(torch.full((4, 1, 8, 8), 2.0), clean=batch(1.0))
    assert [row.fault for row in rows] == ["logits not finite"] * 4


def test_purified_images_of_another_shape_are_a_sentence():
    class Cropped(Holed):
        def purify(self, x, nets, draws):
            return x[..., 1:]

    with pytest.raises(
        UserError, match=r"defense Cropped: expected purified images \(4, 1, 8, 8\) .*, got \(4, 1, 8, 7\)"
    ):
        judge(None, None, defense=Cropped())


def test_a_random_defense_draws_afresh_in_every_repeat():
    rows = judge(None, None, defense=Shuffle(), repeats=16)
    assert [row.repeat for row in rows] == [repeat for repeat in range(16) for _ in range(4)]
    for example in IDS.tolist():
        assert {row.prediction for row in rows if row.example == example} == {0, 1}
    assert judge(None, None, defense=Shuffle(), repeats=16) == rows


def test_an_oracle_is_shown_the_clean_images_and_nobody_else_is():
    proposed = batch().x + EPS
    assert [one.prediction for one in judge(proposed)] == [1] * 4
    assert [one.prediction for one in judge(proposed, defense=Restore())] == [0] * 4


def test_a_repeat_is_the_same_in_whatever_range_it_is_asked_for():
    draws = Draws(("judge",), IDS)
    judging = Judge(Bright(), Shuffle(), {}, Meter())

    def ask(repeats):
        clean = admit(None, batch().x, None)
        rows, _ = judging.outcomes(batch(), clean, None, repeats, draws, lambda *told: None, lambda share: None)
        return rows

    assert ask(range(6)) == ask(range(2)) + ask(range(2, 6))


def test_a_repeat_is_purified_for_metrics_as_it_was_judged():
    judging, draws, seen = Judge(Bright(), Shuffle(), {}, Meter()), Draws(("judge",), IDS), {}
    admitted = admit(batch().x + EPS, batch().x, LINF)

    def watch(repeat, purified, logits):
        seen[repeat] = purified, logits

    judging.outcomes(batch(), admitted, LINF, range(3), draws, watch, lambda share: None)
    for repeat in (2, 0, 1):
        again = judging.defended(batch(), admitted, LINF, repeat, draws)
        assert all(map(torch.equal, again, seen[repeat]))
    assert not torch.equal(seen[0][0], seen[1][0])


def test_what_is_not_asked_for_is_not_measured():
    probe = Probe(tiny_mae(), mask_ratio=0.5, masks=1)
    proposed = batch().x + EPS
    losses = {f"reconstruction_{image}" for image in ("clean", "adversarial", "purified")}
    amv = {f"amv_{image}_{which}" for image in ("adversarial", "purified") for which in ("last", "mean")}
    asked = {
        (): set(),
        ("distances",): {"linf", "l2"},
        ("reconstruction",): losses,
        ("amv",): amv,
        ("distances", "reconstruction", "amv"): {"linf", "l2", *losses, *amv},
    }
    for metrics, names in asked.items():
        for one in judge(proposed, metrics=metrics, probe=probe):
            assert set(dict(one.metrics)) == names


def test_the_judge_measures_what_it_says():
    probe = Probe(tiny_mae(), mask_ratio=0.5, masks=1)
    clean = batch()
    metrics = ["distances", "reconstruction", "amv"]
    for one in judge(clean.x + EPS, metrics=metrics, probe=probe):
        assert one.linf == pytest.approx(EPS, rel=1e-4)
        assert one.l2 == pytest.approx(8 * EPS, rel=1e-4)
        assert one.reconstruction_purified == one.reconstruction_adversarial != one.reconstruction_clean
        assert one.amv_purified_last == one.amv_adversarial_last > 0.0
    for one in judge(None, None, metrics=metrics, probe=probe):
        assert one.amv_adversarial_mean == one.amv_purified_mean == 0.0


def test_every_layer_and_head_is_kept_where_asked_for():
    probe = Probe(tiny_mae(), mask_ratio=0.5, masks=2)
    for one in judge(batch().x + EPS, metrics=["amv", "amv-by-head"], probe=probe):
        layers, heads = len(probe.mae.decoder), probe.mae.decoder[0].attn.num_heads
        values = one.amv_by_head
        per_layer = values[0, 0].mean(1)
        assert per_layer[-1] == pytest.approx(one.amv_adversarial_last, rel=1e-5)
        assert per_layer.mean() == pytest.approx(one.amv_adversarial_mean, rel=1e-5)
        assert (values[:, 1] <= values[:, 0] * (1 + 1e-6)).all()
        assert values.shape == (2, 2, layers, heads)


# ---------------------------------------------------------------------- threat models that are no norm of pixels

FLOW = ThreatModel(Norm.FLOW, 0.5, Knowledge.OBLIVIOUS)
CORRUPTION = ThreatModel(Norm.CORRUPTION, 3.0, Knowledge.OBLIVIOUS)


def ramp():
    """Images that grow brighter to the right, by a tenth a pixel."""
    x = (0.1 * torch.arange(8.0)).expand(4, 1, 8, 8).clone()
    return Batch(x, torch.zeros(4, dtype=torch.int64), IDS, torch.arange(4))


def to_the_right(pixels):
    flow = torch.zeros(4, 2, 8, 8)
    flow[:, 1] = pixels
    return flow


def test_a_flow_is_rendered_by_the_judge():
    x = ramp().x
    found, faults = judged(to_the_right(0.25), x, FLOW)
    assert faults == [None] * 4
    assert torch.allclose(found[..., :-1], x[..., :-1] + 0.025)
    assert torch.equal(admit(to_the_right(0.0), x, FLOW).images, x)


def test_the_distances_of_a_flow_are_those_of_the_image_that_it_makes():
    for one in judge(to_the_right(0.5), FLOW, metrics=["distances"], clean=ramp()):
        assert one.linf == pytest.approx(0.05, rel=1e-4)
        assert one.l2 == pytest.approx(0.05 * 8, rel=1e-4)  # the last column is moved into its mirror image


def test_broken_flows_are_faults_and_are_repaired():
    x = ramp().x
    proposed = to_the_right(0.25)
    proposed[0, 0, 0, 0], proposed[1, 1, 0, 0] = math.nan, -math.inf
    proposed[2, 1] = 3.0
    found, faults = judged(proposed, x, FLOW)
    assert faults == ["proposal not finite", "proposal not finite", "proposal over budget", None]
    assert torch.equal(found[:2], x[:2])
    assert torch.equal(found[2], bounds.warp(x, to_the_right(0.5))[2])
    assert torch.equal(found[3], bounds.warp(x, to_the_right(0.25))[3])


def test_images_are_no_flows():
    with pytest.raises(ValueError, match=r"expected proposals of shape \(4, 2, 8, 8\), got \(4, 1, 8, 8\)"):
        admit(ramp().x, ramp().x, FLOW)


def test_a_corruption_is_checked_for_range_and_finiteness_alone():
    x = batch(0.2).x
    proposed = torch.ones_like(x)
    proposed[1, 0, 0, 0], proposed[2, 0, 0, 0] = math.nan, 1.5
    found, faults = judged(proposed, x, CORRUPTION)
    assert faults == [None, "proposal not finite", "proposal out of range", None]
    assert torch.equal(found[1], x[1])
    assert torch.equal(found[[0, 2, 3]], torch.ones_like(x[:3]))


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (4, 1, 8, 7), (4, 64)])
def test_a_proposal_of_another_shape_is_the_programmers_mistake(shape):
    with pytest.raises(ValueError, match="expected proposals of shape"):
        judge(torch.zeros(shape))
