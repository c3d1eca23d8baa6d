"""BM25 against DuckDB's own `match_bm25`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.store.connection import connect
from tasks.store.lexical import bm25, query_terms
from tasks.store.reader import Reader
from tests.store.parts import Corpus

WORDS = [
    "rotate",
    "rotating",
    "certificate",
    "certificates",
    "the",
    "TLS1.3",
    "E1234",
    "café",
    "scaling",
    "0.0.0.0/0",
    "a_b",
]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)
corpora = st.dictionaries(
    st.sampled_from([f"d{i}" for i in range(8)]), st.lists(texts, min_size=1, max_size=4), min_size=1
)


def match_bm25(store: Path, query: str) -> dict[str, float]:
    """Scores by chunk_id that DuckDB's macro gives on the store's only segment."""
    (segment,) = (store / "segments").iterdir()
    with connect(segment) as con:
        rows = con.execute(
            "SELECT chunk_id, fts_main_chunks.match_bm25(chunk_id, ?) AS score FROM chunks WHERE score IS NOT NULL",
            [query],
        )
        return dict(rows.fetchall())


def our_scores(store: Path, query: str) -> dict[str, float]:
    with Reader.open(store) as reader:
        scored = bm25(reader, query, 1000)
        rows = reader.lookup([ref for ref, _ in scored])
        return {rows[ref]["chunk_id"]: score for ref, score in scored}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpus=corpora, query=texts)
def test_one_segment_scores_equal_duckdbs_match_bm25(
    tmp_path_factory: pytest.TempPathFactory, corpus: dict[str, list[str]], query: str
) -> None:
    store = tmp_path_factory.mktemp("store")
    Corpus(store).publish(corpus)
    assert our_scores(store, query) == pytest.approx(match_bm25(store, query), abs=1e-6)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=corpora, second=corpora, delete=st.sets(st.sampled_from([f"d{i}" for i in range(8)]), max_size=3), query=texts
)
def test_segments_with_edits_and_deletes_score_as_one_fresh_segment(
    tmp_path_factory: pytest.TempPathFactory,
    first: dict[str, list[str]],
    second: dict[str, list[str]],
    delete: set[str],
    query: str,
) -> None:
    store = tmp_path_factory.mktemp("store")
    corpus = Corpus(store)
    corpus.publish(first)
    corpus.publish(second)
    corpus.publish({}, delete=sorted(delete))
    live = {name: chunks for name, chunks in {**first, **second}.items() if name not in delete}

    fresh = tmp_path_factory.mktemp("fresh")
    if live:
        Corpus(fresh).publish(live)
        assert our_scores(store, query) == pytest.approx(our_scores(fresh, query), abs=1e-6)
    else:
        assert our_scores(store, query) == {}


def test_identifiers_and_digits_are_searchable(tmp_path: Path) -> None:
    Corpus(tmp_path).publish({"a": ["error E1234 while rotating"], "b": ["error E9999 while rotating"]})
    assert list(our_scores(tmp_path, "E1234")) == ["a/0"]


def test_stopwords_and_punctuation_alone_find_nothing(tmp_path: Path) -> None:
    Corpus(tmp_path).publish({"a": ["the certificate"]})
    assert our_scores(tmp_path, "the … !?") == {}
    assert our_scores(tmp_path, "") == {}


def test_query_terms_are_stemmed_as_the_index_is(tmp_path: Path) -> None:
    Corpus(tmp_path).publish({"a": ["certificate"]})
    with Reader.open(tmp_path) as reader:
        assert query_terms(reader, "Rotating CERTIFICATES, certificate") == ["certif", "rotat"]


def test_scores_among_given_chunks_are_the_same_scores(tmp_path: Path) -> None:
    Corpus(tmp_path).publish({"a": ["rotate certificate"], "b": ["rotate"], "c": ["scaling"]})
    with Reader.open(tmp_path) as reader:
        everything = dict(bm25(reader, "rotate certificate", None))
        last = list(everything)[-1]
        assert dict(bm25(reader, "rotate certificate", None, among=[last])) == {last: pytest.approx(everything[last])}
