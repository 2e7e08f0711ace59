"""Strings of strangers on their way out: what steers a terminal, a text's direction or a spreadsheet is shown instead.

A name or a sentence may come from a suite, a plug-in or a database that somebody else wrote. It is kept as it came;
every way out, to the terminal or into a file, goes through here.
"""

from __future__ import annotations

import re

#: control characters but line feed and tab; what is not seen, or turns the direction of what is; halves of surrogates
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)

#: what a spreadsheet takes for the beginning of a formula
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    """Return a text with such characters written out, as a backslash and a number; line feeds and tabs stay."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def inert(value: object) -> object:
    """Return a cell of a CSV file; a text that a spreadsheet would take for a formula gets an apostrophe in front."""
    if not isinstance(value, str):
        return value
    formula = value.startswith(_FORMULA) and len(value) > 1 and not _is_number(value)
    return printable(f"'{value}" if formula else value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
