"""BM25 against DuckDB's own `match_bm25`, before and after compaction."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tasks.store.connection import connect
from tasks.store.generation import Analyzer
from tasks.store.lexical import FieldWeights, bm25, bm25_of_terms
from tasks.store.reader import Reader
from tasks.store.terms import IGNORE, identifier_terms, query_terms
from tests.store.parts import IDENTITY, Corpus, scores, state

WORDS = ["rotate", "rotating", "certificates", "the", "TLS1.3", "E1234", "café", "scaling", "0.0.0.0/0", "a_b", "…"]
NAMES = [f"d{i}" for i in range(8)]
# an example takes half a second: shrinking a failure would take an hour
PROPERTY = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)
fields = st.tuples(texts, texts, texts)
corpora = st.dictionaries(st.sampled_from(NAMES), st.lists(fields, min_size=1, max_size=4), min_size=1)
analyzers = st.builds(
    Analyzer,
    st.sampled_from(["codes", "words", "duckdb"]),
    st.sampled_from(["porter", "german", "none"]),
    st.sampled_from(["english", "none"]),
)


def match_bm25(file: Path, query: str) -> dict[str, float]:
    """Scores by chunk_id that DuckDB's macro gives on a plain DuckDB file."""
    with connect(file) as con:
        rows = con.execute(
            "SELECT chunk_id, fts_main_chunks.match_bm25(chunk_id, ?) AS score FROM chunks WHERE score IS NOT NULL",
            [query],
        )
        return dict(rows.fetchall())


def own_scores(store: Path, query: str) -> dict[str, float]:
    with Reader.open(store) as reader:
        return scores(reader, query)


def fresh_fts_index(corpus: dict[str, list[tuple[str, str, str]]], query: str, analyzer: Analyzer) -> dict[str, float]:
    """`match_bm25` over an index that `create_fts_index` itself made of the texts."""
    with connect() as con:
        con.execute("CREATE TABLE chunks (chunk_id VARCHAR, title VARCHAR, headings VARCHAR, text VARCHAR)")
        for name, chunks in corpus.items():
            for i, parts in enumerate(chunks):
                con.execute("INSERT INTO chunks VALUES (?, ?, ?, ?)", [f"{name}/{i}", *parts])
        con.execute(f"""
            PRAGMA create_fts_index('chunks', 'chunk_id', 'title', 'headings', 'text', stemmer = '{analyzer.stemmer}',
                stopwords = '{analyzer.stopwords}', ignore = '{IGNORE[analyzer.tokenizer]}')
        """)
        rows = con.execute(
            "SELECT chunk_id, fts_main_chunks.match_bm25(chunk_id, ?) AS score FROM chunks WHERE score IS NOT NULL",
            [query],
        )
        return dict(rows.fetchall())


@settings(PROPERTY, max_examples=25)
@given(
    first=corpora,
    second=corpora,
    delete=st.sets(st.sampled_from(NAMES), max_size=3),
    query=texts,
    analyzer=analyzers,
)
def test_scores_equal_match_bm25_after_full_compaction_and_do_not_change_by_it(
    tmp_path_factory: pytest.TempPathFactory,
    first: dict[str, list[tuple[str, str, str]]],
    second: dict[str, list[tuple[str, str, str]]],
    delete: set[str],
    query: str,
    analyzer: Analyzer,
) -> None:
    store = tmp_path_factory.mktemp("store")
    corpus = Corpus(store, analyzer=analyzer)
    corpus.publish(first)
    corpus.publish(second)
    corpus.publish({}, delete=sorted(delete))
    before = own_scores(store, query)
    (segment,) = corpus.compact(full=True).segments
    assert own_scores(store, query) == pytest.approx(before, abs=1e-6)
    assert match_bm25(segment.path(store), query) == pytest.approx(before, abs=1e-6)
    if analyzer.tokenizer != "codes":  # compounds are ours
        live = {name: chunks for name, chunks in {**first, **second}.items() if name not in delete}
        assert fresh_fts_index(live, query, analyzer) == pytest.approx(before, abs=1e-6)


