"""Marked words are those that BM25 matched."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tasks.highlight import highlights
from tasks.store.generation import Analyzer
from tasks.store.lexical import bm25_of_terms
from tasks.store.reader import ChunkRef, newest
from tasks.store.terms import stems
from tests.store.parts import Corpus

TEXTS = [
    "Rotating the certificates: a certificate's rotation, by rds.force_ssl=1 or forced.",
    "TLS1.3, tls 1.3 and x-amz-acl; Müller's café <script>alert(1)</script>",
    "数据库 und Straße 🙂 E1234 end",
    "",
]
QUERIES = [
    "rotate a certificate",
    "rds.force_ssl",
    "tls1.3",
    "MULLER cafe",
    "数据库 E1234",
    "script",
    "the a of",
    "",
    "…",
]


@pytest.mark.parametrize("tokenizer", ["codes", "words", "duckdb"])
def test_marked_words_are_the_terms_that_bm25_matched(tmp_path: Path, tokenizer: str) -> None:
    analyzer = Analyzer(tokenizer, "porter", "english")
    Corpus(tmp_path, analyzer=analyzer).publish({"d": TEXTS})
    reader = newest(tmp_path)
    refs = [ChunkRef(0, row) for row in range(len(TEXTS))]
    for query in QUERIES:
        matched = bm25_of_terms(reader, query, refs)
        for ref, text, spans in zip(refs, TEXTS, highlights(reader, query, TEXTS), strict=True):
            assert spans == sorted(spans)
            assert all(a[1] <= b[0] for a, b in pairwise(spans))
            words = [text[start:end] for start, end in spans]
            marked = set(stems(reader.cursor(), words, analyzer).values())
            # a compound that is marked is not marked in parts besides
            whole = {part for term in marked for part in matched.get(ref, {}) if part in term}
            assert marked | whole == set(matched.get(ref, {})), (query, text)


def test_identifier_is_marked_whole_where_it_was_asked_for_and_in_part_where_a_part_was(tmp_path: Path) -> None:
    Corpus(tmp_path).publish({"d": TEXTS})
    reader, text = newest(tmp_path), TEXTS[0]

    def marked(query: str) -> list[str]:
        return [text[start:end] for start, end in highlights(reader, query, [text])[0]]

    assert marked("what is rds.force_ssl?") == ["rds.force_ssl", "forced"]
    assert marked("force") == ["force", "forced"]
    assert marked("Rotate certificates") == ["Rotating", "certificates", "certificate", "rotation"]
