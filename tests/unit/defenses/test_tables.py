"""The defaults of MAE-Pure and its kin are those of the paper's tables 13 and 14, dataset by dataset."""

import pytest
from pydantic import ValidationError

from defenses.amv_oracle import AMVOracle
from defenses.mae_pure import MAEPure, RMAEPure
from defenses.maskdit_pure import MaskDiTPure, RMaskDiTPure
from defenses.tables import ROWS

METHODS = (MAEPure, RMAEPure, MaskDiTPure, RMaskDiTPure)
#: as the tables have them, in that order of methods: step (* where it is halved), mask ratio, iterations
PAPER = {
    "cifar10": ("1* 1* 1 1", ".25 .25 .50 .50", "150 90 25 15"),
    "cifar100": ("1 1 1 1", ".30 .25 .50 .50", "100 65 20 20"),
    "svhn": ("1* 1 1 1", ".30 .25 .50 .50", "150 80 20 20"),
    "imagenet": ("1* 1 1 1", ".20 .25 .30 .30", "150 20 25 20"),
}


def options(method, **told):
    (role,) = method.Options.recipe_fields()
    return method.Options(**{role: "tiny"}, **told)


def identity(found):
    return found.model_dump(mode="json")


@pytest.mark.parametrize("dataset", PAPER)
def test_the_rows_are_those_of_the_tables(dataset):
    for method, step, ratio, steps in zip(METHODS, *(line.split() for line in PAPER[dataset]), strict=True):
        found = options(method, paper=dataset)
        assert (found.steps, found.mask_ratio, found.halve_step) == (int(steps), float(ratio), step.endswith("*"))
        assert found.step_size == 1 / 255
        assert found.eps == 0.2  # whatever the dataset: it is in no table


@pytest.mark.parametrize("method", METHODS)
def test_what_is_shown_as_default_is_the_row_of_cifar10(method):
    shown = {name: item.default for name, item in method.Options.model_fields.items() if not item.is_required()}
    found = options(method)
    assert {name: getattr(found, name) for name in shown} == shown
    assert identity(found) == identity(options(method, paper="cifar10"))
    assert "the paper's is not known" in method.Options.model_fields["eps"].description


@pytest.mark.parametrize("method", METHODS)
def test_what_is_told_counts_and_which_row_it_came_from_is_no_part_of_the_identity(method):
    for dataset in PAPER:
        row = options(method, paper=dataset)
        assert identity(row) == identity(options(method, **ROWS[method.name][dataset].options))
        assert "paper" not in identity(row)
        told = {"steps": 3, "step_size": 0.04, "halve_step": True, "eps": 0.3, "mask_ratio": 0.5}
        found = options(method, paper=dataset, **told)
        assert {name: getattr(found, name) for name in told} == told


@pytest.mark.parametrize("name", ["mnist", 10, ["cifar10"]])
def test_a_dataset_without_a_row_is_refused(name):
    with pytest.raises(ValidationError, match="paper"):
        options(MAEPure, paper=name)


def test_of_imagenet_the_loss_is_that_of_the_authors_checkpoint():
    assert [options(method, paper="imagenet").units for method in METHODS[:2]] == ["standardised"] * 2
    assert options(MAEPure, paper="imagenet", units="raw").units == "raw"
    assert options(MAEPure).units == "own"


def test_the_oracle_has_the_steps_of_mae_pure():
    oracle, other = AMVOracle.Options(mae="tiny"), options(MAEPure)
    assert all(getattr(oracle, name) == getattr(other, name) for name in ("steps", "step_size", "halve_step", "eps"))
