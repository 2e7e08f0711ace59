"""Certificates against closed forms, against a computation of its own, and against attacks on the same classifier."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from attacks.pgd import PGD
from defenses.dmae import DMAE
from harness.artifacts import Folder
from harness.certificates.smoothing import RandomisedSmoothing, radii_of
from harness.core.contracts import Certificate, DataCard, Traits
from harness.core.job import Evaluate, Terms, Train
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws
from harness.execution.worker.cost import Meter
from harness.execution.worker.jobs import Bench, do
from harness.execution.worker.judge import Batch, Judge
from harness.execution.worker.victim import DefendedVictim
from harness.suite.load import read_suite

SIGMA = 0.25


def smoothing(**options):
    return RandomisedSmoothing(RandomisedSmoothing.Options(**{"sigma": SIGMA, "n0": 20, "n": 4000, **options}))


# ---------------------------------------------------------------------- from votes to radii


@pytest.mark.parametrize(("n", "alpha"), [(1, 0.4), (30, 0.05), (1000, 0.001)])
def test_a_radius_is_the_quantile_of_the_lowest_credible_probability(n, alpha):
    votes = np.arange(n + 1)
    lowest = np.where(votes == 0, 0.0, stats.beta.ppf(alpha, votes, n - votes + 1))
    with np.errstate(invalid="ignore"):
        wanted = np.where(lowest > 0.5, SIGMA * stats.norm.ppf(lowest), np.nan)
    assert np.isnan(wanted).any()
    np.testing.assert_allclose(radii_of(votes.tolist(), n, alpha, SIGMA), wanted, rtol=1e-9)


def test_a_few_figures_on_paper():
    # all of n copies agree: the bound is alpha^(1/n)
    (one,) = radii_of([100_000], 100_000, 0.001, 0.5)
    assert one == pytest.approx(0.5 * stats.norm.ppf(0.001 ** (1 / 100_000)))
    assert one == pytest.approx(1.906, abs=1e-3)
    assert math.isnan(radii_of([520], 1000, 0.001, 0.5)[0])  # more than half, but not for certain


@pytest.mark.parametrize(("n", "alpha"), [(10, 0.05), (100, 0.001), (400, 0.2)])
def test_the_bound_is_too_high_as_seldom_as_it_says(n, alpha):
    bounds = stats.norm.cdf(np.nan_to_num(radii_of(list(range(n + 1)), n, alpha, 1.0), nan=-np.inf))
    often = 0.0
    for p in np.linspace(0.501, 0.9999, 400):
        wrong = float(stats.binom.pmf(np.arange(n + 1), n, p)[bounds > p].sum())
        assert wrong <= alpha * (1 + 1e-9)
        often = max(often, wrong)
    assert often > alpha / 3  # and is no lower than it has to be


# ---------------------------------------------------------------------- a classifier that is known


class HalfSpace(nn.Module):
    """Class 1 where the first pixel is above one half, else class 0; not a number where it is above ``limit``."""

    def __init__(self, limit=math.inf):
        super().__init__()
        self.limit = limit

    def forward(self, x):
        lead = x[:, 0, 0, 0] - 0.5
        return torch.where((lead > self.limit)[:, None], torch.nan, torch.stack([-lead, lead], 1))


@dataclass
class Blurry:
    """Adds noise of its own: random by itself."""

    unclipped: ClassVar[bool] = True
    tau: float = 0.0
    votes: int = 1

    @property
    def traits(self):
        return Traits(random=self.tau > 0, differentiable=True, votes=self.votes)

    def purify(self, x, nets, draws):
        return x + self.tau * draws.at("noise").normal(*x.shape[1:])


#: of the first pixel to the boundary
DISTANCES = (0.05, 0.1, 0.2, 0.3, 0.4)


def images(distances=DISTANCES, labels=1):
    x = torch.full((len(distances), 1, 2, 2), 0.5)
    x[:, 0, 0, 0] += torch.tensor(distances)
    n = len(x)
    return Batch(x, torch.full((n,), labels), torch.arange(70, 70 + n), torch.arange(n))


def certify(batch, certificate, defense=None, classifier=None, copies=50, told=None):
    judge = Judge(classifier or HalfSpace(), defense or Blurry(), {}, Meter())
    draws = Draws(("evaluate", "cell"), batch.ids)
    return judge.certified(batch, certificate, 2, range(1), draws, [].append if told is None else told, copies)[0]


def test_it_is_a_certificate():
    assert isinstance(smoothing(), Certificate)


def test_radii_lie_below_the_true_distances_and_near_to_them():
    rows = certify(images(), smoothing(n=20_000, alpha=0.001))
    for row, distance in zip(rows, DISTANCES, strict=True):
        # the probability of class 1 is Phi(distance / sigma), so the radius that it has is the distance itself
        assert row.prediction == row.label == 1
        assert row.correct
        assert distance - 0.02 < row.radius < distance


def test_radii_are_those_of_the_votes_counted_apart():
    certificate, batch = smoothing(n0=9, n=700, alpha=0.01), images((0.001, 0.02, 0.1, 0.25, 0.6))
    draws = Draws(("evaluate", "cell"), batch.ids).at("repeat", 0)

    def share(name, number):
        noise = np.stack(
            [
                draws.at(name).copied(copy, copy + 1).at("noise").normal(*batch.x.shape[1:])[:, 0, 0, 0].numpy()
                for copy in range(number)
            ]
        )
        return (batch.x[:, 0, 0, 0].numpy() + np.float32(SIGMA) * noise > 0.5).sum(0)

    chosen = (share("choose", 9) > 4.5).astype(int)
    ones = share("bound", 700)
    votes = np.where(chosen == 1, ones, 700 - ones)
    lowest = stats.beta.ppf(0.01, votes, 700 - votes + 1)
    sure = lowest > 0.5
    assert {True, False} == set(sure.tolist())
    rows = certify(batch, certificate)
    assert [row.prediction for row in rows] == np.where(sure, chosen, -1).tolist()
    right = sure & (chosen == 1)
    assert [row.correct for row in rows] == right.tolist()
    np.testing.assert_allclose([row.radius for row in rows], np.where(right, SIGMA * stats.norm.ppf(lowest), 0.0))


def test_where_it_abstains_the_example_is_wrong_and_its_radius_nothing():
    (row,) = certify(images((0.0,)), smoothing(n=500))
    assert (row.prediction, row.correct, row.radius, row.fault) == (-1, False, 0.0, None)


def test_a_class_that_is_certified_and_wrong_has_no_radius():
    for row in certify(images((0.2, 0.4), labels=0), smoothing(n=500)):
        assert (row.prediction, row.correct, row.radius) == (1, False, 0.0)


@pytest.mark.parametrize("tau", [0.15, 0.5])
def test_of_a_random_base_the_vote_over_both_is_certified(tau):
    rows = certify(images(), smoothing(n=20_000), Blurry(tau))
    for row, distance in zip(rows, DISTANCES, strict=True):
        true = SIGMA * distance / math.hypot(SIGMA, tau)  # sigma Phi^-1 of Phi(distance / deviation of both noises)
        assert row.radius < true < distance
        assert row.radius > true - 0.02


def test_a_base_that_votes_is_surer_than_one_that_does_not():
    one, nine = (certify(images((0.2,)), smoothing(n=500), Blurry(0.5, votes))[0].radius for votes in (1, 9))
    assert one < nine < 0.2


def test_the_randomness_of_the_base_is_another_one_for_each_copy():
    seen = []

    class Watched(Blurry):
        def purify(self, x, nets, draws):
            found = draws.at("noise").normal(1)
            seen.append(found[:, 0])
            return x + found[:, None, None]

    certify(images(), smoothing(n0=4, n=30), Watched(1.0), copies=7)
    drawn = torch.cat(seen)
    assert len(drawn) == 34 * len(DISTANCES)
    assert len(drawn.unique()) == len(drawn)


def test_a_batch_of_copies_changes_no_number():
    batch, certificate = images(), smoothing(n0=5, n=61)
    wanted = certify(batch, certificate, Blurry(0.3), copies=1)
    assert len({row.radius for row in wanted}) > 2
    for copies in (2, 7, 1000):
        assert certify(batch, certificate, Blurry(0.3), copies=copies) == wanted
    parts = [row for part in batch.split(2) for row in certify(part, certificate, Blurry(0.3), copies=3)]
    assert parts == wanted


def test_a_copy_whose_logits_are_not_finite_votes_for_nobody_and_is_a_fault():
    sound, broken = certify(images((0.1, 0.5)), smoothing(n=400), classifier=HalfSpace(limit=0.5))
    assert sound.radius > 0.0
    assert broken.fault == "logits not finite"
    assert (broken.prediction, broken.radius) == (-1, 0.0)  # half of the copies are lost, so no class has a majority


def test_clipped_copies_are_images():
    seen = []

    class Watched(Blurry):
        def purify(self, x, nets, draws):
            seen.append((float(x.min()), float(x.max())))
            return x

    certify(images(), smoothing(n=50, clip=True), Watched())
    assert min(low for low, _ in seen) == 0.0
    assert max(high for _, high in seen) == 1.0
    seen.clear()
    certify(images(), smoothing(n=50), Watched())
    assert min(low for low, _ in seen) < 0.0


def test_cost_and_progress_are_those_of_all_looks():
    told, certificate, batch = [], smoothing(n0=3, n=40), images()
    classifier, meter = HalfSpace(), Meter()
    meter.attach(classifier, purifier=False)
    judge = Judge(classifier, Blurry(), {}, meter)
    rows, cost = judge.certified(batch, certificate, 2, range(1), Draws(("a",), batch.ids), told.append, 8)
    assert certificate.looks == 43
    assert cost.forwards == 43 * len(batch)
    assert cost.images == len(rows) == len(batch)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_copies_that_are_not_independent_are_refused():
    card = DataCard((1, 8, 8), 10, 64, "0" * 64)
    assert smoothing().refuses(card, Traits(random=True, differentiable=True)) is None
    assert "not independent" in smoothing().refuses(card, Traits(random=True, differentiable=True, batchwise=True))


def test_to_declare_a_certificate_takes_no_torch():
    from harness.certificates import smoothing as certificates

    source = inspect.getsource(certificates)
    assert not [line for line in source.splitlines() if line.startswith(("import torch", "from torch"))]


# ---------------------------------------------------------------------- a network, and attacks on it

RECIPE = """
name: {name}
dataset: {{use: digits}}
net: {net}
objective: {objective}
optimiser: {{lr: 0.003}}
steps: {steps}
batch_size: 64
"""

SUITE = """
name: certified
datasets: [{name: digits}]
classifiers: [{name: cnn, use: recipe, params: {recipe: cnn.yaml}}]
defenses:
  - {name: none}
  - {name: denoiser, use: dmae, params: {dmae: dmae.yaml, sigma: 0}}
