"""Read a PDF's text with pdfminer.six: blocks in reading order, headings by their type, page numbers.

unstructured's own PDF path imports layout models and torch vision even for `strategy="fast"`, whose text comes from
pdfminer.six too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from pdfminer.converter import PDFPageAggregator
from pdfminer.layout import LAParams, LTChar, LTFigure, LTPage, LTTextBox, LTTextLine
from pdfminer.pdfdocument import PDFPasswordIncorrect, PDFTextExtractionNotAllowed
from pdfminer.pdfinterp import PDFPageInterpreter, PDFResourceManager
from pdfminer.pdfpage import PDFPage

from schemas.errors import ParseFailed
from schemas.records import Element
from tasks.parsing.pdf_tables import find_tables, inside
from tasks.parsing.reading import Reading

# A heading stands out from the body by its size, or is bold where the body is not; and it is short.
HEADING_SIZE = 1.15
SMALLEST_BOLD_HEADING = 0.95
HEADING_CHARACTERS = 150
HEADING_LETTERS = 3
DEEPEST = 5
# A line on more than half of the pages is a running header or footer, where there are pages enough to tell.
RUNNING_PAGES = 4

_HYPHENATED = re.compile(r"(?<=[a-z])-\n(?=[a-z])")
_BULLET = re.compile(r"^\s*([•‣▪◦●○]|[-*\u2013]\s)")
_UNMAPPED = re.compile(r"\(cid:\d+\)")  # a glyph of a font that does not say which character it draws
_BOLD = re.compile(r"bold|black|heavy|demi|cmbx|-medi", re.IGNORECASE)
_MONOSPACED = re.compile(r"mono|courier|consol|cmtt|menlo", re.IGNORECASE)
# one character for two letters, which no query would contain
_LIGATURES = str.maketrans(dict(zip("ﬀﬁﬂﬃﬄﬅﬆ", ("ff", "fi", "fl", "ffi", "ffl", "st", "st"), strict=True)))


@dataclass(frozen=True)
class Style:
    """How most characters of a line look."""

    size: float  # points
    bold: bool
    monospaced: bool


TABLE = Style(0.0, False, False)  # of what is no line but the rows of a table


@dataclass(frozen=True)
class Line:
    """A line of a text box."""

    text: str
    style: Style
    page: int  # 1-based
    box: int  # ordinal of the text box in the document


def read_pdf(path: Path) -> Reading:
    """The elements of a PDF. Raises ParseFailed (`encrypted`, `no-text`)."""
    try:
        lines = list(_lines(_pages(path)))
    except (PDFPasswordIncorrect, PDFTextExtractionNotAllowed) as error:
        raise ParseFailed("encrypted", "the PDF needs a password or forbids extraction; save it without") from error
    if not lines:
        raise ParseFailed("no-text", "the PDF has no text, only images; run OCR on it (for example ocrmypdf) first")
    lines = _without_running_lines(lines)
    body: Counter[Style] = Counter()
    for line in lines:
        body[line.style] += len(line.text) if line.style != TABLE else 0
    return Reading(_with_continuations(_elements(lines, body.most_common(1)[0][0])))


class _Interpreter(PDFPageInterpreter):  # type: ignore[misc]
    """Reads the text of pages whose colour spaces are broken: nobody looks at the colours."""

    def init_resources(self, resources: dict[object, object]) -> None:
        super().init_resources({name: value for name, value in (resources or {}).items() if name != "ColorSpace"})


def _pages(path: Path) -> Iterator[LTPage]:
    """The laid out pages; a sideways one is turned and laid out again."""
    resources = PDFResourceManager()
    device = PDFPageAggregator(resources, laparams=LAParams(all_texts=True))
    interpreter = _Interpreter(resources, device)
    with path.open("rb") as f:
        for page in PDFPage.get_pages(f):
            interpreter.process_page(page)
            if turn := _turn(device.get_result()):
                page.rotate = (page.rotate + turn) % 360
                interpreter.process_page(page)
            yield device.get_result()


def _turn(page: LTPage) -> int:
    """Degrees clockwise that set most of the page's characters upright."""
    lines = (line for box in _boxes(page) for line in box if isinstance(line, LTTextLine))
    characters = (c for line in lines for c in line if isinstance(c, LTChar))
    turns = Counter(0 if c.upright else 90 if c.matrix[1] > 0 else 270 for c in characters)
    return turns.most_common(1)[0][0] if turns else 0


def _lines(pages: Iterable[LTPage]) -> Iterator[Line]:
    """The lines, box by box; a table, as one, where the first of its lines is."""
    ordinal = 0
    for number, page in enumerate(pages, start=1):
        boxes = [[line for line in box if isinstance(line, LTTextLine)] for box in _boxes(page)]
        tables = find_tables(page, [line for box in boxes for line in box])
        for box in boxes:
            ordinal += 1
            for line in box:
                table = next((table for table in tables if inside(line, table.box)), None)
                if table is None:
                    if found := _line(line, number, ordinal):
                        yield found
                elif table.text:
                    yield Line(_clean(table.text), TABLE, number, ordinal)
                    tables[tables.index(table)] = replace(table, text="")


