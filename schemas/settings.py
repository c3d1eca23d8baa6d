"""Every setting, described once: `--help`, the README and the environment's names come from here.

Strength, weakest first: defaults, `headrace.toml`, environment (`HEADRACE_…`), flags of the command line.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from schemas.reranking import KINDS, REMOTE, stage_names

Stemmer = Literal[
    "porter", "none", "arabic", "basque", "catalan", "danish", "dutch", "english", "finnish", "french", "german",
    "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
    "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish",
]  # fmt: skip

# one of rerank_fields: a name, and how many word pieces of it at most
_FIELD = r"\s*(title|headings|text|metadata\.[^\s:,]+)(:[1-9][0-9]*)?\s*"


def _of_kinds(kinds: Iterable[str], value: str) -> str:
    """A pattern for what some kinds of rerankers are given: `cohere=VALUE, llm=VALUE`, or nothing."""
    one = rf"\s*({'|'.join(sorted(kinds))})={value}\s*"
    return rf"^({one}(,{one})*)?$"


def _well_formed(reranker: str) -> str:
    stage_names(reranker)
    return reranker


def _without_defaults(schema: dict[str, Any]) -> None:
    """A form made of the schema, such as Prefect's for a run, would send each default as if somebody had set it.

    A switch has no third position there: it keeps its default.
    """
    for described in schema["properties"].values():
        if described.get("type") != "boolean":
            described.pop("default", None)


class Settings(BaseSettings):
    """Settings of ingest and query; frozen, passed to whoever needs them."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_",
        toml_file="headrace.toml",
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        json_schema_extra=_without_defaults,
        hide_input_in_errors=True,  # a key may be where none belongs
    )

    store: Path = Field(Path("index"), description="Folder of the store.")
    cache: Path = Field(
        Path(platformdirs.user_cache_dir("headrace")), description="Folder of exported ONNX models; safe to delete."
    )

    embedder: str = Field(
        "all-MiniLM-L6-v2", description="Embedding model: the bundled all-MiniLM-L6-v2, a folder, or a hub name."
    )
    embed_backend: Literal["auto", "onnx", "sentence-transformers"] = Field(
        "auto",
        description="onnx (ONNX Runtime, CPU, needs no torch), sentence-transformers (torch, CPU or CUDA), or auto: "
        "sentence-transformers where there is a CUDA device, else onnx.",
    )
    embed_precision: Literal["auto", "fp32", "int8"] = Field(
        "auto",
        description="fp32, int8 (about twice as fast, onnx only), or auto: that of the store's vectors, and for a new "
        "store int8 where the processor has instructions for it.",
    )
    reranker: Annotated[str, AfterValidator(_well_formed)] = Field(
        "auto",
        description="Cross-encoder by folder or hub name; `auto` for the bundled one, headrace-reranker; `fusion` for "
        "none, which is some ten times as fast; or another kind, as "
        f"KIND:MODEL, of {', '.join(KINDS)}, of which those after monot5 send passages to a server. A cascade is "
        "'auto@200 > cohere:rerank-v3.5@20', each with how many candidates it reads.",
    )
    rerank_precision: Literal["auto", "fp32", "int8"] = Field(
        "auto",
        description="Of a cross-encoder: fp32, int8 (about twice as fast), or auto: int8 where the processor has "
        "instructions for it, or the model comes with a graph for this processor.",
    )
    rerank_urls: str = Field(
        "",
        pattern=_of_kinds(REMOTE, r"https?://[^\s,@]+"),
        description="Base URLs in place of the vendors' own: llm=http://localhost:11434/v1, cohere=https://proxy. "
        "Empty for none.",
    )
    rerank_secrets: str = Field(
        "",
        pattern=_of_kinds(REMOTE - {"bedrock"}, r"[a-z0-9-]+"),
        description="Prefect Secret blocks that hold keys, as cohere=BLOCK, llm=BLOCK; else they come from the "
        "vendors' own environment variables. Empty for none.",
    )
    rerank_timeout_s: float = Field(
        10.0,
        gt=0,
        description="Seconds that a reranker on a server may take, repetitions counted; then the order before it "
        "stands. Of all in a cascade less than query_timeout_s, or a server gives the query up before.",
    )
    rerank_llm: Literal["listwise", "pointwise"] = Field(
        "listwise", description="What llm:MODEL is asked: to order the passages, or to grade each from 0 to 10."
    )
    allow_download: bool = Field(False, description="Fetch a named model from the hub when it is not on this machine.")

    include: tuple[str, ...] = Field(
        (),
        description="Only files that match one of these patterns, written as in .gitignore; all where there are none.",
    )
    exclude: tuple[str, ...] = Field((), description="No files that match one of these patterns.")
    gitignore: bool = Field(True, description="Leave out what .gitignore files in a source name.")

    parse_workers: int = Field(1, ge=1, description="Processes that parse documents.")
    parse_timeout_s: float = Field(60.0, gt=0, description="Seconds that one document may take to parse.")
    parse_memory_mb: int = Field(2048, ge=512, description="Memory that one parsing process may take, MiB.")
    max_file_mb: int = Field(100, ge=1, description="Larger files are quarantined unread, MiB.")
    languages: str = Field("eng", description="Documents' languages for unstructured, ISO 639-3, comma separated.")

    chunk_tokens: int = Field(200, ge=32, le=480, description="Most word pieces of a chunk's text.")
    chunk_min_tokens: int = Field(48, ge=0, description="A cut leaves at least this many word pieces on both sides.")

    embed_threads: int = Field(2, ge=1, description="Threads that embed and rerank, each on a core of its own.")
    batch_documents: int = Field(32, ge=1, description="Documents in a micro-batch.")
    batch_bytes: int = Field(1_000_000, ge=1, description="Bytes of files in a micro-batch, a larger file alone.")
    task_runner: str = Field(
        "threads",
        pattern=r"^(threads|processes|(dask|ray)(:\S+)?)$",
        description="Where a flow run parses, chunks and embeds: in threads of its process, in processes, or on dask "
        "or ray, each a cluster on this machine for the time of the run, or the one at an address, "
        "dask:tcp://HOST:8786, ray:ray://HOST:10001, whose workers see sources and store under the same paths.",
    )
    task_workers: int = Field(
        2, ge=1, description="Workers that task_runner starts, or that its cluster has; a batch of a stage each."
    )
    publish_chunks: int = Field(8192, ge=1, description="Chunks after which a long ingest publishes a generation.")
    publish_seconds: float = Field(30.0, gt=0, description="Seconds after which it does, if that is sooner.")

    tokenizer: Literal["codes", "words", "duckdb"] = Field(
        "codes",
        description="Terms for BM25: words (letters and digits), codes (words, and compounds such as TLS1.3 or "
        "CREATE_FAILED whole besides), duckdb (a to z only). This and the next two hold from the next rebuild.",
    )
    stemmer: Stemmer = Field(
        "porter", description="Language of the texts, as one of DuckDB's stemmers; none for exact words."
    )
    stopwords: Literal["english", "none"] = Field("english", description="Words that BM25 leaves out.")
    hnsw_min_rows: int = Field(
        50_000, ge=1, description="Chunks from which a segment gets an HNSW index; an exact scan is faster below."
    )
    memory_mb: int = Field(
        2048, ge=256, description="Memory of building and compacting a segment, MiB; an HNSW index comes on top."
    )
    compact: Literal["after-publish", "apart"] = Field(
        "after-publish",
        description="When small segments are merged: by the ingest that published them, or only by `headrace compact`.",
    )
    keep_generations: int = Field(10, ge=1, description="This many newest generations are kept for rollback.")
    keep_hours: float = Field(24.0, ge=0, description="Generations younger than this are kept too.")
    max_delete_share: float = Field(
        0.3, ge=0, le=1, description="A sweep that would delete a larger share of a source stops."
    )

    debounce_s: float = Field(
        1.0, gt=0, description="Seconds without a change after which `headrace watch` publishes what changed."
    )
    poll_s: Annotated[float | None, BeforeValidator(lambda value: value or None)] = Field(
        None,
        gt=0,
        description="Seconds between two listings of what `headrace watch` follows, instead of events. Empty for "
        "events, and 10 where the file system is a network's or tells of none.",
    )
    rescan_hours: float = Field(
        6.0,
        gt=0,
        description="Hours after which `headrace watch` looks at all of its sources again, remote ones among them.",
    )

    gate: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = Field(
        None,
        description="Folder of judged queries, queries.jsonl and qrels.tsv as `headrace golden` keeps them: ingest and "
        "migrate publish once, at their end, and only what answers them no worse than before. Empty for none.",
    )

    candidates: int = Field(100, ge=1, description="Chunks taken from BM25 and from vectors before fusion.")
    title_weight: float = Field(
        1.0, ge=0, description="Weight of a term in a chunk's title, relative to the other fields."
    )
    headings_weight: float = Field(1.0, ge=0, description="Weight of a term in a chunk's heading path.")
    text_weight: float = Field(1.0, gt=0, description="Weight of a term in a chunk's text.")
    identifier_weight: float = Field(
        4.0, ge=1, description="How often an identifier in a question (CREATE_FAILED, rds.force_ssl) counts for BM25."
    )
    rrf_k: int = Field(60, ge=1, description="Constant of reciprocal rank fusion.")
    vector_weight: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Share of the cosine, beside BM25's, in the order that fusion gives the pool; at most one half "
        "where the question holds an identifier.",
    )
    pool: int = Field(50, ge=1, description="Fused candidates that a reranker named without @POOL sees.")
    rerank_fields: str = Field(
        "title:32, headings:48, text",
        pattern=rf"^{_FIELD}(,{_FIELD})*$",
        description="What a reranker reads of a chunk, in order, each with at most so many word pieces where a number "
        "is given: title, headings, text, metadata.KEY for one of the document's metadata, metadata.* for all.",
    )
    deadline_ms: Annotated[int | None, BeforeValidator(lambda value: value or None)] = Field(
        None,
        ge=1,
        description="Milliseconds that a query may take once models and store are open: the pool shrinks to what the "
        "reranker manages, measured on this machine, and fusion orders the hits where that is too few. Empty for none.",
    )
    rerank_tokens: int = Field(
        512,
        ge=16,
        le=8192,
        description="Most tokens of a (query, passage) pair, or of each where a reranker reads them apart; never over "
        "the model's own.",
    )
    rerank_cache_mb: int = Field(
        1024,
        ge=0,
        le=2**20,
        description="Disk, in the cache, for passages as the bundled reranker reads them, MiB, some 24 KiB each: the "
        "next query that finds one hardly waits for it. 0 for none.",
    )
    warm: Literal["after-publish", "apart"] = Field(
        "apart",
        description="When the bundled reranker reads a passage for the first time: at the end of the ingest that "
        "published it, where it fits in rerank_cache_mb, or only for a query that finds it and by `headrace warm`, as "
        "what `headrace watch` publishes always is.",
    )

    http_token: Annotated[SecretStr | None, BeforeValidator(lambda value: str(value or "").strip() or None)] = Field(
        None,
        description="Bearer token that `headrace serve-http` and `headrace mcp --http` ask for; better kept in "
        "HEADRACE_HTTP_TOKEN than in a file. Empty for none.",
    )
    queries_at_once: int = Field(
        2, ge=1, description="Queries that a server runs at the same time, each on threads of its own."
    )
    query_wait_s: float = Field(
        2.0, ge=0, description="Seconds that a query waits for its turn before a server says that it is overloaded."
    )
    query_timeout_s: float = Field(30.0, gt=0, description="Seconds after which a server gives a query up.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags over environment over TOML."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
