"""JSON and notebooks. A query names keys and values, not braces: `path.to.key: value` lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import etree

from schemas.errors import ParseFailed
from schemas.records import Element
from tasks.parsing.html import html_elements, table_lines
from tasks.parsing.markdown import markdown_elements
from tasks.parsing.reading import Reading
from tasks.parsing.text import read_text

# An object that prints shorter is one block; of a longer one, each key is a heading, so many levels deep.
BLOCK_CHARACTERS = 1000
HEADING_LEVELS = 3


def read_json(path: Path) -> Reading:
    """A JSON file. Raises ParseFailed (`malformed`)."""
    value = _parsed(read_text(path), "")
    if isinstance(value, list):
        return _records(value)
    return Reading(list(_blocks(value, 0)), titled=True)


def read_ndjson(path: Path) -> Reading:
    """A file with a JSON value a line. Raises ParseFailed (`malformed`), with the line."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    values = [_parsed(line, f"line {n}: ") for n, line in lines if line.strip()]
    return _records(values[0] if len(values) == 1 and isinstance(values[0], list) else values)


def read_notebook(path: Path) -> Reading:
    """A Jupyter notebook: its Markdown, its code, and what that printed."""
    notebook = _parsed(read_text(path), "")
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells", notebook.get("worksheets")), list):
        raise ParseFailed("malformed", "JSON, but no notebook")
    sheets = notebook.get("worksheets") or [notebook]  # before nbformat 4
    elements: list[Element] = []
    for cell in (cell for sheet in sheets for cell in sheet["cells"]):
        source = _joined(cell.get("source", cell.get("input", "")))
        match cell["cell_type"]:
            case "markdown":
                elements += markdown_elements(source)[0]
            case "heading":
                elements.append(Element(source, "Title", cell.get("level", 1) - 1))
            case "code":
                elements.append(Element(source.strip("\n"), "CodeSnippet"))
                for output in cell.get("outputs", []):
                    elements += _output(output)
            case _:
                elements.append(Element(source.strip(), "NarrativeText"))
    return Reading(elements)


def _output(output: dict[str, Any]) -> list[Element]:
    """Text and tables; a traceback or a picture is nothing to search."""
    data = output.get("data", output)
    if html := _joined(data.get("text/html", "")):
        tables = [element for element in html_elements(html)[0] if element.category == "Table"]
        if tables:
            return tables
    text = _joined(data.get("text/plain", output.get("text", ""))).strip("\n")
    return [Element(text, "CodeSnippet")] if text else []


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ParseFailed("malformed", f"{where}no JSON: {error}") from error
    except RecursionError as error:
        raise ParseFailed("malformed", f"{where}its values are nested thousands of levels deep") from error


def _records(values: list[Any]) -> Reading:
    if values and all(isinstance(value, dict) and {"type", "element_id", "text"} <= value.keys() for value in values):
        return Reading([_saved_element(value) for value in values])
    return Reading([element for value in values for element in _blocks(value, HEADING_LEVELS)])


def _saved_element(value: dict[str, Any]) -> Element:
    """An element that unstructured has written to JSON."""
    metadata = value.get("metadata") or {}
    html = metadata.get("text_as_html")
    table = etree.fromstring(html, etree.HTMLParser(no_network=True)) if html and value["type"] == "Table" else None
    text = str(value["text"]) if table is None else table_lines(table)
    depth = metadata.get("category_depth") if value["type"] == "Title" else None
    return Element(text, str(value["type"]), depth, metadata.get("page_number"))


def _blocks(value: Any, level: int) -> Iterator[Element]:
    lines = list(_lines(value, ""))
    if level >= HEADING_LEVELS or not isinstance(value, dict) or sum(map(len, lines)) <= BLOCK_CHARACTERS:
        if lines:
            yield Element("\n".join(lines), "UncategorizedText")
        return
    plain = {key: below for key, below in value.items() if not isinstance(below, dict | list)}
    yield from _blocks(plain, HEADING_LEVELS)
    for key, below in value.items():
        if key not in plain and below:
            yield Element(key.strip() or '""', "Title", level)
            for item in below if isinstance(below, list) else [below]:
                yield from _blocks(item, level + 1)


def _lines(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _lines(below, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(below, dict | list) for below in value):
        for below in value:
            yield from _lines(below, path)
    elif value not in (None, "", [], {}):
        said = ", ".join(map(_scalar, value)) if isinstance(value, list) else _scalar(value)
        yield f"{path}: {said}" if path else said


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
