"""Tables of a PDF page: where ruled lines make cells, and where short texts stand in columns without them.

A PDF knows no tables, only where characters and strokes are. pdfplumber finds ruled tables too, but lays every page out
a second time and pins the version of pdfminer.six.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from pdfminer.layout import LTChar, LTCurve, LTFigure, LTLine, LTPage, LTRect, LTTextLine
from pdfminer.utils import Rect

TOLERANCE = 3.0  # points between strokes that are meant to meet
MAX_STROKES = 1500  # drawings have more; their comparison is quadratic
MIN_ROWS = 2
# without rules, what looks like a table must look more so
MIN_ALIGNED_ROWS, MIN_ALIGNED_COLUMNS, MAX_CELL_WORDS = 3, 3, 6
MAX_PROSE = 0.2  # share of a column's lines that may be longer
MIN_UNRULED_LINES = 3
BULLETS = set("•‣▪◦●○")
# shares of the type's size: a space is 0.2 to 0.4 wide, up to 0.8 in justified lines
SPACE, GAP = 0.15, 0.9


@dataclass(frozen=True)
class PdfTable:
    """A table and what it covers."""

    box: Rect  # x0, y0, x1, y1 in points, y upwards
    text: str  # a row a line, cells apart by ` | `


@dataclass(frozen=True)
class _Stroke:
    at: float  # y of a horizontal stroke, x of a vertical one
    start: float
    end: float

    def covers(self, at: float, position: float) -> bool:
        return abs(self.at - at) <= TOLERANCE and self.start - TOLERANCE <= position <= self.end + TOLERANCE


@dataclass(frozen=True)
class _Piece:
    """A part of a line that may be a cell."""

    x0: float
    y0: float
    x1: float
    y1: float
    text: str

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    @property
    def middle(self) -> float:
        return (self.y0 + self.y1) / 2


def find_tables(page: LTPage, lines: Sequence[LTTextLine]) -> list[PdfTable]:
    """The tables of a page whose text lines are `lines`."""
    tables = list(_ruled(page, lines))
    rest = [line for line in lines if not any(inside(line, table.box) for table in tables)]
    return tables + list(_aligned(rest))


def inside(line: LTTextLine, box: Rect) -> bool:
    """Is the middle of `line` in `box`?"""
    x, y = (line.x0 + line.x1) / 2, (line.y0 + line.y1) / 2
    return bool(box[0] - 1 <= x <= box[2] + 1 and box[1] - 1 <= y <= box[3] + 1)


def _ruled(page: LTPage, lines: Sequence[LTTextLine]) -> Iterator[PdfTable]:
    horizontal, vertical = _strokes(page)
    for across, down in _grids(horizontal, vertical):
        if not across:
            continue
        xs, ys = _positions(down, across), _positions(across, down)[::-1]
        if len(xs) < 3 or len(ys) < 3:
            continue
        box = (xs[0], ys[-1], xs[-1], ys[0])
        rows = _cells(xs, ys, across, down, [line for line in lines if inside(line, box)])
        if sum(sum(map(bool, row)) >= 2 for row in rows) >= MIN_ROWS:
            yield PdfTable(box, _text(rows))


def _strokes(page: Iterable[object]) -> tuple[list[_Stroke], list[_Stroke]]:
    """Horizontal and vertical strokes, those of one line joined."""
    horizontal: list[_Stroke] = []
    vertical: list[_Stroke] = []
    for x0, y0, x1, y1 in _segments(page):
        if abs(y1 - y0) <= 1 < abs(x1 - x0):
            horizontal.append(_Stroke((y0 + y1) / 2, min(x0, x1), max(x0, x1)))
        elif abs(x1 - x0) <= 1 < abs(y1 - y0):
            vertical.append(_Stroke((x0 + x1) / 2, min(y0, y1), max(y0, y1)))
    return _merged(horizontal), _merged(vertical)


def _segments(items: Iterable[object]) -> Iterator[Rect]:
    for item in items:
        if isinstance(item, LTFigure):
            yield from _segments(item)
        elif isinstance(item, LTRect):
            x0, y0, x1, y1 = item.bbox
            if min(x1 - x0, y1 - y0) <= 2:  # a stroke drawn as a filled rectangle
                middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
                yield (x0, middle_y, x1, middle_y) if x1 - x0 > y1 - y0 else (middle_x, y0, middle_x, y1)
            else:
                yield from ((x0, y0, x1, y0), (x0, y1, x1, y1), (x0, y0, x0, y1), (x1, y0, x1, y1))
        elif isinstance(item, LTLine | LTCurve):
            yield from ((a[0], a[1], b[0], b[1]) for a, b in pairwise(item.pts))


def _merged(strokes: list[_Stroke]) -> list[_Stroke]:
    merged: list[_Stroke] = []
    for stroke in sorted(strokes, key=lambda s: (round(s.at / TOLERANCE), s.start)):
        last = merged[-1] if merged else None
        if last and abs(last.at - stroke.at) <= TOLERANCE and stroke.start <= last.end + TOLERANCE:
            merged[-1] = _Stroke(last.at, last.start, max(last.end, stroke.end))
        else:
            merged.append(stroke)
    return merged


def _grids(horizontal: list[_Stroke], vertical: list[_Stroke]) -> Iterator[tuple[list[_Stroke], list[_Stroke]]]:
    """Groups of strokes that cross or touch one another."""
    if len(horizontal) + len(vertical) > MAX_STROKES:
        return
    left = list(vertical)
    across = set(range(len(horizontal)))
    while left:
        group, down, reached = [left.pop()], [], set[int]()
        while group:
            stroke = group.pop()
            down.append(stroke)
            touched = {n for n in across if _meet(horizontal[n], stroke)} - reached
            reached |= touched
            met = [other for other in left if any(_meet(horizontal[n], other) for n in touched)]
            left = [other for other in left if other not in met]
            group += met
        across -= reached
        yield [horizontal[n] for n in sorted(reached)], down


def _meet(across: _Stroke, down: _Stroke) -> bool:
    return (
        across.start - TOLERANCE <= down.at <= across.end + TOLERANCE
        and down.start - TOLERANCE <= across.at <= down.end + TOLERANCE
    )


def _positions(strokes: list[_Stroke], crossing: list[_Stroke]) -> list[float]:
    """Where the strokes are, and the outermost ends of those that cross them; rising, each position once."""
    ends = [
        min((stroke.start for stroke in crossing), default=0.0),
        max((stroke.end for stroke in crossing), default=0.0),
    ]
    found: list[float] = []
    for at in sorted([stroke.at for stroke in strokes] + ends * bool(crossing)):
        if not found or at - found[-1] > TOLERANCE:
            found.append(at)
    return found


def _cells(
    xs: list[float], ys: list[float], across: list[_Stroke], down: list[_Stroke], lines: list[LTTextLine]
) -> list[list[str]]:
    """The text of each cell. Cells that no stroke keeps apart are one: the first of them has the text."""
    rows, columns = len(ys) - 1, len(xs) - 1
    owner: dict[tuple[int, int], tuple[int, int]] = {}
    for row in range(rows):
        for column in range(columns):
            x, y = (xs[column] + xs[column + 1]) / 2, (ys[row] + ys[row + 1]) / 2
            mine = (row, column)
            if column and not any(stroke.covers(xs[column], y) for stroke in down):
                mine = owner[row, column - 1]
            elif row and not any(stroke.covers(ys[row], x) for stroke in across):
                mine = owner[row - 1, column]
            owner[row, column] = mine
    parts: dict[tuple[int, int], list[str]] = {cell: [] for cell in owner.values()}
    for line in lines:
        cell: tuple[int, int] | None = None
        for character in line:
            if isinstance(character, LTChar):
                x, y = (character.x0 + character.x1) / 2, (character.y0 + character.y1) / 2
                column = sum(x > edge for edge in xs[1:-1])
                row = sum(y < edge for edge in ys[1:-1])
                cell = owner[row, column]
            if cell is not None:
                parts[cell].append(character.get_text())
        if cell is not None:
            parts[cell].append("\n")
    texts = {cell: [" ".join(line.split()) for line in "".join(found).splitlines()] for cell, found in parts.items()}
    bands = [[texts.get((row, column), []) for column in range(columns)] for row in range(rows)]
    return [row for band in bands for row in _unruled(band)]


def _unruled(cells: list[list[str]]) -> list[list[str]]:
    """The row, or its lines as rows where all cells have as many: below a heading some tables have no more rules."""
    counts = {len(cell) for cell in cells if cell}
    if len(counts) == 1 and sum(map(bool, cells)) >= 2 and max(counts) >= MIN_UNRULED_LINES:
        return [list(row) for row in zip(*(cell or [""] * max(counts) for cell in cells), strict=True)]
    return [[" ".join(filter(None, cell)) for cell in cells]]


def _aligned(lines: Sequence[LTTextLine]) -> Iterator[PdfTable]:
    """Runs of rows of three short texts or more that stand in columns."""
    run: list[list[_Piece]] = []
    found = [piece for line in lines for piece in _pieces(line)]
    pieces = [piece for piece in found if len(piece.text.split()) <= MAX_CELL_WORDS and piece.text not in BULLETS]
    for row in [*_rows(pieces), []]:
        if len(row) >= MIN_ALIGNED_COLUMNS and (not run or _same_columns(run, row)):
            run.append(row)
            continue
        if len(run) >= MIN_ALIGNED_ROWS:
            yield _table(run, found)
        run = [row] if len(row) >= MIN_ALIGNED_COLUMNS else []


def _pieces(line: LTTextLine) -> Iterator[_Piece]:
    """What wide gaps leave of a line."""
    characters: list[LTChar] = []
    for character in line:
        if isinstance(character, LTChar) and character.get_text().strip():
            if characters and character.x0 - characters[-1].x1 > GAP * character.size:
                yield _piece(characters)
                characters = []
            characters.append(character)
    if characters:
        yield _piece(characters)


def _piece(characters: list[LTChar]) -> _Piece:
    text = characters[0].get_text()
    for last, character in pairwise(characters):
        text += (" " if character.x0 - last.x1 > SPACE * character.size else "") + character.get_text()
    first = characters[0]
    return _Piece(first.x0, min(c.y0 for c in characters), characters[-1].x1, max(c.y1 for c in characters), text)


def _rows(pieces: list[_Piece]) -> list[list[_Piece]]:
    """Pieces on one height, from left to right; the rows from top to bottom."""
    rows: list[list[_Piece]] = []
    for piece in sorted(pieces, key=lambda piece: -piece.middle):
        if rows and rows[-1][0].middle - piece.middle < 0.5 * piece.height:
            rows[-1].append(piece)
        else:
            rows.append([piece])
    return [sorted(row, key=lambda piece: piece.x0) for row in rows]


def _same_columns(above: list[list[_Piece]], row: list[_Piece]) -> bool:
    """Is `row` close below, of the same size (no exponents of a formula), and its pieces under one column each?"""
    columns = _columns([piece for other in above for piece in other])
    gap = min(piece.y0 for piece in above[-1]) - max(piece.y1 for piece in row)
    heights = median(piece.height for piece in above[-1]), median(piece.height for piece in row)
    over = [sum(piece.x0 < x1 and x0 < piece.x1 for x0, x1 in columns) for piece in row]
    return (
        gap < 2 * heights[1]
        and max(heights) < 1.4 * min(heights)
        and sum(n > 1 for n in over) <= 0.25 * len(row)
        and sum(over) >= 0.75 * min(len(row), len(columns))
    )


def _table(rows: list[list[_Piece]], found: list[_Piece]) -> PdfTable:
    """The table of `rows`, with all that was found between its corners."""
    columns = _columns([piece for row in rows for piece in row])
    while len(columns) > 1 and (beside := _beside(columns, rows, found)):
        columns.remove(beside)
    left, right = columns[0][0], columns[-1][1]
    pieces = [piece for row in rows for piece in row if left <= piece.x0 <= right]
    box = (left, min(piece.y0 for piece in pieces), right, max(piece.y1 for piece in pieces))
    cells = [[""] * len(columns) for _ in rows]
    for piece in sorted(found, key=lambda piece: (-piece.middle, piece.x0)):
        if box[1] <= piece.middle <= box[3] and left <= (piece.x0 + piece.x1) / 2 <= right:
            row = min(range(len(rows)), key=lambda n: abs(rows[n][0].middle - piece.middle))
            column = max(range(len(columns)), key=lambda n: min(piece.x1, columns[n][1]) - max(piece.x0, columns[n][0]))
            cells[row][column] = f"{cells[row][column]} {piece.text}".strip()
    return PdfTable(box, _text(cells))


def _beside(
    columns: list[tuple[float, float]], rows: list[list[_Piece]], found: list[_Piece]
) -> tuple[float, float] | None:
    """An outer column that is no part of the table: in one row only, or with lines of running text in it."""
    top, bottom = rows[0][0].y1, rows[-1][0].y0
    for x0, x1 in (columns[0], columns[-1]):
        in_rows = sum(any(x0 <= piece.x0 <= x1 for piece in row) for row in rows)
        words = [len(p.text.split()) for p in found if p.x0 < x1 and x0 < p.x1 and bottom <= p.middle <= top]
        if in_rows == 1 or sum(n > MAX_CELL_WORDS for n in words) > MAX_PROSE * len(words):
            return x0, x1
    return None


def _columns(pieces: list[_Piece]) -> list[tuple[float, float]]:
    """What the pieces cover from left to right, as intervals apart from one another."""
    columns: list[tuple[float, float]] = []
    for piece in sorted(pieces, key=lambda piece: piece.x0):
        if columns and piece.x0 < columns[-1][1]:
            columns[-1] = (columns[-1][0], max(columns[-1][1], piece.x1))
        else:
            columns.append((piece.x0, piece.x1))
    return columns


def _text(rows: list[list[str]]) -> str:
    return "\n".join(" | ".join(row).rstrip(" |") if row[-1] == "" else " | ".join(row) for row in rows if any(row))