@settings(PROPERTY, max_examples=15)
@given(corpus=corpora, query=texts, weights=st.builds(FieldWeights, *[st.sampled_from([0.5, 1.0, 3.0])] * 3))
def test_weighted_fields_score_as_a_plain_implementation(
    tmp_path_factory: pytest.TempPathFactory,
    corpus: dict[str, list[tuple[str, str, str]]],
    query: str,
    weights: FieldWeights,
) -> None:
    """Robertson, Zaragoza & Taylor 2004, term by term in Python."""
    store = tmp_path_factory.mktemp("store")
    Corpus(store).publish(corpus)
    with connect() as con, Reader.open(store) as reader:

        def occurrences(text: str, term: str | None) -> int:
            """How often a term, or any, stands in a text; by DuckDB's macro, one word at a time."""
            words = [w for w in _analyzed(con, text) if term is None or w == term]
            return len(words)

        mean = sum(weights) / 3
        w = [weight / mean for weight in weights]
        chunks = {f"{name}/{i}": parts for name, rows in corpus.items() for i, parts in enumerate(rows)}
        lengths = {key: sum(w[f] * occurrences(parts[f], None) for f in range(3)) for key, parts in chunks.items()}
        average = sum(lengths.values()) / len(lengths)
        expected: dict[str, float] = {}
        for term in query_terms(con, query, IDENTITY.analyzer):
            tfs = {key: sum(w[f] * occurrences(p[f], term) for f in range(3)) for key, p in chunks.items()}
            df = sum(tf > 0 for tf in tfs.values())
            idf = math.log10((len(chunks) - df + 0.5) / (df + 0.5) + 1)
            for key, tf in tfs.items():
                if tf:
                    score = idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * lengths[key] / average))
                    expected[key] = expected.get(key, 0.0) + score
        assert scores(reader, query, weights=weights) == pytest.approx(expected, abs=1e-6)


def _analyzed(con: object, text: str) -> list[str]:
    from tasks.store.terms import stopwords, tokens_sql

    analyzer = IDENTITY.analyzer
    rows = con.execute(  # type: ignore[attr-defined]
        f"SELECT stem(w, '{analyzer.stemmer}') FROM (SELECT unnest({tokens_sql(analyzer.tokenizer, '$t')}) AS w) "
        "WHERE w <> '' AND NOT list_contains($stop, w)",
        {"t": text, "stop": stopwords(analyzer.stopwords)},
    )
    return [word for (word,) in rows.fetchall()]


@pytest.mark.parametrize(
    ("tokenizer", "query", "found"),
    [
        pytest.param("codes", "TLS1.3", ["b/0"], id="version"),
        pytest.param("codes", "0.0.0.0/0", ["c/0"], id="cidr"),
        pytest.param("codes", "CREATE_FAILED", ["d/0"], id="state"),
        pytest.param("codes", "x-amz-server-side-encryption", ["e/0"], id="header"),
        pytest.param("words", "E1234", ["f/0"], id="error-code"),
    ],
)
def test_exact_identifier_comes_first(tmp_path: Path, tokenizer: str, query: str, found: list[str]) -> None:
    corpus = Corpus(tmp_path, analyzer=Analyzer(tokenizer, "porter", "english"))
    corpus.publish(
        {
            "a": ["3 tls1 create failed 0 0 0 x amz server side encryption e 1234"],
            "b": ["clients must speak TLS1.3, nothing older"],
            "c": ["open to 0.0.0.0/0 by default"],
            "d": ["the stack is in CREATE_FAILED"],
            "e": ["send x-amz-server-side-encryption: AES256"],
            "f": ["it failed (E1234)."],
        }
    )
    assert list(own_scores(tmp_path, query))[:1] == found


