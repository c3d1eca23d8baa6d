"""nDCG@10 of the stages that need no cross-encoder, on judged abstracts: `python -m tests.benchmarks.ranking`.

Whole abstracts as chunks, no chunker between. Cranfield: judgements 1 (best) to 4 as gains 4 to 1, -1 and 5 not
relevant, queries numbered in file order. SciFact: BEIR's 300 test claims. Reads ../shared/eval.
"""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from schemas.records import CHUNKS, DOCUMENTS
from schemas.settings import Settings
from tasks.chunk import embedded_text
from tasks.models import load_encoder
from tasks.search import search
from tasks.store import writer
from tasks.store.generation import Analyzer, Generation
from tasks.store.ledger import Ledger

EVAL = Path(__file__).parents[3] / "shared" / "eval"
FIRST_STAGES = ("bm25", "vectors", "fusion")


@dataclass(frozen=True)
class Judged:
    """A collection with its judgements."""

    documents: dict[str, tuple[str, str]]  # id → title, text
    queries: dict[str, str]
    gains: dict[str, dict[str, int]]  # query → document → gain


def cranfield() -> Judged:
    """The 1,398 abstracts that have a text, and 225 queries."""
    records = (EVAL / "cranfield" / "cran.all.1400").read_text().split(".I ")[1:]
    documents = {}
    for record in records:
        fields = dict(re.findall(r"^\.([TABW])\n(.*?)(?=^\.[TABW]\n|\Z)", record, flags=re.S | re.M))
        if fields["W"].strip():
            documents[record.split()[0]] = (" ".join(fields["T"].split()), " ".join(fields["W"].split()))
    texts = [q.split(".W\n")[1] for q in (EVAL / "cranfield" / "cran.qry").read_text().split(".I ")[1:]]
    gains: dict[str, dict[str, int]] = {}
    for line in (EVAL / "cranfield" / "cranqrel").read_text().splitlines():
        query, document, code = line.split()[:3]
        if 1 <= int(code) <= 4:
            gains.setdefault(query, {})[document] = 5 - int(code)
    return Judged(documents, {str(i): " ".join(text.split()) for i, text in enumerate(texts, start=1)}, gains)


def scifact() -> Judged:
    """BEIR's corpus and test split."""
    folder = EVAL / "scifact"
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    gains: dict[str, dict[str, int]] = {}
    for line in next((folder / "qrels").glob("*test*")).read_text().splitlines()[1:]:
        query, document, gain = line.split()
        gains.setdefault(query, {})[document] = int(gain)
    documents = {str(row["_id"]): (row["title"], row["text"]) for row in rows}
    return Judged(documents, {str(q["_id"]): q["text"] for q in queries if str(q["_id"]) in gains}, gains)


def ndcg(ranking: Sequence[str], gains: Mapping[str, int], k: int = 10) -> float:
    """Normalised discounted cumulative gain with linear gains (Järvelin & Kekäläinen 2002)."""
    found = sum(gains.get(document, 0) / math.log2(rank + 2) for rank, document in enumerate(ranking[:k]))
    best = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(sorted(gains.values(), reverse=True)[:k]))
    return found / best


def build(store: Path, judged: Judged, settings: Settings) -> None:
    """A store with one chunk a document."""
    encoder = load_encoder(settings)
    chunks = [
        dict(
            chunk_id=key,
            doc_id=key,
            ordinal=0,
            chunk_hash=key,
            title=title,
            headings="",
            text=text,
            start=0,
            end=0,
            tokens=0,
        )
        for key, (title, text) in judged.documents.items()
    ]
    documents = [
        dict(doc_id=key, uri=key, source="", path=key, title="", file_type="", size=0, mtime_ns=0, content_hash=key)
        | dict(fingerprint="", chunk_count=1, metadata="{}")
        for key in judged.documents
    ]
    analyzer = Analyzer(settings.tokenizer, settings.stemmer, settings.stopwords)
    empty = Generation(0, encoder.fingerprint, encoder.dim, analyzer)
    with writer.writing(store, empty):
        ledger = Ledger(store, encoder.fingerprint)
        texts = {key: embedded_text(title, "", text) for key, (title, text) in judged.documents.items()}
        ledger.ensure(texts, encoder.encode)
        parts = {"chunks": store / "staging" / "chunks.parquet", "documents": store / "staging" / "documents.parquet"}
        pq.write_table(pa.Table.from_pylist(chunks, schema=CHUNKS), parts["chunks"])
        pq.write_table(pa.Table.from_pylist(documents, schema=DOCUMENTS), parts["documents"])
        writer.publish(
            store,
            empty,
            documents=[parts["documents"]],
            chunks=[parts["chunks"]],
            ledger=ledger.parts(),
            tombstones=[],
            hnsw_min_rows=settings.hnsw_min_rows,
        )


def measure(judged: Judged, settings: Settings) -> dict[str, float]:
    """Mean nDCG@10 a stage, each over its own list."""
    scores: dict[str, list[float]] = {stage: [] for stage in (*FIRST_STAGES, "rerank")}
    for query, gains in judged.gains.items():
        everything = search(judged.queries[query], settings, k=2 * settings.candidates).hits
        for stage in FIRST_STAGES:
            ranked = sorted((hit for hit in everything if stage in hit.stages), key=lambda hit: hit.stages[stage].rank)
            scores[stage].append(ndcg([hit.chunk_id for hit in ranked], gains))
        scores["rerank"].append(ndcg([hit.chunk_id for hit in search(judged.queries[query], settings).hits], gains))
    return {stage: mean(values) for stage, values in scores.items()}


def main() -> None:
    """Print the table; arguments are settings to try, such as tokenizer=words."""
    chosen = dict(argument.split("=") for argument in sys.argv[1:])
    table = Table("nDCG@10", "BM25", "vectors", "RRF", "reranked by `fusion`")
    collections: dict[str, Callable[[], Judged]] = {"Cranfield": cranfield, "SciFact": scifact}
    for name, load in collections.items():
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(**{"store": folder, "reranker": "fusion", **chosen})
            judged = load()
            build(settings.store, judged, settings)
            table.add_row(name, *(f"{value:.3f}" for value in measure(judged, settings).values()))
    Console().print(table)


if __name__ == "__main__":
    main()
