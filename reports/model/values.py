"""Values of a leaderboard's columns that are more than a number or a share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from harness.core.table import Value, Words
from reports import format as numbers

if TYPE_CHECKING:
    from harness.core.table import Share, Write
    from reports.flags.evidence import Flag


@dataclass(frozen=True)
class Rank(Value):
    """A place, or what stands there without one.

    Attributes:
        text: the place with its marks; ``ref.`` or a dash where there is none.
        tied: the defenses that share it.
        p: of the comparison that gave it, corrected; None without one.
    """

    place: int | None
    text: str
    tied: tuple[str, ...] = ()
    p: float | None = None

    def words(self, write: Write) -> Words:
        """Return the text."""
        return Words(self.text)

    @property
    def order(self) -> int:
        """The place; what has none stands last."""
        return self.place or 9999

    def fields(self, key: str) -> dict[str, object]:
        """Return place, ties and probability."""
        return {key: self.place, "tied": " ".join(self.tied) or None, "p": self.p}

    def plain(self, key: str) -> dict[str, Any]:
        """Return place and ties."""
        return {key: self.place, "tied": list(self.tied)}


@dataclass(frozen=True)
class Estimated(Value):
    """A share that may be estimated from above, with a lower bound.

    Attributes:
        share: None where nothing is known.
        smallest: the lower bound.
        bound: a sign before the share where it is an upper bound only.
        floor: the lower bound with its sign, where it is another figure.
    """

    share: Share | None = None
    smallest: float | None = None
    bound: str = ""
    floor: str = ""

    def words(self, write: Write) -> Words:
        """Return ``≤ 74.0``, its interval, and the lower bound."""
        if self.share is None:
            return Words(numbers.NOTHING)
        main, small = self.share.words(write)
        return Words(self.bound + main, (*small, self.floor) if self.floor else small)

    @property
    def order(self) -> float | None:
        """The share."""
        return self.share.share if self.share else None

    def fields(self, key: str) -> dict[str, object]:
        """Return it under the names that shares of cells have, since it has a line of its own."""
        share = self.share
        known = {"accuracy": share.share, "low": share.low, "high": share.high} if share else {}
        return {"n": share.n if share else 0, **known, "smallest": self.smallest}

    def plain(self, key: str) -> dict[str, Any]:
        """Return the share and the lower bound."""
        return {key: asdict(self.share) if self.share else None, "smallest": self.smallest}


@dataclass(frozen=True)
class Flags(Value):
    """The flags of a row, by what became of them; ``looked``: whether there was an attack to look at."""

    fired: tuple[Flag, ...] = ()
    untested: tuple[Flag, ...] = ()
    clear: tuple[Flag, ...] = ()
    looked: bool = True

    def words(self, write: Write) -> Words:
        """Name those that fired, each with its figure."""
        return Words(", ".join(flag.text for flag in self.fired) or numbers.NOTHING)

    @property
    def order(self) -> int:
        """How many fired."""
        return len(self.fired)

    def fields(self, key: str) -> dict[str, object]:
        """Return the names, separated by semicolons."""
        return {
            "fired": "; ".join(flag.text for flag in self.fired),
            "untested": "; ".join(flag.name for flag in self.untested),
        }

    def plain(self, key: str) -> dict[str, Any]:
        """Return what each that fired saw."""
        return {"fired": {flag.name: flag.sentence for flag in self.fired}}


@dataclass(frozen=True)
class Peak(Value):
    """The most memory that a batch needed, in bytes, with the batch's size."""

    memory: float
    batch_size: float | None

    def words(self, write: Write) -> Words:
        """Return ``41.2 MB`` and ``at 32``."""
        return Words(write(self.memory), () if self.batch_size is None else (f"at {numbers.count(self.batch_size)}",))

    @property
    def order(self) -> float:
        """The bytes."""
        return self.memory

    def fields(self, key: str) -> dict[str, object]:
        """Return both."""
        return {key: self.memory, f"{key}_batch_size": self.batch_size}
