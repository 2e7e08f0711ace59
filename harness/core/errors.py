"""Errors are sentences: what was expected, what came, what to do next."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Problem:
    """One thing that the user can repair.

    Attributes:
        sentence: what was expected and what came.
        where: ``file:line``, or empty where no file is concerned.
        key: the dotted key inside the file, such as ``attacks[1].params.steps``.
        remedy: what to do next; empty where the sentence already says it.
    """

    sentence: str
    where: str = ""
    key: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        """Render as one line: where, key, sentence, remedy."""
        head = ": ".join(part for part in (self.where, self.key) if part)
        text = f"{head}: {self.sentence}" if head else self.sentence
        return f"{text}; {self.remedy}" if self.remedy else text


class UserError(Exception):
    """The user's own mistake, shown without a traceback (exit code 2).

    Carries every problem found, not only the first.
    """

    def __init__(self, problems: str | Problem | Sequence[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        if isinstance(problems, Problem):
            problems = [problems]
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[UserError], tuple[tuple[Problem, ...]]]:
        """Survive the way back from a worker process with the problems intact."""
        return (type(self), (self.problems,))


class Unreachable(UserError):  # noqa: N818
    """A database's server does not answer; it may be there again in a moment."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a clause that names the nearest known name, or lists what is known.

    Example: ``nearest("pdg", ["pgd"])`` gives ``did you mean 'pgd'?``.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(names) if names else "none is known"
