"""Markdown through GitHub's own parser, cmark-gfm, in C: 30 MB/s, and linear in what would hang others (`[[[[…`)."""

from __future__ import annotations

import re
from pathlib import Path

from schemas.records import Element
from tasks.parsing.html import html_elements
from tasks.parsing.reading import Reading
from tasks.parsing.text import read_text

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"""^title:[ \t]*(["']?)(.+?)\1[ \t]*$""", re.MULTILINE)


def read_markdown(path: Path) -> Reading:
    """A file of Markdown."""
    return Reading(*markdown_elements(read_text(path)))


def markdown_elements(text: str) -> tuple[list[Element], str]:
    """The elements, and the title that YAML front matter gives."""
    from cmarkgfm.cmark import Options, markdown_to_html_with_extensions

    front = _FRONT_MATTER.match(text)
    title = _TITLE.search(front[1]) if front else None
    # "unsafe" keeps the HTML that authors mix in: it is read here, never shown
    html = markdown_to_html_with_extensions(
        text[front.end() :] if front else text,
        options=Options.CMARK_OPT_UNSAFE | Options.CMARK_OPT_FOOTNOTES,
        extensions=["table", "strikethrough", "tasklist"],
    )
    return html_elements(html)[0], title[2] if title else ""
