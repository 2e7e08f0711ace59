"""Options: numbers as people write them, and sizes within the range of their unit."""

import re

import pytest
from pydantic import Field, ValidationError

from harness.core import registry
from harness.options import LARGEST, PIXELS, SIGNED_PIXELS, Eps, InNorm, Number, Options, Pixels, Range, Seed, marked
from harness.training.recipe import Budget


class Some(Options):
    number: Number = 1.0
    length: Eps | None = None
    pixels: Pixels = Field(0.1, gt=0)
    several: Pixels | tuple[Pixels, ...] = 0.1
    seed: Seed = 0


class Nested(Options):
    inner: Some = Some()
    listed: tuple[Some, ...] = ()


def refusal(**given):
    with pytest.raises(ValidationError) as caught:
        Some(**given)
    return caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("8/255", 8 / 255),
        ("0.5/255", 0.5 / 255),
        (".5/255", 0.5 / 255),
        ("2./255", 2 / 255),
        ("1e-1/255", 0.1 / 255),
        ("8 / 255.0", 8 / 255),
        (" 1/3 ", 1 / 3),
        ("-8/255", -8 / 255),
        ("3/2e-2", 150.0),
    ],
)
def test_a_fraction_of_any_two_numbers_is_their_quotient(written, value):
    assert Some(number=written).number == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "written", ["8/0", "8/0.0", "1/2/3", "a/b", "/2", "2/", "inf/2", "1_0/255", "1e400/1", "1/1e-999", "1e999999999/1"]
)
def test_what_is_no_fraction_is_a_sentence(written):
    said = refusal(number=written)
    assert said == f"Value error, expected a number or a fraction such as 8/255, got {written!r}"


@pytest.mark.parametrize("field", ["pixels", "several"])
@pytest.mark.parametrize("value", [8, 1.01, 16, 255])
def test_a_size_in_grey_levels_is_refused_with_the_fraction_to_write(field, value):
    said = refusal(**{field: value})
    assert f"expected at most 1, since pixels are in [0, 1], got {value:g}; " in said
    assert f"{value:g} of 255 grey levels is {value:g}/255" in said


def test_a_size_that_is_no_grey_level_either_is_refused_with_an_example():
    assert refusal(pixels=300).endswith("grey levels of 255 are written as fractions, such as 8/255")


@pytest.mark.parametrize("value", [1, 1.0, 0.5, "8/255", "255/255"])
def test_a_size_within_the_range_is_kept(value):
    assert 0 < Some(pixels=value).pixels <= 1


@pytest.mark.parametrize(
    ("found", "value", "odd"),
    [
        (PIXELS, 0.5, False),
        (PIXELS, 0.6, True),
        (PIXELS, 0.98, True),
        (PIXELS, 1.0, False),  # all of the range is meant as such
        (SIGNED_PIXELS, 0.6, False),
        (SIGNED_PIXELS, 1.2, True),
        (SIGNED_PIXELS, 2.0, False),
    ],
)
def test_more_than_half_of_the_range_is_odd_unless_it_is_all_of_it(found, value, odd):
    assert found.error(value) is None
    assert (found.doubt(value) is not None) == odd


def test_signed_pixels_have_twice_the_range():
    assert SIGNED_PIXELS.error(16) == (
        "expected at most 2, since pixels are in [-1, 1] here, got 16; 16 of 255 grey levels is 2 * 16/255"
    )


def test_marks_are_found_in_nested_options_and_lists_and_never_on_defaults():
    given = Nested(inner=Some(pixels=0.3, length=2.0), listed=(Some(several=(0.1, 0.7)), Some()))
    ranged = {path: value for path, _, value in marked(given, Range)}
    assert ranged == {
        ("inner", "pixels"): 0.3,
        ("listed", 0, "several", 0): 0.1,
        ("listed", 0, "several", 1): 0.7,
    }
    assert [(path, value) for path, _, value in marked(given, InNorm)] == [(("inner", "length"), 2.0)]


def test_a_seed_has_63_bits():
    assert Some(seed=LARGEST).seed == 2**63 - 1
    assert "less than or equal to" in refusal(seed=2**63)


#: sizes by name that are no sizes in pixels, and why
OTHERWISE = {
    "sigma_data": "a part of EDM's formulae",
    "norm_eps": "a summand of variances",
    "blur.sigma": "a distance on the grid of pixels",
    "cw.step_size": "Adam's, in a space without ends",
}


def declared():
    for kind in registry.TABLES:
        for name, entry in registry.entries(kind).items():
            if entry.origin.startswith("purebench "):
                yield name, entry.load().Options
    yield "budget", Budget


def test_every_size_of_every_component_has_a_range():
    sizes = [
        (f"{name}.{field}", options, field)
        for name, options in declared()
        for field in options.model_fields
        if re.search(r"(^|_)(eps|sigma|step_size)(_|$)", field)
    ]
    assert len(sizes) > 20
    for title, options, field in sizes:
        if title in OTHERWISE or field in OTHERWISE:
            continue
        given = options.model_construct(_fields_set={field}, **{field: 0.1})
        found = [*marked(given, Range), *marked(given, InNorm)]
        assert found, f"{title} has no range: annotate it Pixels, SignedPixels or Eps, or say here why it has none"


@pytest.mark.parametrize("field", ["mean", "std"])
def test_a_normalisation_in_grey_levels_is_refused(field):
    from harness.nets.files import FromFile
    from harness.nets.sizes import MAESize, ResNetSize

    sha256, wrong = "0" * 64, (125.3, 123.0, 113.9)
    for build in (
        lambda: FromFile.Options(net="resnet20", file="a.safetensors", sha256=sha256, **{field: wrong}),
        lambda: ResNetSize(use="resnet", **{field: wrong}),
        lambda: MAESize(use="mae", **{field: wrong}),
    ):
        with pytest.raises(ValidationError, match=r"125\.3 of 255 grey levels is 125\.3/255"):
            build()
