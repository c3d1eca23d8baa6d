"""Why a document is, or is not, among the hits."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tasks.rerank
from flows.local import local_refresh
from schemas.records import Filter
from schemas.settings import Settings
from tasks.explain import why
from tasks.search import search
from tests.conftest import CORPUS

QUESTION = "which vector store does not need a separate server?"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Settings:
    root = tmp_path_factory.mktemp("explain")
    docs = Path(shutil.copytree(CORPUS, root / "docs"))
    (docs / "empty.md").touch()
    settings = Settings(store=root / "store", cache=model_cache)
    local_refresh([str(docs)], settings, lambda *_: None)
    return settings


def test_parts_of_the_terms_add_up_to_the_score(settings: Settings) -> None:
    for hit in search(QUESTION, settings, k=20, explain=True).hits:
        total = hit.stages["bm25"].score if "bm25" in hit.stages else 0.0
        assert sum(hit.terms.values()) == pytest.approx(total)
    assert search(QUESTION, settings, k=1).hits[0].terms == {}


@pytest.mark.parametrize(
    ("path", "changed", "verdict"),
    [
        ("embedded-vector-store.md", {}, "it is hit 1"),
        ("docs/dns-failover-runbook.pdf", {}, "below the 3 hits: "),
        ("dns-failover-runbook.pdf", {"pool": 3}, "not in the pool: "),
        ("dns-failover-runbook.pdf", {"candidates": 3, "pool": 3}, "no candidate: "),
        ("empty.md", {}, "it is in quarantine: empty"),
        ("embeded-vector-store.md", {}, "no such document in the store; is it embedded-vector-store.md?"),
        ("zzz", {}, "no such document in the store"),
    ],
)
def test_document_is_followed_to_where_it_was_lost(
    settings: Settings, path: str, changed: dict[str, int], verdict: str
) -> None:
    found = why(path, QUESTION, settings.model_copy(update=changed), k=3)
    assert found.verdict.startswith(verdict)
    assert not found.ranks or set(found.ranks) == {"bm25", "vectors", "fusion", "rerank"}


def test_filter_that_leaves_a_document_out_is_told(settings: Settings) -> None:
    markdown = Filter(file_types=("md",))
    assert why("dns-failover-runbook.pdf", QUESTION, settings, wanted=markdown).verdict == "the filter leaves it out"
    assert why("embedded-vector-store.md", QUESTION, settings, wanted=markdown).verdict == "it is hit 1"


def test_deadline_that_leaves_a_document_out_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = settings.model_copy(update={"reranker": "auto", "deadline_ms": 500})
    monkeypatch.setattr(tasks.rerank, "score_until", lambda *_, least, **__: np.arange(least, 0, -1, dtype=np.float32))
    found = why("dns-failover-runbook.pdf", QUESTION, cut, k=2)
    assert "the first 2 are (500 ms ended before the other" in found.verdict


def test_every_hit_is_where_why_says_it_is(settings: Settings, make_settings: Callable[..., Settings]) -> None:
    hits = search(QUESTION, settings, k=5).hits
    firsts = {hit.path: hit.rank for hit in reversed(hits)}
    for path, place in firsts.items():
        assert why(path, QUESTION, settings, k=5).verdict == f"it is hit {place}"
