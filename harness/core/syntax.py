"""Syntax: the code behind a name, as a hash over syntax trees that no layout, docstring, comment or file name changes.

What is hashed is a set of items, each with references to others: the one that is named, and what it reaches in its own
family of modules. An item is told by what it says, never by where it stands, so that a module may be moved or renamed.
Of purebench itself an item is a definition, since many components share a module; of other packages it is a whole
module, since nobody knows what else such a module does when it is imported.
"""

from __future__ import annotations

import ast
import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.core.reading import Module, called, read, says_nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec

#: how far around an item its references are told apart; every item counts by itself, however far away
ROUNDS = 3

#: fields of a syntax tree that say nothing of what it does
SILENT = frozenset(("ctx", "kind", "type_comment", "type_ignores"))


class Key(NamedTuple):
    """An item: a definition of a module; without a name the whole module, under EFFECTS what importing it does."""

    module: str
    name: str = ""


EFFECTS = "!"


class Ref(NamedTuple):
    """A reference within an item: to another item, and what is taken of it."""

    to: Key
    taken: str = ""


#: what an item says: words, references to other items, and some in no order
Said = list["str | Ref | frozenset[Ref]"]


class Family:
    """Modules that are read together: those of which ``own`` is true, by their dotted name.

    Args:
        own: whether a module is one of the family.
        whole: whether an item is a whole module, rather than a definition.
        find: says where a module comes from; Python's own way if None.
    """

    def __init__(
        self, own: Callable[[str], bool], *, whole: bool, find: Callable[[str], ModuleSpec | None] | None = None
    ) -> None:
        self._own, self._whole, self._find = own, whole, find
        self._modules: dict[str, Module | None] = {}
        self._said: dict[Key, Said] = {}

    def hash(self, target: str, aside: Sequence[str] = ()) -> str | None:
        """Return the hash of a target, ``module:name`` or ``module:TABLE[key]``; None where nothing can be read.

        Args:
            target: what is hashed with all that it reaches.
            aside: targets that count by their names alone, with what only they reach.
        """
        module, _, name = target.partition(":")
        apart = {Key(*one.split(":")) for one in aside}
        root = self._root(module, name)
        if root is None:
            return None
        said: dict[Key, Said] = {}
        waiting = [root]
        while waiting:
            key = waiting.pop()
            if key in said:
                continue
            said[key] = [
                word.to.name if isinstance(word, Ref) and word.to in apart else word for word in self._say(key)
            ]
            waiting += [ref.to for word in said[key] if not isinstance(word, str) for ref in _refs(word)]
            if not self._whole and self._acts(key.module):
                waiting.append(Key(key.module, EFFECTS))
        labels = dict.fromkeys(said, "")
        for _ in range(ROUNDS):
            labels = {key: _digest([_labelled(word, labels) for word in words]) for key, words in said.items()}
        return _digest([labels[root], *sorted(labels.values())])

    def _root(self, module: str, name: str) -> Key | None:
        """Return the item that a target is, wherever it is defined."""
        found = self._load(module)
        if found is None or (found.tree is None and not found.data):
            return None
        if self._whole or found.tree is None:
            where = [ref for ref in self._names(module, name) if isinstance(ref, Ref)]
            return where[0].to if where else Key(module)
        table, bracket, _ = name.partition("[")
        where = [ref for ref in self._names(module, table) if isinstance(ref, Ref)]
        if not where:
            return None
        return Key(where[0].to.module, where[0].to.name + name[len(table) :]) if bracket else where[0].to

    # ------------------------------------------------------------------ reading modules

    def _load(self, name: str) -> Module | None:
        """Return a module of the family; None where it is none, or is not there."""
        if name not in self._modules:
            self._modules[name] = read(name, self._find) if self._own(name) else None
        return self._modules[name]

    def _acts(self, name: str) -> bool:
        """Whether importing a module does more than to bind names."""
        found = self._load(name)
        return found is not None and bool(found.effects)

    # ------------------------------------------------------------------ what names stand for

    def _names(self, module: str, name: str, seen: frozenset[Key] = frozenset()) -> list[Ref | str]:
        """Return what a name in a module stands for: items, whole modules (a Ref without a name), or what is elsewhere.

        Nothing is returned for what is no name of the module's: a local variable or a builtin.
        """
        here, key = self._load(module), Key(module, name)
        if here is None or key in seen:
            return []
        found: list[Ref | str] = []
        if name in here.bound:
            found.append(Ref(Key(module), f".{name}") if self._whole else Ref(key))
        for origin, attribute in here.imported.get(name, ()):
            found += self._member(origin, attribute, seen | {key}) if attribute else [self._module(origin)]
        for origin in here.stars if not found else ():
            found += self._names(origin, name, seen | {key})
        return found

    def _module(self, name: str) -> Ref | str:
        """Return a module as a reference, or the name of one that is not read."""
        if self._load(name) is not None:
            return Ref(Key(name))
        return "absent" if self._own(name) else name

    def _member(self, module: str, name: str, seen: frozenset[Key] = frozenset()) -> list[Ref | str]:
        """Return what an attribute of a module stands for."""
        here = self._load(module)
        if here is None:
            return [f"{self._module(module)}.{name}"]
        found = self._names(module, name, seen)
        # of a module that is no package nothing else is asked for: to look for a module within would import it
        if not found and here.package and self._load(f"{module}.{name}") is not None:
            return [Ref(Key(f"{module}.{name}"))]
        return found or [Ref(Key(module), f".{name}")]

    def _follow(self, module: str, name: str, attributes: list[str]) -> list[tuple[Ref | str, list[str]]]:
        """Return what a name with attributes stands for, and the attributes that are left."""
        ends = []
        for found in self._names(module, name):
            left, now = list(attributes), [found]
            while left and isinstance(now[0], Ref) and not now[0].to.name and not now[0].taken:
                now = self._member(now[0].to.module, left.pop(0))
            ends += [(end, left) for end in now]
        return ends

    # ------------------------------------------------------------------ what items say

    def _say(self, key: Key) -> Said:
        if key not in self._said:
            self._said[key] = list(self._statements(key))
        return self._said[key]

    def _statements(self, key: Key) -> Iterator[str | Ref | frozenset[Ref]]:
        """Yield what an item says; what a module imports belongs to it, whether or not it is spoken of."""
        here = self._load(key.module)
        if here is None:
            return
        if here.tree is None:
            yield hashlib.sha256(here.data).hexdigest()
            return
        if key.name == EFFECTS:
            body: Sequence[ast.AST] = here.effects
        elif not key.name:
            body = here.tree.body
            imported = [self._module(origin) for origin in here.stars]
            for origin, name in (pair for pairs in here.imported.values() for pair in pairs):
                imported += self._member(origin, name) if name else [self._module(origin)] if name == "" else []
            yield from sorted({one for one in imported if isinstance(one, str)})
            yield frozenset(Ref(one.to) for one in imported if isinstance(one, Ref) and one.to != key)
        else:
            table, bracket, entry = key.name.partition("[")
            body = here.bound.get(table, [])
            if bracket:
                body = [_entry(body, entry.rstrip("]"))]
        for statement in body:
            yield from self._tell(statement, key)

    def _tell(self, node: Any, key: Key) -> Iterator[str | Ref]:
        """Yield what a node of a syntax tree says, the same in every version of Python."""
        if isinstance(node, list):
            yield "["
            for part in node:
                if not (isinstance(part, ast.stmt) and says_nothing(part)):
                    yield from self._tell(part, key)
            yield "]"
        elif isinstance(node, ast.Name | ast.Attribute):
            yield from self._chain(node, key)
        elif isinstance(node, ast.Constant):
            yield f"{type(node.value).__name__} {node.value!r}"
        elif isinstance(node, ast.stmt) and says_nothing(node):
            return
        elif isinstance(node, ast.AST):
            yield type(node).__name__
            for name, value in ast.iter_fields(node):
                if name in SILENT or value is None or value == []:
                    continue
                kept = [one for one in value if one.arg != "description"] if _described(node, name) else value
                yield name
                yield from self._tell(kept, key)
            yield "."
        else:
            yield repr(node)

    def _chain(self, node: ast.Name | ast.Attribute, key: Key) -> Iterator[str | Ref]:
        """Yield what a name with attributes says: what it stands for, if that is known, else itself."""
        attributes: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            attributes.insert(0, base.attr)
            base = base.value
        found = []
        if isinstance(base, ast.Name):
            found = self._follow(key.module, base.id, attributes)
            if self._whole:  # a module's own names are its own affair
                found = [(end, left) for end, left in found if not isinstance(end, Ref) or end.to != Key(key.module)]
        if not found:
            if isinstance(base, ast.Name):
                yield f"name {base.id}"
            else:
                yield from self._tell(base, key)
            yield from (f".{attribute}" for attribute in attributes)
            return
        for end, left in found:
            if isinstance(end, Ref):
                yield Ref(end.to, ".".join([end.taken, *left]))
            else:
                yield ".".join([f"from {end}", *left])


