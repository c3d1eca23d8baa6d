"""Records that pass between stages, and their Arrow schemas, field by field.

The stages hand each other Parquet paths; these are the rows inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa

Form = Literal["markdown", "xml"]  # of a prompt's context
Order = Literal["best", "reading"]  # of its blocks


@dataclass(frozen=True, slots=True)
class FileState:
    """One file as a scan found it."""

    uri: str  # file:///absolute/path, or a remote file's URL
    path: str  # absolute local path, or the URL
    source: str  # the source that it was found under, as the user gave it (absolute)
    size: int  # bytes; -1 where a remote source does not say
    mtime_ns: int  # nanoseconds since the epoch; 0 where a remote source does not say
    content_hash: str  # SHA-256, hex, of the bytes, or of a remote file's version token

    @property
    def is_local(self) -> bool:
        """Whether `path` can be opened as it is."""
        return self.uri.startswith("file:")


@dataclass(frozen=True)
class Element:
    """A parsed block, in reading order."""

    text: str  # never empty
    category: str  # unstructured's: Title, NarrativeText, ListItem, Table, CodeSnippet, …
    depth: int | None = None  # 0-based heading depth of a real heading, else None
    page: int | None = None  # 1-based


@dataclass(frozen=True)
class ParsedDocument:
    """What parsing one file gave."""

    elements: tuple[Element, ...]
    title: str  # of the document itself; "" where it has none
    file_type: str  # the extension without its dot, lower case
    metadata: dict[str, str] = field(default_factory=dict)  # author, subject, sent_from, …


@dataclass(frozen=True)
class Chunk:
    """A passage of one document: `text` is the parsed text's slice [start, end)."""

    ordinal: int  # 0-based position in its document
    headings: str  # heading path, "A > B"
    text: str
    page: int | None  # 1-based page of the first character, where the format has pages
    start: int  # characters from the start of the parsed text
    end: int
    tokens: int  # word pieces of `text`, special tokens not counted


DOCUMENTS = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),  # one version of one URI: hash of URI and content hash
        pa.field("uri", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("file_type", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),  # bytes
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),  # parser and chunker that made the chunks
        pa.field("chunk_count", pa.int32(), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),  # JSON object of strings
        pa.field("error_kind", pa.string()),  # set: quarantined, no chunks
        pa.field("error", pa.string()),
    ]
)

