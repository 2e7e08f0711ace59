"""The topics of ``purebench help`` as one page beside the report, which links there."""

from __future__ import annotations

import functools

from markdown_it import MarkdownIt
from markupsafe import Markup

from harness.topics import topics
from reports.render.html import environment

#: the file that the page of a report links to
NAME = "help.html"


@functools.cache
def help_page() -> str:
    """Return the page: a part for each topic, under its name; HTML within a topic is shown as it is written."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    parts = {name: Markup(markdown.render(text)) for name, text in topics().items()}
    return environment().get_template("help.html.j2").render(topics=parts)
