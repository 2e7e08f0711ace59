import math
from dataclasses import replace

import pytest

from harness.core.cell import Cell
from harness.core.job import evaluation_digest
from harness.core.spec import digest_of
from harness.store.read.results import attempted, outcomes, sample, seen


@pytest.fixture
def grown(machine):
    one = machine("a")
    for start in (0, 4, 8):
        one.measure(start, start + 4, 0, 1)
    return one


@pytest.mark.parametrize("fraction", [0.01, 0.34, 0.5, 1.0])
def test_a_sample_is_a_share_of_the_results_and_at_least_one(grown, fraction):
    found = sample(grown.store, fraction)
    assert found.total == 3
    assert len(found.results) == math.ceil(3 * fraction)


def test_an_empty_database_has_an_empty_sample(machine):
    assert sample(machine("a").store, 0.5).results == ()


def test_what_is_drawn_first_stays_first_as_the_database_grows(grown):
    before = {one.id for one in sample(grown.store, 0.34).results}
    for start in (0, 4, 8):
        grown.measure(start, start + 4, 1, 2)
    drawn = sample(grown.store, 1.0).results
    order = [one.id for one in drawn if one.id <= 3]
    assert before == set(order[:2])


def test_a_drawn_result_knows_what_made_it(grown):
    (one,) = sample(grown.store, 0.01).results
    cell = Cell.from_dict(one.spec, one.labels)
    assert (cell.digest, str(cell.labels)) == (one.cell, "digits/cnn/mae/pgd/bpda")
    assert str(one).startswith("digits/cnn/mae/pgd/bpda, places ")
    assert one.attempted.environment == {"python": "3.11", "weights": "a"}
    assert one.counts["defense_forwards"] == 44
    assert "defense_seconds" not in one.counts
    (recipe,) = one.weights
    assert one.weights[recipe] == "a" * 64
    assert seen(grown.store, "weights", recipe) == {"a" * 64: "toy-cnn"}
    assert [(row.place, row.repeat) for row in outcomes(grown.store, one)] == [
        (place, 0) for place in range(one.rectangle.start, one.rectangle.stop)
    ]
    job = one.evaluation(cell)
    assert (job.digest, job.shard.start, job.shard.stop) == (
        evaluation_digest(one.cell, *one.asked),
        *one.rectangle[:2],
    )
    assert set(one.asked_metrics) == {metric.spec.digest for metric in grown.metrics}
    assert replace(job, metrics=tuple(each.metric for each in one.measures)).digest == one.job
    assert job.shard.index == job.shard.start // 4
    assert replace(one, asked=None).evaluation(cell) is None  # as of a job that was recorded before that was
    assert replace(one, asked=one.asked._replace(stop=99)).evaluation(cell) is None
    assert attempted(grown.store, one.job).environment == one.attempted.environment
    assert attempted(grown.store, digest_of("nobody")).environment is None


def test_a_drawn_result_has_what_metrics_gave_and_with_what(grown):
    (one,) = sample(grown.store, 0.01).results
    told = {each.metric.use: each for each in one.measures}
    assert set(told) == {"distances", "amv"}
    assert [each.code for each in one.measures] == [grown.metric_code] * 2
    assert told["distances"].weights == {}
    assert list(told["amv"].weights.values()) == [grown.probe]
    (start, stop), distances = one.rectangle[:2], told["distances"].taken
    assert (distances.names, distances.rectangle) == (("linf", "l2"), one.rectangle)
    assert distances.numbers.tolist() == [[[(place + 1) / by] for place in range(start, stop)] for by in (255, 50)]


def test_what_was_cut_is_traced_to_its_job(machine):
    one = machine("a", n_examples=12)
    one.measure(1, 3, 0, 1)
    one.measure(0, 4, 0, 2)  # cut to what was not there
    results = sample(one.store, 1.0).results
    assert len(results) == 4
    spans = {}
    for result in results:
        job = result.evaluation(Cell.from_dict(result.spec, result.labels))
        spans[result.rectangle] = (job.shard.start, job.shard.stop, job.first_repeat, job.stop_repeat)
    assert set(spans.values()) == {(1, 3, 0, 1), (0, 4, 0, 2)}
    assert spans[1, 3, 0, 1] == (1, 3, 0, 1)
    assert spans[1, 3, 1, 2] == (0, 4, 0, 2)