def _described(node: ast.AST, name: str) -> bool:
    """Whether these are the keywords of an option, of which the description is for people."""
    return isinstance(node, ast.Call) and name == "keywords" and called(node) == "Field"


def _entry(statements: Sequence[ast.stmt], key: str) -> ast.expr:
    """Return the entry of a literal table.

    Raises:
        LookupError: if the statements are none, or it has no such entry.
    """
    for statement in statements:
        table = getattr(statement, "value", None)
        if isinstance(table, ast.Dict):
            for name, value in zip(table.keys, table.values, strict=True):
                if isinstance(name, ast.Constant) and name.value == key:
                    return value
    raise LookupError(f"expected a literal table with the entry {key!r}")


def _refs(word: Ref | frozenset[Ref]) -> Iterator[Ref]:
    yield from [word] if isinstance(word, Ref) else word


def _labelled(word: str | Ref | frozenset[Ref], labels: Mapping[Key, str]) -> str:
    """Return a word with labels in place of references."""
    if isinstance(word, str):
        return word
    return " ".join(sorted(f"@{labels[ref.to]}{ref.taken}" for ref in _refs(word)))


def _digest(words: Sequence[str]) -> str:
    """Return the hash of some words, so that no two lists of them look alike."""
    whole = hashlib.sha256()
    for word in words:
        whole.update(f"{len(word)} {word}\n".encode(errors="surrogatepass"))
    return whole.hexdigest()
