"""Local code: components in a file of the user's own beside a suite, known by what it and what it imports there say.

``use: ./mine.py:Wavelet`` in a suite names the class ``Wavelet`` of ``mine.py``. It is the user's own code and runs as
any script of theirs does. Every driver reads the file beside its own suite and hands its text to the workers that it
starts; what a database holds of it is for reading, and is never run.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import importlib.abc
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from harness.core import session
from harness.core.errors import UserError
from harness.core.registry import RegistryEntry, find
from harness.core.syntax import Family

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import ModuleType

    from harness.core.spec import Spec

#: before the name of a class, in place of a registered name
LOCAL = "file:"

#: the option beside a local component's own that holds the hash of its code
SOURCE = "source"

#: as a suite names a component of a file
_WRITTEN = re.compile(r"(?P<path>.*\.py):(?P<name>[^\W\d]\w*)")

#: the package in which local modules live, each set under its own hash, so that two files may both import ``helpers``
_PACKAGE = "purebench_local"

#: files that a component may consist of, and characters of them all
MOST_FILES, MOST_CHARACTERS = 200, 300_000


@dataclass(frozen=True)
class Code:
    """A file with what it imports from its own folder.

    Attributes:
        main: the file's name, without folder.
        files: path from its folder, and text, of every file; sorted.
    """

    main: str
    files: tuple[tuple[str, str], ...]

    @cached_property
    def modules(self) -> Mapping[str, tuple[str, str]]:
        """Path and text of each module, by its dotted name."""
        return {_module(path): (path, text) for path, text in self.files}

    @cached_property
    def exactly(self) -> str:
        """Names the files to the letter: sha256 over paths and texts."""
        whole = hashlib.sha256()
        for part in (self.main, *(word for file in self.files for word in file)):
            data = part.encode("utf-8", "surrogatepass")
            whole.update(len(data).to_bytes(8, "big") + data)
        return whole.hexdigest()

    @cached_property
    def hash(self) -> str:
        """Names what the code does: no layout, comment, docstring or file name changes it.

        Raises:
            UserError: if the file is no Python.
        """
        family = Family(self.modules.__contains__, whole=True, find=self._spec)
        found = family.hash(f"{_module(self.main)}:")
        if found is None:
            raise UserError(f"expected Python in {self.main}, got something unreadable")
        return found

    def component(self, name: str) -> Any:
        """Import the file and return what has that name in it.

        Raises:
            AttributeError: if nothing has; whatever importing it raises.
        """
        _importable[self.package] = self
        return getattr(importlib.import_module(f"{self.package}.{_module(self.main)}"), name)

    @property
    def package(self) -> str:
        """The package that the modules are imported in."""
        return f"{_PACKAGE}.h{self.exactly[:16]}"

    def _spec(self, name: str) -> ModuleSpec | None:
        """Say where a module comes from, by the name that it has in its folder."""
        if name not in self.modules:
            return None
        path, text = self.modules[name]
        package = PurePosixPath(path).name == "__init__.py"
        return ModuleSpec(name, _Loader(self, name, text), origin=path, is_package=package)


def is_local(use: str) -> bool:
    """Whether what a spec uses is a class of a file."""
    return use.startswith(LOCAL)


def written(use: str) -> tuple[str, str] | None:
    """Return path and class where a suite names a file's class; None where it names something else."""
    found = _WRITTEN.fullmatch(use)
    return (found["path"], found["name"]) if found else None


def read(path: Path, shown: str) -> Code:
    """Read a file with the modules that it imports from its own folder, and those that these import.

    Import statements are followed, also those within functions; of a package in the folder all modules are taken. Names
    that are made up at run time are not followed, nor are data files.

    Args:
        path: the file.
        shown: its name in sentences.

    Raises:
        UserError: if it cannot be read, is no Python, or is too much.
    """
    root, texts, waiting = path.parent, {}, [path]
    while waiting:
        file = waiting.pop()
        name = file.relative_to(root).as_posix()
        if name in texts:
            continue
        texts[name] = _text(file, shown if file == path else str(file))
        if len(texts) > MOST_FILES or sum(map(len, texts.values())) > MOST_CHARACTERS:
            limit = f"{MOST_FILES} files and {MOST_CHARACTERS} characters"
            raise UserError(
                f"expected at most {limit} of code beside {shown}, got more; install it as a package and name a plug-in"
            )
        waiting += _imported(root, texts[name], shown if file == path else str(file))
    return Code(path.name, tuple(sorted(texts.items())))


def is_code(main: str, files: Mapping[str, object], digest: str) -> bool:
    """Whether a recorded text has the hash that it is recorded under."""
    texts = [(path, text) for path, text in sorted(files.items()) if isinstance(text, str)]
    if len(texts) > MOST_FILES or sum(len(text) for _, text in texts) > MOST_CHARACTERS:
        return False
    try:
        return len(texts) == len(files) and Code(main, tuple(texts)).hash == digest
    except (UserError, RecursionError, MemoryError):
        return False


