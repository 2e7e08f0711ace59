"""The adapter of AutoAttack's library, and the attacks that are made of it."""

from __future__ import annotations

import pytest
import torch
from pyautoattack import AutoAttack as Library
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack

from attacks.apgd import APGD
from attacks.autoattack import AutoAttack
from attacks.fab import FAB
from attacks.library import Calls, quiet, sealed
from attacks.square import Square
from harness import bounds
from harness.core.contracts import DataCard, Setting, Traits
from harness.core.threat import BALLS, Knowledge, Norm, ThreatModel
from harness.testing.victims import LinearVictim, NoisyLinearVictim

norms = pytest.mark.parametrize("norm", BALLS)

#: where some of the toy images fall, and some stand
SPREAD = {"share": 0.75, "spread": True}


def alone(victim):
    """The victim as a plain function, as anybody would hand it to the library."""
    return lambda x: victim.net(x)


def fooled(victim, images, y):
    return victim.net(images).argmax(1) != y


# ---------------------------------------------------------------------- the adapter


def test_calls_draw_by_call_and_row_and_may_be_averaged():
    victim = NoisyLinearVictim(sigma=0.3)
    x, _, draws = victim.images()
    calls = Calls(victim, draws)
    with torch.no_grad():
        first, second = calls(x), calls(x)
        again, averaged = Calls(victim, draws)(x), Calls(victim, draws, eot=50)(x)
        exact = LinearVictim().logits(x, draws)
    assert not torch.equal(first, second)
    assert torch.equal(again, first)
    assert float((averaged - exact).abs().mean()) < 0.4 * float((first - exact).abs().mean())
    asked = len(victim.questions)
    assert Calls(victim, draws, eot=7)(x[:0]).shape == (0, 10)
    assert len(victim.questions) == asked


def test_a_victim_that_does_not_draw_is_asked_once():
    victim = LinearVictim()
    x, _, draws = victim.images()
    Calls(victim, draws, eot=9)(x)
    assert len(victim.questions) == 1


def test_a_sealed_call_has_the_same_gradient_and_leaves_none_behind():
    victim = LinearVictim()
    x, _, draws = victim.images()
    ask = sealed(Calls(victim, draws))
    at = x.clone().requires_grad_(True)
    logits = ask(at)
    assert torch.equal(logits, victim.net(x))
    for column in range(3):  # a graph that is used again, as FAB does
        at.grad = None
        mask = torch.zeros_like(logits)
        mask[:, column] = 1.0
        logits.backward(mask, retain_graph=True)
        assert torch.allclose(at.grad.flatten(1), victim.net[2].weight[column].expand(6, -1))
    assert all(parameter.grad is None for parameter in victim.net.parameters())


def test_fab_within_autoattack_leaves_no_gradients_behind(attacked):
    attack = AutoAttack(AutoAttack.Options(version="custom", attacks=["fab-t", "fab"]))
    *_, victim, _ = attacked(attack, share=0.9)
    assert all(parameter.grad is None for parameter in victim.net.parameters())


# ---------------------------------------------------------------------- the same as the library alone


@norms
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd_claims_what_the_library_does(attacked, norm, loss):
    attack = APGD(APGD.Options(steps=20, loss=loss, restarts=2))
    found, x, y, draws, victim, threat = attacked(attack, norm=norm, **SPREAD)
    theirs = APGDAttack(
        alone(victim),
        n_iter=20,
        norm=norm.value,
        n_restarts=2,
        eps=threat.eps,
        loss=loss,
        seed=draws.at("library").seed(),
        use_largereps=norm is Norm.L1,
        logger=quiet(),
    )
    with torch.random.fork_rng():
        expected = theirs.perturb(x, y)
    fallen = fooled(victim, expected, y)
    assert 0 < int(fallen.sum()) < 6
    assert torch.equal(fooled(victim, found, y), fallen)
    assert bool((victim.margins(found, y) <= victim.margins(expected, y) + 1e-5).all())
    assert float(bounds.size(found - x, norm).max()) <= threat.eps + bounds.tolerance(threat.eps)


def test_targeted_apgd_claims_what_the_library_does(attacked):
    attack = APGD(APGD.Options(steps=20, loss="dlr-targeted", targets=4))
    found, x, y, draws, victim, threat = attacked(attack, norm=Norm.L2, **SPREAD)
    seed = draws.at("library").seed()
    theirs = APGDAttack_targeted(
        alone(victim), n_iter=20, norm="L2", eps=threat.eps, seed=seed, n_target_classes=4, logger=quiet()
    )
    with torch.random.fork_rng():
        expected = theirs.perturb(x, y)
    fallen = fooled(victim, expected, y)
    assert 0 < int(fallen.sum()) < 6
    assert torch.equal(fooled(victim, found, y), fallen)


@norms
def test_square_finds_what_the_library_finds(attacked, norm):
    attack = Square(Square.Options(n_queries=60))
    found, x, y, draws, victim, threat = attacked(attack, norm=norm, share=1.6, spread=True)
    seed = draws.at("library").seed()
    theirs = SquareAttack(alone(victim), norm=norm.value, n_queries=60, eps=threat.eps, seed=seed, resc_schedule=False)
    with torch.random.fork_rng(), torch.no_grad():
        expected = theirs.perturb(x, y)
    fallen = fooled(victim, expected, y)
    assert 0 < int(fallen.sum()) < 6
    assert torch.equal(fooled(victim, found, y), fallen)
    assert torch.equal(found[fallen], expected[fallen])


@norms
@pytest.mark.parametrize("targeted", [True, False])
def test_fab_finds_what_the_library_finds(attacked, norm, targeted):
    attack = FAB(FAB.Options(steps=15, targets=2, targeted=targeted, restarts=2))
    found, x, y, draws, victim, threat = attacked(attack, norm=norm, **SPREAD)
    theirs = FABAttack_PT(
        alone(victim),
        norm=norm.value,
        n_restarts=2,
        n_iter=15,
        eps=threat.eps,
        seed=draws.at("library").seed(),
        targeted=targeted,
        n_target_classes=2,
    )
    with torch.random.fork_rng():
        expected = theirs.perturb(x, y)
    assert 0 < int(fooled(victim, expected, y).sum()) < 6
    assert torch.equal(found, expected)


@norms
@pytest.mark.parametrize(
    "told",
    [
        {"version": "rand"},
        {"version": "custom", "attacks": ["apgd-dlr", "fab-t"]},
        pytest.param({"version": "standard"}, marks=pytest.mark.slow),
        pytest.param({"version": "plus"}, marks=pytest.mark.slow),
    ],
    ids=lambda told: told["version"],
)
def test_autoattack_is_the_library_where_nothing_is_random(attacked, norm, told):
    found, x, y, draws, victim, threat = attacked(AutoAttack(AutoAttack.Options(**told)), norm=norm, **SPREAD)
    seed = draws.at("library").seed() % 2**31
    quiet()
    library = Library(alone(victim), norm=norm.value, eps=threat.eps, seed=seed, device=x.device, **told)
    with torch.random.fork_rng():
        expected, predicted = library.run_standard_evaluation(x, y, batch_size=len(x))
    assert 0 < int((predicted == y).sum()) < 6
    assert torch.equal(found, expected)
    assert torch.equal(victim.notes["claimed_robust"][0], predicted == y)


# ---------------------------------------------------------------------- random defenses


def right(victim, images, y, draws):
    """Share of many fresh draws that get the images right."""
    seen = [victim.logits(images, draws.at("judge", repeat)).argmax(1) == y for repeat in range(200)]
    return torch.stack(seen).float().mean(0)


def test_what_a_single_draw_calls_broken_is_attacked_nevertheless(attacked, fickle):
    """The library gives up images that were misclassified by lot; the verdict is taken anew."""
    library = AutoAttack(AutoAttack.Options(version="custom", attacks=["apgd-ce"], reevaluate=0))
    mended = AutoAttack(AutoAttack.Options(version="custom", attacks=["apgd-ce"]))
    found, x, y, draws, victim, _ = attacked(library, fickle(), n=24)
    claimed = victim.notes["claimed_robust"][0]
    untouched = (found == x).flatten(1).all(1)
    assert int((untouched & ~claimed).sum()) > 0  # called broken, and yet the clean image
    before = right(victim, found, y, draws)
    assert float(before[untouched].min()) > 0.5
    found, x, y, draws, victim, _ = attacked(mended, fickle(), n=24)
    assert torch.equal(victim.notes["claimed_robust"][0], claimed)  # shown beside it as it was
    after = right(victim, found, y, draws)
    assert float(after[untouched].mean()) < 0.1
    assert float(after.mean()) < 0.2 * float(before.mean())


def test_candidates_stay_within_the_budget(attacked, noisy):
    attack = AutoAttack(AutoAttack.Options(version="custom", attacks=["apgd-dlr", "fab-t"], reevaluate=5))
    found, x, *_, threat = attacked(attack, noisy(), share=1.2)
    assert float(bounds.size(found - x, Norm.LINF).max()) <= threat.eps + bounds.tolerance(threat.eps)


def test_every_member_is_run_again(attacked, noisy):
    """Where even the strongest leaves something standing, all members of the ensemble have a second say."""
    members = ["apgd-ce", "apgd-dlr", "apgd-t", "fab-t"]
    attack = AutoAttack(AutoAttack.Options(version="custom", attacks=members, reevaluate=4))
    library = attack._made
    run = []

    def watched(*told):
        made = library(*told)
        for name in ("apgd", "apgd_targeted", "fab"):
            one = getattr(made, name)
            one.n_iter = one.n_iter_orig = 4
            one.n_restarts = 1
            single = one.attack_single_run

            def attack_single_run(*args, name=name, single=single, **words):
                run.append(name)
                return single(*args, **words)

            one.attack_single_run = attack_single_run
        return made

    attack._made = watched
    attacked(attack, noisy(), share=0.5)
    assert {name: run.count(name) for name in run} == {"apgd": 4, "apgd_targeted": 18, "fab": 18}


def test_square_asks_for_no_gradient(attacked):
    class BlackBox(LinearVictim):
        def logits(self, x, draws):
            assert not torch.is_grad_enabled()
            assert not x.requires_grad
            return super().logits(x, draws)

    attacked(Square(Square.Options(n_queries=5)), BlackBox())


def test_square_averages_over_draws_and_goes_on_to_the_last_query(attacked, fickle):
    attack = Square(Square.Options(n_queries=30, eot=5, reevaluate=7))
    *_, victim, _ = attacked(attack, fickle(), share=4.0)
    assert len(victim.questions) == 7 + 31 * 5 + 7


# ---------------------------------------------------------------------- refusals


def setting(n_classes=10, norm=Norm.LINF, side=32):
    card = DataCard((3, side, side), n_classes, 100, "00" * 32)
    return Setting(card, ThreatModel(norm, 0.1, Knowledge.BPDA), Traits(False, True))


@pytest.mark.parametrize(
    ("attack", "cell", "sentence"),
    [
        (APGD(APGD.Options(loss="dlr")), setting(2), "the loss dlr needs at least 3 classes, and the dataset has 2"),
        (APGD(APGD.Options(loss="dlr-targeted", targets=1)), setting(3), "dlr-targeted needs at least 4 classes"),
        (APGD(APGD.Options(loss="dlr-targeted")), setting(9), "apgd aims at 9 other classes, and the dataset has 8"),
        (FAB(FAB.Options()), setting(9), "fab aims at 9 other classes, and the dataset has 8"),
        (Square(Square.Options()), setting(side=4, norm=Norm.L2), "square in L2 needs images of 5 pixels a side"),
        (AutoAttack(AutoAttack.Options()), setting(9), "autoattack standard needs at least 10 classes for 9 targets"),
        (AutoAttack(AutoAttack.Options()), setting(side=4, norm=Norm.L1), "square in L1 needs images of 5 pixels"),
        (AutoAttack(AutoAttack.Options(version="rand")), setting(2), "the loss dlr needs at least 3 classes"),
    ],
)
def test_a_refusal_says_what_is_missing(attack, cell, sentence):
    assert sentence in attack.refuses(cell)


@pytest.mark.parametrize(
    ("attack", "cell"),
    [
        (APGD(APGD.Options(loss="margin")), setting(2)),
        (APGD(APGD.Options(loss="dlr-targeted")), setting(10)),
        (FAB(FAB.Options(targeted=False)), setting(2)),
        (Square(Square.Options()), setting(2, side=4)),
        (AutoAttack(AutoAttack.Options(version="rand")), setting(3, Norm.L1)),
        (AutoAttack(AutoAttack.Options(version="custom", attacks=["apgd-ce", "square"])), setting(2)),
    ],
)
def test_what_is_possible_is_not_refused(attack, cell):
    assert attack.refuses(cell) is None


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (
            {"version": "custom"},
            "expected a list of attacks for the version custom, and for no other, got 0 for custom",
        ),
        ({"attacks": ["square"]}, "and for no other, got 1 for standard"),
        ({"version": "custom", "attacks": ["square", "square"]}, "expected each attack once, got square, square"),
    ],
)
def test_attacks_are_listed_for_the_version_custom_alone(told, sentence):
    with pytest.raises(ValueError, match=sentence):
        AutoAttack.Options(**told)
