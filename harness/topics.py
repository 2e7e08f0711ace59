"""Topics: the pages that ``purebench help`` shows, Markdown files of the package."""

from __future__ import annotations

from importlib import resources

from harness.core.errors import UserError, nearest


def topics() -> dict[str, str]:
    """Return the pages by name, in Markdown; the first line of each is its title."""
    found = {
        item.name.removesuffix(".md"): item.read_text(encoding="utf-8")
        for item in resources.files("harness").joinpath("help").iterdir()
        if item.name.endswith(".md")
    }
    return dict(sorted(found.items()))


def topic(name: str) -> str:
    """Return a page.

    Raises:
        UserError: if there is none of that name.
    """
    known = topics()
    if name not in known:
        raise UserError(f"expected a topic, one of {', '.join(known)}, got {name!r}; {nearest(name, known)}")
    return known[name]
