"""Published: figures from elsewhere, read from files and kept as reference rows; shown beside ours, never ranked."""

from __future__ import annotations

import csv
import json
import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from sqlalchemy import insert, select

from harness.core.errors import Problem, UserError
from harness.core.threat import BALLS, Norm
from harness.options import Number
from harness.store.tables import ReferenceRow
from harness.store.write.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

#: what tells two figures apart
KEY = ("dataset", "norm", "eps", "method", "architecture", "attack", "source")

#: RobustBench's folders: of its datasets, and of what was attacked by no attack
DATASETS, CORRUPTIONS = ("cifar10", "cifar100", "imagenet"), "corruptions"

#: key in a card of RobustBench -> what the figure was attacked with
FIGURES = {
    "autoattack_acc": "AutoAttack",
    "external": "best known",
    "corruptions_acc": "common corruptions",
    "corruptions_acc_2d": "common corruptions",
    "corruptions_acc_3d": "common corruptions in 3D",
}

#: bytes of the longest file that is read
_LONGEST = 16_000_000

#: characters of a complaint, which may repeat what it complains of
_LONGEST_SENTENCE = 300

#: characters of the longest one of YAML, which is slow to read
_LONGEST_YAML = 100_000

#: no blanks, quotes or brackets: nothing that could end the link early
_WEB = re.compile(r"https?://[^\s<>\"'`\\]+")


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"expected a share in [0, 1], got {value:g}; divide percentages by 100")
    return value


def _link(value: str) -> str:
    if value and not _WEB.fullmatch(value):
        raise ValueError(f"expected a link that begins with http:// or https://, or none, got {value!r}")
    return value


def _absent(value: Any) -> Any:
    return None if value == "" else value


Text = Annotated[str, Field(min_length=1, max_length=1000)]
Share = Annotated[float, AfterValidator(_share)]


class Reference(BaseModel):
    """A published figure.

    Attributes:
        dataset: by its registered name, such as ``cifar10``.
        norm: ``Linf``, ``L2``, ``L1``, ``flow`` or ``corruption``.
        eps: size of the budget, as in a suite; ``8/255`` may be written. Of corruptions the severity, 1 to 5; 0 is the
            mean over all of them.
        method: the defense, as its source calls it.
        architecture: of the classifier.
        attack: what it was attacked with.
        clean: accuracy on clean input, a share in [0, 1]; None where it was not told.
        robust: accuracy under the attack, likewise.
        source: where it was published.
        link: to there, http or https, or empty.
        note: what a reader should know.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)

    dataset: Text
    norm: Norm
    eps: Number
    method: Text
    architecture: Annotated[str, Field(max_length=1000)] = ""
    attack: Text
    clean: Annotated[Share | None, BeforeValidator(_absent)] = None
    robust: Annotated[Share | None, BeforeValidator(_absent)] = None
    source: Text
    link: Annotated[str, Field(max_length=1000), AfterValidator(_link)] = ""
    note: str = ""

    @field_validator("eps")
    @classmethod
    def _of_its_norm(cls, eps: float, told: ValidationInfo) -> float:
        if told.data.get("norm") is Norm.CORRUPTION:
            if eps not in range(6):
                raise ValueError(f"expected a severity, 1 to 5, or 0 for the mean over all, got {eps:g}")
        elif eps <= 0:
            raise ValueError(f"expected greater than 0, got '{eps:g}'")
        return eps

    @model_validator(mode="after")
    def _says_something(self) -> Reference:
        if self.clean is None and self.robust is None:
            raise ValueError("expected a figure under clean or robust, got neither")
        if self.norm is Norm.LINF and self.eps > 1:
            raise ValueError(f"expected an eps of pixels in [0, 1], got {self.eps:g}; 8 of 255 levels is 8/255")
        return self

    @property
    def web(self) -> bool:
        """Whether its link may be followed: to the web, and nowhere else."""
        return _WEB.fullmatch(self.link) is not None

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it apart from others."""
        return tuple(getattr(self, name) for name in KEY)

    def __str__(self) -> str:
        """Name it."""
        size = f"{self.eps:.4g}" if self.eps else "of all severities"
        return f"{self.method} on {self.dataset}, {self.norm} {size}, {self.attack} ({self.source})"

    def beside(self, norm: str | None, eps: float | None) -> bool:
        """Whether it may stand beside what was measured within a budget: its own, or one of several that it is over."""
        if self.norm != norm or eps is None:
            return False
        return (self.norm is Norm.CORRUPTION and self.eps == 0) or math.isclose(self.eps, eps, rel_tol=1e-6)


