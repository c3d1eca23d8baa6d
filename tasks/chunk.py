"""Cut a document's elements into chunks that the embedder reads whole.

In: elements in reading order. Out: chunks, each the slice [start, end) of the document's text (its elements joined by
blank lines), none over `max_tokens` word pieces.

Boundaries are local: a range that is too long is cut at its strongest boundary (a heading before a paragraph before a
sentence; among equals the one whose following text hashes lowest), and its two parts are cut in the same way. So an
inserted paragraph moves only the cuts of the small range that it lands in, and the other chunks keep their text, their
hash and their vector. The priorities make a treap of the boundaries: Seidel & Aragon 1996, "Randomized Search Trees".
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.records import CHUNKS, DOCUMENTS, BatchRef, Chunk, Element
from schemas.settings import Settings
from tasks.models import load_tokenizer, tokenizer_fingerprint
from tasks.shared import must_see
from tasks.timing import timed

CHUNKER_VERSION = "2"
SEPARATOR = "\n\n"

# Strength of the boundary before a unit. Headings: HEADING - depth, so that a chapter is cut before a section; what
# follows a heading stays with it while there is another place to cut.
AFTER_HEADING, PIECE, BLOCK, HEADING = -1, 0, 1, 100

# Word pieces count a 200-character identifier as one unknown token: also bound what a token may stand for.
MAX_CHARS_PER_TOKEN = 16

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(\[A-Z0-9])")
_LINE = re.compile(r"\n+")
_WORD = re.compile(r"\s+")

TokenCounter = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True)
class Unit:
    """What is never cut: a block, or a piece of a block that is too long."""

    start: int
    end: int
    tokens: int
    strength: int  # of the boundary before it
    headings: tuple[str, ...]
    page: int | None
    heading: bool  # is itself a heading
    priority: int  # decides between equal strengths


class Span(NamedTuple):
    """A block of the text, or a piece of one that is too long."""

    start: int
    end: int
    tokens: int
    strength: int
    element: Element


def document_text(elements: Sequence[Element]) -> str:
    """The text that chunks are slices of."""
    return SEPARATOR.join(element.text for element in elements)


def chunk_elements(
    elements: Sequence[Element], count_tokens: TokenCounter, *, max_tokens: int, min_tokens: int
) -> list[Chunk]:
    """Chunks of at most `max_tokens` word pieces; cuts leave `min_tokens` on both sides wherever they can."""
    text = document_text(elements)
    units = list(_units(elements, text, count_tokens, max_tokens))
    chunks: list[Chunk] = []
    for group in _split(units, max_tokens, min_tokens):
        path, body = _place(group)
        start, end = body[0].start, body[-1].end
        chunks.append(
            Chunk(
                ordinal=len(chunks),
                headings=" > ".join(path),
                text=text[start:end],
                page=body[0].page,
                start=start,
                end=end,
                tokens=sum(unit.tokens for unit in body),
            )
        )
    return chunks


def embedded_text(title: str, headings: str, text: str) -> str:
    """What the embedder reads: where the passage stands, then the passage."""
    place = headings if headings.startswith(title) else f"{title} > {headings}" if headings else title
    # beside 200 tokens of text there is room for some 50 more
    return f"{place[-160:]}\n{text}" if place else text


def chunk_hash(text: str) -> str:
    """Key of an embedded text in the ledger: the first 128 bits of its SHA-256, hex."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@timed("chunk")
