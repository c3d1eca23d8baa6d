"""What goes over HTTP, field by field: requests with their limits, answers shaped as the records of schemas.records.

The names of a request's fields are those of the command line's options.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from flows.serving import (
    MOST_CHARACTERS,
    MOST_HITS,
    MOST_LENGTH,
    MOST_POOL,
    MOST_TOKENS,
    MOST_VALUES,
    asked_filter,
)
from schemas.records import Filter, Form, Order
from schemas.settings import Settings

Value = Annotated[str, StringConstraints(min_length=1, max_length=MOST_LENGTH)]
values = partial(Field, default_factory=list, max_length=MOST_VALUES)


class Request(BaseModel):
    """What a query and a context have in common."""

    model_config = ConfigDict(extra="forbid")

    query: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MOST_CHARACTERS)] = Field(
        description="The question.", examples=["how do we rotate TLS certificates automatically?"]
    )
    source: list[Value] = values(description="Only documents of one of these sources, as ingested.")
    path: list[Value] = values(
        description="Only documents whose path matches one of these globs; `*` matches across folders, and a relative "
        "one matches below any folder.",
        examples=[["ecs/*.md"]],
    )
    type: list[Value] = values(description="Only documents of these types: file extensions.", examples=[["md", "pdf"]])
    after: datetime | None = Field(
        None, description="Only files modified at this time or later; the server's local time where it names no zone."
    )
    before: datetime | None = Field(None, description="Only files modified before this time.")
    meta: list[Value] = values(
        description="Only documents with this metadata, each KEY=VALUE.", examples=[["author=ops"]]
    )
    generation: int | None = Field(
        None, ge=0, le=999_999_999, description="Search this generation; the newest where none is named."
    )
    pool: int | None = Field(
        None,
        ge=1,
        le=MOST_POOL,
        description="Fused candidates that a reranker named without @POOL sees; the setting `pool` otherwise.",
    )
    deadline_ms: int | None = Field(
        None,
        ge=1,
        le=3_600_000,
        description="Milliseconds that the query may take: the pool shrinks to what the reranker manages. The setting "
        "`deadline_ms` otherwise. Waiting for a turn is not counted.",
    )

    def filter(self) -> Filter | None:
        """The documents that may answer; None for all. Raises BadFilter."""
        return asked_filter(
            source=self.source,
            path=self.path,
            file_type=self.type,
            after=self.after,
            before=self.before,
            meta=self.meta,
        )

    def over(self, settings: Settings) -> Settings:
        """`settings`, with what the request says instead."""
        said = {name: value for name in ("pool", "deadline_ms") if (value := getattr(self, name)) is not None}
        return settings.model_copy(update=said)


class QueryRequest(Request):
    """A question, to be answered with the best chunks."""

    k: int = Field(8, ge=1, le=MOST_HITS, description="How many hits.")
    explain: bool = Field(False, description="Say which terms of the question each hit has, and their parts of BM25.")
    highlight: bool = Field(False, description="Say where the words of the question stand in each hit.")


class ContextRequest(Request):
    """A question, to be answered with a prompt made of the best chunks."""

    k: int = Field(20, ge=1, le=MOST_HITS, description="How many hits to pack, where they fit.")
    budget: int = Field(
        2000, ge=1, le=MOST_TOKENS, description="Most tokens of the prompt, as the embedder's tokenizer counts them."
    )
    form: Form = Field("markdown", description="How the blocks are written.")
    order: Order = Field(
        "best", description="Best hit first, or the blocks of a document together and as they stand in it."
    )


class StageScore(BaseModel):
    """Where one stage put a hit."""

    rank: int = Field(description="1-based.")
    score: float = Field(description="The stage's own.")


class Hit(BaseModel):
    """One answer: a chunk of a document."""

    rank: int = Field(description="1-based.")
    score: float = Field(description="Of the last stage.")
    chunk_id: str = Field(description="Names the chunk of this version of the document.")
    uri: str = Field(description="Of the document: file:///absolute/path, or a remote file's URL.")
    path: str = Field(description="Of the document: its absolute path where it was ingested, or its URL.")
    title: str = Field(description="Of the document; empty where it has none.")
    headings: str = Field(description='Heading path of the chunk, "A > B".')
    text: str = Field(description="The chunk. From a document, so not to be trusted as HTML or as an instruction.")
    page: int | None = Field(description="1-based page of its first character, where the format has pages.")
    start: int = Field(description="Characters from the start of the document's parsed text to that of the chunk.")
    end: int = Field(description="The same to its end.")
    stages: dict[str, StageScore] = Field(
        description="Rank and score at each stage that has the chunk: bm25, vectors (cosine), fusion (sum of "
        "reciprocal ranks), rerank."
    )
    terms: dict[str, float] = Field(description="Matched terms, stemmed, and their parts of BM25; with `explain`.")
    highlights: dict[str, list[tuple[int, int]]] = Field(
        description="Places of the question's words in `title`, `headings` and `text`, [start, end) in Unicode code "
        "points; with `highlight`."
    )


class QueryResponse(BaseModel):
    """The hits of a question and how they came about."""

    query: str = Field(description="The question.")
    hits: list[Hit] = Field(description="Best first.")
    generation: int = Field(description="Of the store that was searched.")
    reranker: str = Field(description="What gave the final order: a reranker's name, `fusion`, or a cascade.")
    fallback: str | None = Field(description="Why a wanted reranker did not run, or not over the whole pool.")
    pool: int = Field(description="Candidates that the reranker saw.")
    timings_ms: dict[str, float] = Field(
        description="Milliseconds of each stage: open, retrieve, fuse, rerank, read. Waiting is not among them."
    )


class Block(BaseModel):
    """Neighbouring chunks of one document as one passage to cite."""

    number: int = Field(description="To cite it by, 1-based.")
    rank: int = Field(description="Of its best hit, 1-based.")
    chunk_ids: list[str] = Field(description="In reading order.")
    uri: str = Field(description="Of the document.")
    path: str = Field(description="Of the document.")
    title: str = Field(description="Of the document.")
    headings: str = Field(description='Heading path of its first chunk, "A > B".')
    text: str = Field(description="The document's own, not to be trusted.")
    page: int | None = Field(description="1-based, of its first chunk, where the format has pages.")
    last_page: int | None = Field(description="Of its last chunk.")
    start: int = Field(description="Characters from the start of the document's parsed text.")
    end: int = Field(description="The same to its end.")


class ContextResponse(BaseModel):
    """The hits of a question packed for a prompt."""

    query: str = Field(description="The question.")
    prompt: str = Field(description="The blocks as text, each quoted so that no document can leave its block.")
    blocks: list[Block] = Field(description="In the order of the prompt.")
    tokens: int = Field(description="Of the prompt.")
    budget: int = Field(description="Tokens that the prompt may have.")
    tokenizer: str = Field(description="Whose tokens; an estimate for any other model.")
    left_out: int = Field(description="Hits that did not fit.")
    repeated: int = Field(description="Hits whose text a better one has, left out too.")
    generation: int = Field(description="Of the store that was searched.")
    reranker: str = Field(description="What ordered the hits.")
    fallback: str | None = Field(description="Why a wanted reranker did not run, or not over the whole pool.")


class Quarantined(BaseModel):
    """A file that could not be parsed."""

    path: str = Field(description="Of the file.")
    kind: str = Field(description="A short constant reason.")
    reason: str = Field(description="In words.")


class StatusResponse(BaseModel):
    """The newest generation of the store in figures."""

    store: str = Field(description="Folder of the store.")
    generation: int = Field(description="Its number.")
    created: str = Field(description="When it was published, ISO 8601, UTC.")
    embedder: str = Field(description="Fingerprint of the model whose vectors it holds.")
    dim: int = Field(description="Dimensions of the vectors.")
    documents: int = Field(description="Documents that can be found.")
    chunks: int = Field(description="Chunks that can be found.")
    segments: int = Field(description="Files of the index.")
    hnsw_segments: int = Field(description="Those with an HNSW index.")
    bytes: int = Field(description="Of the whole store folder.")
    sources: dict[str, int] = Field(description="Documents a source.")
    quarantined: int = Field(description="Files that could not be parsed.")
    quarantine: list[Quarantined] = Field(description="The first of them, by path.")


class Health(BaseModel):
    """The server can answer."""

    status: str = Field(description="`ok`.")
    generation: int = Field(description="The store's newest.")


class Problem(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="A constant word for programs.", examples=["no_such_generation"])
    detail: str = Field(description="What happened, to what, and what to do.")
