"""Readers at full speed while generations are published, compacted and collected: no error, no mixed generation."""

from __future__ import annotations

import multiprocessing
import multiprocessing.queues
import multiprocessing.synchronize
import os
import threading
from pathlib import Path

import pytest

from tasks.store import compaction
from tasks.store.reader import newest
from tasks.store.retention import collect
from tasks.store.writer import committing
from tests.store.parts import Corpus, neighbours, scores

PUBLISHES = 200
READERS = 8
NAMES = [f"d{i}" for i in range(4)]


def publish(store: Path, step: int) -> None:
    """Every document is of the same step in every generation."""
    Corpus(store).publish({name: [f"step{step} certificates", f"step{step} of {name}"] for name in NAMES})


def read_once(store: Path) -> int:
    """All ways to read must see the same step and nothing else."""
    reader = newest(store)
    texts = reader.chunks_of(NAMES)["text"].to_pylist()
    (step,) = {int(text.split()[0].removeprefix("step")) for text in texts}
    assert len(texts) == 2 * len(NAMES) == reader.generation.chunks
    assert len(scores(reader, "certificates")) == len(NAMES)
    assert len(scores(reader, f"step{step}")) == 2 * len(NAMES)
    assert neighbours(reader, f"step{step} certificates", limit=4) == [f"{name}/0" for name in NAMES]
    return step


def _read(store: Path, done: multiprocessing.synchronize.Event, results: multiprocessing.queues.Queue[object]) -> None:
    os.nice(19)  # as fast as they can, but on two cores the writer shall not wait minutes for them
    seen: list[int] = []
    try:
        while not done.is_set():
            seen.append(read_once(store))
        results.put((len(seen), len(set(seen)), seen == sorted(seen)))
    except BaseException as error:
        results.put(repr(error))
        raise


@pytest.mark.slow
def test_eight_processes_read_through_200_publishes_and_compactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FANOUT", 4)
    publish(tmp_path, 0)
    context = multiprocessing.get_context("spawn")
    done, results = context.Event(), context.Queue()
    readers = [context.Process(target=_read, args=(tmp_path, done, results)) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        for step in range(1, PUBLISHES):
            publish(tmp_path, step)
            Corpus(tmp_path).compact()
            with committing(tmp_path):
                collect(tmp_path, keep=1, keep_hours=0)
    finally:
        done.set()
    outcomes = [results.get(timeout=60) for _ in readers]
    for reader in readers:
        reader.join()
    assert all(isinstance(outcome, tuple) and outcome[2] for outcome in outcomes), outcomes
    assert min(outcome[1] for outcome in outcomes) > 1, outcomes  # each saw the store change


def test_threads_share_the_process_wide_reader(tmp_path: Path) -> None:
    publish(tmp_path, 0)
    errors: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                read_once(tmp_path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for step in range(1, 12):
        publish(tmp_path, step)
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []
