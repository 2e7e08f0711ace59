"""How many images go through the networks at a time changes no random number, only the order of additions.

In float64 that order is worth no verdict and less than a millionth of any metric. In float32 an attack's sign steps
may turn a last digit into a pixel; how many verdicts that changes is measured here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from attacks.pgd import PGD
from harness.artifacts import Folder
from harness.core.cell import Shard
from harness.core.job import Evaluate, Terms
from harness.execution.worker import jobs as work
from harness.suite.load import read_suite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.core.cell import Cell
    from harness.core.result import Done, Outcome
    from harness.suite.suite import Suite

SUITES = Path(__file__).parent / "suites"
SMALL, LARGE = 8, 64

#: a summand's rounding is 1e-16 of it; where the classifier is sure, the gradient is a difference of numbers that
#: agree in eight digits or so, and a normalised step carries what is left of them into the image
ROUNDING = 1e-6


def quick(*names: str) -> object:
    return pytest.param(*names, id="-".join(names))


def slow(*names: str) -> object:
    return pytest.param(*names, id="-".join(names), marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def suite() -> Suite:
    text = (SUITES / "tiny.yaml").read_text()
    for old, new in [("n_examples: 12", f"n_examples: {LARGE}"), ("shard_size: 8", f"shard_size: {LARGE}")]:
        assert old in text
        text = text.replace(old, new)
    return read_suite(text, "tiny.yaml", SUITES)


@pytest.fixture(scope="module")
def trained(
    suite: Suite, tmp_path_factory: pytest.TempPathFactory, with_networks: Callable[[Suite, Path], None]
) -> Folder:
    """Where the networks are."""
    folder = Folder(tmp_path_factory.mktemp("trained"))
    with_networks(suite, folder.root)
    return folder


def do(job: Evaluate, folder: Folder, terms: Terms | None = None) -> Done:
    """Do a job after the attack that it needs; a quick version of what the scheduler does."""
    if job.craft is not None:
        work.do(job.craft, folder, terms or Terms(), lambda share: None)
    return work.do(job, folder, terms or Terms(), lambda share: None)


def cell_of(suite: Suite, defense: str, attack: str, threat_model: str) -> Cell:
    wanted = (defense, attack, threat_model)
    return next(
        one for one in suite.cells if (one.labels.defense, one.labels.attack, one.labels.threat_model) == wanted
    )


def both(suite: Suite, cell: Cell, trained: Folder, precision: str) -> tuple[Done, Done]:
    """Return what is measured with small and with large batches, metrics and all."""
    job = Evaluate(cell, Shard(0, 0, LARGE), 0, 2, suite.metrics_of(cell))
    small, large = (do(job, trained, Terms(size, precision=precision)) for size in (SMALL, LARGE))
    assert len(small.outcomes) == 2 * LARGE
    return small, large


def sorted_outcomes(done: Done) -> Sequence[Outcome]:
    return sorted(done.outcomes, key=lambda outcome: (outcome.place, outcome.repeat))


def assert_equal_but_for_rounding(small: Done, large: Done) -> None:
    assert sorted_outcomes(small) == sorted_outcomes(large)
    names = {name for one in small.measurements for name in one.names}
    assert {"linf", "l2", "reconstruction_purified", "amv_adversarial_last", "amv_purified_mean"} <= names
    for one, other in zip(small.measurements, large.measurements, strict=True):
        assert (one.metric, one.names, one.shape) == (other.metric, other.names, other.shape)
        numbers, others = (np.frombuffer(some.values, "<f8") for some in (one, other))
        assert len(numbers) == len(one.names) * 2 * LARGE
        np.testing.assert_allclose(numbers, others, rtol=ROUNDING, atol=1e-12, err_msg=str(one.names))


@pytest.mark.parametrize(
    ("defense", "threat_model"),
    [
        slow("mae-pure", "bpda"),
        slow("diffpure", "bpda"),
        slow("diffpure", "full"),
        quick("dmae", "bpda"),
        quick("dmae", "full"),
    ],
)
def test_small_and_large_batches_draw_the_same_numbers(
    suite: Suite, trained: Folder, defense: str, threat_model: str
) -> None:
    assert_equal_but_for_rounding(*both(suite, cell_of(suite, defense, "pgd", threat_model), trained, "float64"))


def test_an_attack_on_the_whole_shard_does_not_see_how_its_victim_cuts_it(
    suite: Suite, trained: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PGD, "by_example", False)
    assert_equal_but_for_rounding(*both(suite, cell_of(suite, "dmae", "pgd", "full"), trained, "float64"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("defense", "attack", "threat_model"),
    [
        ("mae-pure", "pgd", "bpda"),
        ("diffpure", "pgd", "bpda"),
        ("diffpure", "pgd", "full"),
        ("dmae", "pgd", "bpda"),
        ("dmae", "pgd", "full"),
        ("none", "autoattack", "oblivious"),
    ],
)
def test_few_verdicts_differ_in_single_precision(
    suite: Suite, trained: Folder, defense: str, attack: str, threat_model: str
) -> None:
    found = both(suite, cell_of(suite, defense, attack, threat_model), trained, "float32")
    pairs = list(zip(*map(sorted_outcomes, found), strict=True))
    share = sum(small.prediction != large.prediction for small, large in pairs) / len(pairs)
    assert share <= 0.05  # measured: 0 of 128


def test_the_examples_of_a_smaller_subset_are_the_first_of_a_larger_one(suite: Suite, trained: Folder) -> None:
    cell = cell_of(suite, "none", "clean", "-")
    few, many = (
        [outcome.example for outcome in do(Evaluate(cell, Shard(0, 0, stop), 0, 1), trained).outcomes]
        for stop in (SMALL, LARGE)
    )
    assert few == many[:SMALL]
    assert len(set(many)) == LARGE
