"""A disk that is full or may not be written: a clear error, nothing lost, and the same call succeeds later."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import StoreNotWritable
from tasks.store.verify import verify
from tests.store.parts import Corpus, state


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_full_disk_is_a_clear_error_and_loses_nothing(small_disk: Path) -> None:
    corpus = Corpus(small_disk / "store")
    corpus.publish({"a": ["one"]})
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 150_000))
    with pytest.raises(StoreNotWritable, match=r"MB are free there.*make room"):
        corpus.publish({"b": ["two"]})
    assert state(corpus.store) == {"a": ["one"]}
    filler.unlink()
    corpus.publish({"b": ["two"]})
    assert state(corpus.store) == {"a": ["one"], "b": ["two"]}
    assert verify(corpus.store) == []


def test_read_only_store_can_be_queried_and_says_that_it_cannot_be_written(small_disk: Path) -> None:
    corpus = Corpus(small_disk / "store")
    corpus.publish({"a": ["one"]})
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StoreNotWritable, match="give permission"):
        corpus.publish({"b": ["two"]})
    assert state(corpus.store) == {"a": ["one"]}
    assert verify(corpus.store) == []
