"""Quality of every stage on judged collections, with 95 % intervals: `python -m tests.benchmarks.quality [NAME …]`.

cranfield, scifact, npl   abstracts, whole ones as chunks, no chunker between. Cranfield: judgements 1 (best) to 4 as
                          gains 4 to 1, -1 and 5 not relevant, queries numbered in file order. SciFact: BEIR's 300 test
                          claims.
anthropic                 sections of a documentation, whole ones as chunks; its 100 questions.
aws, aws-report           the nine guides of ../shared/corpora/aws through the real ingest (some minutes), and the
                          questions of tests/data/aws: the half to tune on, and the half to report.
aws-qa                    the fourteen guides of ../shared/eval/aws_docs_qa that its 100 questions are about.
aws-all                   all of its 29,151 pages, and the same questions (half an hour).

Arguments such as tokenizer=words are settings to try; store=FOLDER keeps the stores there. Reads ../shared.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from flows.local import local_refresh
from schemas.records import CHUNKS, DOCUMENTS
from schemas.settings import Settings
from tasks.chunk import embedded_text
from tasks.evaluate.candidates import ask
from tasks.evaluate.judged import Judged, read_judged, read_qrels, read_queries
from tasks.evaluate.metrics import compare, measure
from tasks.evaluate.runs import STAGES, runs_of
from tasks.models import load_encoder
from tasks.store import writer
from tasks.store.generation import Analyzer, Generation, exists
from tasks.store.ledger import Ledger

SHARED = Path(__file__).parents[3] / "shared"
EVAL = SHARED / "eval"
OWN = Path(__file__).parents[1] / "data" / "aws"

Documents = dict[str, tuple[str, str]]  # id → title, text


@dataclass(frozen=True)
class Collection:
    """A judged collection, and how its store is made."""

    judged: Judged
    build: Callable[[Settings], None]
    documents: Documents = field(default_factory=dict)  # where they are whole chunks


def cranfield() -> Collection:
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
    return _abstracts(documents, {str(i): " ".join(text.split()) for i, text in enumerate(texts, start=1)}, gains)


def scifact() -> Collection:
    """BEIR's corpus and test split."""
    folder = EVAL / "scifact"
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    gains = read_qrels(next((folder / "qrels").glob("*test*")))
    return _abstracts(
        {str(row["_id"]): (row["title"], row["text"]) for row in rows}, read_queries(folder / "queries.jsonl"), gains
    )


def npl() -> Collection:
    """11,429 abstracts without titles, 93 queries in capitals."""
    folder = EVAL / "npl_vaswani"
    pattern = re.compile(r"<DOCNO>\s*(\S+)\s*</DOCNO>(.*?)</DOC>", re.DOTALL)
    texts = pattern.findall((folder / "doc-text.trec").read_text())
    documents = {number: ("", " ".join(text.split())) for number, text in texts}
    queries = {number: text.lower() for number, text in read_queries(folder / "query-text.trec").items()}
    return _abstracts(documents, queries, read_qrels(folder / "qrels"))


def anthropic() -> Collection:
    """232 sections, 100 questions."""
    folder = EVAL / "anthropic_docs_qa"
    sections = json.loads((folder / "anthropic_docs.json").read_text())
    questions = json.loads((folder / "docs_evaluation_dataset.json").read_text())
    documents = {row["chunk_link"]: (row["chunk_heading"], row["text"]) for row in sections}
    gains = {row["id"]: dict.fromkeys(row["correct_chunks"], 1) for row in questions}
    return _abstracts(documents, {row["id"]: row["question"] for row in questions}, gains)


def aws(split: str) -> Collection:
    """The guides, and one half of our own questions."""
    judged = read_judged(OWN / "queries.jsonl", OWN / "qrels.tsv")
    rows = map(json.loads, (OWN / "queries.jsonl").read_text().splitlines())
    half = {row["_id"] for row in rows if row["split"] == split} & judged.queries.keys()
    queries = {query: text for query, text in judged.queries.items() if query in half}
    return Collection(
        Judged(queries, {query: judged.gains[query] for query in queries}), _ingest(SHARED / "corpora" / "aws")
    )


def aws_questions(*, whole: bool) -> Collection:
    """The AWS documentation, the whole of it or the guides that are asked about, and 100 questions."""
    folder = EVAL / "aws_docs_qa"
    with (folder / "QA_true.csv").open(newline="", encoding="utf-8-sig") as f:
        questions = [row["Question"] for row in csv.DictReader(f)]
    gains = read_qrels(folder / "qrels_derived.tsv")
    queries = {f"q{n:03d}": text for n, text in enumerate(questions, start=1)}
    judged = Judged({query: queries[query] for query in gains}, gains)
    guides = tuple({"/".join(name.split("/")[:2]) + "/" for name in judged.names})

    def build(settings: Settings) -> None:
        with tempfile.TemporaryDirectory() as pages:
            with tarfile.open(folder / "aws_docs_md.tar.xz") as archive:
                wanted = [page for page in archive if whole or page.name.startswith(guides)]
                archive.extractall(pages, wanted, filter="data")
            _ingest(Path(pages))(settings)

    return Collection(judged, build)


COLLECTIONS: dict[str, Callable[[], Collection]] = {
    "cranfield": cranfield,
    "scifact": scifact,
    "npl": npl,
    "anthropic": anthropic,
    "aws": lambda: aws("tune"),
    "aws-report": lambda: aws("report"),
    "aws-qa": lambda: aws_questions(whole=False),
    "aws-all": lambda: aws_questions(whole=True),
}
DEFAULT = ("cranfield", "scifact", "npl", "anthropic")
# collections of one store
STORES = {"aws-report": "aws"}


def _abstracts(documents: Documents, queries: dict[str, str], gains: dict[str, dict[str, int]]) -> Collection:
    judged = Judged({query: queries[query] for query in gains}, gains)
    return Collection(judged, lambda settings: publish_whole(documents, settings), documents)


def _ingest(folder: Path) -> Callable[[Settings], None]:
    def build(settings: Settings) -> None:
        local_refresh([str(folder)], settings, lambda *_: None)

    return build


def publish_whole(documents: Documents, settings: Settings) -> None:
    """A store with one chunk a document."""
    encoder = load_encoder(settings)
    blank = dict(ordinal=0, headings="", start=0, end=0, tokens=0)
    chunks = [
        dict(chunk_id=f"{key}/0", doc_id=key, chunk_hash=key, title=title, text=text, **blank)
        for key, (title, text) in documents.items()
    ]
    same = dict(source="", title="", file_type="", size=0, mtime_ns=0, fingerprint="", chunk_count=1, metadata="{}")
    rows = [dict(doc_id=key, uri=key, path=key, content_hash=key, **same) for key in documents]
    analyzer = Analyzer(settings.tokenizer, settings.stemmer, settings.stopwords)
    empty = Generation(0, encoder.fingerprint, encoder.dim, analyzer)
    with writer.writing(settings.store, empty):
        ledger = Ledger(settings.store, encoder.fingerprint)
        ledger.ensure({key: embedded_text(title, "", text) for key, (title, text) in documents.items()}, encoder.encode)
        staging = settings.store / "staging"
        pq.write_table(pa.Table.from_pylist(chunks, schema=CHUNKS), staging / "chunks.parquet")
        pq.write_table(pa.Table.from_pylist(rows, schema=DOCUMENTS), staging / "documents.parquet")
        writer.publish(
            settings.store,
            empty,
            documents=[staging / "documents.parquet"],
            chunks=[staging / "chunks.parquet"],
            ledger=ledger.parts(),
            tombstones=[],
            hnsw_min_rows=settings.hnsw_min_rows,
        )


def main() -> None:
    """Print one table for all collections."""
    chosen = dict(argument.split("=") for argument in sys.argv[1:] if "=" in argument)
    names = [argument for argument in sys.argv[1:] if "=" not in argument] or DEFAULT
    console = Console(width=120)
    table = Table("", "stage", "nDCG@10", "MRR@10", "R@10", "R@100", "p, over the stage above")
    with tempfile.TemporaryDirectory() as aside:
        root = Path(chosen.pop("store", aside))
        for name in names:
            collection = COLLECTIONS[name]()
            settings = Settings(**{"store": root / STORES.get(name, name), **chosen})
            if not exists(settings.store):
                collection.build(settings)
            asked = ask(collection.judged, settings)
            runs = runs_of(collection.judged, asked.candidates)
            scores = {stage: measure(collection.judged, runs.stages[stage]) for stage in STAGES}
            above = None
            for stage, score in scores.items():
                headline = score["nDCG@10"]
                table.add_row(
                    name if above is None else "",
                    stage if stage != "rerank" else f"rerank by {asked.origin.reranker}",
                    f"{headline.mean:.3f} [{headline.low:.3f}, {headline.high:.3f}]",
                    *(f"{score[metric].mean:.3f}" for metric in ("MRR@10", "R@10", "R@100")),
                    f"{compare(above, headline).p:.3f}" if above else "",
                )
                above = headline
            table.add_section()
    console.print(table)


if __name__ == "__main__":
    main()
