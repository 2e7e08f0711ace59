"""Checking plain values against a schema, with every complaint turned into a sentence of ours."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from harness.core.errors import Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic_core import ErrorDetails

    from harness.suite.document import Document, Path

M = TypeVar("M", bound=BaseModel)

#: error types that are about the kind of value
_KINDS = {
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer of ordinary size",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "nothing",
}

#: those that a text has in the place of a number
_NUMERIC = {"int_type", "int_parsing", "float_type", "float_parsing"}

#: error types about a bound: the words, and the name of the bound in the error's context
_BOUNDS = {
    "greater_than": ("a number greater than {}", "gt"),
    "greater_than_equal": ("a number of at least {}", "ge"),
    "less_than": ("a number less than {}", "lt"),
    "less_than_equal": ("a number of at most {}", "le"),
    "multiple_of": ("a multiple of {}", "multiple_of"),
    "too_short": ("a list of {} or more", "min_length"),
    "too_long": ("a list of {} or fewer", "max_length"),
    "string_too_short": ("a text of {} or more characters", "min_length"),
    "string_too_long": ("a text of {} or fewer characters", "max_length"),
    "string_pattern_mismatch": ("a text of the form {}", "pattern"),
}

#: what strict checking adds: texts and truth values that would pass for numbers and the like
_COERCED = {"int_type", "float_type", "string_type"}


#: what some readers of YAML take for a number: zeros in front, colons, underscores, other bases
_NUMERAL = re.compile(r"[-+]?[0-9][0-9_:.]*|0[xob][0-9a-fA-F_]+")


@dataclass(frozen=True)
class _Complaint:
    path: Path
    sentence: str
    expected: str = ""
    remedy: str = ""


def show(value: Any) -> str:
    """Write a value as in YAML, shortened."""
    if value is None:
        return "nothing"
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def check(model: type[M], data: Any, document: Document, path: Path = ()) -> tuple[M | None, list[Problem]]:
    """Check the value ``data``, which stands at ``path`` in the document; return it parsed, or all its problems.

    A text or a truth value never passes for a number, nor the other way round.
    """
    value, errors = _errors(model, data)
    if not errors:
        return value, []
    complaints = _fold([_translate(model, data, error) for error in errors])
    return None, [document.problem((*path, *one.path), one.sentence, one.remedy) for one in complaints]


def salvage(model: type[M], data: Any) -> M | None:
    """Parse what can be parsed, leaving out what is wrong; None where too little is left.

    For checks that come after, so that one mistake does not hide another.
    """
    value, errors = _errors(model, data)
    if not errors:
        return value
    pruned = copy.deepcopy(data)
    paths = {_path(data, error) for error in errors if error["type"] != "missing"}
    # from the end, so that positions in lists stay true
    for path in sorted(paths, key=lambda path: [str(step).zfill(9) for step in path], reverse=True):
        _remove(pruned, path)
    return _errors(model, pruned)[0]


def _remove(data: Any, path: Path) -> None:
    for step in path[:-1]:
        data = _child(data, step)
    if path and _has(data, path[-1]):
        del data[path[-1]]


def _has(data: Any, step: str | int) -> bool:
    if isinstance(step, int):
        return isinstance(data, list) and step < len(data)
    return isinstance(data, dict) and step in data


def _child(data: Any, step: str | int) -> Any:
    return data[step] if _has(data, step) else None


def _errors(model: type[M], data: Any) -> tuple[M | None, list[ErrorDetails]]:
    try:
        return model.model_validate_json(json.dumps(data), strict=True), []
    except ValidationError as error:
        strict = error.errors(include_url=False)
    value: M | None = None
    errors: list[ErrorDetails] = []
    try:
        value = model.model_validate(data)
    except ValidationError as error:
        errors = [item for item in error.errors(include_url=False) if not _only_seems_short(item)]
    seen = {_path(data, error) for error in errors}
    errors += [
        item
        for item in strict
        if _path(data, item) not in seen
        and (item["type"] == "bool_type" or (item["type"] in _COERCED and isinstance(item["input"], bool | str)))
    ]
    return (None if errors else value), errors


def _only_seems_short(error: ErrorDetails) -> bool:
    """Answer whether a list is called too short only because its items have mistakes of their own."""
    given = error["input"]
    return error["type"] == "too_short" and isinstance(given, list) and len(given) >= error["ctx"]["min_length"]


def _path(data: Any, error: ErrorDetails) -> Path:
    """Return where in the data an error is; pydantic also names the branches of unions, which are not there."""
    path: Path = ()
    last = len(error["loc"]) - 1
    for index, step in enumerate(error["loc"]):
        if _has(data, step):
            path, data = (*path, step), _child(data, step)
        elif index == last and error["type"] == "missing":
            path = (*path, step)
    return path


def _fold(complaints: Sequence[_Complaint]) -> Iterator[_Complaint]:
    """Join what the branches of a union say about the same value."""
    by_path: dict[Path, list[_Complaint]] = {}
    for one in complaints:
        by_path.setdefault(one.path, []).append(one)
    for path, group in by_path.items():
        expected = list(dict.fromkeys(one.expected for one in group if one.expected))
        if len(expected) > 1 and len(group) > 1:
            got = group[0].sentence.rpartition(", got ")[2]
            yield _Complaint(path, f"expected {' or '.join(expected)}, got {got}")
        else:
            yield from dict.fromkeys(group)


def _translate(model: type[BaseModel], data: Any, error: ErrorDetails) -> _Complaint:
    path, kind, context = _path(data, error), error["type"], error.get("ctx", {})
    got = show(error["input"])
    if kind == "missing":
        return _Complaint(path, f"expected the key {str(path[-1])!r}, got none")
    if kind == "extra_forbidden":
        key = str(error["loc"][-1])
        return _Complaint(path, f"unknown key {key!r}", remedy=nearest(key, _known_keys(model, error["loc"][:-1])))
    if kind in ("literal_error", "enum"):
        return _choice(path, str(context["expected"]), error["input"])
    if kind == "union_tag_invalid":
        key = str(context["discriminator"]).strip("'")
        return _choice((*path, key), str(context["expected_tags"]), context["tag"])
    if kind == "union_tag_not_found":
        return _Complaint(path, f"expected the key {context['discriminator']}, got none")
    if kind == "value_error":
        return _Complaint(path, str(context["error"]))
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        expected = words.format(context[bound])
    elif kind in _KINDS:
        expected = _KINDS[kind]
    else:
        expected = re.sub(r"^Input should be ", "", error["msg"])
    numeral = kind in _NUMERIC and isinstance(error["input"], str) and _NUMERAL.fullmatch(error["input"].strip())
    remedy = "write the number in decimal, without zeros in front and without quotes" if numeral else ""
    return _Complaint(path, f"expected {expected}, got {got}", expected, remedy)


def _choice(path: Path, expected: str, got: Any) -> _Complaint:
    names = re.findall(r"'([^']*)'", expected)
    expected = f"one of {', '.join(names)}"
    remedy = nearest(got, names) if isinstance(got, str) else ""
    return _Complaint(path, f"expected {expected}, got {show(got)}", expected, remedy if "?" in remedy else "")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _known_keys(model: type[BaseModel], loc: Sequence[int | str]) -> set[str]:
    """Return the keys that a schema knows at a place."""
    models = [model]
    for step in loc:
        fields = [one.model_fields[str(step)] for one in models if step in one.model_fields]
        if fields:
            models = [found for field in fields for found in _models(field.annotation)]
        elif isinstance(step, str):
            branch = [
                one for one in models if any(step in get_args(field.annotation) for field in one.model_fields.values())
            ]
            models = branch or models
    return {name for one in models for name in one.model_fields}