class Imported(NamedTuple):
    """How many figures were new, and how many had been there."""

    new: int
    known: int


def published(url: str | Store) -> list[Reference]:
    """Return the figures of a database, or of one that is open, the best first.

    Raises:
        UserError: if there is no such database.
    """
    store = Store.open(url) if isinstance(url, str) else url
    with store.engine.connect() as connection:
        found = list(_stored(connection).values())
    return sorted(found, key=lambda one: (-(one.robust if one.robust is not None else -1.0), str(one.key)))


def import_published(url: str, files: Sequence[Path]) -> Imported:
    """Read figures from files into a database; all of them or, on a mistake, none.

    A file is a list of figures as YAML, a table of them as CSV, or a card of RobustBench, which is JSON and lies in a
    folder named for its norm, or ``corruptions``, within one named for its dataset. A figure that is there already is
    left alone.

    Raises:
        UserError: if there is no such database; with every row that cannot be read, or that says something else than
            one that is there.
    """
    problems: list[Problem] = []
    rows = [row for path in files for row in _rows(path, problems)]
    if problems:
        raise UserError(problems)
    with Store.open(url).engine.begin() as connection:
        there = _stored(connection)
        fresh: dict[tuple[Any, ...], Reference] = {}
        for where, row in rows:
            other = fresh.get(row.key) or there.get(row.key)
            if other is None:
                fresh[row.key] = row
            elif other != row:
                problems.append(Problem(_differs(row, other), where, "", "give it another source, or correct it"))
        if problems:
            raise UserError(problems)
        if fresh:
            connection.execute(insert(ReferenceRow), [row.model_dump(mode="json") for row in fresh.values()])
    return Imported(len(fresh), len(rows) - len(fresh))


def _differs(row: Reference, other: Reference) -> str:
    names = [name for name in Reference.model_fields if getattr(row, name) != getattr(other, name)]
    told = ", ".join(f"{name} {getattr(row, name)!r}, was {getattr(other, name)!r}" for name in names)
    return f"expected figures that agree, but {row} is there already with others: {told}"


def _stored(connection: Connection) -> dict[tuple[Any, ...], Reference]:
    columns = [getattr(ReferenceRow, name) for name in Reference.model_fields]
    rows = connection.execute(select(*columns).order_by(ReferenceRow.id))
    # what is there was checked when it came; a report shows even what somebody wrote there by hand
    found = [Reference.model_construct(**{**row._mapping, "norm": _norm(row.norm)}) for row in rows]
    return {row.key: row for row in found}


def _norm(text: str) -> Any:
    return Norm(text) if text in set(Norm) else text


def _rows(path: Path, problems: list[Problem]) -> Iterator[tuple[str, Reference]]:
    """Yield the figures of a file with the place of each; what is wrong goes to ``problems``."""
    reader = {".yaml": _yaml, ".yml": _yaml, ".csv": _csv, ".json": _card}.get(path.suffix.lower())
    if reader is None:
        problems.append(Problem("expected a file of figures: .yaml, .csv, or .json of RobustBench", str(path)))
        return
    try:
        if path.stat().st_size > _LONGEST:
            raise ValueError(f"expected at most {_LONGEST} bytes, got {path.stat().st_size}")
        listed = reader(path)
    except (OSError, ValueError, yaml.YAMLError, RecursionError, csv.Error, ArithmeticError) as error:
        problems.append(Problem(f"expected a file that can be read, got: {' '.join(str(error).split())}", str(path)))
        return
    for number, values in enumerate(listed, 1):
        where = f"{path}, row {number}"
        try:
            yield where, Reference.model_validate(values)
        except ValidationError as error:
            problems += [
                Problem(_sentence(one["msg"], one["input"]), where, ".".join(map(str, one["loc"][:1])))
                for one in error.errors(include_url=False)
            ]


def _sentence(said: str, given: Any) -> str:
    """Turn a complaint of pydantic's into a sentence of ours."""
    if said.startswith("Value error, "):
        told = said.removeprefix("Value error, ")
        return told if len(told) <= _LONGEST_SENTENCE else f"{told[:_LONGEST_SENTENCE]} ..."
    if said.startswith("Input should be "):
        return f"{said.replace('Input should be', 'expected')}, got {str(given)[:60]!r}"
    return {
        "Field required": "expected a value, got none",
        "Extra inputs are not permitted": f"unknown key; known: {', '.join(Reference.model_fields)}",
    }.get(said, f"{said}, got {str(given)[:60]!r}")


def _yaml(path: Path) -> list[Any]:
    text = path.read_text(encoding="utf-8")
    if len(text) > _LONGEST_YAML:
        raise ValueError(f"{len(text)} characters, where at most {_LONGEST_YAML} of YAML are read; write it as CSV")
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
        raise ValueError("an alias, where every figure was expected to be written out")
    found = yaml.safe_load(text)
    if not isinstance(found, list):
        raise ValueError(f"a {type(found).__name__} where a list of figures was expected")
    return found


def _csv(path: Path) -> list[Any]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, restval=""))
    if any(None in row for row in rows):
        raise ValueError("a row with more values than the first line has names")
    return rows


def _card(path: Path) -> list[Any]:
    """Read what RobustBench knows of a model.

    The folders say of which dataset and norm: cards of CIFAR-100 say they are of CIFAR-10. Figures of corruptions are
    means over all severities.
    """
    card = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(card, dict) or "clean_acc" not in card:
        raise ValueError("no card of RobustBench, which has clean_acc and autoattack_acc or corruptions_acc")
    folder = path.resolve().parent
    if folder.name not in (*BALLS, CORRUPTIONS):
        raise ValueError(
            f"the folder {folder.name}, where Linf, L2 or {CORRUPTIONS} was expected: a card does not name its norm "
            "itself"
        )
    corrupted = folder.name == CORRUPTIONS
    venue = " ".join(str(card.get("venue") or "").split())
    like = {
        "dataset": folder.parent.name if folder.parent.name in DATASETS else card.get("dataset") or "",
        "norm": Norm.CORRUPTION if corrupted else folder.name,
        "eps": 0 if corrupted else card.get("eps", ""),
        "method": path.stem,
        "architecture": card.get("architecture") or "",
        "clean": _share_of(card["clean_acc"]),
        "source": "RobustBench" + (f", {venue}" if venue else ""),
        "link": card.get("link") or "",
        "note": " ".join(str(card.get("footnote") or "").split()),
    }
    told = {name: attack for name, attack in FIGURES.items() if card.get(name) not in (None, "")}
    figures = {attack: name for name, attack in reversed(told.items()) if ("corruptions" in name) == corrupted}
    return [{**like, "attack": attack, "robust": _share_of(card[name])} for attack, name in figures.items()]


def _share_of(told: Any) -> float | None:
    """Return a share: a card has texts in per cent, and here and there a number that is a share already."""
    if told in (None, ""):
        return None
    share = isinstance(told, float) and told <= 1
    return told if share else float(Decimal(str(told)) / 100)