def _boxes(page: LTPage) -> list[LTTextBox]:
    """The page's text boxes; those within figures, which are labels, only where a page has no others."""
    boxes = [item for item in page if isinstance(item, LTTextBox)]
    figures = [item for item in page if isinstance(item, LTFigure)]
    return boxes or [box for figure in figures for box in figure if isinstance(box, LTTextBox)]


def _line(line: LTTextLine, page: int, box: int) -> Line | None:
    characters = [c for c in line if isinstance(c, LTChar)]
    text = _clean(_text(line)).rstrip()
    # a line of turned text (a stamp in the margin) comes out as loose letters
    if not text.strip() or sum(c.upright for c in characters) * 2 < len(characters):
        return None
    ((size, font), _) = Counter((round(c.size, 1), c.fontname) for c in characters).most_common(1)[0]
    return Line(text, Style(size, bool(_BOLD.search(font)), bool(_MONOSPACED.search(font))), page, box)


def _clean(text: str) -> str:
    return _UNMAPPED.sub("", text).translate(_LIGATURES)


def _text(line: LTTextLine) -> str:
    """The line's text, without the second of two characters that draw one bold one."""
    parts: list[str] = []
    last: LTChar | None = None
    for character in line:
        if isinstance(character, LTChar):
            moved = abs(character.x0 - last.x0) if last else 0.0
            if last and character.get_text() == last.get_text() and moved < 0.2 * character.width:
                continue
            last = character
        parts.append(character.get_text())
    return "".join(parts)


def _without_running_lines(lines: list[Line]) -> list[Line]:
    """Drop headers and footers, whatever the page number in them; the title, set larger, stays."""
    pages = len({line.page for line in lines})
    if pages < RUNNING_PAGES:
        return lines
    seen = Counter(running for running, _ in {(_as_running(line), line.page) for line in lines})
    return [line for line in lines if seen[_as_running(line)] * 2 <= pages] or lines


def _as_running(line: Line) -> tuple[str, Style]:
    return re.sub(r"\d+", "#", " ".join(line.text.split())), line.style


def _elements(lines: list[Line], body: Style) -> list[Element]:
    """Lines of a box belong together while they are all heading (of one style), all code, or neither."""

    def kind(line: Line) -> tuple[int, Style | None, bool, bool]:
        heading = line.style if _stands_out(line.style, body) else None
        return line.box, heading, line.style.monospaced and not body.monospaced, line.style == TABLE

    blocks = [(style, code, list(block)) for (_, style, code, _), block in groupby(lines, kind)]
    headings = {style for style, _, block in blocks if style and _can_be_heading(block)}
    ranked = sorted(headings, key=lambda style: (style.size, style.bold), reverse=True)
    elements: list[Element] = []
    for style, code, block in blocks:
        page = block[0].page
        if block[0].style == TABLE:
            elements += [Element(line.text, "Table", None, page) for line in block]
        elif style and _can_be_heading(block):
            elements.append(Element(_joined(block), "Title", min(ranked.index(style), DEEPEST), page))
        elif code and len(block) > 1:
            elements.append(Element("\n".join(line.text for line in block), "CodeSnippet", None, page))
        else:
            elements.extend(_paragraphs(block))
    return elements


def _stands_out(style: Style, body: Style) -> bool:
    larger = style.size >= body.size * HEADING_SIZE
    bolder = style.bold and not body.bold and style.size >= body.size * SMALLEST_BOLD_HEADING
    return (larger or bolder) and not style.monospaced


def _can_be_heading(block: list[Line]) -> bool:
    text = _joined(block)
    return len(text) <= HEADING_CHARACTERS and sum(map(str.isalpha, text)) >= HEADING_LETTERS and text[-1] not in ".,;"


def _paragraphs(block: list[Line]) -> Iterator[Element]:
    """One element a list item, one for the lines before the first."""
    items = [[line] for line in block[:1]]
    for line in block[1:]:
        if _BULLET.match(line.text):
            items.append([line])
        else:
            items[-1].append(line)
    for item in items:
        category = "ListItem" if _BULLET.match(item[0].text) else "NarrativeText"
        yield Element(_joined(item), category, None, item[0].page)


def _with_continuations(elements: list[Element]) -> list[Element]:
    """Join a paragraph that a column, a page or a gap cut within a sentence."""
    joined: list[Element] = []
    for element in elements:
        last = joined[-1] if joined else None
        if last and _goes_on(last, element):
            joined[-1] = replace(last, text=_flowing(f"{last.text}\n{element.text}"))
        else:
            joined.append(element)
    return joined


def _goes_on(last: Element, element: Element) -> bool:
    return (
        last.category in {"NarrativeText", "ListItem"}
        and element.category == "NarrativeText"
        and element.text[0].islower()
        and (last.text[-1].isalpha() or last.text[-1] in ",-")
    )


def _joined(lines: list[Line]) -> str:
    return _flowing("\n".join(line.text.strip() for line in lines))


def _flowing(text: str) -> str:
    return " ".join(_HYPHENATED.sub("", text).split())
