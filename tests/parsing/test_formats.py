"""Each format on real files: text, headings, tables and pages as a person sees them in the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from schemas.errors import ParseFailed
from schemas.records import ParsedDocument
from schemas.settings import Settings
from tasks.chunk import chunk_elements
from tasks.parsing.pool import ParserPool


def read(pool: ParserPool, path: Path) -> ParsedDocument:
    (outcome,) = pool.parse_many([path])
    assert isinstance(outcome, ParsedDocument), outcome
    return outcome


def headings(document: ParsedDocument) -> list[tuple[int, str]]:
    return [(element.depth, element.text) for element in document.elements if element.depth is not None]


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# file of corpora/formats; what stands in it, in this order; headings; rows of tables
REAL = [
    ("category-level.docx", ["Call me Ishmael.", "A Heading 1", "Next level", "A Heading 2"], 3, []),
    ("docx-tables.docx", ["Header Col 1"], 0, ["Header Col 1 | Header Col 2"]),
    ("sample-presentation.pptx", ["Title Slide", "first content slide", "second content slide"], 4, []),
    ("stanley-cups.xlsx", ["Stanley Cups", "Maple Leafs"], 2, ["Team | Location | Stanley Cups"]),
    ("tests-example.xls", ["Example Test", "Format Abbr.", "Readme"], 3, ["Abbreviation | Question Type"]),
    ("stanley-cups.csv", ["Stanley Cups"], 0, ["Team | Location | Stanley Cups", "Maple Leafs | TOR | 13"]),
    ("stanley-cups.tsv", [], 0, ["Maple Leafs | TOR | 13"]),
    ("stanley-cups-utf-16.csv", [], 0, ["Maple Leafs | TOR | 13"]),
    ("semicolon-delimited.csv", [], 0, ["Lorem, ipsum | dolor sit | amet"]),
    ("single-column.csv", [], 0, ["Lorem, ipsum\ndolor sit"]),
    ("winter-sports.epub", ["Winter Sports in Switzerland", "CHAPTER I", "CHAPTER II"], 33, []),
    ("fake-doc.rtf", ["My First Heading", "My first paragraph"], 1, ["Column 1 | Column 2"]),
    ("simple.odt", ["These are a few of my favorite things:", "Parrots", "Hockey"], 1, []),
    ("README.org", ["Example Docs"], 2, []),
    ("README.rst", ["Example Docs"], 2, []),
    ("README.md", ["Example Docs"], 2, []),
    (
        "example-10k-1p.html",
        ["TRANSITION REPORT", "Galaxy Gaming, Inc.", "Title of each class"],
        0,
        ["Common stock |  | GLXZ"],
    ),
    ("example-steelJIS-datasheet-utf-16.html", ["SteelJIS"], 2, []),
    ("fake-html-cp1252.html", ["My First Heading"], 1, []),
    ("factbook.xml", ["United States"], 0, []),
    ("simple.json", ["Parrots"], 2, []),
    ("simple.ndjson", ["Parrots"], 2, []),
    ("fake-email-attachment.eml", ["It includes:", "fake-attachment.txt", "Hey this is"], 1, []),
    ("fake-email-attachment.msg", ["It includes:", "fake-attachment.txt", "Hey this is"], 1, []),
    ("mime-attach-mp3.eml", ["MP3"], 0, []),
    ("fake-text-utf-32.txt", ["Important points:"], 0, []),
    ("umlauts-non-utf8.md", ["können"], 1, []),
    ("logger.py", ["import logging", "def detail"], 1, []),
    ("fake.go", ["func main"], 1, []),
    ("multi-column.pdf", ["Abstract", "Introduction", "2 Background", "References"], 37, []),
    ("layout-parser-paper-with-table.pdf", ["3.1 Layout Detection Models"], 1, ["PubLayNet"]),
    ("rotated-page-90.pdf", [], 0, []),
    ("korean-text-with-tables.pdf", ["포인트"], 2, []),
]


@pytest.mark.shared
@pytest.mark.parametrize(("name", "texts", "heading_count", "rows"), REAL, ids=[name for name, *_ in REAL])
def test_real_file(
    pool: ParserPool, corpora: Path, name: str, texts: list[str], heading_count: int, rows: list[str]
) -> None:
    (path,) = (path for path in (corpora / "formats").rglob(name) if path.is_file())
    document = read(pool, path)
    whole = "\n".join(element.text for element in document.elements)
    position = 0
    for text in texts:  # in reading order
        position = whole.index(text, position)
    assert len(headings(document)) == heading_count
    tables = "\n".join(element.text for element in document.elements if element.category == "Table")
    assert all(row in tables for row in rows)
    pages = [element.page for element in document.elements if element.page is not None]
    assert pages == sorted(pages)
    assert bool(pages) == (path.suffix in {".pdf", ".pptx", ".xlsx", ".xls"})


@pytest.mark.shared
@pytest.mark.slow
def test_all_real_files_are_indexed_or_quarantined_for_a_true_reason(corpora: Path) -> None:
    folder = corpora / "formats"
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    assert len(paths) == 199
    with ParserPool(Settings(parse_workers=2)) as pool:
        outcomes = dict(zip((str(path.relative_to(folder)) for path in paths), pool.parse_many(paths), strict=True))
    failed = {name: outcome.kind for name, outcome in outcomes.items() if isinstance(outcome, ParseFailed)}
    converter = {"duplicate-paragraphs.doc", "fake-doc-emphasized-text.doc", "fake-power-point.ppt", "fake.doc"}
    assert {name: kind for name, kind in failed.items() if kind != "needs-converter"} == {
        "eml/empty.eml": "empty",
        "eml/fake-encrypted.eml": "encrypted",
        "eml/mime-no-body.eml": "empty",
        "empty.txt": "empty",
        "empty.xlsx": "empty",
        "fake-encrypted.msg": "encrypted",
        "fake-text-all-whitespace.txt": "empty",
        "password_protected.xlsx": "encrypted",
        "pdf/loremipsum-flat.pdf": "no-text",
        "pdf/password.pdf": "encrypted",
        "pdf/single_table.pdf": "no-text",
        "pdf/table-multi-row-column-cells.pdf": "no-text",
        "picture.pptx": "empty",
        "simple.zip": "unsupported",
        "test-image-jpg-mime.pptx": "empty",
    }
    assert {name for name, kind in failed.items() if kind == "needs-converter"} <= {*converter, "simple.doc"}


@pytest.mark.shared
@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not on the PATH")
@pytest.mark.parametrize(
    ("name", "text"),
    [("simple.doc", "This is my first thought."), ("fake-power-point.ppt", "Find the bullet slide layout")],
)
def test_old_office_files_are_read_through_libreoffice(
    corpora: Path, pool: ParserPool, tmp_path: Path, name: str, text: str
) -> None:
    """A temporary copy: a lock file beside the original would be a change of the source."""
    copy = tmp_path / name
    shutil.copy(corpora / "formats" / name, copy)
    (document,) = pool.parse_many([copy])
    assert isinstance(document, ParsedDocument)
    assert any(text in element.text for element in document.elements)
    assert list(tmp_path.iterdir()) == [copy]


def test_markdown_of_every_kind(pool: ParserPool, tmp_path: Path) -> None:
    document = read(
        pool,
        written(
            tmp_path,
            "a.md",
            '---\ntitle: "From the front"\n---\n# One\n\nSome *text*  \nwith a break.\n\nTwo\n---\n\n- item\n- other\n'
            "  continued\n\n1. first\n\n```yaml\nkey: value\n  deep: 1\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
            "<details><summary>More</summary>hidden text</details>\n\n> quoted\n",
        ),
    )
    assert document.title == "One"
    assert headings(document) == [(0, "One"), (1, "Two")]
    assert [(e.category, e.text) for e in document.elements if e.depth is None] == [
        ("NarrativeText", "Some text\nwith a break."),
        ("ListItem", "item"),
        ("ListItem", "other continued"),
        ("ListItem", "first"),
        ("CodeSnippet", "key: value\n  deep: 1"),
        ("Table", "a | b\n1 | 2"),
        ("NarrativeText", "More"),
        ("NarrativeText", "hidden text"),
        ("NarrativeText", "quoted"),
    ]


def test_notebook_keeps_text_code_and_output(pool: ParserPool, tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(
        '{"nbformat": 4, "cells": ['
        '{"cell_type": "markdown", "source": ["# Study\\n", "\\n", "We look."]},'
        '{"cell_type": "code", "source": "print(1 + 1)", "outputs": [{"output_type": "stream", "text": ["2\\n"]}]},'
        '{"cell_type": "code", "source": "1/0", "outputs": [{"output_type": "error", "traceback": ["no"]}]}]}'
    )
    document = read(pool, path)
    assert document.title == "Study"
    assert [e.text for e in document.elements] == ["Study", "We look.", "print(1 + 1)", "2", "1/0"]


CODE = {
    "a.py": (
        'LIMIT = 3\n\n\nclass Store:\n    """Keeps."""\n\n    def put(self, key):\n        return key\n\n\n'
        "@cached\ndef find(text):\n    def inner():\n        pass\n    return inner\n",
        [(0, "class Store"), (1, "def put(self, key)"), (0, "def find(text)")],
    ),
    "a.ts": (
        "import x from 'y';\n\nexport class Store {\n  put(key: string): void {\n    if (key) { return; }\n  }\n}\n\n"
        "export const find = async (text: string) => {\n  return text;\n};\n",
        [(0, "export class Store"), (1, "put(key: string): void"), (0, "export const find = async (text: string) =>")],
    ),
    "a.go": (
        "package a\n\ntype Store struct {\n\tkeys int\n}\n\n// Put keeps.\nfunc (s *Store) Put(key string) error {\n"
        "\treturn nil\n}\n",
        [(0, "type Store struct"), (0, "func (s *Store) Put(key string) error")],
    ),
    "a.sql": (
        "CREATE TABLE store (\n  key TEXT\n);\n\nCREATE OR REPLACE FUNCTION put() RETURNS void AS $$\n$$;\n",
        [(0, "CREATE TABLE store"), (0, "CREATE OR REPLACE FUNCTION put() RETURNS void AS $$")],
    ),
    "a.java": (
        "class Store {\n    public int put(String key) {\n        return find(key);\n    }\n}\n",
        [(0, "class Store"), (1, "public int put(String key)")],
    ),
}


@pytest.mark.parametrize("name", CODE)
def test_code_is_chunked_along_functions_and_classes(pool: ParserPool, tmp_path: Path, name: str) -> None:
    source, expected = CODE[name]
    document = read(pool, written(tmp_path, name, source))
    assert headings(document) == expected
    chunks = chunk_elements(
        document.elements, lambda texts: [len(text.split()) for text in texts], max_tokens=8, min_tokens=0
    )
    assert {chunk.headings for chunk in chunks} >= {" > ".join(place) for place in _paths(expected)}


def _paths(expected: list[tuple[int, str]]) -> list[list[str]]:
    """Heading paths of the definitions that hold no others."""
    paths, path = [], list[str]()
    for i, (depth, name) in enumerate(expected):
        path = [*path[:depth], name]
        if i + 1 == len(expected) or expected[i + 1][0] <= depth:
            paths.append(path)
    return paths


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "Größe und Maß, café crème"),
        ("cp1252", "“quoted” — 5 €"),
        ("utf-16", "Größe 日本語"),
        ("utf-16-le", "plain words without a mark, enough of them"),
        ("utf-8-sig", "Größe 日本語"),
        ("shift_jis", "これは日本語の文章です。東京は日本の首都であり、多くの人々が住んでいます。"),
        ("euc_kr", "이것은 한국어 문장입니다. 서울은 대한민국의 수도이며 많은 사람들이 살고 있습니다."),
        ("koi8_r", "Это предложение на русском языке, и в нём достаточно слов для проверки."),
    ],
)
def test_text_in_any_encoding(pool: ParserPool, tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert read(pool, tmp_path / "a.txt").elements[0].text == text
