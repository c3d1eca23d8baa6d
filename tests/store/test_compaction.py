"""Compaction: the same answers from fewer segments, without disturbing anybody."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from schemas.errors import BadSource, StoreBusy
from tasks.store import compaction
from tasks.store.compaction import FANOUT, due
from tasks.store.connection import connect
from tasks.store.export import export
from tasks.store.generation import Segment, current_number, read
from tasks.store.reader import Reader
from tasks.store.writer import locked
from tests.store.parts import IDENTITY, Corpus, neighbours, scores, state, vectors_of

NAMES = [f"d{i}" for i in range(6)]
steps = st.lists(
    st.tuples(
        st.dictionaries(
            st.sampled_from(NAMES), st.lists(st.sampled_from(["one two", "two", "three"]), min_size=1, max_size=3)
        ),
        st.sets(st.sampled_from(NAMES), max_size=2),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=steps)
def test_any_history_of_publishes_and_compactions_equals_a_fresh_store(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[dict[str, list[str]], set[str], bool]]
) -> None:
    corpus = Corpus(tmp_path_factory.mktemp("store"))
    expected: dict[str, list[str]] = {}
    for documents, deleted, compacted in steps:
        delete = deleted - documents.keys()
        corpus.publish(documents, delete=sorted(delete))
        expected = {name: texts for name, texts in {**expected, **documents}.items() if name not in delete}
        if compacted and (corpus.store / "CURRENT").exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(compaction, "FANOUT", 2)
                corpus.compact()
    if not (corpus.store / "CURRENT").exists():
        return
    assert state(corpus.store) == expected
    generation = read(corpus.store)
    assert (generation.documents, generation.chunks) == (len(expected), sum(map(len, expected.values())))
    fresh = Corpus(tmp_path_factory.mktemp("fresh"))
    fresh.publish(expected)
    if expected:
        with Reader.open(corpus.store) as ours, Reader.open(fresh.store) as theirs:
            assert scores(ours, "two three") == pytest.approx(scores(theirs, "two three"), abs=1e-9)
            assert neighbours(ours, "two") == neighbours(theirs, "two")


def segments(*sizes: int) -> tuple[Segment, ...]:
    return tuple(Segment(f"s{i}", documents=1, chunks=n, live_chunks=n) for i, n in enumerate(sizes))


@pytest.mark.parametrize(
    ("sizes", "run"),
    [
        pytest.param([1] * (FANOUT - 1), None, id="too-few"),
        pytest.param([1] * FANOUT, range(FANOUT), id="a-tier"),
        pytest.param([100_000, *[1] * FANOUT], range(1, FANOUT + 1), id="large-one-stays"),
        pytest.param([60, *[8] * (FANOUT - 1)], range(FANOUT), id="within-the-ratio"),
        pytest.param([*[8] * FANOUT, 100_000], range(FANOUT), id="small-ones-before-a-large-one"),
        pytest.param([2_000_000] * FANOUT, None, id="more-than-memory-allows"),
    ],
)
def test_tier_of_similar_segments_is_due(sizes: list[int], run: range | None) -> None:
    assert due(replace(IDENTITY, dim=384, segments=segments(*sizes)), memory_mb=2048) == run


def test_segment_that_is_mostly_dead_is_due() -> None:
    dying = replace(segments(100)[0], live_chunks=30)
    assert due(replace(IDENTITY, segments=(dying,)), memory_mb=2048) == range(1)


def test_number_of_segments_and_rewritten_chunks_stay_logarithmic() -> None:
    """A thousand publishes of one chunk: a chunk is rewritten a few times, a query meets few segments."""
    sizes: list[int] = []
    rewritten = 0
    for _ in range(1000):
        sizes.append(1)
        while run := due(replace(IDENTITY, segments=segments(*sizes)), memory_mb=2048):
            merged = sum(sizes[run.start : run.stop])
            rewritten += merged
            sizes[run.start : run.stop] = [merged]
        assert len(sizes) <= 4 * FANOUT
    assert rewritten <= 1000 * 12


def test_publish_during_a_compaction_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus(tmp_path)
    for name in NAMES:
        corpus.publish({name: [f"text of {name}"]})
    real = compaction.merge_segments

    def merge_and_publish(*arguments: object, **named: object) -> Segment:
        merged = real(*arguments, **named)  # type: ignore[arg-type]
        corpus.publish({"d0": ["edited"], "new": ["added"]}, delete=["d1"])
        return merged

    monkeypatch.setattr(compaction, "merge_segments", merge_and_publish)
    generation = corpus.compact(full=True)
    expected = {name: [f"text of {name}"] for name in NAMES[2:]} | {"d0": ["edited"], "new": ["added"]}
    assert state(tmp_path) == expected
    assert (generation.documents, generation.chunks, len(generation.segments)) == (6, 6, 2)


def test_compaction_of_segments_that_a_rollback_removed_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.store.retention import rollback
    from tasks.store.writer import committing

    corpus = Corpus(tmp_path)
    corpus.publish({"a": ["one"]})
    corpus.publish({"b": ["two"]})
    real = compaction.merge_segments

    def merge_and_roll_back(*arguments: object, **named: object) -> Segment:
        merged = real(*arguments, **named)  # type: ignore[arg-type]
        with committing(tmp_path):
            rollback(tmp_path, 1)
        return merged

    monkeypatch.setattr(compaction, "merge_segments", merge_and_roll_back)
    corpus.compact(full=True)
    assert state(tmp_path) == {"a": ["one"]}


def test_reader_of_the_old_generation_is_not_disturbed(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.publish({"a": ["one"]})
    corpus.publish({"b": ["two"]})
    with Reader.open(tmp_path) as reader:
        before = scores(reader, "one two")
        corpus.compact(full=True)
        assert scores(reader, "one two") == before


def test_second_compaction_is_told_that_one_is_under_way(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.publish({"a": ["one"]})
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path, "compact.lock", "busy"):
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    try:
        with pytest.raises(StoreBusy, match="compacting"):
            corpus.compact(full=True)
    finally:
        done.set()
        thread.join()


def test_full_compaction_is_one_file_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.publish({"a": ["one"]})
    corpus.publish({"b": ["two"]}, delete=["a"])
    generation = corpus.compact(full=True)
    assert len(generation.segments) == 1
    assert corpus.compact(full=True).number == generation.number == current_number(tmp_path)


def test_export_is_a_plain_file_with_working_indexes(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "store")
    corpus.publish({f"d{i}": [f"rotate number {i}"] for i in range(50)})
    corpus.publish({}, delete=["d7"])
    file = tmp_path / "corpus.duckdb"
    size = export(corpus.store, file, memory_mb=512)
    assert size > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.duckdb", "store"]
    with connect(file) as con:
        found = con.execute("SELECT count(*) FROM chunks WHERE fts_main_chunks.match_bm25(chunk_id, 'rotating') > 0")
        assert found.fetchone() == (49,)
        vector = vectors_of(["rotate number 3"])[0].tolist()
        nearest = f"SELECT text FROM chunks ORDER BY array_cosine_distance(embedding, {vector}::FLOAT[16]) LIMIT 1"
        assert con.execute(nearest).fetchone() == ("rotate number 3",)
        assert "HNSW_INDEX_SCAN" in con.execute(f"EXPLAIN {nearest}").fetchall()[0][1]
    with pytest.raises(BadSource, match="exists already"):
        export(corpus.store, file, memory_mb=512)


def test_plain_duckdb_searches_an_export_without_headrace(tmp_path: Path) -> None:
    """Only the fts extension is loaded, as another client would."""
    from tasks.store.connection import extension_path

    Corpus(tmp_path / "store").publish({"a": ["the stack is in CREATE_FAILED"], "b": ["other"]})
    export(tmp_path / "store", tmp_path / "x.duckdb", memory_mb=512)
    with duckdb.connect(str(tmp_path / "x.duckdb"), read_only=True) as con:
        con.execute(f"LOAD '{extension_path('fts')}'")
        rows = con.execute(
            "SELECT chunk_id FROM chunks WHERE fts_main_chunks.match_bm25(chunk_id, 'create_failed') > 0"
        )
        assert rows.fetchall() == [("a/0",)]
