"""Objects: what names a function, a class, a network or an array of a Python session, so that results can be of it.

The hash of an object is of all that its numbers can depend on and that can be seen: source without comments and layout,
what a function takes from around it, weights, settings, arrays; of an installed package its name and version. What
cannot be named stably, such as an open file, is refused by a sentence that says how to do without.
"""

from __future__ import annotations

import ast
import dataclasses
import dis
import enum
import functools
import hashlib
import inspect
import io
import sys
import sysconfig
import textwrap
import types
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from harness.core.errors import UserError
from harness.core.syntax import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: values that are what they look like
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, type(...), range)

#: purebench's own packages, which have a version wherever they are
OURS = ("harness", "attacks", "defenses", "reports", "suites")

#: attributes of every network that say nothing of its numbers, or that its weights say
_OF_NETWORKS = frozenset(("training", "_modules", "_parameters", "_buffers"))


def object_hash(value: Any, name: str) -> str:
    """Return the sha256 that names an object.

    Args:
        value: a function, class, network, array, or what holds some.
        name: what sentences call it.

    Raises:
        UserError: if something in it has no stable name.
    """
    return _Teller(name).hash(value)


class _Teller:
    """Tells an object in words, each object once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: dict[int, int] = {}
        self.kept: list[Any] = []  # so that no other object gets its number meanwhile

    def hash(self, value: Any) -> str:
        whole = hashlib.sha256()
        for word in self.words(value, self.name):
            whole.update(len(word).to_bytes(8, "big") + word)
        return whole.hexdigest()

    def words(self, value: Any, where: str) -> Iterator[bytes]:
        """Yield what an object says; ``where`` is how one comes to it, for sentences."""
        if isinstance(value, _PLAIN) or value is Ellipsis:
            yield f"{type(value).__name__} {value!r}".encode()
            return
        if id(value) in self.seen:
            yield f"again {self.seen[id(value)]}".encode()
            return
        self.seen[id(value)] = len(self.seen)
        self.kept.append(value)
        yield f"<{type(value).__name__}".encode()
        yield from self._within(value, where)
        yield b">"

    def _within(self, value: Any, where: str) -> Iterator[bytes]:
        installed = _installed(value)
        if installed:
            yield installed.encode()
        elif isinstance(value, torch.Tensor):
            yield f"{value.dtype} {tuple(value.shape)}".encode()
            yield (
                value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
                if value.ndim
                else bytes(str(value.item()), "utf-8")
            )
        elif isinstance(value, np.ndarray | np.generic):
            array = np.ascontiguousarray(value)
            if array.dtype.hasobject:
                raise self._unnamed(where, "an array of objects", "make it an array of numbers")
            yield f"{array.dtype} {array.shape}".encode()
            yield array.tobytes()
        elif isinstance(value, list | tuple):
            for number, one in enumerate(value):
                yield from self.words(one, f"{where}[{number}]")
        elif isinstance(value, set | frozenset):
            yield from sorted(_Teller(where).hash(one).encode() for one in value)
        elif isinstance(value, dict):
            for key, one in value.items():
                yield from self.words(key, f"a key of {where}")
                yield from self.words(one, f"{where}[{key!r}]")
        elif isinstance(value, enum.Enum):
            yield str(value).encode()
            yield from self.words(type(value), f"the class of {where}")
        elif isinstance(value, functools.partial):
            yield from self.words((value.func, value.args, value.keywords), where)
        elif isinstance(value, types.MethodType):
            yield value.__name__.encode()
            yield from self.words(value.__self__, f"the object of {where}")
        elif isinstance(value, property | classmethod | staticmethod | functools.cached_property):
            parts = [getattr(value, one, None) for one in ("fget", "fset", "__func__", "func")]
            yield from self.words(parts, where)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value, where)
        elif isinstance(value, type):
            yield from self._class(value, where)
        elif isinstance(value, types.ModuleType):
            yield from self._module(value, where)
        elif isinstance(value, nn.Module):
            yield from self._network(value, where)
        elif hasattr(value, "__dict__") and not isinstance(value, types.BuiltinFunctionType | io.IOBase):
            yield from self.words(type(value), f"the class of {where}")
            yield from self.words(vars(value), where)
        else:
            raise self._unnamed(where, f"a {type(value).__name__}", "pass plain values, arrays, networks or functions")

    def _function(self, value: types.FunctionType, where: str) -> Iterator[bytes]:
        yield _source(value, where)
        yield from self.words(value.__defaults__, f"a default of {where}")
        yield from self.words(value.__kwdefaults__, f"a default of {where}")
        free = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
        for name, cell in free.items():
            try:
                held = cell.cell_contents
            except ValueError:  # it is bound later, as by a function that calls itself
                continue
            yield from self._named(name, held, where)
        for name in sorted(_names(value.__code__)):
            if name in value.__globals__:
                yield from self._named(name, value.__globals__[name], where)

    def _class(self, value: type, where: str) -> Iterator[bytes]:
        yield value.__qualname__.encode()
        for base in value.__mro__[1:-1]:
            yield from self.words(base, f"a base of {where}")
        for name, member in sorted(vars(value).items()):
            special = name.startswith("__") and name.endswith("__")
            made = getattr(getattr(member, "__code__", None), "co_filename", "<string>")
            if not special or made not in ("<string>", dataclasses.__file__):  # which dataclass makes of the fields
                yield from self._named(name, member, where)

    def _network(self, value: nn.Module, where: str) -> Iterator[bytes]:
        """Tell a network: its class, settings, weights and parts."""
        yield from self.words(type(value), f"the class of {where}")
        for name, held in sorted(vars(value).items()):
            if name not in _OF_NETWORKS and not _is_default(name, held):
                yield from self._named(name, held, where)
        for kind in ("_parameters", "_buffers", "_modules"):
            for name, part in getattr(value, kind).items():
                yield from self._named(name, part, where)

    def _module(self, value: types.ModuleType, where: str) -> Iterator[bytes]:
        """Tell a module that belongs to no installed package: its file, with what it imports from its folder."""
        from harness.core.local import read

        path = getattr(value, "__file__", None)
        if not path:
            raise self._unnamed(where, f"the module {value.__name__}, which has no file", "import it from a file")
        yield read(Path(path), str(path)).hash.encode()

    def _named(self, name: str, value: Any, where: str) -> Iterator[bytes]:
        yield name.encode()
        yield from self.words(value, f"{name} of {where}")

    def _unnamed(self, where: str, what: str, remedy: str) -> UserError:
        return UserError(
            f"expected {self.name} to be of what can be named by its content, but {where} is {what}; {remedy}, or put "
            "it in a file beside a suite"
        )


def _is_default(name: str, held: Any) -> bool:
    """Whether a private attribute of a network is as in every new one: hooks that nobody set, and the like."""
    blank = _blank()
    return name in blank and (held == blank[name] or (not held and not blank[name]))


@functools.cache
def _blank() -> Mapping[str, Any]:
    return vars(nn.Module())


def _installed(value: Any) -> str:
    """Return name and version of the distribution that an object comes from, with its own name; empty for no such."""
    if isinstance(value, types.ModuleType):
        module, own = value.__name__, ""
    elif isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.MethodDescriptorType):
        module, own = getattr(value, "__module__", None) or "builtins", value.__qualname__
    elif type(value).__module__ == "numpy" and callable(value):
        module, own = "numpy", getattr(value, "__name__", "")
    else:
        return ""
    top = module.partition(".")[0]
    if "<locals>" in own or top == "__main__":
        return ""
    if top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return f"python {sys.version_info.major}.{sys.version_info.minor} {module} {own}"
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    if top in OURS or (file and any(Path(file).is_relative_to(folder) for folder in _site_packages())):
        return f"{_versions().get(top, top)} {module} {own}"
    return ""


@functools.cache
def _site_packages() -> tuple[Path, ...]:
    return tuple({Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")})


@functools.cache
def _versions() -> Mapping[str, str]:
    """Return distribution and version of each installed top-level module."""
    found = {}
    for top, names in metadata.packages_distributions().items():
        distribution = metadata.distribution(names[0])
        found[top] = f"{names[0]} {distribution.version}"
    return found


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield the names that a function, and those within it, ask of their module."""
    yield from (str(one.argval) for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _source(value: types.FunctionType, where: str) -> bytes:
    """Return what a function's source says.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        text = textwrap.dedent(inspect.getsource(value))
        tree = ast.parse(text)
    except (OSError, TypeError):
        raise UserError(
            f"expected the source of {where}, found none; write it in a file or a notebook's cell, not at a prompt"
        ) from None
    except SyntaxError:  # a lambda within a longer statement
        raise UserError(f"expected the source of {where} by itself, got a part of a line; write it with def") from None
    return " ".join(_said(tree)).encode()


def _said(node: Any) -> Iterable[str]:
    """Yield what a syntax tree says, without layout, comments and docstrings."""
    if isinstance(node, list):
        yield "["
        for part in node:
            documents = isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
            if not (documents and isinstance(part.value.value, str)):
                yield from _said(part)
        yield "]"
    elif isinstance(node, ast.AST):
        yield type(node).__name__
        for name, held in ast.iter_fields(node):
            if name not in SILENT and held is not None and held != []:
                yield name
                yield from _said(held)
        yield "."
    else:
        yield repr(node)
