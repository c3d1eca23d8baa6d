"""A run embeds each text once, and takes up the vectors that another one left."""

from __future__ import annotations

from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.records import CHUNKS, BatchRef, Element
from schemas.settings import Settings
from tasks.chunk import chunk_elements as chunked
from tasks.chunk import chunk_row
from tasks.embed import MODEL, Embedding, embed_batch
from tasks.store.ledger import Ledger, embeddings


class Encoder:
    """Gives each text a vector of its own, and remembers which it was asked for."""

    fingerprint = "m"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: list[str]) -> np.ndarray:
        self.asked += texts
        return np.array([[1.0, len(text)] for text in texts], np.float32)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    encoder = Encoder()
    monkeypatch.setattr("tasks.embed.load_encoder", lambda _: encoder)
    monkeypatch.setattr("tasks.embed.PART_ROWS", 2)
    return encoder


def run(store: Path, name: str) -> tuple[Ledger, Embedding]:
    folder = store / "staging" / name
    folder.mkdir(parents=True)
    ledger = Ledger(store, "m")
    return ledger, Embedding(ledger, folder, "m")


def batch(store: Path, name: str, texts: list[str]) -> BatchRef:
    ref = BatchRef(store / "staging" / "run", name)
    rows = [
        chunk_row(name, "", chunk)
        for text in texts
        for chunk in chunked(
            [Element(text, "NarrativeText")], lambda texts: [1] * len(texts), max_tokens=9, min_tokens=0
        )
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=CHUNKS), ref.part("chunks"))
    return ref


def vectors(ledger: Ledger) -> list[tuple[str, list[float]]]:
    rows = [row for part in ledger.parts() for row in pq.read_table(part).to_pylist()]
    return sorted((row["chunk_hash"], row["embedding"]) for row in rows)


def test_batches_under_way_share_texts_and_embed_each_once(tmp_path: Path, encoder: Encoder) -> None:
    ledger, embedding = run(tmp_path, "run")
    one = embedding.note(batch(tmp_path, "one", ["a", "bb", "ccc", "a"]))
    two = embedding.note(batch(tmp_path, "two", ["bb", "dddd"]))  # while the first is under way
    settings = Settings(store=tmp_path)
    two, one = (embed_batch(noted, settings) for noted in (two, one))  # workers end in any order
    assert sorted(encoder.asked) == ["a", "bb", "ccc", "dddd"]
    one, two = embedding.keep(one), embedding.keep(two)
    assert [(b.embedded, b.reused) for b in (one, two)] == [(3, 1), (1, 1)]
    assert len(vectors(ledger)) == 4
    again = embed_batch(embedding.note(batch(tmp_path, "again", ["dddd"])), settings)
    assert (embedding.keep(again).embedded, len(encoder.asked)) == (0, 4)
    assert {path.name for path in (tmp_path / "staging" / "run").iterdir()} == {
        f"{name}.chunks.parquet" for name in ("one", "two", "again")
    }


def test_killed_run_leaves_its_vectors_to_the_next_and_none_twice(tmp_path: Path, encoder: Encoder) -> None:
    _, embedding = run(tmp_path, "run")
    left = embed_batch(embedding.note(batch(tmp_path, "one", ["a", "bb", "ccc"])), Settings(store=tmp_path))
    assert len(left.vectors) == 2
    folder = tmp_path / "staging" / "run"
    other = embeddings(["x"], np.ones((1, 2), np.float32)).replace_schema_metadata({MODEL: "another"})
    pq.write_table(other, folder / "000007-000000.vectors.parquet")
    (folder / "000008-000000.vectors.parquet").write_bytes(b"PAR1 torn")

    ledger, next_run = run(tmp_path, "next")
    ledger.add(pq.read_table(left.vectors[0]))  # as one that was killed just after it had added them
    next_run.take_up()
    assert [vector for _, vector in sorted(vectors(ledger), key=lambda row: row[1])] == [[1, 1], [1, 2], [1, 3]]
    assert next_run.note(left).reused == 3


def test_stopped_run_ends_after_the_part_that_it_is_at(tmp_path: Path, encoder: Encoder) -> None:
    _, embedding = run(tmp_path, "run")
    noted = embedding.note(batch(tmp_path, "one", ["a", "bb", "ccc"]))
    encode = encoder.encode

    def stopping(texts: list[str]) -> np.ndarray:
        embedding.stop()
        return encode(texts)

    encoder.encode = stopping  # type: ignore[method-assign]
    with pytest.raises(CancelledError):
        embed_batch(noted, Settings(store=tmp_path))
    assert encoder.asked == ["a", "bb"]
    _, next_run = run(tmp_path, "next")
    next_run.take_up()
    assert next_run.note(noted).reused == 2