certificates: [{name: vote, use: smoothing, params: {sigma: 0.25, n0: 20, n: 200}}]
evaluation: {n_examples: 24, shard_size: 24}
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    cnn = ("{use: cnn, width: 8, hidden: 32}", "{use: smooth-classify, sigma: 0.25}", 150)
    mae = "{use: mae, patch: 2, dim: 16, depth: 1, heads: 2, decoder_dim: 16, decoder_depth: 1, decoder_heads: 2}"
    dmae = (mae, "{use: denoise-masked, mask_ratio: 0.25, sigma: 0.25}", 60)
    for name, (net, objective, steps) in {"cnn": cnn, "dmae": dmae}.items():
        text = RECIPE.format(name=name, net=net, objective=objective, steps=steps)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return read_suite(SUITE, "suite.yaml", folder)


@pytest.fixture(scope="module")
def home(suite, tmp_path_factory):
    """An artifact folder with the weights of both networks."""
    folder = Folder(tmp_path_factory.mktemp("home"))
    for recipe in {recipe.digest: recipe for cell in suite.cells for recipe in cell.recipes()}.values():
        do(Train(recipe), folder, Terms(), lambda share: None)
    return folder


def cell(suite, defense):
    return next(one for one in suite.cells if one.labels.defense == defense and one.certificate is not None)


