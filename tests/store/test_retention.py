"""Time travel: old generations, the way back, and what may be removed."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
from pathlib import Path

import pytest

from schemas.errors import CorruptStore, NoSuchGeneration
from tasks.store.generation import current_number, numbers, read
from tasks.store.reader import Reader, newest
from tasks.store.retention import Removed, collect, rollback
from tasks.store.writer import committing
from tests.store.parts import Corpus, state


def gc(store: Path, keep: int = 1, keep_hours: float = 0.0) -> Removed:
    with committing(store):
        return collect(store, keep=keep, keep_hours=keep_hours)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Four generations: a, then b, then a edited, then b deleted."""
    corpus = Corpus(tmp_path)
    corpus.publish({"a": ["one"]})
    corpus.publish({"b": ["two"]})
    corpus.publish({"a": ["three"]})
    corpus.publish({}, delete=["b"])
    return corpus


def test_every_kept_generation_can_be_read(corpus: Corpus) -> None:
    assert [state(corpus.store, n) for n in numbers(corpus.store)] == [
        {"a": ["one"]},
        {"a": ["one"], "b": ["two"]},
        {"a": ["three"], "b": ["two"]},
        {"a": ["three"]},
    ]


def test_rollback_is_a_new_generation_with_the_old_content(corpus: Corpus) -> None:
    with committing(corpus.store):
        restored = rollback(corpus.store, 2)
    assert (restored.number, restored.event) == (5, "rollback to 2")
    assert state(corpus.store) == {"a": ["one"], "b": ["two"]}
    corpus.publish({"c": ["four"]})
    assert state(corpus.store) == {"a": ["one"], "b": ["two"], "c": ["four"]}


def test_rollback_repairs_a_store_whose_newest_manifest_is_damaged(corpus: Corpus) -> None:
    (corpus.store / "manifests" / "000004.json").write_text("{")
    with pytest.raises(CorruptStore, match="headrace rollback 3"):
        read(corpus.store)
    with committing(corpus.store):
        rollback(corpus.store, 3)
    assert state(corpus.store) == {"a": ["three"], "b": ["two"]}


def test_rollback_repairs_a_damaged_pointer(corpus: Corpus) -> None:
    (corpus.store / "CURRENT").write_bytes(b"\xff\xff")
    with pytest.raises(CorruptStore, match="headrace rollback 4"):
        current_number(corpus.store)
    with committing(corpus.store):
        rollback(corpus.store, 4)
    assert state(corpus.store) == {"a": ["three"]}


def test_generation_that_is_gone_is_named(corpus: Corpus) -> None:
    with pytest.raises(NoSuchGeneration, match="kept are: 1, 2, 3, 4"):
        state(corpus.store, 17)


def test_gc_keeps_the_newest_and_the_young_and_removes_files_of_the_others(corpus: Corpus) -> None:
    assert gc(corpus.store, keep=1, keep_hours=1.0).generations == ()
    assert gc(corpus.store, keep=3).generations == (1,)
    corpus.compact(full=True)
    removed = gc(corpus.store)
    assert (removed.generations, numbers(corpus.store)) == ((2, 3, 4), [5])
    (segment,) = read(corpus.store).segments
    assert {path.name.partition(".")[0] for path in (corpus.store / "segments").iterdir()} == {segment.name}
    assert removed.files == 4 * 3 + 2  # four segments of three files, two of them with tombstones
    assert state(corpus.store) == {"a": ["three"]}


def test_gc_leaves_what_a_reader_uses(corpus: Corpus) -> None:
    with Reader.open(corpus.store, 2) as reader:
        removed = gc(corpus.store)
        assert (removed.generations, removed.in_use) == ((1, 3), (2,))
        assert reader.documents().num_rows == 2
    assert gc(corpus.store).generations == (2,)


def _read_until(store: Path, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with Reader.open(store, 1):
        ready.set()
        done.wait(30)


def test_gc_leaves_what_another_process_uses_until_it_dies(corpus: Corpus) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_read_until, args=(corpus.store, ready, done))
    process.start()
    assert ready.wait(30)
    assert gc(corpus.store).in_use == (1,)
    process.kill()
    process.join()
    assert gc(corpus.store).generations == (1,)


def test_forgotten_reader_lets_go_of_its_generation(corpus: Corpus) -> None:
    reader = Reader.open(corpus.store, 1)
    del reader
    assert gc(corpus.store).in_use == ()


def test_process_wide_reader_moves_on_when_there_is_a_newer_generation(corpus: Corpus) -> None:
    first = newest(corpus.store)
    assert newest(corpus.store) is first
    corpus.publish({"c": ["four"]})
    second = newest(corpus.store)
    assert (first.generation.number, second.generation.number) == (4, 5)
    assert first.documents().num_rows == 1
    assert second.documents().num_rows == 2


def test_damaged_manifest_keeps_everything_from_being_swept(corpus: Corpus) -> None:
    (corpus.store / "manifests" / "000002.json").write_text("{")
    files = sorted((corpus.store / "segments").iterdir())
    with pytest.raises(CorruptStore):
        gc(corpus.store)
    corpus.publish({"c": ["four"]})
    assert set(files) < set((corpus.store / "segments").iterdir())
