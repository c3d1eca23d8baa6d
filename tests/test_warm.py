"""Passages read ahead by the ingest that published them, or later."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flows.local import local_refresh
from schemas.errors import StoreNotWritable
from schemas.records import RefreshSummary
from schemas.settings import Settings
from tasks.models.kept import taken
from tasks.models.late_interaction import LateInteraction
from tasks.search import search
from tasks.warm import warm
from tests.conftest import CORPUS
from tests.models.tiny import make_tiny_maxsim

PAGES = ("embedded-vector-store.md", "rotate-certificates-by-hand.md")

Ingest = Callable[..., RefreshSummary]


@pytest.fixture
def cache(tmp_path: Path, model_cache: Path) -> Path:
    """The exported embedder, and no passages."""
    cache, models = tmp_path / "cache", model_cache / "models"
    for folder in (cache, models):
        folder.mkdir(exist_ok=True)
    (cache / "models").symlink_to(models)
    return cache


@pytest.fixture
def ingest(tmp_path: Path, cache: Path) -> Ingest:
    """Ingest one more of PAGES, warm=after-publish unless said otherwise."""
    pages = iter(PAGES)
    (tmp_path / "docs").mkdir()

    def run(**given: object) -> RefreshSummary:
        shutil.copy(CORPUS / next(pages), tmp_path / "docs")
        chosen = {"store": tmp_path / "store", "cache": cache, "reranker": "auto", "warm": "after-publish", **given}
        return local_refresh([str(tmp_path / "docs")], Settings(**chosen), lambda *_: None)  # type: ignore[arg-type]

    return run


def kept(cache: Path) -> int:
    return len(list(cache.glob("passages/*")))


def test_ingest_has_what_is_new_read_and_nothing_else(
    ingest: Ingest, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ingest(warm="apart")
    assert "warm" not in first.seconds
    assert kept(cache) == 0
    second = ingest()
    assert second.seconds["warm"] > 0
    assert kept(cache) == second.chunks
    settings = Settings(store=Path(second.store), cache=cache, reranker="auto")
    done: list[tuple[int, int]] = []
    warmed = warm(settings, lambda *progress: done.append(progress))
    assert warmed is not None
    assert (warmed.read, warmed.known, warmed.left) == (first.chunks, second.chunks, 0)
    assert done[-1] == (warmed.passages, warmed.passages)
    assert warmed.bytes == sum(taken(path.stat().st_size) for path in cache.glob("passages/*"))
    used = min(path.stat().st_mtime_ns for path in cache.glob("passages/*"))
    assert warm(settings, lambda *_: None) == replace(warmed, read=0, known=warmed.passages)
    assert min(path.stat().st_mtime_ns for path in cache.glob("passages/*")) > used  # the last to be forgotten
    # a query finds all of them read: the template, the cut and the model are the same
    monkeypatch.setattr(LateInteraction, "_words", _only_the_query(LateInteraction._words))
    assert len(search("certificates", settings, k=50).hits) == first.chunks + second.chunks


def _only_the_query(words: Callable[..., object]) -> Callable[..., object]:
    def read(model: LateInteraction, texts: list[str]) -> object:
        assert texts in (["certificates"], []), "a passage was read again"
        return words(model, texts)

    return read


def test_what_does_not_fit_is_left(ingest: Ingest, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = ingest(warm="apart")
    monkeypatch.setattr("tasks.warm.BATCH", 1)
    monkeypatch.setattr("tasks.warm.LEFT", 0.05)  # of one MiB, which is a passage or two
    settings = Settings(store=Path(summary.store), cache=cache, reranker="auto", rerank_cache_mb=1)
    warmed = warm(settings, lambda *_: None)
    assert warmed is not None
    assert 0 < warmed.read < summary.chunks
    assert warmed.left == summary.chunks - warmed.read
    assert warmed.needed_mb > 1


def test_cache_that_cannot_be_written_is_an_error_and_fails_no_ingest(
    ingest: Ingest, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (cache / "passages").touch()
    summary = ingest()
    assert summary.published == 1
    assert "no passage is kept" in caplog.text
    with pytest.raises(StoreNotWritable, match="cannot be written"):
        warm(Settings(store=Path(summary.store), cache=cache, reranker="auto"), lambda *_: None)


@pytest.mark.parametrize("reranker", ["fusion", "cohere:rerank-v3.5", "fusion > llm:any@5"])
def test_nothing_is_read_for_a_reranker_that_keeps_nothing(ingest: Ingest, cache: Path, reranker: str) -> None:
    summary = ingest(reranker=reranker)  # needs no key either
    assert "warm" not in summary.seconds
    assert kept(cache) == 0


def test_missing_reranker_fails_no_ingest(
    ingest: Ingest, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert ingest(reranker=str(tmp_path / "nowhere")).published == 1
    assert "no passage is read ahead" in caplog.text
    caplog.set_level(logging.INFO)
    tiny = make_tiny_maxsim(tmp_path / "tiny")
    assert kept(cache) == 0
    summary = ingest(reranker=f"fusion@60 > {tiny}@20")
    assert kept(cache) == summary.chunks