def chunk_batch(batch: BatchRef, settings: Settings) -> BatchRef:
    """Chunk a parsed batch: reads its documents and elements, writes its chunks and its documents' chunk counts.

    Raises NotShared, ModelNotFound.
    """
    must_see(batch.folder)
    tokenizer = load_tokenizer(settings)

    def count_tokens(texts: Sequence[str]) -> list[int]:
        return [len(e.ids) for e in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    documents = pq.read_table(batch.part("documents")).to_pylist()
    elements: dict[str, list[Element]] = {row["doc_id"]: [] for row in documents}
    for row in pq.read_table(batch.part("elements")).to_pylist():
        elements[row.pop("doc_id")].append(Element(**row))
    rows = []
    for document in documents:
        chunks = chunk_elements(
            elements[document["doc_id"]],
            count_tokens,
            max_tokens=settings.chunk_tokens,
            min_tokens=settings.chunk_min_tokens,
        )
        document["chunk_count"] = len(chunks)
        rows += [chunk_row(document["doc_id"], document["title"], chunk) for chunk in chunks]
    pq.write_table(pa.Table.from_pylist(rows, schema=CHUNKS), batch.part("chunks"))
    # last, by a rename: a staged batch whose documents are there is whole
    aside = batch.part("documents").with_suffix(".tmp")
    pq.write_table(pa.Table.from_pylist(documents, schema=DOCUMENTS), aside)
    aside.replace(batch.part("staged"))
    batch.part("documents").unlink()
    batch.part("elements").unlink()
    return replace(batch, chunks=len(rows))


def chunk_row(doc_id: str, title: str, chunk: Chunk) -> dict[str, object]:
    """A row of CHUNKS."""
    return {
        "chunk_id": f"{doc_id}/{chunk.ordinal}",
        "doc_id": doc_id,
        "title": title,
        "chunk_hash": chunk_hash(embedded_text(title, chunk.headings, chunk.text)),
        **vars(chunk),
    }


def chunker_fingerprint(settings: Settings) -> str:
    """Names what decides the chunks of a parsed document; models that share a tokenizer share it."""
    tokenizer = tokenizer_fingerprint(settings)
    return f"chunk{CHUNKER_VERSION}-{settings.chunk_tokens}-{settings.chunk_min_tokens}-{tokenizer}"


def _units(elements: Sequence[Element], text: str, count_tokens: TokenCounter, max_tokens: int) -> Iterator[Unit]:
    spans: list[Span] = []
    offset = 0
    counts = count_tokens([element.text for element in elements])
    for element, tokens in zip(elements, counts, strict=True):
        strength = BLOCK if element.depth is None else max(HEADING - element.depth, BLOCK + 1)
        end = offset + len(element.text)
        block = Span(offset, end, weight(tokens, end - offset), strength, element)
        spans += [block] if block.tokens <= max_tokens else _pieces(block, text, count_tokens, max_tokens)
        offset = end + len(SEPARATOR)

    path: list[tuple[int, str]] = []
    after_heading = False
    for start, end, tokens, strength, element in spans:
        if element.depth is not None and strength != PIECE:
            path = [(depth, name) for depth, name in path if depth < element.depth]
            path.append((element.depth, " ".join(element.text.split())))
        is_heading = element.depth is not None
        before = AFTER_HEADING if after_heading and not is_heading else strength
        after_heading = is_heading
        headings = tuple(name for _, name in path)
        priority = int.from_bytes(hashlib.blake2b(text[start:end].encode(), digest_size=8).digest())
        yield Unit(start, end, tokens, before, headings, element.page, is_heading, priority)


def weight(tokens: int, chars: int) -> int:
    """What a text of so many word pieces and characters counts as, in tokens."""
    return max(tokens, -(-chars // MAX_CHARS_PER_TOKEN))


def _pieces(block: Span, text: str, count_tokens: TokenCounter, max_tokens: int) -> list[Span]:
    """Cut a block that is too long: at lines or sentences, then at words, then anywhere."""
    pieces = [block]
    lines = block.element.category in {"Table", "CodeSnippet"} or "\n" in block.element.text
    for separator in (_LINE if lines else _SENTENCE, _SENTENCE, _WORD, None):
        cut: list[Span] = []
        for piece in pieces:
            if piece.tokens <= max_tokens:
                cut.append(piece)
                continue
            spans = _cut(text, piece.start, piece.end, separator, max_tokens)
            counts = count_tokens([text[start:end] for start, end in spans])
            cut += [
                Span(start, end, weight(tokens, end - start), PIECE, block.element)
                for (start, end), tokens in zip(spans, counts, strict=True)
            ]
        pieces = cut
    return [pieces[0]._replace(strength=block.strength), *pieces[1:]]


def _cut(text: str, start: int, end: int, separator: re.Pattern[str] | None, max_tokens: int) -> list[tuple[int, int]]:
    if separator is None:  # one endless word
        return [(a, min(a + max_tokens, end)) for a in range(start, end, max_tokens)]
    edges = [start, *(edge for m in separator.finditer(text, start, end) for edge in m.span()), end]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def _split(units: Sequence[Unit], max_tokens: int, min_tokens: int) -> Iterator[Sequence[Unit]]:
    """Groups of consecutive units of at most `max_tokens`, in order."""
    totals = [0, *accumulate(unit.tokens for unit in units)]
    open_ranges = [(0, len(units))] if units else []
    while open_ranges:
        low, high = open_ranges.pop()
        if totals[high] - totals[low] <= max_tokens or high - low == 1:
            yield units[low:high]
            continue
        cut = _best_cut(units, totals, low, high, min_tokens)
        open_ranges += [(cut, high), (low, cut)]


def _best_cut(units: Sequence[Unit], totals: Sequence[int], low: int, high: int, min_tokens: int) -> int:
    """Index of the unit to cut before, in (low, high)."""
    # the distance of a cut to the ends of its range is local too, so a minimum does not make far cuts move
    first = bisect.bisect_left(totals, totals[low] + min_tokens, low + 1, high)
    last = bisect.bisect_right(totals, totals[high] - min_tokens, low + 1, high)
    candidates = range(first, last) or range(low + 1, high)
    strength = max(units[i].strength for i in candidates)
    strongest_cuts = [i for i in candidates if units[i].strength == strength]
    return min(strongest_cuts, key=lambda i: (units[i].priority, i))


def _place(group: Sequence[Unit]) -> tuple[tuple[str, ...], Sequence[Unit]]:
    """A chunk's heading path, and its units without the headings in front that the path repeats."""
    path = next((unit.headings for unit in group if not unit.heading), None)
    if path is None:  # headings alone: they are the text
        return group[0].headings[:-1], group
    first = next(i for i, unit in enumerate(group) if not unit.heading or unit.headings != path[: len(unit.headings)])
    return path, group[first:]
