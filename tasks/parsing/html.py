"""HTML to elements with lxml, in one walk: Markdown, e-books, mail and whatever pandoc converts come through here too.

unstructured's own HTML path takes some ten times as long: it guesses the kind of every text and detects its language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from lxml import etree

from schemas.errors import ParseFailed
from schemas.records import Element
from tasks.parsing.reading import Reading
from tasks.parsing.text import decode

HEADINGS = {f"h{level}": level - 1 for level in range(1, 7)}
SKIPPED = {
    *("head", "script", "style", "template", "noscript", "svg", "iframe", "object", "nav", "select", "datalist"),
    *("button", "textarea", "canvas", "audio", "video", "annotation", "annotation-xml"),
}
# tags that do not end a paragraph; others do
INLINE = {
    *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img"),
    *(
        "ins",
        "kbd",
        "label",
        "mark",
        "math",
        "meter",
        "nobr",
        "output",
        "progress",
        "q",
        "rp",
        "rt",
        "ruby",
        "s",
        "samp",
    ),
    *("small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr", "input", "tbody", "thead"),
}
_LAYOUT = re.compile(r"^(table|h[1-6]|ul|ol|pre)$")
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_DECLARED = re.compile(rb"""charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\n\r\f\v\xa0]+")
_BREAK = "\x1f"  # stands for <br>, which white space in the source must not be taken for


def html_elements(markup: str) -> tuple[list[Element], str]:
    """The elements of a page or fragment, and its <title>. Raises ParseFailed (`malformed`) where it is too deep."""
    body = _tree(markup)
    if body is None:
        return [], ""
    walk = _Walk()
    for event, node in (steps := etree.iterwalk(body, events=("start", "end"))):
        if event == "start":
            if walk.enter(node):
                steps.skip_subtree()
        else:
            walk.leave(node)
    walk.flush()
    return walk.elements, " ".join((body.findtext(".//head/title") or "").split())


def read_html(path: Path) -> Reading:
    """A page, in the encoding that it declares."""
    data = path.read_bytes()
    declared = _DECLARED.search(data[:2048])
    return Reading(*html_elements(decode(data, declared[1].decode("ascii", "replace") if declared else None)))


def _tree(markup: str) -> etree._Element | None:
    parser = etree.HTMLParser(huge_tree=True, no_network=True, remove_comments=True, remove_pis=True, encoding="utf-8")
    try:
        # as bytes: lxml refuses strings that declare an encoding
        tree = etree.fromstring(markup.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError as error:
        if "empty" in str(error).lower():
            return None
        raise
    if any("xcessive depth" in entry.message for entry in parser.error_log):
        raise ParseFailed("malformed", "its elements are nested thousands of levels deep")
    return tree


@dataclass
class _Walk:
    """What has been read so far. A text belongs to the block that is open where it stands."""

    elements: list[Element] = field(default_factory=list)
    _text: list[str] = field(default_factory=list)
    _items: int = 0  # list items open
    _whole: bool = False  # the subtree was read, or skipped, at its start

    def enter(self, node: etree._Element) -> bool:
        """Read the start of an element; says whether its subtree is done with."""
        tag = node.tag
        self._whole = True
        if tag in SKIPPED or "hidden" in node.attrib or _HIDDEN.search(node.get("style", "")):
            return True
        if tag in HEADINGS:
            self._block(" ".join(_plain(node).split()).rstrip("¶").strip(), "Title", HEADINGS[tag])
            return True
        if tag == "pre":
            self._block(_plain(node).strip("\n").rstrip(), "CodeSnippet")
            return True
        if tag == "table" and not _is_layout(node):
            self._block(table_lines(node), "Table")
            return True
        self._whole = False
        if tag == "br":
            self._text.append(_BREAK)
        elif not _is_inline(node):
            self.flush()
            self._items += tag == "li"
        if node.text:
            self._text.append(node.text)
        return False

    def leave(self, node: etree._Element) -> None:
        """Read the end of an element, and the text between it and the next one."""
        if not self._whole and not _is_inline(node) and node.tag != "br":
            self.flush()
            self._items -= node.tag == "li"
        self._whole = False
        if node.tail:
            self._text.append(node.tail)

    def flush(self) -> None:
        """End the paragraph under way."""
        text = "".join(self._text)
        self._text.clear()
        if text and not text.isspace():
            lines = [line.strip() for line in _SPACE.sub(" ", text).split(_BREAK)]
            for paragraph in re.split(r"\n{2,}", "\n".join(lines)):
                if paragraph.strip():
                    category = "ListItem" if self._items else "NarrativeText"
                    self.elements.append(Element(paragraph.strip(), category))

    def _block(self, text: str, category: str, depth: int | None = None) -> None:
        self.flush()
        if text.strip():
            self.elements.append(Element(text, category, depth))


def _is_layout(table: etree._Element) -> bool:
    """Does a table only place what is in it? It has blocks in its cells, or one column."""
    columns = max((len(row) for row in table.iter("tr")), default=0)
    return columns < 2 or any(_LAYOUT.match(below.tag) for below in table.iterdescendants())


def _is_inline(node: etree._Element) -> bool:
    """Does the paragraph go on around it? So it does around tags of other vocabularies, such as inline XBRL's."""
    return node.tag in INLINE or ":" in node.tag


def table_lines(table: etree._Element) -> str:
    """The text of a table, one row a line, cells apart by ` | `."""
    rows = []
    for row in table.iter("tr", "caption"):
        cells = [row] if row.tag == "caption" else [cell for cell in row if cell.tag in ("td", "th")]
        texts = [" ".join(_plain(cell).split()) for cell in cells]
        if any(texts):
            rows.append(" | ".join(texts))
    return "\n".join(rows)


def deepened(elements: list[Element]) -> list[Element]:
    """The same, headings one level lower: what comes below a title of its own."""
    return [e if e.depth is None else replace(e, depth=e.depth + 1) for e in elements]


def _plain(node: etree._Element) -> str:
    """The text of a subtree; unlike itertext, with line breaks, and blocks kept apart."""
    if not len(node):
        return str(node.text or "")
    parts = []
    for event, below in (steps := etree.iterwalk(node, events=("start", "end"))):
        if event == "end":
            if below is not node:
                parts.append(below.tail or "")
        elif below.tag in SKIPPED:
            steps.skip_subtree()
        else:
            apart = below.tag == "br" or (not _is_inline(below) and below is not node and node.tag != "pre")
            parts += ["\n" if apart else "", below.text or ""]
    return "".join(parts)
