"""YAML as people write it, read safely; every value knows its line. No other module sees raw YAML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from harness.core.errors import Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: keys and positions from the top of a file down to a value
Path = tuple[str | int, ...]

#: more values than anybody writes; aliases of aliases can multiply without bound
MOST_VALUES = 100_000

#: characters of a file, twenty times the longest that ships and read within two seconds; and of one value in it, as of
#: the longest path
MOST_CHARACTERS, LONGEST_VALUE = 100_000, 4_096

_PREFIX = "tag:yaml.org,2002:"
_PLAIN = {_PREFIX + kind for kind in ("str", "int", "float", "bool", "null")}
_MERGE = _PREFIX + "merge"

#: what plain words are read as, where all versions of YAML and all people agree; everything else is text
_MEANINGS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "int": (r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9]+([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
        r"|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
}

#: beyond the largest integer, either way, that everything behind can hold; its digits with the sign
_LARGEST, _DIGITS = 2**63, 20


class _YamlLoader(yaml.SafeLoader):
    """Scalars are text, numbers, true, false and null.

    Dates, ``yes`` and ``on``, ``010`` (8 or 10?), ``2:30`` (150?) and ``1_000`` are text, which an option that wants
    something else refuses.
    """


_YamlLoader.yaml_implicit_resolvers = {}
for _kind, (_form, _first) in _MEANINGS.items():
    _YamlLoader.add_implicit_resolver(_PREFIX + _kind, re.compile(rf"(?:{_form})\Z"), list(_first))


def dotted(path: Path) -> str:
    """Write a path as people read it, such as ``attacks[1].params.steps``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


@dataclass(frozen=True)
class Document:
    """A parsed file.

    Attributes:
        name: the file as shown in errors.
        data: plain values: mappings with text keys, lists, text, numbers, true, false, None.
        lines: from the path of a value to its line, counted from 1.
        problems: repeated keys, found while reading.
    """

    name: str
    data: Any
    lines: Mapping[Path, int]
    problems: tuple[Problem, ...] = ()

    def line(self, path: Path) -> int:
        """Return the line of a value, or of the nearest thing around it that is written down."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: Path, sentence: str, remedy: str = "") -> Problem:
        """Say what is wrong with the value at a path."""
        return Problem(sentence, f"{self.name}:{self.line(path)}", dotted(path), remedy)


class _Walk:
    """Turns composed nodes into plain values, noting lines, repeated keys and refused tags on the way."""

    def __init__(self, name: str, loader: _YamlLoader) -> None:
        self.name = name
        self.loader = loader
        self.lines: dict[Path, int] = {}
        self.repeated: list[Problem] = []
        self.refused: list[Problem] = []
        self.values = 0
        self.open: set[int] = set()

    def problem(self, node: yaml.Node, path: Path, sentence: str, remedy: str = "") -> Problem:
        return Problem(sentence, f"{self.name}:{node.start_mark.line + 1}", dotted(path), remedy)

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.values += 1
        if self.values > MOST_VALUES:
            raise UserError(
                self.problem(node, (), f"expected at most {MOST_VALUES} values, got more", "use fewer aliases")
            )
        if id(node) in self.open:
            self.refused.append(self.problem(node, path, "expected a finite value, got an alias of itself"))
            return None
        self.lines.setdefault(path, node.start_mark.line + 1)
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
                return self.mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
                return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
            return self.scalar(node, path)
        finally:
            self.open.discard(id(node))

    def scalar(self, node: yaml.Node, path: Path) -> Any:
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _PLAIN:
            tag = node.tag.replace(_PREFIX, "!!", 1)
            self.refused.append(
                self.problem(
                    node, path, f"expected plain YAML without tags, got the tag {tag!r}", "write the value itself"
                )
            )
            return None
        kind = node.tag.removeprefix(_PREFIX)
        if kind != "int" and len(node.value) > LONGEST_VALUE:  # an integer has a limit of its own
            sentence = f"expected a value of at most {LONGEST_VALUE} characters, got {len(node.value)}"
            self.refused.append(self.problem(node, path, sentence, "shorten it"))
            return None
        form = _MEANINGS.get(kind, (r"(?s).*",))[0]
        if re.fullmatch(form, node.value) is None:  # a tag may promise what the text is not
            self.refused.append(self.problem(node, path, f"expected a value of type !!{kind}, got {node.value[:60]!r}"))
            return None
        if kind == "int" and (len(node.value) > _DIGITS or abs(int(node.value)) >= _LARGEST):
            sentence = f"expected an integer between -2^63 and 2^63, got {node.value[:60]}"
            self.refused.append(
                self.problem(node, path, sentence, "write a smaller one, or a real number such as 1e20")
            )
            return None
        return self.loader.construct_object(node)

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                for source in self.merge_sources(value_node, path):
                    merged = {**self.mapping_of(source, path), **merged}
                continue
            key = self.scalar(key_node, path)
            if not isinstance(key, str):
                if key_node.tag in _PLAIN:
                    self.refused.append(self.problem(key_node, path, f"expected a text as key, got {key_node.value!r}"))
                continue
            if key in first_line:
                self.repeated.append(
                    self.problem(
                        key_node,
                        (*path, key),
                        f"the key {key!r} is repeated, first on line {first_line[key]}",
                        "keep one",
                    )
                )
                continue
            first_line[key] = line
            self.lines[(*path, key)] = line
            own[key] = self.value(value_node, (*path, key))
        return {**merged, **own}

    def merge_sources(self, node: yaml.Node, path: Path) -> Iterator[yaml.Node]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in nodes:
            if isinstance(source, yaml.MappingNode):
                yield source
            else:
                self.refused.append(self.problem(source, path, "expected '<<' to merge mappings, got something else"))

    def mapping_of(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        value = self.value(node, path)
        return value if isinstance(value, dict) else {}


def parse(text: str, name: str) -> Document:
    """Read YAML text; ``name`` is the file as shown in errors.

    Raises:
        UserError: if the text is no YAML, holds more than one document, or carries tags other than those of plain
            values: nothing in a file can name code to run.
    """
    if len(text) > MOST_CHARACTERS:
        sentence = f"expected a file of at most {MOST_CHARACTERS} characters, got {len(text)}"
        raise UserError(Problem(sentence, f"{name}:1", remedy="divide it"))
    try:
        loader = _YamlLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                raise UserError(Problem("expected a mapping of keys, got an empty file", f"{name}:1"))
            walk = _Walk(name, loader)
            data = walk.value(root, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise UserError(_syntax(error, name)) from None
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise UserError(Problem(f"expected YAML text, got something unreadable ({reason})", f"{name}:1")) from None
    except RecursionError:
        raise UserError(Problem("expected YAML of ordinary depth, got one nested too deeply", f"{name}:1")) from None
    if walk.refused:
        raise UserError(walk.refused + walk.repeated)
    return Document(name, data, walk.lines, tuple(walk.repeated))


def _syntax(error: yaml.MarkedYAMLError, name: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    where = f"{name}:{mark.line + 1}" if mark else f"{name}:1"
    reason = " ".join(part for part in (error.context, error.problem) if part)
    column = f" at column {mark.column + 1}" if mark else ""
    return Problem(f"expected YAML, got a syntax error{column} ({reason})", where)
