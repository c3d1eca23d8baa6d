"""Read a PDF's text with pdfminer.six: blocks in reading order, headings by font size, page numbers.

unstructured's own PDF path imports layout models and torch vision even for `strategy="fast"`, whose text comes from
pdfminer.six too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pdfminer.high_level import extract_pages
from pdfminer.layout import LTChar, LTTextBox, LTTextLine
from pdfminer.pdfdocument import PDFPasswordIncorrect, PDFTextExtractionNotAllowed

from schemas.errors import ParseFailed
from schemas.records import Element

# A heading stands out by size from the body, and is short.
HEADING_SIZE = 1.15
HEADING_CHARACTERS = 150

_HYPHENATED = re.compile(r"(?<=[a-z])-\n(?=[a-z])")
_BULLET = re.compile(r"^\s*([•‣▪◦●○]|[-*\u2013]\s)")


@dataclass(frozen=True)
class Block:
    """A text box of a page."""

    text: str
    size: float  # points, of most of its characters
    page: int  # 1-based


def pdf_elements(path: Path) -> list[Element]:
    """The elements of a PDF. Raises ParseFailed (`encrypted`, `no-text`)."""
    try:
        blocks = list(_blocks(path))
    except (PDFPasswordIncorrect, PDFTextExtractionNotAllowed) as error:
        raise ParseFailed("encrypted", "the PDF needs a password or forbids extraction; save it without") from error
    if not blocks:
        raise ParseFailed("no-text", "the PDF has no text, only images; run OCR on it (for example ocrmypdf) first")
    body = _body_size(blocks)
    sizes = sorted({b.size for b in blocks if _is_heading(b, body)}, reverse=True)
    return [_element(block, body, sizes) for block in blocks]


def _blocks(path: Path) -> Iterator[Block]:
    for number, page in enumerate(extract_pages(path), start=1):
        for box in page:
            if not isinstance(box, LTTextBox):
                continue
            characters = [c for line in box if isinstance(line, LTTextLine) for c in line if isinstance(c, LTChar)]
            text = _HYPHENATED.sub("", box.get_text().strip())
            if characters and text:
                ((size, _),) = Counter(round(c.size, 1) for c in characters).most_common(1)
                yield Block(text, size, number)


def _body_size(blocks: list[Block]) -> float:
    characters: Counter[float] = Counter()
    for block in blocks:
        characters[block.size] += len(block.text)
    ((size, _),) = characters.most_common(1)
    return size


def _is_heading(block: Block, body: float) -> bool:
    return (
        block.size >= body * HEADING_SIZE
        and len(block.text) <= HEADING_CHARACTERS
        and any(map(str.isalpha, block.text))
    )


def _element(block: Block, body: float, sizes: list[float]) -> Element:
    text = " ".join(block.text.split())
    if _is_heading(block, body):
        return Element(text, "Title", depth=sizes.index(block.size), page=block.page)
    if _BULLET.match(block.text):
        return Element(
            "\n".join(" ".join(line.split()) for line in block.text.splitlines()), "ListItem", page=block.page
        )
    return Element(text, "NarrativeText", page=block.page)
