import json

import pytest
from pydantic import BaseModel

from harness.core.contracts import Traits
from harness.suite import catalog, schema, shipped
from harness.suite.catalog import OptionInfo


def references(value):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def entry_of(published, axis):
    name = published["properties"][axis]["items"]["$ref"].removeprefix("#/$defs/")
    return published["$defs"][name]


def test_the_schema_is_plain_json_and_every_reference_leads_somewhere():
    published = schema.json_schema()
    json.dumps(published)
    assert published["$schema"].endswith("2020-12/schema")
    for reference in references(published):
        assert reference.removeprefix("#/$defs/") in published["$defs"]


@pytest.mark.parametrize(
    ("axis", "names"),
    [
        ("datasets", ["dots"]),
        ("classifiers", ["trained"]),
        ("defenses", ["blur", "none"]),
        ("attacks", ["push"]),
        ("threat_models", ["Linf", "L2", "L1", "flow", "corruption"]),
        ("certificates", ["vote"]),
    ],
)
def test_registered_names_are_offered(axis, names):
    assert entry_of(schema.json_schema(), axis)["properties"]["use"]["enum"] == names


def test_the_params_follow_from_the_component():
    blur, _ = entry_of(schema.json_schema(), "defenses")["allOf"]
    assert blur["if"]["anyOf"][0]["properties"]["use"]["const"] == "blur"
    params = blur["then"]["properties"]["params"]
    assert params["additionalProperties"] is False
    assert params["properties"]["mode"]["enum"] == ["soft", "hard"]
    assert blur["then"]["required"] == ["params"]


def test_shipped_recipes_are_offered_and_paths_allowed(monkeypatch, folder):
    monkeypatch.setattr(shipped, "recipes", lambda: {"dots-cnn": folder / "cnn.yaml"})
    published = schema.json_schema()
    (trained,) = entry_of(published, "classifiers")["allOf"]
    offered = [{"enum": ["dots-cnn"]}, {"type": "string", "minLength": 1}]
    assert trained["then"]["properties"]["params"]["properties"]["recipe"]["anyOf"] == offered
    assert published["$defs"]["ProbeOptions"]["properties"]["recipe"]["anyOf"] == offered


def test_a_component_that_cannot_be_imported_is_still_a_name(components):
    entry = components["attack"]["push"]
    components["attack"]["lost/push"] = type(entry)("attack", "lost/push", "no_such_module_here:Push", "lost 1.0")
    published = entry_of(schema.json_schema(), "attacks")
    assert published["properties"]["use"]["enum"] == ["lost/push", "push"]
    assert len(published["allOf"]) == 1


def test_every_field_is_described():
    models = [value for value in vars(schema).values() if isinstance(value, type) and issubclass(value, BaseModel)]
    own = [model for model in models if model.__module__ == schema.__name__]
    assert len(own) >= 10
    for model in own:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


# ---------------------------------------------------------------------- the catalogue


def test_a_component_is_listed_with_its_options():
    blur, none = catalog.components("defense")
    assert (blur.name, blur.summary, blur.origin, blur.fault) == ("blur", "Refuses exact gradients.", "purebench 0", "")
    assert blur.options == (
        OptionInfo("net", "recipe", None, "what to blur with"),
        OptionInfo("strength", "number", "0.5", "how much"),
        OptionInfo("mode", "soft | hard", "soft", "which way"),
        OptionInfo("sizes", "list of integer", "(1, 2)", "of the windows"),
    )
    assert blur.traits == Traits(random=True, differentiable=False)
    assert none.options == ()


def test_options_that_may_be_nothing_say_so():
    (push,) = catalog.components("attack")
    assert [(one.type, one.default) for one in push.options] == [
        ("integer", "10"),
        ("number | nothing", "nothing"),
        ("true or false", "true"),
    ]
    assert push.traits is None


def test_a_component_that_cannot_be_imported_is_listed_with_the_reason(components):
    entry = components["attack"]["push"]
    components["attack"]["push"] = type(entry)("attack", "push", "no_such_module_here:Push", "lost 1.0")
    (push,) = catalog.components("attack")
    assert "importing it failed with ModuleNotFoundError" in push.fault


def test_shipped_files_are_listed_with_their_titles(monkeypatch, folder, suite_text):
    (folder / "demo.yaml").write_text(suite_text, encoding="utf-8")
    monkeypatch.setattr(shipped, "suites", lambda: {"demo": folder / "demo.yaml"})
    monkeypatch.setattr(shipped, "recipes", lambda: {"dots-cnn": folder / "cnn.yaml"})
    assert catalog.suites() == (catalog.FileInfo("demo", "A demonstration"),)
    assert catalog.recipes() == (catalog.FileInfo("dots-cnn", "cnn, classify, dots"),)


def test_shipped_files_are_found_in_the_package():
    assert all(file.is_file() for file in (*shipped.suites().values(), *shipped.recipes().values()))


def test_a_cheaper_version_of_a_defense_is_in_the_schema():
    published = schema.json_schema()
    assert "surrogate" in entry_of(published, "defenses")["properties"]
    assert "surrogate" not in entry_of(published, "attacks")["properties"]
