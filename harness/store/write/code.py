"""Code: the text of files that users' own components came from, as it was recorded; for reading, never to be run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select

from harness.core.errors import UserError, nearest
from harness.core.spec import short
from harness.store.tables import CodeRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.store.write.store import Store


class RecordedCode(NamedTuple):
    """A file with what it imported from its folder.

    Attributes:
        digest: of what it does; the ``source`` of the components that came from it.
        main: the file's name.
        files: texts by path.
    """

    digest: str
    main: str
    files: Mapping[str, str]


def texts(store: Store) -> tuple[RecordedCode, ...]:
    """Return all that were recorded, by name."""
    query = select(CodeRow.digest, CodeRow.main, CodeRow.files).order_by(CodeRow.main, CodeRow.digest)
    with store.session() as session:
        return tuple(RecordedCode(*row) for row in session.execute(query))


def find_text(store: Store, wanted: str) -> RecordedCode:
    """Return the one whose hash begins like this, or whose file has this name.

    Raises:
        UserError: unless it is exactly one.
    """
    there = texts(store)
    found = [one for one in there if wanted and (one.main == wanted or one.digest.startswith(wanted))]
    if len(found) == 1:
        return found[0]
    if not there:
        raise UserError(f"expected code of a file in this database, got {wanted!r}, but its suites named none")
    known = ", ".join(f"{short(one.digest)} ({one.main})" for one in there)
    told = f"which names {len(found)} of them" if found else nearest(wanted, [one.main for one in there])
    raise UserError(f"expected one of {known}, got {wanted!r}; {told}")
