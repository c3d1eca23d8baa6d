"""Publishing, reading and the ways in which a store can be broken."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from schemas.errors import CorruptStore, ModelMismatch, StoreBusy, StoreFormat, StoreNotFound
from tasks.store import writer
from tasks.store.generation import Generation, current_number, read
from tasks.store.ledger import FOLD, Ledger
from tasks.store.reader import Reader
from tests.store.parts import IDENTITY, Corpus, vectors_of


def live_texts(reader: Reader) -> set[str]:
    return set(reader.chunks_of(reader.documents()["doc_id"].to_pylist())["text"].to_pylist())


def test_reader_keeps_its_generation_while_newer_ones_are_published(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.publish({"a": ["one"]})
    with Reader.open(tmp_path) as old:
        corpus.publish({"a": ["two"], "b": ["three"]})
        assert live_texts(old) == {"one"}
        with Reader.open(tmp_path) as new:
            assert live_texts(new) == {"two", "three"}
        with Reader.open(tmp_path, 1) as again:
            assert live_texts(again) == {"one"}


def test_manifest_counts_live_rows_only(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.publish({"a": ["alpha beta", "gamma"], "b": ["delta"]})
    generation = corpus.publish({"a": ["alpha beta the gamma"]}, delete=["b"])
    assert (generation.documents, generation.chunks) == (1, 1)
    assert [segment.live_length for segment in generation.segments] == [0, 3]  # "the" is a stopword


def test_document_that_comes_back_is_live_again(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.publish({"a": ["one"]})
    corpus.publish({}, delete=["a"])
    corpus.publish({"a": ["one"]})
    with Reader.open(tmp_path) as reader:
        assert live_texts(reader) == {"one"}


def test_publishing_the_same_twice_changes_nothing(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.publish({"a": ["one"], "b": ["two"]})
    before = current_number(tmp_path), sorted((tmp_path / "segments").iterdir())
    generation = corpus.publish({"a": ["one"], "b": ["two"]})
    assert (generation.documents, generation.chunks) == (2, 2)
    assert (current_number(tmp_path), sorted((tmp_path / "segments").iterdir())) == before


def test_segment_is_a_plain_duckdb_file(tmp_path: Path) -> None:
    generation = Corpus(tmp_path).publish({"a": ["one"]})
    with duckdb.connect(str(generation.segments[0].path(tmp_path)), read_only=True) as con:
        assert con.execute("SELECT text FROM chunks").fetchall() == [("one",)]


def _hold(store: Path, held: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with writer.writing(store, IDENTITY):
        held.set()
        done.wait(30)


def test_second_writer_is_told_that_the_store_is_busy(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, done))
    process.start()
    try:
        assert held.wait(30)
        with pytest.raises(StoreBusy, match="another process is ingesting"), writer.writing(tmp_path, IDENTITY):
            pass
    finally:
        done.set()
        process.join()
    with writer.writing(tmp_path, IDENTITY):
        pass


def test_other_model_may_not_write_into_a_store(tmp_path: Path) -> None:
    Corpus(tmp_path).publish({"a": ["one"]})
    other = Generation(0, "other-model", 8, IDENTITY.analyzer)
    with pytest.raises(ModelMismatch, match="test-model"), writer.writing(tmp_path, other):
        pass


def test_missing_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match="headrace ingest"):
        Reader.open(tmp_path / "nowhere")


def test_store_of_a_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    Corpus(tmp_path).publish({"a": ["one"]})
    manifest = tmp_path / "manifests" / "000001.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
    with pytest.raises(StoreFormat, match="upgrade Headrace"):
        Reader.open(tmp_path)


@pytest.mark.parametrize("damage", ["{", '{"format": 2}', "[]"], ids=["cut", "keys-missing", "wrong-type"])
def test_damaged_manifest_is_named(tmp_path: Path, damage: str) -> None:
    Corpus(tmp_path).publish({"a": ["one"]})
    (tmp_path / "manifests" / "000001.json").write_text(damage)
    with pytest.raises(CorruptStore, match=r"000001\.json"):
        read(tmp_path)


def test_missing_segment_is_corruption(tmp_path: Path) -> None:
    generation = Corpus(tmp_path).publish({"a": ["one"]})
    generation.segments[0].path(tmp_path).unlink()
    with pytest.raises(CorruptStore, match="cannot be read"):
        Reader.open(tmp_path)


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.publish({"a": ["one"]})
    for folder in ("building", "compacting/000003-dead.spill"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    litter = [
        tmp_path / "building" / "000002-dead.duckdb",
        tmp_path / "compacting" / "000003-dead.spill" / "x",
        tmp_path / "segments" / "000002-dead.duckdb",
        tmp_path / "segments" / "000002-dead.chunks.parquet",
        tmp_path / "CURRENT.1.tmp",
    ]
    for path in litter:
        path.write_bytes(b"half")
    corpus.publish({"b": ["two"]})
    assert not any(path.exists() for path in litter)
    assert current_number(tmp_path) == 2


def test_ledger_embeds_no_text_twice_even_after_reopening(tmp_path: Path) -> None:
    calls: list[list[str]] = []

    def encode(texts: list[str]) -> np.ndarray:
        calls.append(list(texts))
        return vectors_of(texts)

    assert Ledger(tmp_path, "m").ensure({"h1": "one", "h2": "two"}, encode) == 2
    ledger = Ledger(tmp_path, "m")
    assert ledger.ensure({"h2": "two", "h3": "three"}, encode) == 1
    assert ledger.ensure({"h3": "three"}, encode) == 0
    assert calls == [["one", "two"], ["three"]]


def test_folded_parts_do_not_pile_up_when_writers_are_killed(tmp_path: Path) -> None:
    texts = {f"h{i:04d}": f"text {i}" for i in range(10 * FOLD)}
    for key, text in texts.items():  # a writer that is killed never closes its ledger
        ledger = Ledger(tmp_path, "m")
        assert ledger.ensure({key: text}, vectors_of) == 1
    ledger.close()
    assert len(list(ledger.folder.iterdir())) <= 2 * FOLD
    stored = [key for part in ledger.parts() for key in pq.read_table(part)["chunk_hash"].to_pylist()]
    assert sorted(stored) == list(texts)


def test_chunk_without_a_vector_is_never_published(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.publish({"a": ["one"]})
    for part in Ledger(tmp_path, IDENTITY.embedder).parts():
        part.unlink()
    ledger = Ledger(tmp_path, IDENTITY.embedder)
    ledger.ensure({"unrelated": "text"}, vectors_of)
    (staged,) = (tmp_path / "staging").iterdir()
    other = tmp_path / "other"
    with writer.writing(other, IDENTITY), pytest.raises(CorruptStore, match="no vector in the ledger"):
        writer.publish(
            other,
            IDENTITY,
            documents=[staged / "documents.parquet"],
            chunks=[staged / "chunks.parquet"],
            ledger=ledger.parts(),
            tombstones=[],
            hnsw_min_rows=10**9,
        )
    assert not (other / "CURRENT").exists()
