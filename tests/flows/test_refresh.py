"""The whole pipeline on the sample corpus: first ingest, changes, failures, resuming."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

import tasks.store.ledger
from flows.local import local_refresh
from schemas.errors import DeleteGuard, ModelMismatch, is_interrupt
from schemas.records import RefreshSummary
from schemas.settings import Settings
from tasks.search import search
from tasks.status import store_status
from tasks.store.generation import current_number
from tasks.store.reader import Reader
from tests.conftest import CORPUS
from tests.models.tiny import make_tiny

MakeSettings = Callable[..., Settings]
DOCUMENTS = len(list(CORPUS.iterdir()))


def ingest(source: Path, settings: Settings) -> RefreshSummary:
    return local_refresh([str(source)], settings, lambda *_: None)


def rows(store: Path) -> list[tuple[str, str, str, str, int]]:
    """Everything of a store's live chunks that a query can see, but for where it lies."""
    with Reader.open(store) as reader:
        documents = {row["doc_id"]: row for row in reader.documents().to_pylist()}
        return sorted(
            (Path(documents[c["doc_id"]]["path"]).name, c["title"], c["headings"], c["text"], c["start"])
            for c in reader.chunks_of(documents).to_pylist()
        )


def scored(settings: Settings, question: str) -> dict[tuple[str, str], float]:
    """Score of every chunk in the pool: a copy ties with its original, so the order among them is not told."""
    return {(Path(hit.path).name, hit.text): hit.score for hit in search(question, settings, k=50).hits}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> tuple[Path, Path]:
    """The sample corpus in a folder of its own, and a store of it; copy before changing."""
    root = tmp_path_factory.mktemp("ingested")
    shutil.copytree(CORPUS, root / "docs")
    summary = ingest(root / "docs", Settings(store=root / "store", cache=model_cache))
    assert (summary.added, summary.quarantined, summary.published) == (DOCUMENTS, 0, 1)
    assert summary.embedded + summary.reused == summary.chunks > DOCUMENTS
    return root / "docs", root / "store"


@pytest.fixture
def corpus(ingested: tuple[Path, Path], tmp_path: Path, make_settings: MakeSettings) -> tuple[Path, Settings]:
    """A folder and a store that the test may change."""
    docs, store = ingested
    shutil.copytree(store, tmp_path / "store")
    return docs, make_settings()


def test_second_run_embeds_and_publishes_nothing(corpus: tuple[Path, Settings]) -> None:
    docs, settings = corpus
    files = sorted((settings.store / "segments").iterdir())
    summary = ingest(docs, settings)
    assert (summary.unchanged, summary.published, summary.embedded, summary.generation) == (DOCUMENTS, 0, 0, 1)
    assert sorted((settings.store / "segments").iterdir()) == files


