"""Write blocks of a context as text for a prompt, so that no document can pass for anything but a quotation.

Documents are untrusted: one may hold `</passage>`, a fence of backticks, or a line that looks like the next block's
source. In XML everything is escaped; in Markdown the text is fenced by more backticks than it has in a row, and what
names its source is a code span of one line. What a document says within its block may still mislead a model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from schemas.records import Block, Form

# What XML 1.0 cannot hold, even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BACKTICKS = re.compile("`+")


def prompt_of(blocks: Sequence[Block], form: Form) -> str:
    """The blocks, one after the other; nothing where there are none."""
    if not blocks:
        return ""
    before, between, after = FRAMES[form]
    return before + between.join(head(block, form) + body(block.text, form) for block in blocks) + after


# What stands before, between and after the blocks.
FRAMES: dict[Form, tuple[str, str, str]] = {
    "markdown": ("", "\n\n", "\n"),
    "xml": ("<passages>\n", "\n", "\n</passages>\n"),
}


def head(block: Block, form: Form) -> str:
    """Number and source of a block."""
    where = _line(place(block.title, block.headings))
    if form == "xml":
        attributes = {"id": str(block.number), "source": _line(block.path), "page": pages(block), "headings": where}
        return f"<passage{''.join(f' {name}={_attribute(value)}' for name, value in attributes.items() if value)}>"
    page = f", page {pages(block)}" if pages(block) else ""
    # in one line: one that began with a code span could be taken for a fence
    source = f"[{block.number}] {code_span(_line(block.path))}{page}"
    return f"{source} · {code_span(where)}\n" if where else f"{source}\n"


def body(text: str, form: Form) -> str:
    """The text of a block, quoted."""
    if form == "xml":
        # a parser would make a line feed of a carriage return
        return "\n" + escape(_FORBIDDEN.sub("\ufffd", text), {"\r": "&#13;"}) + "\n</passage>"
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}\n{text}\n{fence}"


def place(title: str, headings: str) -> str:
    """Title and heading path, neither twice."""
    if not headings or headings.startswith(title):
        return headings or title
    return f"{title} > {headings}"


def pages(block: Block) -> str:
    """For example `3`, or `3-4`; empty where the format has no pages."""
    ends = dict.fromkeys(str(page) for page in (block.page, block.last_page) if page is not None)
    return "-".join(ends)


def _attribute(value: str) -> str:
    return quoteattr(_FORBIDDEN.sub("\ufffd", value))


def _line(text: str) -> str:
    return " ".join(text.split())


def code_span(line: str) -> str:
    """A line as Markdown that shows it as it is."""
    ticks = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def _longest_run(text: str) -> int:
    return max(map(len, _BACKTICKS.findall(text)), default=0)
