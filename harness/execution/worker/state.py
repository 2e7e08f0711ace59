"""State: what a process computes with besides the inputs of a job, looked at before and after each.

Flags, modes and threads of torch change the last bits of whatever is computed next, and so does a function that was
exchanged. A job that leaves them otherwise than it found them is told of in its row; they are put back as far as that
can be done, and a worker process is replaced.
"""

from __future__ import annotations

import gc
import locale
import os
import random
import signal
import sys
import threading
import types
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil
import torch

from harness.core.result import CHANGED, EXCHANGED

if TYPE_CHECKING:
    from collections.abc import Callable

#: modules whose functions are looked at, by the beginning of their names
OURS = ("harness.", "attacks.", "defenses.")
LIBRARIES = ("torch.nn.modules.", "torch.optim.", "timm.layers.", "timm.models.vision_transformer")
SINGLE = (
    *("builtins", "math", "random", "os", "time", "numpy", "numpy.random"),
    *("torch", "torch.autograd", "torch.autograd.grad_mode", "torch.fft", "torch.linalg", "torch.nn.functional"),
    *("torch.nn.init", "torch.random", "torch.special", "torch._C._nn", "torch._tensor"),
)

_GLOBAL_HOOKS = (
    *("_global_backward_pre_hooks", "_global_backward_hooks", "_global_forward_pre_hooks", "_global_forward_hooks"),
    *("_global_forward_hooks_always_called", "_global_module_registration_hooks", "_global_buffer_registration_hooks"),
    "_global_parameter_registration_hooks",
)


class Setting(NamedTuple):
    """Something that a process is set to: how to see it, and how to put it back; None where that cannot be done."""

    get: Callable[[], Any]
    put: Callable[[Any], object] | None


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _flushes() -> bool:
    """Whether numbers that are nearly nought are taken for nought."""
    return not bool(torch.tensor([1e-310], dtype=torch.float64, device="cpu").mul(1.0).item())


def _rounding() -> tuple[float, ...]:
    """Return quotients that come out otherwise where numbers are rounded in another way."""
    return tuple(sign * one / three for sign in (1.0, -1.0) for one in (1.0, 2.0) for three in (3.0, 7.0))


def _set_default_device(before: torch.device) -> None:
    torch.set_default_device(None if before.type == "cpu" else before)


def _environment() -> dict[str, str]:
    return dict(os.environ)


