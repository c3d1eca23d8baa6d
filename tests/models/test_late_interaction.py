"""Passages that are kept: the same scores as if nobody had read them, sooner."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from schemas.reranking import RERANKER
from schemas.settings import Settings
from tasks.models.late_interaction import LateInteraction, directions, nearest
from tasks.models.speed import Speed
from tasks.rerank import score_until
from tests.models.test_encoders import TEXTS
from tests.models.tiny import make_tiny_maxsim

MakeSettings = Callable[..., Settings]
QUERY = "how do I rotate a certificate?"


@pytest.fixture
def load(make_settings: MakeSettings, tmp_path: Path) -> Callable[..., LateInteraction]:
    """The bundled reranker with a cache of its own."""
    return lambda **given: LateInteraction(RERANKER, make_settings(**{"cache": tmp_path / "cache", **given}))


def files(cache: Path) -> list[Path]:
    return sorted((cache / "passages").iterdir())


def test_scores_depend_on_nothing_that_is_kept_or_beside_them(
    load: Callable[..., LateInteraction], tmp_path: Path
) -> None:
    alone = [load(rerank_cache_mb=0).score(QUERY, [text])[0] for text in TEXTS]
    assert not (tmp_path / "cache" / "passages").exists()
    first = load().score(QUERY, TEXTS)
    assert len(files(tmp_path / "cache")) == len(set(TEXTS))
    again = load().score(QUERY, TEXTS[::-1])[::-1]
    assert np.ptp(first) > 1
    assert first.tolist() == alone == again.tolist()


def test_what_was_read_is_not_read_again(load: Callable[..., LateInteraction], monkeypatch: pytest.MonkeyPatch) -> None:
    model = load()
    read: list[str] = []
    words = model._words
    monkeypatch.setattr(model, "_words", lambda texts: read.extend(texts) or words(texts))
    model.score(QUERY, ["one text", "another", "one text"])
    model.score("what else?", ["another", "a third"])
    model.score("what else?", ["a third"])
    assert read == [QUERY, "one text", "another", "what else?", "a third"]
    assert [model.known(text) for text in ("another", "a third", "a fourth")] == [True, True, False]


@pytest.mark.parametrize("damage", [b"", b"\0", b"\x7f" * 260, bytes(256 * 7 + 4)], ids=len)
def test_damaged_passage_is_read_again(load: Callable[..., LateInteraction], tmp_path: Path, damage: bytes) -> None:
    scores = load().score(QUERY, ["Rotate certificates yearly."])
    (file,) = files(tmp_path / "cache")
    whole = file.read_bytes()
    file.write_bytes(damage)
    assert load().score(QUERY, ["Rotate certificates yearly."]) == scores
    assert file.read_bytes() == whole


def test_models_and_cuts_keep_their_own(
    load: Callable[..., LateInteraction], make_settings: MakeSettings, tmp_path: Path
) -> None:
    text = "rotate it " * 60
    tiny = LateInteraction(str(make_tiny_maxsim(tmp_path / "tiny")), make_settings(cache=tmp_path / "cache"))
    for number, model in enumerate((load(), load(rerank_tokens=64), tiny), start=1):
        model.score(QUERY, [text])
        assert len(files(tmp_path / "cache")) == number


def test_another_tokenizer_reads_anew(make_settings: MakeSettings, tmp_path: Path) -> None:
    text, settings = "Rotate Certificates", make_settings(cache=tmp_path / "cache")
    folder = make_tiny_maxsim(tmp_path / "tiny")
    LateInteraction(str(folder), settings).read([text])
    said = json.loads((folder / "tokenizer.json").read_text())
    said["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(said))
    assert not LateInteraction(str(folder), settings).known(text)


def test_two_threads_and_a_cache_that_may_only_be_read_give_the_same(
    load: Callable[..., LateInteraction], tmp_path: Path
) -> None:
    model = load()
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda texts: model.score(QUERY, texts), (TEXTS, TEXTS[::-1]))
    assert one.tolist() == other[::-1].tolist()
    (tmp_path / "file").touch()
    assert load(cache=tmp_path / "file").score(QUERY, TEXTS).tolist() == one.tolist()


def test_a_deadline_counts_what_has_to_be_read(load: Callable[..., LateInteraction], tmp_path: Path) -> None:
    model = load()
    speed = Speed(model, tmp_path)
    texts = [f"{number} {'certificate ' * 60}" for number in range(8)]
    before = speed.works(QUERY, texts).sum()
    model.read(texts[:4])
    assert 0.5 < speed.works(QUERY, texts).sum() / before < 0.55
    model.read(texts)
    assert 0 < speed.works(QUERY, texts).sum() < 0.05 * before


def test_long_questions_over_kept_passages_do_not_change_the_speed_of_reading(
    load: Callable[..., LateInteraction], tmp_path: Path
) -> None:
    model, texts = load(), [f"{number} {'certificate ' * 60}" for number in range(20)]
    model.read(texts)
    speed = Speed(model, tmp_path)
    before = speed.rate
    for number in range(5):
        query = f"{number} {'how is a certificate rotated? ' * 60}"
        scores = score_until(perf_counter() + 9, model, speed, query, texts, least=1, at_once=2)
        assert len(scores) == len(texts)
    assert speed.rate == before
    unread = [f"{text}!" for text in texts]
    score_until(perf_counter() + 9, model, speed, QUERY, unread, least=1, at_once=2)
    assert speed.rate != before


@given(arrays(np.float32, (5, 16), elements=st.floats(-1, 1, width=32)), st.integers(0, 4))
def test_nearest_is_the_greatest_cosine(drawn: np.ndarray, words: int) -> None:
    vectors = drawn + np.eye(5, 16, dtype=np.float32) * 4  # none is nothing
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = nearest(units, directions(vectors[:words]))
    expected = (units @ units[:words].T).max(axis=1, initial=-1)
    assert found == pytest.approx(expected, abs=0.02)
    if not words:
        assert found.tolist() == [-1] * 5


def test_time_of_use_is_kept_so_that_the_least_used_are_forgotten(
    load: Callable[..., LateInteraction], tmp_path: Path
) -> None:
    model = load()
    model.score(QUERY, ["a text"])
    (file,) = files(tmp_path / "cache")
    os.utime(file, (1, 1))
    model.score("what else?", ["a text"])
    assert file.stat().st_mtime > 1
