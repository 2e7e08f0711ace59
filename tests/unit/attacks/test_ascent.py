"""The ascent that attacks share: what it looks at, with which draws, and what it proposes."""

import pytest
import torch

from attacks.ascent import FEW, AscentOptions, ascend
from attacks.gradients import Look
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws

DRAWS = Draws(("ascent",), torch.arange(2))
THREAT = ThreatModel(Norm.LINF, 0.1, Knowledge.BPDA)
X = 0.3 + 0.4 * DRAWS.at("x").uniform(1, 2, 2)
Y = torch.zeros(2, dtype=torch.int64)
CANDIDATES = DRAWS.at("candidates")


class Watching:
    """Says of the looks of each image what it is told to, and keeps where they were and with which draws."""

    def __init__(self, losses, gradient=1.0, fooled=None, draws=1):
        self.losses, self.gradient, self.draws = list(losses), gradient, draws
        self.fooled = list(fooled) if fooled else [[0.0, 0.0]] * len(self.losses)
        self.points, self.addresses, self.wanted = [], [], []

    def __call__(self, point, draws, with_gradient):
        self.points.append(point)
        self.addresses.append(draws.address)
        self.wanted.append(with_gradient)
        fooled, loss = (torch.tensor(one.pop(0)) for one in (self.fooled, self.losses))
        return Look(fooled, loss, torch.full_like(point, self.gradient), torch.zeros(2), self.draws)


class Judge:
    """A victim that gets an image right in so many of its looks as it is told of that image's brightness."""

    n_classes = 2

    def __init__(self, right=None):
        self.random, self.right = right is not None, right
        self.asked, self.notes, self.told = [], {}, []

    def note(self, name, values):
        self.notes[name] = values.tolist()

    def progress(self, share):
        self.told.append(share)

    def logits(self, x, draws):
        self.asked.append(draws.address)
        number = draws.address[-1]
        right = torch.tensor([float(number < self.right(image)) for image in x])
        return torch.stack([right, 1.0 - right], 1)


def run(look, victim=None, looks=4, redraw=True, **options):
    victim = victim or Judge()
    how = AscentOptions(**{"steps": 3, "step_size": 0.04, "random_start": False, "reevaluate": looks, **options})
    return ascend(look, victim, X, Y, THREAT, DRAWS, how, redraw=redraw), victim.told


def test_it_climbs_and_stays_in_the_ball_and_looks_at_the_last_point_too():
    look = Watching([[0.0, 0.0]] * 4)
    run(look)
    for point, way in zip(look.points, (0.0, 0.04, 0.08, 0.1), strict=True):
        assert torch.allclose(point, X + way)
    assert look.wanted == [True, True, True, False]


def test_a_step_is_two_and_a_half_radii_over_their_number_unless_told():
    look = Watching([[0.0, 0.0]] * 11)
    run(look, steps=10, step_size=None)
    assert torch.allclose(look.points[1], X + 0.025)


def test_the_best_of_all_looks_is_proposed_for_each_image_and_the_first_of_equals():
    look = Watching([[0.1, 0.3], [0.2, 0.3], [0.2, 0.1], [0.0, 0.0], [0.0, 0.0], [0.0, 0.9], [0.1, 0.0], [0.0, 0.0]])
    victim = Judge()
    best, told = run(look, victim, restarts=2, random_start=True)
    assert torch.equal(best[0], look.points[1][0])
    assert torch.equal(best[1], look.points[5][1])
    assert told == pytest.approx([step / 8 for step in range(1, 9)])
    starts = look.points[0], look.points[4]
    assert not torch.equal(*starts)
    assert all(float((start - X).abs().max()) <= 0.1 + 1e-6 for start in starts)
    assert victim.asked == []  # without randomness a look says it all


def test_who_fools_more_draws_is_better_whatever_the_loss_and_nothing_is_lost_to_rounding():
    losses = [[1e-9, -3e6], [9.0, -3e6 + 0.25], [2e-9, -3e6], [0.0, 0.0]]
    look = Watching(losses, fooled=[[2.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.0]], draws=2)
    best, _ = run(look, steps=2)
    assert torch.equal(best[0], look.points[2][0])
    assert torch.equal(best[1], look.points[1][1])


@pytest.mark.parametrize(("redraw", "wanted"), [(True, [0, 1, 2, 0]), (False, [0, 0, 0, 0])])
def test_draws_are_fresh_in_each_step_or_in_each_restart_and_the_last_look_has_those_of_the_first(redraw, wanted):
    look = Watching([[0.0, 0.0]] * 8)
    run(look, restarts=2, redraw=redraw)
    assert [address[-1] for address in look.addresses] == 2 * wanted
    assert [address[2] for address in look.addresses] == [0] * 4 + [1] * 4


LUCKY = [[0.0, 0.0], [9.0, 9.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0], [1.0, 1.0]]


@pytest.mark.parametrize("steady", range(6))
def test_fresh_draws_of_a_random_victim_decide_between_the_last_point_and_the_few_best(steady):
    """The point after so many steps is really the best; it is found if it is the last or seemed to be among the few."""
    look = Watching(list(LUCKY), gradient=1.0)
    victim = Judge(lambda image: 0 if image.mean() - steady * 0.02 in shades else 4)
    shades = [pytest.approx(float(image.mean()), abs=1e-4) for image in X]
    best, _ = run(look, victim, looks=4, steps=5, step_size=0.02)
    found = steady == 5 or LUCKY[steady][0] >= sorted(one[0] for one in LUCKY)[-FEW]
    assert torch.equal(best, look.points[steady if found else 5])
    assert len(victim.asked) == 4 * (1 + FEW)
    assert set(victim.asked) == {(*CANDIDATES.address, "look", number) for number in range(4)}


def test_without_fresh_draws_the_last_point_of_a_random_victim_is_proposed_the_better_one_of_restarts():
    victim = Judge(lambda image: 4)
    look = Watching([*LUCKY, *([[0.0, 0.0]] * 5), [0.5, 1.5]])
    best, _ = run(look, victim, looks=0, steps=5, restarts=2, random_start=True)
    assert torch.equal(best[0], look.points[5][0])
    assert torch.equal(best[1], look.points[11][1])
    assert victim.asked == []


@pytest.mark.parametrize("victim", [Judge(), Judge(lambda image: 4)], ids=["fixed", "random"])
def test_what_no_restart_has_made_better_than_its_start_is_noted(victim):
    look = Watching([[1.0, 1.0], [0.5, 0.5], [0.5, 0.5], [1.0, 2.0]], draws=2)
    run(look, victim)
    assert victim.notes["no_better"] == [1.0, 0.0]
    look = Watching([[1.0, 1.0]] * 4, fooled=[[2.0, 1.0]] * 4, draws=2)  # one is fooled from the start
    run(look, victim)
    assert victim.notes["no_better"] == [0.0, 1.0]
    look = Watching([[1.0, 1.0]] * 7 + [[1.0, 2.0]])
    run(look, victim, restarts=2)
    assert victim.notes["no_better"] == [1.0, 0.0]