def _text(file: Path, shown: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"expected Python code in {shown}, but {reason}") from None


def _imported(root: Path, text: str, shown: str) -> Iterator[Path]:
    """Yield the files of a folder that a module in it imports."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f" on line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise UserError(f"expected Python in {shown}, got a syntax error{line}: {error}") from None
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        for top in {name.partition(".")[0] for name in names}:
            if (root / f"{top}.py").is_file():
                yield root / f"{top}.py"
            elif (root / top / "__init__.py").is_file():
                yield from sorted((root / top).rglob("*.py"))


def _module(path: str) -> str:
    """Return the dotted name of a file."""
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


# ---------------------------------------------------------------------- what this process knows

_known: dict[str, Code] = {}


def know(codes: Iterable[Code]) -> None:
    """Make code known to this process, so that specs that name its hash can be built."""
    for code in codes:
        _known[code.hash] = code


def known(source: str) -> Code | None:
    """Return the code of a hash, if this process knows it."""
    return _known.get(source)


def sources(specs: Iterable[Spec]) -> frozenset[str]:
    """Return the hashes of the code of files, and of this process, that specs name, in their parts too."""
    found: set[str] = set()
    todo = list(specs)
    while todo:
        spec = todo.pop()
        if (is_local(spec.use) or session.is_session(spec.use)) and SOURCE in spec.params:  # a recipe's is its net's
            found.add(str(spec.params[SOURCE]))
        todo += [part for _, part in spec.parts]
    return frozenset(found)


@dataclass(frozen=True)
class LocalEntry(RegistryEntry):
    """A class of a file.

    Attributes:
        code: the file.
    """

    code: Code

    def _component(self) -> Any:
        return self.code.component(self.name.removeprefix(LOCAL))

    def _remedy(self) -> str:
        return f"mend {self.code.main}"


def entry(kind: str, name: str, code: Code) -> LocalEntry:
    """Return the entry of a file's class."""
    return LocalEntry(kind, f"{LOCAL}{name}", f"{code.main}:{name}", code.main, code)


def entry_of(spec: Spec) -> RegistryEntry:
    """Return the entry of the component that a spec names.

    Raises:
        UserError: if no such name is registered, or the code of a file is not at hand.
    """
    if session.is_session(spec.use):
        return session.entry_of(spec, str(spec.params.get(SOURCE)))
    if not is_local(spec.use):
        return find(spec.kind, spec.use)
    code = _known.get(str(spec.params.get(SOURCE)))
    if code is None:
        name = spec.use.removeprefix(LOCAL)
        raise UserError(
            f"expected the file with the {spec.kind} {name} (code {str(spec.params.get(SOURCE))[:12]}), which is not "
            "at hand; name it with --code FILE"
        )
    return entry(spec.kind, spec.use.removeprefix(LOCAL), code)


# ---------------------------------------------------------------------- importing it


class _Loader(importlib.abc.InspectLoader):
    """Runs the text of a module; its imports of neighbours go to the neighbours, whatever else has their names."""

    def __init__(self, code: Code, name: str, text: str) -> None:
        self.code, self.name, self.text = code, name, text

    def get_source(self, fullname: str) -> str:
        """Return the text."""
        return self.text

    def is_package(self, fullname: str) -> bool:
        """Whether there may be modules within it."""
        return PurePosixPath(self.code.modules[self.name][0]).name == "__init__.py"

    def exec_module(self, module: ModuleType) -> None:
        """Run the text in a module."""
        path = self.code.modules[self.name][0]
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        module.__file__ = path
        exec(compile(self.text, path, "exec", dont_inherit=True), module.__dict__)  # the user's own code

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Do what an import statement of the module asks for."""
        top = name.partition(".")[0]
        if level or top not in self.code.modules:
            return __import__(name, globals, locals, fromlist or (), level)
        within = f"{self.code.package}.{name}"
        if fromlist:
            return __import__(within, globals, locals, fromlist, 0)
        importlib.import_module(within)
        return sys.modules[f"{self.code.package}.{top}"]


#: by package, what was imported or is being so
_importable: dict[str, Code] = {}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of files that are imported here, and the packages that they live in."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return where a module is to come from."""
        if fullname == _PACKAGE:
            return ModuleSpec(fullname, None, is_package=True)
        package, _, name = fullname.removeprefix(f"{_PACKAGE}.").partition(".")
        if not fullname.startswith(f"{_PACKAGE}."):
            return None
        code = _importable.get(f"{_PACKAGE}.{package}")
        if code is None:
            return None
        if not name:
            return ModuleSpec(fullname, None, is_package=True)
        spec = code._spec(name)
        if spec is not None:
            spec.name = fullname
        return spec


sys.meta_path.append(_Finder())