def _set_environment(before: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(before)


def _hooks() -> tuple[tuple[int, ...], ...]:
    module = torch.nn.modules.module
    return tuple(tuple(map(id, getattr(module, name, {}).values())) for name in _GLOBAL_HOOKS)


def _unhook(before: tuple[tuple[int, ...], ...]) -> None:
    for name, known in zip(_GLOBAL_HOOKS, before, strict=True):
        hooks = getattr(torch.nn.modules.module, name, {})
        for key in [key for key, hook in hooks.items() if id(hook) not in known]:
            del hooks[key]


def _attribute(owner: Any, name: str) -> Setting:
    return Setting(lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


def _signals() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def _threads() -> frozenset[int]:
    return frozenset(id(one) for one in threading.enumerate())


def _processes() -> frozenset[int]:
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return frozenset(one.pid for one in psutil.Process().children())
    listed = (path.read_text().split() for path in tasks.glob("*/children"))
    return frozenset(int(pid) for pids in listed for pid in pids)


#: what is looked at, by the name by which a row tells it
SETTINGS: dict[str, Setting] = {
    "threads of torch": Setting(torch.get_num_threads, torch.set_num_threads),
    "default type": Setting(torch.get_default_dtype, torch.set_default_dtype),
    "default device": Setting(torch.get_default_device, _set_default_device),
    "gradient mode": Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    "inference mode": Setting(torch.is_inference_mode_enabled, None),
    "anomaly mode": Setting(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "autocast": Setting(
        lambda: torch.is_autocast_enabled("cpu"), lambda value: torch.set_autocast_enabled("cpu", value)
    ),
    "deterministic algorithms": Setting(
        _deterministic, lambda pair: torch.use_deterministic_algorithms(pair[0], warn_only=pair[1])
    ),
    "precision of products": Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "mkldnn": Setting(torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled),
    "cudnn": _attribute(torch.backends.cudnn, "enabled"),
    "cudnn benchmark": _attribute(torch.backends.cudnn, "benchmark"),
    "cudnn deterministic": _attribute(torch.backends.cudnn, "deterministic"),
    "tf32 of cudnn": _attribute(torch.backends.cudnn, "allow_tf32"),
    "tf32 of products": _attribute(torch.backends.cuda.matmul, "allow_tf32"),
    "flash attention": Setting(torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    "efficient attention": Setting(
        torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp
    ),
    "plain attention": Setting(torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    "numbers near nought": Setting(_flushes, torch.set_flush_denormal),
    "rounding": Setting(_rounding, None),
    "hooks on all modules": Setting(_hooks, _unhook),
    "modes of torch functions": Setting(torch._C._len_torch_function_stack, None),
    "modes of torch operators": Setting(torch._C._len_torch_dispatch_stack, None),
    "errors of numpy": Setting(np.geterr, lambda before: np.seterr(**before)),
    "working directory": Setting(os.getcwd, os.chdir),
    "environment": Setting(_environment, _set_environment),
    "import path": Setting(lambda: list(sys.path), lambda before: sys.path.__setitem__(slice(None), before)),
    "recursion limit": Setting(sys.getrecursionlimit, sys.setrecursionlimit),
    "garbage collector": Setting(gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    "locale": Setting(lambda: locale.setlocale(locale.LC_ALL), lambda before: locale.setlocale(locale.LC_ALL, before)),
    "trace": Setting(sys.gettrace, sys.settrace),
    "signals": Setting(_signals, lambda before: [signal.signal(number, handler) for number, handler in before.items()]),
    "threads": Setting(_threads, None),
    "processes": Setting(_processes, None),
}

#: of these more is a change, and less is not: what had been there may have come to its end
_LEFT = ("threads", "processes")


def _seen() -> dict[str, Any]:
    """Return how everything is set; what cannot even be asked is set to what came of it."""
    found: dict[str, Any] = {}
    for name, one in SETTINGS.items():
        try:
            found[name] = one.get()
        except Exception as error:
            found[name] = type(error).__name__
    return found


class _Code(NamedTuple):
    """A function of Python and what it does, which can be exchanged within it."""

    function: Any
    code: Any
    defaults: Any
    kwdefaults: Any

    @property
    def same(self) -> bool:
        """Whether it still does so."""
        one = self.function
        return one.__code__ is self.code and one.__defaults__ is self.defaults and one.__kwdefaults__ is self.kwdefaults

    def put_back(self) -> None:
        """Let it do so again."""
        self.function.__code__, self.function.__defaults__, self.function.__kwdefaults__ = self[1:]


class _Owner:
    """A module or a class, and what works in it.

    Attributes:
        names: all that it had.
        works: what can be called, by name; held, so that no other object can take its identity.
        codes: the code of it, by name.
        closed: whether something that works and had not been there is a change: libraries load parts of theirs late.
    """

    def __init__(self, owner: Any, *, closed: bool) -> None:
        self.owner, self.closed = owner, closed
        space = dict(vars(owner))
        self.names = set(space)
        self.works = {name: value for name, value in space.items() if _works(value)}
        inner = {name: _function(value) for name, value in self.works.items()}
        self.codes = {
            name: _Code(one, one.__code__, one.__defaults__, one.__kwdefaults__)
            for name, one in inner.items()
            if isinstance(one, types.FunctionType)
        }

    def replaced(self) -> list[str]:
        """Return what is no longer what it was."""
        now = vars(self.owner)
        found = [name for name, value in self.works.items() if now.get(name) is not value]
        found += [name for name, code in self.codes.items() if not code.same]
        if self.closed:
            new = [name for name in now if name not in self.names]
            found += [name for name in new if _works(now[name]) and not isinstance(now[name], type)]
        return found

    def put_back(self) -> None:
        """Put back what was there."""
        for name in self.replaced():
            with suppress(Exception):
                if name in self.codes:
                    self.codes[name].put_back()
                if name in self.works:
                    setattr(self.owner, name, self.works[name])
                else:
                    delattr(self.owner, name)


def _works(value: Any) -> bool:
    """Whether something can be called, or asked for like a value."""
    return callable(value) or isinstance(value, staticmethod | classmethod | property)


def _function(value: Any) -> Any:
    """Return the function within a method or a property."""
    if isinstance(value, staticmethod | classmethod):
        return value.__func__
    return value.fget if isinstance(value, property) else value


class State:
    """How things stand in this process, seen first when it is made; what is loaded later is added as it is then."""

    def __init__(self) -> None:
        self.settings = _seen()
        self.owners: dict[str, _Owner] = {}
        self._modules: set[str] = set()
        self.learn()

    def learn(self) -> None:
        """Take in the modules that were loaded since."""
        for name in sys.modules.keys() - self._modules:
            self._modules.add(name)
            module, ours = sys.modules[name], name.startswith(OURS)
            if module is None or not (ours or name in SINGLE or name.startswith(LIBRARIES)):
                continue
            self.owners[name] = _Owner(module, closed=ours)
            for key, value in list(vars(module).items()):
                if isinstance(value, type) and value.__module__ == name:
                    self.owners[f"{name}.{key}"] = _Owner(value, closed=True)

    def accept(self) -> None:
        """Take what has changed between jobs for how things stand: in a person's own process that is no job's doing."""
        self.settings = _seen()
        for name, owner in list(self.owners.items()):
            if owner.replaced():
                self.owners[name] = _Owner(owner.owner, closed=owner.closed)
        self.learn()

    def changes(self) -> list[str]:
        """Return what has changed, each with ``CHANGED`` or ``EXCHANGED`` in front."""
        now = _seen()
        told = [
            f"{CHANGED}{name}"
            for name, before in self.settings.items()
            if (not now[name] <= before if name in _LEFT else now[name] != before)
        ]
        return told + [f"{EXCHANGED}{name}.{what}" for name, owner in self.owners.items() for what in owner.replaced()]

    def put_back(self) -> None:
        """Put back what has changed, as far as that can be done."""
        for name, one in SETTINGS.items():
            with suppress(Exception):
                if one.put is not None and one.get() != self.settings[name]:
                    one.put(self.settings[name])
        for owner in self.owners.values():
            owner.put_back()


#: of this process; made before its first job
_state: State | None = None


class Watch:
    """Looks at the state while a job is done."""

    def __init__(self) -> None:
        self.state: State | None = None
        self._changes: dict[str, None] = {}

    def begin(self) -> None:
        """Take things as they stand for as they should be."""
        global _state
        if _state is None:
            _state = State()
        else:
            _state.accept()
        self.state = _state

    def notes(self) -> dict[str, tuple[float, int]]:
        """Look; return a note for each change so far, as rows have notes."""
        if self.state is not None:
            self._changes |= dict.fromkeys(self.state.changes())
        return dict.fromkeys(self._changes, (1.0, 1))

    def end(self) -> tuple[str, ...]:
        """Look a last time, put back what can be, and return all that was changed."""
        if self.notes() and self.state is not None:
            self.state.put_back()
        return tuple(self._changes)


def seed(digest: str) -> None:
    """Begin the random numbers that nobody addresses where a job says, so that it does not matter what came before."""
    number = int(digest[:8], 16)
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
