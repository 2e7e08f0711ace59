"""How numbers are written: one place, so that a figure reads the same on the page, in a table and in the terminal."""

from __future__ import annotations

import functools
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.core.table import Value, Words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.core.table import Datum, Form, Write

#: stands where nothing was measured
NOTHING = "\N{EN DASH}"

_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "\N{MICRO SIGN}s"))
_BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def percent(share: float) -> str:
    """Write a share in [0, 1] as a percentage with one decimal: ``0.74`` gives ``74.0``."""
    return f"{100 * share:.1f}"


def interval(low: float, high: float) -> str:
    """Write the ends of an interval of shares: ``[70.1, 77.6]``."""
    return f"[{percent(low)}, {percent(high)}]"


def points(share: float) -> str:
    """Write a difference of shares in percentage points with its sign: ``0.094`` gives ``+9.4``."""
    return f"{100 * share:+.1f}"


def correlation(value: float) -> str:
    """Write a correlation with its sign and two decimals: ``+0.42``."""
    return f"{value:+.2f}"


def decimals(value: float) -> str:
    """Write a chance with two decimals: ``0.50``."""
    return f"{value:.2f}"


def measure(value: float) -> str:
    """Write a measured value with three significant digits: ``0.0160``, ``12.3``, ``1.20e-06``."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -4 <= exponent < 6:
        return f"{value:.2e}"
    return f"{value:.{max(2 - exponent, 0)}f}"


def seconds(value: float) -> str:
    """Write a duration in the unit that suits it: ``12.3 ms``, ``1.20 s``, ``2.10 min``."""
    for size, unit in _UNITS:
        if value >= size:
            return f"{measure(value / size)} {unit}"
    return f"{measure(value / 1e-6)} \N{MICRO SIGN}s" if value else "0 s"


def memory(value: float) -> str:
    """Write a number of bytes in the unit that suits it, of powers of ten: ``640 kB``, ``12.3 MB``, ``1.20 GB``."""
    for size, unit in _BYTES:
        if value >= size:
            return f"{measure(value / size)} {unit}"
    return f"{value:.0f} B"


def tick(value: float) -> str:
    """Write a round number of seconds on an axis: ``10 ms``, ``1 s``, ``100 s``."""
    for size, unit in _UNITS[2:]:
        if value >= size * (1 - 1e-9):
            return f"{value / size:g} {unit}"
    return f"{value:g} s"


def count(value: float) -> str:
    """Write a number per image: whole where it is whole, else with three significant digits."""
    return f"{value:.0f}" if abs(value - round(value)) < 1e-9 else measure(value)


def radius(eps: float) -> str:
    """Write the radius of a budget, as 255ths where it is a whole number of them: ``8/255``, ``0.2``."""
    levels = eps * 255
    whole = round(levels)
    if 1 <= whole <= 64 and abs(levels - whole) < 1e-6 and round(eps, 4) != eps:
        return f"{whole}/255"
    return f"{eps:g}"


def moment(when: datetime) -> str:
    """Write a time in UTC to the minute: ``2030-01-31 12:00 UTC``."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


#: how numbers are written, by the form of their column
FORMS: Mapping[Form, Write] = {
    "text": str,
    "count": count,
    "measure": measure,
    "percent": percent,
    "points": points,
    "seconds": seconds,
    "memory": memory,
    "correlation": correlation,
    "decimals": decimals,
}


def words(value: Datum, form: Form) -> Words:
    """Write a value of a table."""
    if value is None or value != value:  # a frame has no other word for what is not there
        return Words(NOTHING)
    if isinstance(value, str):
        return Words(value)
    return value.words(functools.partial(_write, form)) if isinstance(value, Value) else Words(_write(form, value))


def _write(form: Form, number: float) -> str:
    return FORMS[form](number) if math.isfinite(number) else str(number)