def evaluated(suite, home, defense, batch_size=None):
    (shard,) = suite.shards
    return do(Evaluate(cell(suite, defense), shard, 0, 1), home, Terms(batch_size), lambda share: None)


@pytest.fixture(scope="module")
def done(suite, home):
    return {defense: evaluated(suite, home, defense) for defense in ("none", "denoiser")}


def test_a_job_certifies_the_whole_defended_classifier(done):
    for defense, nets in (("none", 1), ("denoiser", 2)):
        found = done[defense]
        assert len(found.outcomes) == 24
        assert found.defense_cost.forwards == 24 * 220 * nets
        assert found.defense_cost.evaluations == 24 * 220 * (nets - 1)
        assert found.code.keys() >= {"judge", "dataset", "classifier", "defense", "certificate"}
        radii = [row.radius for row in found.outcomes]
        assert max(radii) <= SIGMA * stats.norm.ppf(0.001 ** (1 / 200))
        assert sum(radius > 0.1 for radius in radii) > 8
        assert all((row.radius > 0) == row.correct for row in found.outcomes)
        assert found.measurements == ()


@pytest.mark.parametrize("batch_size", [5, 120])
def test_whatever_the_batch_size_the_job_has_the_same_numbers(suite, home, done, batch_size):
    assert evaluated(suite, home, "none", batch_size).outcomes == done["none"].outcomes


