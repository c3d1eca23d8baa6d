"""Lists to train on: what is relevant, what is not, and what nobody can say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.local import local_refresh
from schemas.records import LISTS
from schemas.settings import Settings
from tasks.evaluate.judged import Judged
from tasks.search import search
from tasks.training.lists import POSITIVES, mine
from tests.conftest import CORPUS

MakeSettings = Callable[..., Settings]
QUESTION = "which vector store does not need a separate server?"
RELEVANT, REFUSED = "embedded-vector-store", "vector-database-server"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("lists") / "store"
    local_refresh([str(CORPUS)], Settings(store=folder, cache=model_cache), lambda *_: None)
    return folder


def mined(gains: dict[str, int], settings: Settings, negatives: int, most: int = 1) -> list[dict[str, Any]]:
    table = mine(Judged({"1": QUESTION}, {"1": gains}), settings, negatives=negatives, most=most)
    assert table.schema == LISTS
    return list(table.to_pylist())


def test_a_list_holds_the_relevant_the_refused_and_hard_negatives(make_settings: MakeSettings, store: Path) -> None:
    settings = make_settings(store=store)
    (row,) = mined({RELEVANT: 2, REFUSED: 0}, settings, negatives=5)
    hits = search(QUESTION, settings.model_copy(update={"reranker": "fusion"}), k=50).hits
    first = {Path(hit.path).stem: hit for hit in reversed(hits)}  # the best chunk of each document
    assert row["gains"] == [2.0] + [0.0] * 5
    assert first[RELEVANT].text in row["passages"][0]
    assert first[REFUSED].text in row["passages"][1]
    # every score is the one that search gives; nothing of what was judged is among the unjudged
    scores = {hit.text: hit.score for hit in hits}
    for passage, score in zip(row["passages"], row["fusion"], strict=True):
        assert score in [pytest.approx(found, abs=1e-6) for text, found in scores.items() if text in passage]
    judged = {hit.text for hit in hits if Path(hit.path).stem in {RELEVANT, REFUSED}}
    assert not any(text in passage for passage in row["passages"][2:] for text in judged)


def test_the_same_judgements_give_the_same_lists(make_settings: MakeSettings, store: Path) -> None:
    settings = make_settings(store=store)
    assert mined({RELEVANT: 1}, settings, 3) == mined({RELEVANT: 1}, settings, 3)


def test_few_of_many_relevant_are_learned_from(make_settings: MakeSettings, store: Path) -> None:
    everything = {path.name: 1 for path in CORPUS.iterdir()}
    assert [row["gains"] for row in mined(everything, make_settings(store=store), 4)] == [[1.0] * POSITIVES]


@pytest.mark.parametrize("gains", [{"nowhere.md": 1}, {RELEVANT: 0}], ids=["not in the store", "refused"])
def test_a_query_without_something_relevant_gives_no_list(
    make_settings: MakeSettings, store: Path, gains: dict[str, int]
) -> None:
    assert mined(gains, make_settings(store=store), 4) == []


def test_several_lists_of_one_query_take_its_relevant_in_turn(make_settings: MakeSettings, store: Path) -> None:
    settings = make_settings(store=store)
    everything = {path.name: 1 for path in CORPUS.iterdir()}
    rows = mined(everything, settings, 4, most=3)
    assert [row["gains"] for row in rows] == [[1.0] * POSITIVES] * 3
    passages = [passage for row in rows for passage in row["passages"]]
    scores = [score for row in rows for score in row["fusion"]]
    assert len(set(passages)) == len(passages)
    assert scores == sorted(scores, reverse=True)  # fusion's first are in the first list
    two = mined({RELEVANT: 1, REFUSED: 1, next(iter(everything)): 1}, settings, 4, most=9)
    assert [sum(row["gains"]) for row in two] == [2, 1]  # and there are no more lists than relevant ones
    assert all(row["gains"].count(0) == 4 for row in two)
