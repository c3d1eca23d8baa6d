"""Word and PowerPoint through unstructured: text, headings, lists, tables and page numbers in reading order.

The only caller of unstructured's partitioners, one format at a time: each takes part of a second to import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lxml import etree

from schemas.records import Element
from tasks.parsing.converters import converted_by_libreoffice
from tasks.parsing.html import deepened, table_lines
from tasks.parsing.offline import import_unstructured
from tasks.parsing.properties import core_properties
from tasks.parsing.reading import Reading

# what stands on every page, or is not text
NOISE = {"PageBreak", "Header", "Footer", "PageNumber", "Image"}


def read_office(path: Path, suffix: str, languages: str) -> Reading:
    """A .docx or .pptx file, or a .doc or .ppt file that LibreOffice converts first."""
    if suffix in {".doc", ".ppt"}:
        with converted_by_libreoffice(path, suffix) as converted:
            return read_office(converted, converted.suffix, languages)
    name = suffix.removeprefix(".")
    partition = getattr(import_unstructured(f"unstructured.partition.{name}"), f"partition_{name}")
    found = [raw for raw in partition(str(path), languages=languages.split(",")) if raw.category not in NOISE]
    if suffix == ".pptx":  # a "Title" further down a slide is a short bullet
        elements = [_element(raw, deepest=0) for raw in found]
    else:
        elements = _below_title(path, [_element(raw) for raw in found])
    metadata = core_properties(path)
    return Reading(elements, metadata.pop("title", ""), metadata=metadata)


def _below_title(path: Path, elements: list[Element]) -> list[Element]:
    """In Word a title and a first heading are of the same level; a title that has headings below it is above them."""
    import docx
    from docx.text.paragraph import Paragraph

    document = docx.Document(str(path))
    styles = [style.style_id for style in document.styles if style.name == "Title"]
    titled = [p for style in styles for p in document.element.body.xpath(f"w:p[w:pPr/w:pStyle/@w:val={style!r}]")]
    titles = {Paragraph(p, document).text.strip() for p in titled} - {""}
    if not titles:
        return elements
    return [a if a.text in titles else b for a, b in zip(elements, deepened(elements), strict=True)]


def _element(raw: Any, deepest: int = 9) -> Element:
    text = raw.text.strip().replace("\x00", "")
    html = raw.metadata.text_as_html
    if raw.category == "Table" and html:
        text = table_lines(etree.fromstring(html, etree.HTMLParser(no_network=True))) or text
    depth = raw.metadata.category_depth if raw.category == "Title" else None
    depth = depth if depth is not None and depth <= deepest else None
    return Element(text, raw.category, depth, raw.metadata.page_number)