class Noisy:
    """The smoothing noise as a defense, without clipping: what votes about it say is the smoothed classifier."""

    unclipped = True

    def __init__(self, purify=None):
        self.then = purify

    @property
    def traits(self):
        return Traits(random=True, differentiable=True)

    def purify(self, x, nets, draws):
        noisy = x + SIGMA * draws.at("smoothing").normal(*x.shape[1:])
        return noisy if self.then is None else self.then(noisy, nets, draws)


def broken(outcomes, radii, victim, batch):
    """Return the places of examples whose class changes within the radius that is claimed, under PGD in L2."""
    found = set()
    claimed = torch.tensor(radii)
    for eps in (0.15, 0.35, 0.9):
        rows = torch.nonzero((claimed >= eps) & torch.tensor([one.correct for one in outcomes])).flatten()
        if len(rows) == 0:
            continue
        x, y, draws = batch.x[rows], batch.y[rows], Draws(("attack", eps), batch.ids[rows])
        attack = PGD(PGD.Options(steps=10, eot=6))
        threat = ThreatModel(Norm.L2, eps, Knowledge.FULL)
        proposed = attack.propose(victim, x, y, threat, draws)
        with torch.no_grad():
            classes = victim.logits(proposed.repeat(200, 1, 1, 1), draws.at("vote").copied(0, 200)).argmax(1)
        votes = nn.functional.one_hot(classes.reshape(200, -1), victim.n_classes).sum(0)
        found |= {int(row) for row in rows[votes.argmax(1) != y]}
    return found


@pytest.mark.parametrize("defense", ["none", "denoiser"])
def test_no_attack_within_its_radius_changes_the_vote_on_a_certified_example(suite, home, done, defense):
    bench = Bench(cell(suite, defense), home, Terms())
    built, nets, classifier = bench.defense()
    noisy = Noisy(built.purify if isinstance(built, DMAE) else None)
    victim = DefendedVictim(classifier, noisy, nets, Knowledge.FULL, 10)
    batch, outcomes = bench.batch(suite.shards[0]), done[defense].outcomes
    radii = [row.radius for row in outcomes]
    assert sum(radius >= 0.25 for radius in radii) > 4
    assert broken(outcomes, radii, victim, batch) == set()
    # the attack is no weak one: radii three times as large are not true
    assert broken(outcomes, [3.0 * radius for radius in radii], victim, batch)
