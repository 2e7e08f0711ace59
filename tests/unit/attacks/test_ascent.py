"""The ascent that attacks share: what it looks at, with which draws, and what it proposes."""

import pytest
import torch

from attacks.ascent import ascend, score
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.draws import Draws

DRAWS = Draws(("ascent",), torch.arange(2))
THREAT = ThreatModel(Norm.LINF, 0.1, Knowledge.BPDA)
X = 0.3 + 0.4 * DRAWS.at("x").uniform(1, 2, 2)


class Watching:
    """Scores the looks of each image as told, and keeps where they were and with which draws."""

    def __init__(self, scores, gradient=1.0):
        self.scores, self.gradient = list(scores), gradient
        self.points, self.addresses, self.wanted = [], [], []

    def __call__(self, point, draws, with_gradient):
        self.points.append(point)
        self.addresses.append(draws.address)
        self.wanted.append(with_gradient)
        return torch.tensor(self.scores.pop(0)), torch.full_like(point, self.gradient)


def run(look, **options):
    told = []
    chosen = {"steps": 3, "step_size": 0.04, "restarts": 1, "random_start": False, "progress": told.append, **options}
    return ascend(look, X, THREAT, DRAWS, **chosen), told


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
    best, told = run(look, restarts=2, random_start=True)
    assert torch.equal(best[0], look.points[1][0])
    assert torch.equal(best[1], look.points[5][1])
    assert told == pytest.approx([step / 8 for step in range(1, 9)])
    starts = look.points[0], look.points[4]
    assert not torch.equal(*starts)
    assert all(float((start - X).abs().max()) <= 0.1 + 1e-6 for start in starts)


@pytest.mark.parametrize(("redraw", "wanted"), [(True, [0, 1, 2, 3]), (False, [0, 0, 0, 0])])
def test_draws_are_fresh_in_each_step_or_in_each_restart(redraw, wanted):
    look = Watching([[0.0, 0.0]] * 8)
    run(look, restarts=2, redraw=redraw)
    assert [address[-1] for address in look.addresses] == 2 * wanted
    assert [address[2] for address in look.addresses] == [0] * 4 + [1] * 4


def test_a_score_counts_fooled_draws_first_and_their_loss_then():
    fooled, loss = torch.tensor([0.0, 0.0, 1.0, 3.0]), torch.tensor([0.0, 50.0, 0.1, 0.2])
    found = score(fooled, loss, 4).tolist()
    assert found == sorted(found)
    assert found[0] == 0.0
    assert found[1] == pytest.approx(0.999 / 4)
    assert found[2] == pytest.approx((1 + 0.999 * (1 - 2.718281828**-0.1)) / 4, rel=1e-6)
    assert found[1] < 0.25 < found[2] < 0.5 < 0.75 < found[3] < 1.0
