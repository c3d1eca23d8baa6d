"""Find the words of a question in texts, as BM25 takes them for the same: `certificates` for `certificate`.

In: a question and texts. Out: where to mark each text. Words are cut here as tasks.store.terms has DuckDB cut them, and
stemmed by DuckDB itself, those of all texts in one statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tasks.store.reader import Reader
from tasks.store.terms import WORD, query_terms, stems, stopwords

Span = tuple[int, int]  # characters from the start of the text, [start, end)

_PART = re.compile(r"[^\W_]+")
_LETTERS = re.compile(r"[^\W\d_]+")


def highlights(reader: Reader, query: str, texts: Sequence[str]) -> list[list[Span]]:
    """For each of `texts` the places of words that `query` has, in reading order; none overlaps another."""
    analyzer, cursor = reader.generation.analyzer, reader.cursor()
    wanted = set(query_terms(cursor, query, analyzer))
    cuts = [list(_cuts(text, analyzer.tokenizer)) for text in texts] if wanted else []
    words = (text[slice(*span)] for text, cut in zip(texts, cuts, strict=False) for spans in cut for span in spans)
    left_out = set(stopwords(analyzer.stopwords))
    marked = {
        word for word, stem in stems(cursor, words, analyzer).items() if stem in wanted and word.lower() not in left_out
    }
    found: list[list[Span]] = [[] for _ in texts]
    for text, cut, spans in zip(texts, cuts, found, strict=False):
        for whole, *parts in cut:
            chosen = [whole] if text[slice(*whole)] in marked else parts
            spans += [span for span in chosen if text[slice(*span)] in marked]
    return found


def _cuts(text: str, tokenizer: str) -> Iterator[list[Span]]:
    """The words of `text`, each with its parts where it is a compound that the index has whole besides."""
    if tokenizer != "codes":
        yield from ([match.span()] for match in (_LETTERS if tokenizer == "duckdb" else _PART).finditer(text))
        return
    for match in WORD.finditer(text):
        parts = [part.span() for part in _PART.finditer(text, *match.span())]
        yield [match.span(), *parts] if len(parts) > 1 else [match.span()]
