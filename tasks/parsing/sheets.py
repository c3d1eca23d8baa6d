"""Tables: CSV and TSV whatever their delimiter, and the sheets of workbooks, each run of rows a table.

unstructured takes single cells beside a table for headings, and refuses CSV files of one column or in UTF-16.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from itertools import groupby
from pathlib import Path
from typing import Any

from schemas.errors import ParseFailed
from schemas.records import Element
from tasks.parsing.reading import Reading
from tasks.parsing.text import read_text

DELIMITERS = ",;\t|"
SAMPLE_LINES = 50


def read_delimited(path: Path) -> Reading:
    """A CSV or TSV file as one table."""
    text = read_text(path)
    csv.field_size_limit(len(text) + 1)
    # a tab is trimmed by nobody who has only spaces in mind
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(text)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    return Reading([Element("\n".join(_lines(rows)), "Table")])


def read_xlsx(path: Path) -> Reading:
    """A workbook of Excel 2007 or later."""
    from openpyxl import load_workbook

    book = load_workbook(path, read_only=True, data_only=True)
    for sheet in book.worksheets:
        sheet.reset_dimensions()  # as large as a file claims, not as it is
    return _workbook((sheet.title, sheet.iter_rows(values_only=True)) for sheet in book.worksheets)


def read_xls(path: Path) -> Reading:
    """A workbook of Excel 97. Raises ParseFailed (`encrypted`)."""
    import xlrd

    try:
        book = xlrd.open_workbook(str(path), on_demand=True, logfile=io.StringIO())
    except xlrd.XLRDError as error:
        if re.search("encrypt|password", str(error), re.IGNORECASE):
            raise ParseFailed("encrypted", "it is protected by a password; save it without") from error
        raise

    def rows(sheet: Any) -> Iterator[list[object]]:
        return ([_xls_value(book, cell) for cell in sheet.row(n)] for n in range(sheet.nrows))

    return _workbook((sheet.name, rows(sheet)) for sheet in book.sheets())


def _workbook(sheets: Iterable[tuple[str, Iterable[Sequence[object]]]]) -> Reading:
    """A heading a sheet, whose number is the page; a table a run of rows that are not empty."""
    elements: list[Element] = []
    for page, (name, rows) in enumerate(sheets, start=1):
        lines = groupby(_lines(rows, keep_empty=True), key=bool)
        tables = [Element("\n".join(table), "Table", None, page) for full, table in lines if full]
        elements += [Element(name, "Title", 0, page), *tables] if tables else []
    return Reading(elements, titled=True)


def _delimiter(text: str) -> str:
    """The character that cuts most of the first lines into the same number of cells, more than one; else a comma."""
    sample = "\n".join(text.split("\n", SAMPLE_LINES)[:SAMPLE_LINES])
    scores = {}
    for delimiter in DELIMITERS:
        rows = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, skipinitialspace=True)
        widths = [len(row) for row in rows if row]
        usual = max(set(widths), key=lambda width: (widths.count(width), width)) if widths else 1
        scores[delimiter] = (widths.count(usual) / len(widths) if usual > 1 else 0.0, usual)
    best = max(DELIMITERS, key=lambda delimiter: scores[delimiter])
    if scores[best][0] >= 0.5:
        return best
    return "\x1f" if all(score == 0.0 for score, _ in scores.values()) else ","  # one column: nothing to cut at


def _lines(rows: Iterable[Sequence[object]], *, keep_empty: bool = False) -> Iterator[str]:
    for row in rows:
        cells = [_cell(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells or keep_empty:
            yield " | ".join(cells)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.15g}"  # 0.1 + 0.2 is 0.3 to whoever looks at the sheet
    if isinstance(value, datetime):
        return str(value).removesuffix(" 00:00:00")
    if isinstance(value, date | time):
        return value.isoformat()
    return " ".join(str(value).split())


def _xls_value(book: Any, cell: Any) -> object:
    import xlrd

    value: object = cell.value
    match cell.ctype:
        case xlrd.XL_CELL_DATE:
            try:
                moment: datetime = xlrd.xldate_as_datetime(value, book.datemode)
                return moment
            except (xlrd.XLDateError, ValueError, OverflowError):
                return value
        case xlrd.XL_CELL_BOOLEAN:
            return "TRUE" if value else "FALSE"
        case xlrd.XL_CELL_ERROR:
            return None
    return value
