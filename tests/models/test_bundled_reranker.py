"""The cross-encoder in the box: there on a fresh machine, and better at reading than fusion."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.local import local_refresh
from schemas.reranking import RERANKER
from schemas.settings import Settings
from tasks.doctor import models
from tasks.models.cross_encoder import load_cross_encoder
from tasks.models.resolve import resolve
from tasks.search import search
from tests.benchmarks.behaviour import right
from tests.conftest import CORPUS


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Settings:
    settings = Settings(store=tmp_path_factory.mktemp("bundled") / "store", cache=model_cache, reranker="auto")
    local_refresh([str(CORPUS)], settings, lambda *_: None)
    return settings


def test_it_is_small_and_says_where_it_comes_from() -> None:
    folder = resolve(RERANKER, Settings())
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 30_000_000
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert all(word in card for word in ("Data", "Licence", "nDCG@10", "headrace train-reranker"))


def test_it_needs_no_export_and_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from schemas.settings import Settings;"
        "from schemas.reranking import RERANKER; from tasks.models.cross_encoder import load_cross_encoder;"
        f"ce = load_cross_encoder(RERANKER, Settings(cache=Path({str(tmp_path)!r}) / 'cache'));"
        "a, b = ce.score('how do I rotate a certificate?', ['Rotate a certificate so.', 'Bread is baked at noon.']);"
        "assert a > b; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["passages"]


def test_auto_is_it_and_adds_what_its_card_says_of_fusion(corpus: Settings) -> None:
    question = "which vector store does not need a separate server?"
    result = search(question, corpus, k=3)
    assert (result.reranker, result.fallback) == (RERANKER, None)
    assert Path(result.hits[0].path).name == "embedded-vector-store.md"
    ce = load_cross_encoder(RERANKER, corpus)
    assert ce.blend.fusion > 0
    assert 0 < ce.blend.neighbours < 1
    assert f"as {RERANKER} in int8" in models.reranker(corpus).detail


def test_it_reads_direction_negation_manner_and_names_at_least_as_well_as_fusion(corpus: Settings) -> None:
    by_fusion = right(corpus.model_copy(update={"reranker": "fusion"}))
    by_reranker = right(corpus)
    assert sum(map(sum, by_reranker.values())) >= sum(map(sum, by_fusion.values()))
    for kind, answers in by_reranker.items():
        assert answers[0], f"the plainest question of {kind}"
