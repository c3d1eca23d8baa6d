"""Damage is found, named and repaired from the other copy."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from schemas.errors import CorruptStore
from tasks.store import connect
from tasks.store.connection import attach
from tasks.store.connection import connect as plain_connection
from tasks.store.generation import Analyzer, read
from tasks.store.ledger import Ledger
from tasks.store.reader import Reader
from tasks.store.rebuild import rebuild
from tasks.store.retention import collect
from tasks.store.verify import verify
from tasks.store.writer import committing
from tests.store.parts import IDENTITY, Corpus, neighbours, scores, state


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two segments with edits and deletes."""
    corpus = Corpus(tmp_path)
    corpus.publish({f"d{i}": [f"rotate number {i}", "certificates"] for i in range(20)})
    corpus.publish({"d3": ["edited certificates"]}, delete=["d4"])
    return tmp_path


def flip(path: Path, seed: int) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[random.Random(seed).randrange(len(data))] ^= 0xFF
    path.write_bytes(data)


def rebuilt(store: Path, analyzer: Analyzer = IDENTITY.analyzer) -> None:
    rebuild(store, analyzer, hnsw_min_rows=10**9, memory_mb=512)


def answers(store: Path) -> tuple[dict[str, float], list[str]]:
    with Reader.open(store) as reader:
        return scores(reader, "rotating certificates"), neighbours(reader, "rotate number 7")


def test_whole_store_has_no_damage(store: Path) -> None:
    assert verify(store) == []
    Corpus(store).compact(full=True)
    assert verify(store) == []


@pytest.mark.parametrize("suffix", ["duckdb", "chunks.parquet", "documents.parquet", "tombstones.parquet"])
@pytest.mark.parametrize("seed", range(3))
def test_flipped_byte_in_a_segment_is_found_and_repaired_by_rebuild(store: Path, suffix: str, seed: int) -> None:
    before = state(store), answers(store)
    path = read(store).segments[-1].path(store, suffix)
    flip(path, seed)
    (damage,) = verify(store)
    assert (damage.where, damage.repair) == (f"segments/{path.name}", "headrace rebuild")
    rebuilt(store)
    assert (state(store), answers(store)) == before
    current = read(store).segments
    assert not [d for d in verify(store) if d.where.partition("/")[2].partition(".")[0] in {s.name for s in current}]


@pytest.mark.parametrize("seed", range(3))
def test_flipped_byte_in_the_ledger_is_found_and_repaired_by_rebuild(store: Path, seed: int) -> None:
    part = Ledger(store, IDENTITY.embedder).parts()[0]
    flip(part, seed)
    (damage,) = verify(store)
    assert damage.where == str(part.relative_to(store))
    rebuilt(store)
    assert verify(store) == []


@pytest.mark.parametrize("seed", range(5))
def test_flipped_byte_in_a_manifest_is_found(store: Path, seed: int) -> None:
    flip(store / "manifests" / "000002.json", seed)
    assert "headrace rollback" in {damage.repair[:17] for damage in verify(store)}
    with pytest.raises(CorruptStore, match=r"000002\.json"):
        read(store)


def test_missing_file_is_found(store: Path) -> None:
    path = read(store).segments[0].path(store)
    path.unlink()
    assert [(d.where, d.what) for d in verify(store)] == [(f"segments/{path.name}", "it is missing")]
    rebuilt(store)
    assert len(state(store)) == 19


def test_vector_missing_from_the_ledger_is_found_and_restored(store: Path) -> None:
    for part in Ledger(store, IDENTITY.embedder).parts():
        part.unlink()
    assert any("not in the ledger" in damage.what for damage in verify(store))
    rebuilt(store)
    assert verify(store) == []


def test_rows_that_do_not_fit_together_are_found(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole files, but a chunk has no vector and a posting is gone: a fault of a writer, not of a disk."""
    segment = read(store).segments[0]
    with plain_connection(segment.path(store)) as con:
        con.execute("UPDATE chunks SET embedding = NULL WHERE docid = 3")
        con.execute("DELETE FROM postings WHERE docid = 5")
    monkeypatch.setattr("tasks.store.verify.damaged_files", lambda *_: [])
    found = " ".join(damage.what for damage in verify(store))
    assert "chunks have no vector" in found
    assert "document frequency" in found


def test_segment_and_parquet_both_damaged_is_an_error_that_changes_nothing(store: Path) -> None:
    before = read(store)
    for suffix in ("duckdb", "chunks.parquet"):
        flip(before.segments[0].path(store, suffix), 1)
    with pytest.raises(CorruptStore, match="both"):
        rebuilt(store)
    assert read(store) == before


def test_rebuild_needs_no_duckdb_file_at_all(store: Path) -> None:
    before = state(store), answers(store)
    for segment in read(store).segments:
        os.truncate(segment.path(store), 0)
    rebuilt(store)
    assert (state(store), answers(store)) == before


def test_garbage_collected_during_a_rebuild_is_not_its_work(store: Path) -> None:
    def collect_between(_done: int, _total: int) -> None:
        with committing(store):
            collect(store, keep=1, keep_hours=0)

    rebuild(store, IDENTITY.analyzer, hnsw_min_rows=10**9, memory_mb=512, report=collect_between)
    assert verify(store) == []


def test_rebuild_changes_the_analyzer(store: Path) -> None:
    Corpus(store).publish({"k": ["TLS1.3"]})
    rebuilt(store, Analyzer("words", "none", "none"))
    with Reader.open(store) as reader:
        assert reader.generation.analyzer.tokenizer == "words"
        assert scores(reader, "rotating") == {}  # no stemmer: only `rotate` is there
        assert len(scores(reader, "rotate")) == 18


def test_sql_views_show_live_rows_only(store: Path) -> None:
    with connect(store) as con:
        assert con.sql("SELECT count(*) FROM documents").fetchall() == [(19,)]
        assert con.sql("SELECT text FROM chunks WHERE doc_id = 'd3'").fetchall() == [("edited certificates",)]
        assert con.sql("SELECT count(*) FROM quarantine").fetchall() == [(0,)]
        assert con.sql("SELECT path, embedding FROM chunks WHERE doc_id = 'd3'").df().shape == (1, 2)
    with connect(store, 1) as con:
        assert con.sql("SELECT count(*) FROM documents").fetchall() == [(20,)]


def test_sql_connection_cannot_write_to_the_store(store: Path) -> None:
    with connect(store) as con:
        (alias,) = con.sql("SELECT database_name FROM duckdb_databases() WHERE readonly LIMIT 1").fetchone() or ("",)
        with pytest.raises(Exception, match="read-only"):
            con.execute(f"DELETE FROM {alias}.chunks")
    with plain_connection() as con, pytest.raises(Exception, match="read-only"):
        attach(con, read(store).segments[0].path(store), "s")
        con.execute("DROP TABLE s.chunks")


def test_sql_and_readers_share_a_store_in_one_process(store: Path) -> None:
    with Reader.open(store) as reader, connect(store) as con:
        Corpus(store).publish({"d99": ["a new page"]})
        assert con.sql("SELECT count(*) FROM documents").fetchall() == [(19,)]
        assert len(scores(reader, "rotating")) == 18
        with connect(store) as newer:
            assert newer.sql("SELECT count(*) FROM documents").fetchall() == [(20,)]