CHUNKS = pa.schema(
    [
        pa.field("chunk_id", pa.string(), nullable=False),  # doc_id/ordinal
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("ordinal", pa.int32(), nullable=False),
        pa.field("chunk_hash", pa.string(), nullable=False),  # hash of the text that is embedded
        pa.field("title", pa.string(), nullable=False),
        pa.field("headings", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("page", pa.int32()),
        pa.field("start", pa.int32(), nullable=False),
        pa.field("end", pa.int32(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),
    ]
)


TEXTS = pa.schema(  # what a batch has to embed
    [
        pa.field("chunk_hash", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)


def embeddings_schema(dim: int) -> pa.Schema:
    """Schema of a ledger part: one row a distinct chunk text, unit-norm float32 vectors of `dim` values."""
    return pa.schema(
        [
            pa.field("chunk_hash", pa.string(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), dim), nullable=False),
        ]
    )


ELEMENTS = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("depth", pa.int32()),
        pa.field("page", pa.int32()),
    ]
)


_FIRST_STAGES = (  # a rank is 1-based, and null where the stage did not have the candidate
    pa.field("bm25_rank", pa.int32()),
    pa.field("bm25_score", pa.float64()),  # BM25, over 0
    pa.field("vectors_rank", pa.int32()),
    pa.field("vectors_score", pa.float64()),  # cosine, -1 to 1
    pa.field("fusion_rank", pa.int32()),
    pa.field("fusion_score", pa.float64()),  # sum of reciprocal ranks
)

CANDIDATES = pa.schema(  # one row a candidate of a query
    [
        pa.field("query_id", pa.string()),  # of a judged query, else null
        pa.field("query", pa.string(), nullable=False),  # its text
        pa.field("chunk_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("headings", pa.string(), nullable=False),
        *_FIRST_STAGES,
        pa.field("rerank_rank", pa.int32()),
        pa.field("rerank_score", pa.float64()),  # of the last that read it; by `fusion` a weighted mean, at most 1
    ]
)


QUESTIONS = pa.schema(  # one row a question of a batch
    [
        pa.field("question", pa.int64(), nullable=False),  # its place in the file, 0-based
        pa.field("query_id", pa.string()),  # where the file gives one
        pa.field("query", pa.string(), nullable=False),  # its text
    ]
)

HITS = pa.schema(  # one row a hit of a question of a batch
    [
        *QUESTIONS,
        pa.field("rank", pa.int32(), nullable=False),  # 1-based
        pa.field("score", pa.float64(), nullable=False),  # of the last stage that read it
        pa.field("chunk_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("headings", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("page", pa.int32()),
        pa.field("start", pa.int32(), nullable=False),
        pa.field("end", pa.int32(), nullable=False),
        *_FIRST_STAGES,
        pa.field("generation", pa.int64(), nullable=False),  # that was searched
        pa.field("reranker", pa.string(), nullable=False),  # what gave the final order
        pa.field("fallback", pa.string()),  # why a wanted reranker did not run, or not over the whole pool
    ]
)


def with_rerankers(schema: pa.Schema, first: int) -> pa.Schema:
    """CANDIDATES or HITS of a cascade: with rank and score at each of its `first` rerankers but the last."""
    types = {"rank": pa.int32(), "score": pa.float64()}
    columns = [(f"rerank_{n}_{name}", of) for n in range(1, first + 1) for name, of in types.items()]
    return pa.schema([*schema, *columns])


LISTS = pa.schema(  # one row a query to train a reranker on; the lists of a row have one length
    [
        pa.field("query", pa.string(), nullable=False),
        pa.field("passages", pa.list_(pa.string()), nullable=False),  # as a reranker reads them
        pa.field("gains", pa.list_(pa.float32()), nullable=False),  # judged; 0 for those that were not
        pa.field("fusion", pa.list_(pa.float32()), nullable=False),  # fusion's weighted score, at most 1
    ]
)


@dataclass(frozen=True)
class BatchRef:
    """A micro-batch on disk: what the stages hand each other instead of its rows.

    Parsed: `<folder>/<name>.documents.parquet` (DOCUMENTS) and `.elements.parquet` (ELEMENTS). Chunked, and so whole
    and fit for a later run to go on from: `.staged.parquet` (DOCUMENTS) and `.chunks.parquet` (CHUNKS). Before and
    after embedding: the TEXTS that no ledger holds, and their vectors, in files of `embeddings_schema`.
    """

    folder: Path
    name: str
    documents: int = 0
    quarantined: int = 0
    chunks: int = 0
    embedded: int = 0
    reused: int = 0
    texts: Path | None = None
    vectors: tuple[Path, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)  # work time a stage

    def part(self, kind: str) -> Path:
        """Path of one of the batch's Parquet files: documents, elements, staged or chunks."""
        return self.folder / f"{self.name}.{kind}.parquet"


@dataclass(frozen=True)
class Filter:
    """Which documents may answer; every condition that is given must hold, one of each tuple."""

    sources: tuple[str, ...] = ()  # as ingested, absolute
    paths: tuple[str, ...] = ()  # globs; `*` matches across folders, a relative one matches below any folder
    file_types: tuple[str, ...] = ()  # extensions, with or without the dot
    modified_after: datetime | None = None  # inclusive
    modified_before: datetime | None = None  # exclusive
    metadata: dict[str, str] = field(default_factory=dict)  # of the document: author, subject, …


@dataclass(frozen=True)
class StageScore:
    """Where one stage put a candidate."""

    rank: int  # 1-based
    score: float


@dataclass(frozen=True)
class Hit:
    """One answer, with its rank and score at every stage that saw it."""

    rank: int  # 1-based
    score: float  # of the last stage that read it
    chunk_id: str
    uri: str
    path: str
    title: str
    headings: str
    text: str
    page: int | None
    start: int
    end: int
    stages: dict[str, StageScore]  # bm25, vectors, fusion, rerank; of a cascade `rerank 1`, … for those before the last
    terms: dict[str, float] = field(default_factory=dict)  # matched terms and their parts of BM25; where asked for


@dataclass(frozen=True)
class SearchResult:
    """The hits of one query and how they came about."""

    query: str
    hits: tuple[Hit, ...]
    generation: int
    reranker: str  # what gave the final order: a reranker's name, `fusion`, or a cascade of them
    fallback: str | None  # why a wanted reranker did not run, or not over the whole pool
    pool: int  # candidates that the reranker saw
    timings_ms: dict[str, float]  # a stage each, milliseconds


@dataclass(frozen=True)
class Block:
    """Neighbouring chunks of one document as one passage to cite: the slice [start, end) of its parsed text."""

    number: int  # to cite it by, 1-based
    rank: int  # of its best hit, 1-based
    chunk_ids: tuple[str, ...]  # in reading order
    uri: str
    path: str
    title: str
    headings: str  # heading path of its first chunk, "A > B"
    text: str
    page: int | None  # 1-based, of its first chunk
    last_page: int | None  # of its last chunk
    start: int  # characters from the start of the parsed text
    end: int


@dataclass(frozen=True)
class Context:
    """The hits of one query packed for a prompt."""

    query: str
    prompt: str  # the blocks as text; empty where none fits
    blocks: tuple[Block, ...]  # in the order of the prompt
    tokens: int  # of the prompt
    budget: int  # tokens that the prompt may have
    tokenizer: str  # whose tokens: the embedder's, an estimate for any other model
    left_out: int  # hits that did not fit
    repeated: int  # hits whose text a better one has, left out too
    generation: int
    reranker: str  # what ordered the hits: a reranker's name, `fusion`, or a cascade of them
    fallback: str | None  # why a wanted reranker did not run, or not over the whole pool


@dataclass(frozen=True)
class Whereabouts:
    """Where a document is among the answers to a query, or where it was lost."""

    path: str  # of the document, or as asked where there is none
    verdict: str
    ranks: dict[str, int | None]  # its best chunk's place at each stage; None where the stage does not have it
    terms: dict[str, float]  # of its best chunk: matched terms and their parts of BM25


@dataclass
class RefreshSummary:
    """What one refresh did."""

    store: str = ""
    generation: int = 0
    published: int = 0  # generations published by this run
    files: int = 0  # seen by the scan
    added: int = 0
    changed: int = 0
    renamed: int = 0
    copied: int = 0
    deleted: int = 0
    quarantined: int = 0  # by this run
    still_quarantined: int = 0  # from earlier runs, file and parser unchanged
    unchanged: int = 0
    chunks: int = 0  # written by this run
    embedded: int = 0  # vectors computed
    reused: int = 0  # vectors taken from the ledger
    gate: str = ""  # what the gate measured; empty where there was none to pass
    seconds: dict[str, float] = field(default_factory=dict)  # work time a stage; stages overlap
    elapsed: float = 0.0  # seconds, wall clock


@dataclass(frozen=True)
class Published:
    """What a refresh of a watch made searchable."""

    summary: RefreshSummary
    seconds: float  # from the first change until all of it was searchable
    quarantined: int  # files in quarantine, all together