@pytest.mark.parametrize(
    ("query", "identifiers"),
    [
        ("why is rds.force_ssl off? (TLS1.3)", ["rds.force_ssl", "tls1.3"]),
        ("is arn:aws:iam::aws:policy/Admin or std::vector meant", ["arn:aws:iam::aws:policy/admin", "std::vector"]),
        ("PutMetricAlarm on CloudWatch or SCRAM-SHA-256", ["putmetricalarm", "scram-sha-256"]),
        ("x-amz-server-side-encryption, a well-known header", ["x-amz-server-side-encrypt"]),
        ("open to 0.0.0.0/0.", ["0.0.0.0/0"]),
        ("How do I rotate 2 IAM keys of IL6 or p53-like genes - state by state?", []),
    ],
)
def test_identifiers_are_told_from_words(query: str, identifiers: list[str]) -> None:
    with connect() as con:
        assert identifier_terms(con, query, IDENTITY.analyzer) == identifiers


def test_identifier_counts_as_often_as_it_weighs(tmp_path: Path) -> None:
    Corpus(tmp_path).publish({"a": ["db t3 micro db t3 micro"], "b": ["db.t3.micro" + " costs" * 60]})
    with Reader.open(tmp_path) as reader:
        assert next(iter(scores(reader, "db.t3.micro"))) == "a/0"
        (once, fivefold) = (scores(reader, "db.t3.micro", identifier_weight=w) for w in (1.0, 5.0))
        assert next(iter(fivefold)) == "b/0"
        refs = [ref for ref, _ in bm25(reader, "db.t3.micro", 10)]
        parts = bm25_of_terms(reader, "db.t3.micro", refs, identifier_weight=5.0)
        assert sorted(sum(part.values()) for part in parts.values()) == pytest.approx(sorted(fivefold.values()))
        assert fivefold["b/0"] - once["b/0"] == pytest.approx(
            0.8 * next(part["db.t3.micro"] for part in parts.values() if "db.t3.micro" in part)
        )
        assert fivefold["a/0"] == once["a/0"]


def test_parts_of_an_identifier_are_found_too(tmp_path: Path) -> None:
    Corpus(tmp_path).publish({"a": ["the stack is in CREATE_FAILED"], "b": ["something else"]})
    assert list(own_scores(tmp_path, "failed to create")) == ["a/0"]


def test_stopwords_and_punctuation_alone_find_nothing(tmp_path: Path) -> None:
    Corpus(tmp_path).publish({"a": ["the certificate"]})
    assert own_scores(tmp_path, "the … !?") == {}
    assert own_scores(tmp_path, "") == {}


def test_store_of_stopwords_only_finds_nothing(tmp_path: Path) -> None:
    Corpus(tmp_path).publish({"a": ["the"]})
    assert own_scores(tmp_path, "certificate") == {}


def test_equal_scores_are_ordered_by_chunk_wherever_they_lie(tmp_path: Path) -> None:
    for order in (NAMES, NAMES[::-1]):
        store = tmp_path / order[0]
        for name in order:
            Corpus(store).publish({name: ["same words"]})
        with Reader.open(store) as reader:
            assert list(scores(reader, "words", limit=3)) == ["d0/0", "d1/0", "d2/0"]


def test_query_terms_are_stemmed_as_the_index_is(tmp_path: Path) -> None:
    with connect() as con:
        terms = query_terms(con, "Rotating CERTIFICATES, certificate TLS1.3", IDENTITY.analyzer)
    assert terms == ["3", "certif", "rotat", "tls1", "tls1.3"]


def test_statistics_are_those_of_the_live_corpus_at_once(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "edited")
    corpus.publish({"a": ["alpha beta"], "b": ["beta"], "c": ["beta gamma"]})
    corpus.publish({"a": ["alpha alpha"]}, delete=["b"])
    Corpus(tmp_path / "fresh").publish(state(tmp_path / "edited"))
    assert own_scores(tmp_path / "edited", "beta") == pytest.approx(own_scores(tmp_path / "fresh", "beta"), abs=1e-12)