def test_edit_rename_copy_and_delete_equal_a_store_built_from_scratch(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(CORPUS, docs)
    settings = make_settings()
    before = ingest(docs, settings)
    (docs / "reduce-query-latency.txt").rename(docs / "latency.txt")
    shutil.copy(docs / "rate-limit-tiers.csv", docs / "tiers-copy.csv")
    (docs / "route-53-registrar.html").unlink()
    edited = docs / "embedded-vector-store.md"
    edited.write_text(edited.read_text() + "\n## Licence\n\nThe library is free software.\n")

    summary = ingest(docs, settings)
    counts = (summary.changed, summary.renamed, summary.copied, summary.deleted, summary.unchanged)
    assert counts == (1, 1, 1, 1, DOCUMENTS - 3)
    assert 1 <= summary.embedded <= 3
    fresh = make_settings(store=tmp_path / "fresh")
    ingest(docs, fresh)
    assert rows(settings.store) == rows(fresh.store)
    for question in ("rotate certificates automatically", "X-RateLimit-Remaining", "free software"):
        ours, theirs = scored(settings, question), scored(fresh, question)
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert before.generation + 1 == summary.generation


def test_reverts_shared_texts_and_a_new_chunker_cost_no_embedding(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs, settings = tmp_path / "docs", make_settings()
    shutil.copytree(CORPUS, docs)
    first = ingest(docs, settings)
    page = docs / "embedded-vector-store.md"
    original = page.read_text()
    page.write_text(original + "\n## Licence\n\nThe library is free software.\n")
    assert ingest(docs, settings).embedded >= 1
    page.write_text(original)
    assert ingest(docs, settings).embedded == 0

    (docs / "same-words.markdown").write_text(original)  # another type, so it is parsed, not carried over
    summary = ingest(docs, settings)
    assert (summary.added, summary.embedded) == (1, 0)
    assert summary.reused > 0

    monkeypatch.setattr("tasks.chunk.CHUNKER_VERSION", "another")
    monkeypatch.setattr("tasks.parse.PARSER_VERSION", "another")
    summary = ingest(docs, settings)
    assert (summary.changed, summary.embedded) == (DOCUMENTS + 1, 0)
    assert summary.reused >= first.chunks


def test_bad_file_is_quarantined_and_tried_again_only_when_it_changes(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs, settings = tmp_path / "docs", make_settings()
    docs.mkdir()
    (docs / "good.md").write_text("# Good\n\nA certificate is rotated.")
    (docs / "bad.pdf").write_bytes(b"%PDF-1.7 not really")
    assert ingest(docs, settings).quarantined == 1
    (entry,) = store_status(settings.store).quarantine
    assert (Path(entry.path).name, entry.kind) == ("bad.pdf", "malformed")

    again = ingest(docs, settings)
    assert (again.published, again.still_quarantined) == (0, 1)
    monkeypatch.setattr("tasks.parse.PARSER_VERSION", "next")
    assert ingest(docs, settings).quarantined == 1
    shutil.copy(CORPUS / "dns-failover-runbook.pdf", docs / "bad.pdf")
    assert (ingest(docs, settings).quarantined, store_status(settings.store).quarantine) == (0, ())


def test_last_good_version_stays_searchable_when_a_new_one_fails(make_settings: MakeSettings, tmp_path: Path) -> None:
    docs, settings = tmp_path / "docs", make_settings(max_delete_share=1.0)
    docs.mkdir()
    shutil.copy(CORPUS / "dns-failover-runbook.pdf", docs / "a.pdf")
    ingest(docs, settings)
    (docs / "a.pdf").write_bytes(b"%PDF-1.7 torn")
    ingest(docs, settings)
    assert search("failing over by hand", settings).hits
    assert len(store_status(settings.store).quarantine) == 1
    (docs / "a.pdf").unlink()
    (docs / "b.md").write_text("# Other\n\ntext")
    ingest(docs, settings)
    assert {Path(hit.path).name for hit in search("failing over by hand", settings).hits} == {"b.md"}
    assert store_status(settings.store).quarantine == ()


def test_emptied_source_keeps_everything(corpus: tuple[Path, Settings], tmp_path: Path) -> None:
    docs, settings = corpus
    moved = tmp_path / "moved"
    docs.rename(moved)
    docs.mkdir()
    try:
        with pytest.raises(DeleteGuard, match="unmounted disk"):
            ingest(docs, settings)
        assert store_status(settings.store).documents == DOCUMENTS
    finally:
        docs.rmdir()
        moved.rename(docs)


def test_another_embedder_is_refused(
    corpus: tuple[Path, Settings], tmp_path: Path, make_settings: MakeSettings
) -> None:
    docs, _ = corpus
    other = make_settings(embedder=str(make_tiny(tmp_path / "tiny", logits=None)))
    with pytest.raises(ModelMismatch, match="tiny"):
        ingest(docs, other)
    with pytest.raises(ModelMismatch, match="tiny"):
        search("anything", other)


def test_search_gives_every_stage_and_reads_pages_and_offsets(corpus: tuple[Path, Settings]) -> None:
    _, settings = corpus
    result = search("fail over by hand: invert the Route 53 health check", settings, k=10)
    assert (result.reranker, result.fallback) == ("fusion", None)
    best = result.hits[0]
    assert Path(best.path).name == "dns-failover-runbook.pdf"
    assert {hit.page for hit in result.hits if hit.path == best.path} == {1, 2}
    assert set(best.stages) == {"bm25", "vectors", "fusion", "rerank"}
    assert best.end - best.start == len(best.text)
    assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)


def test_cross_encoder_folder_decides_the_order(
    corpus: tuple[Path, Settings], tmp_path: Path, make_settings: MakeSettings
) -> None:
    from tasks.models.cross_encoder import CrossEncoder

    folder = str(make_tiny(tmp_path / "tiny-ce", logits=1))
    settings = make_settings(reranker=folder, rerank_fields="text")
    result = search("rotate certificates", settings, k=5)
    assert (result.reranker, result.fallback) == ("tiny-ce", None)
    expected = CrossEncoder(folder, settings).score("rotate certificates", [hit.text for hit in result.hits])
    assert [hit.score for hit in result.hits] == pytest.approx(expected.tolist(), abs=1e-5)


def test_exact_identifier_comes_first(corpus: tuple[Path, Settings]) -> None:
    _, settings = corpus
    for identifier, name in (
        ("X-RateLimit-Remaining", "api-rate-limiting.docx"),
        ("E1234", "rotate-certificates-by-hand.md"),
        ("DaysToExpiry", "rotate-certificates-automatically.md"),
    ):
        assert Path(search(identifier, settings, k=1).hits[0].path).name == name


def test_nothing_is_found_in_a_store_of_failures_only(make_settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "empty.md").touch()
    settings = make_settings()
    assert ingest(tmp_path / "docs", settings).quarantined == 1
    assert search("anything", settings).hits == ()


def _ingest_process(docs: Path, settings: Settings, publish_chunks: int) -> subprocess.Popen[bytes]:
    arguments = [
        "ingest",
        str(docs),
        "--store",
        str(settings.store),
        "--set",
        "batch_documents=1",
        "--set",
        f"publish_chunks={publish_chunks}",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "flows", *arguments, "--set", f"cache={settings.cache}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.slow
@pytest.mark.parametrize("progress", [0, 3, 8], ids=["at-the-first-vectors", "after-a-few", "late"])
def test_killed_refresh_leaves_a_store_that_opens_and_the_next_run_completes_it(
    make_settings: MakeSettings, tmp_path: Path, progress: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs, settings = tmp_path / "docs", make_settings(batch_documents=1, publish_chunks=12)
    shutil.copytree(CORPUS, docs)
    process = _ingest_process(docs, settings, publish_chunks=12)
    deadline = time.monotonic() + 120
    while process.poll() is None and len(list(settings.store.glob("embeddings/*/*.parquet"))) <= progress:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()

    before = set(settings.store.glob("embeddings/*/*.parquet"))
    known = {row for part in before for row in pq.read_table(part)["chunk_hash"].to_pylist()}
    if (settings.store / "CURRENT").exists():
        with Reader.open(settings.store) as reader:
            assert reader.generation.chunks == len(rows(settings.store))
    ingest(docs, settings)
    after = set(settings.store.glob("embeddings/*/*.parquet")) - before
    assert not known & {row for part in after for row in pq.read_table(part)["chunk_hash"].to_pylist()}
    fresh = make_settings(store=tmp_path / "fresh")
    ingest(docs, fresh)
    assert rows(settings.store) == rows(fresh.store)
    assert list((settings.store / "staging").iterdir()) == []
    assert not list(settings.store.rglob("*.building")) + list(settings.store.rglob("*.tmp"))


@pytest.mark.slow
def test_ctrl_c_stops_soon_says_how_to_go_on_and_leaves_no_process(make_settings: MakeSettings, tmp_path: Path) -> None:
    import psutil

    docs, settings = tmp_path / "docs", make_settings()
    shutil.copytree(CORPUS, docs)
    for i in range(150):
        (docs / f"page{i}.md").write_text(f"# Page {i}\n\n" + f"Paragraph about number {i}. " * 150)
    process = _ingest_process(docs, settings, publish_chunks=10**6)
    while len(list(settings.store.glob("embeddings/*/*.parquet"))) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - asked < 15
    assert b"run the same command again" in stderr
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert DOCUMENTS + 150 > store_status(settings.store).documents >= 1  # what was whole is published
    assert ingest(docs, settings).chunks
    assert store_status(settings.store).documents == DOCUMENTS + 150


def test_ctrl_c_during_a_query_of_the_ledger_publishes_what_is_whole_too(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(batch_documents=1, publish_chunks=10**6)
    missing, calls = tasks.store.ledger.Ledger.missing, itertools.count()

    def interrupted(ledger: tasks.store.ledger.Ledger, keys: Iterable[str]) -> list[str]:
        if next(calls) == 6:  # DuckDB makes an error of its own of it
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            while True:  # short ones: DuckDB's threads end what they began
                duckdb.connect().execute("SELECT count(*) FROM range(20_000_000) AS n WHERE sin(n.range) > 2")
        return missing(ledger, keys)

    with monkeypatch.context() as pressed:
        pressed.setattr(tasks.store.ledger.Ledger, "missing", interrupted)
        with pytest.raises((RuntimeError, KeyboardInterrupt)) as caught:  # a busy machine may be slow to ask
            ingest(CORPUS, settings)
    assert is_interrupt(caught.value)
    assert DOCUMENTS > store_status(settings.store).documents >= 1
    ingest(CORPUS, settings)
    assert store_status(settings.store).documents == DOCUMENTS


def test_staged_batches_of_a_killed_run_are_not_parsed_again(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs, settings = tmp_path / "docs", make_settings(batch_documents=3)
    shutil.copytree(CORPUS, docs)

    def fail(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as broken:
        broken.setattr(tasks.store.ledger.Ledger, "add", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            ingest(docs, settings)
    staged = [
        row for path in settings.store.rglob("*.staged.parquet") for row in pq.read_table(path)["path"].to_pylist()
    ]
    assert staged
    parsed: list[str] = []
    from tasks.parsing.pool import ParserPool

    parse_many = ParserPool.parse_many
    monkeypatch.setattr(
        ParserPool, "parse_many", lambda self, paths: (parsed.extend(map(str, paths)), parse_many(self, paths))[1]
    )
    ingest(docs, settings)
    assert sorted(parsed + staged) == sorted(str(path) for path in docs.iterdir())
    assert current_number(settings.store) == 1


def test_ledger_is_opened_once_however_many_batches_wait(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staged batches of a killed run are all embedded at once; a second ledger would sweep the first one's part."""
    docs, settings = tmp_path / "docs", make_settings(batch_documents=1)
    shutil.copytree(CORPUS, docs)
    opened = []

    class SlowLedger(tasks.store.ledger.Ledger):
        def __init__(self, store: Path, fingerprint: str) -> None:
            opened.append(store)
            time.sleep(0.2)
            super().__init__(store, fingerprint)

    monkeypatch.setattr("tasks.embed.Ledger", SlowLedger)
    with monkeypatch.context() as broken:
        broken.setattr(SlowLedger, "add", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ingest(docs, settings)
    opened.clear()
    ingest(docs, settings)
    assert len(opened) == 1


def test_read_only_store_is_one_clear_error(corpus: tuple[Path, Settings]) -> None:
    docs, settings = corpus
    settings.store.chmod(0o555)
    try:
        if os.access(settings.store, os.W_OK):
            pytest.skip("this user, root perhaps, may write everywhere")
        with pytest.raises(PermissionError):
            ingest(docs, settings)
    finally:
        settings.store.chmod(0o755)
