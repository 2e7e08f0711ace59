"""Of several proposals, the one that the victim gets right least often."""

from __future__ import annotations

import torch

from attacks.candidates import Candidates
from harness.testing.victims import LinearVictim, NoisyLinearVictim


def test_without_anything_better_the_clean_image_is_kept(moved):
    victim = LinearVictim()
    x, y, draws = victim.images()
    kept = Candidates(victim, x, y, draws, 5)
    kept.offer(moved(victim, x, y, -0.5), torch.arange(6))
    assert torch.equal(kept.best, x)
    assert kept.right.tolist() == [1] * 6  # one look says all of a victim that does not draw
    assert kept.standing.tolist() == list(range(6))


def test_what_fools_beats_what_does_not_and_a_larger_margin_beats_a_smaller_one(moved):
    victim = LinearVictim()
    x, y, draws = victim.images()
    kept = Candidates(victim, x, y, draws, 1)
    near, beyond, far = (moved(victim, x, y, share) for share in (0.5, 1.1, 1.5))
    some = torch.tensor([0, 3, 4])
    kept.offer(beyond[some], some)
    kept.offer(near, torch.arange(6))
    kept.offer(far[[5]], torch.tensor([5]))
    kept.offer(far[[3]], torch.tensor([3]))
    kept.offer(beyond[[5]], torch.tensor([5]))
    wanted = torch.stack([beyond[0], near[1], near[2], far[3], beyond[4], far[5]])
    assert torch.equal(kept.best, wanted)
    assert kept.standing.tolist() == [1, 2]


def test_offering_nothing_asks_nothing():
    victim = LinearVictim()
    x, y, draws = victim.images()
    kept = Candidates(victim, x, y, draws, 1)
    asked = len(victim.questions)
    kept.offer(x[:0], torch.arange(0))
    assert len(victim.questions) == asked


def test_a_random_victim_is_asked_as_often_as_wanted_with_each_images_own_draws(moved):
    victim = NoisyLinearVictim(sigma=0.3)
    x, y, draws = victim.images()
    kept = Candidates(victim, x, y, draws, 40)
    assert len(victim.questions) == 40
    half = moved(victim, x, y, 0.9)
    kept.offer(half, torch.arange(6))
    some = torch.tensor([4, 1])
    again = Candidates(victim, x, y, draws, 40)
    again.offer(half[some], some)
    assert torch.equal(kept.right[some], again.right[some])
    assert 0 < int(kept.right.min()) < 40
