"""Spans of neighbouring chunks against the document that they were cut from."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import Chunk, Element
from tasks.chunk import document_text
from tasks.spans import Passage, gap, spans, text_of
from tests.test_chunk import cut, elements


def passages(chunks: Sequence[Chunk], document: str = "d") -> list[Passage]:
    return [
        Passage(document, c.ordinal, c.ordinal + 1, "", "", "", c.headings, c.text, c.page, c.start, c.end)
        for c in chunks
    ]


def blank(text: str) -> str:
    """The text with its white space, character by character, made equal."""
    return re.sub(r"\s", " ", text)


@settings(deadline=None, max_examples=300)
@given(elements, st.randoms(use_true_random=False))
def test_spans_are_slices_of_the_document(elements: list[Element], chance: object) -> None:
    text = document_text(elements)
    all_of_it = passages(cut(elements))
    chosen = [passage for passage in all_of_it if chance.random() < 0.7]  # type: ignore[attr-defined]
    found = spans(reversed(chosen))
    assert [passage for span in found for passage in span] == chosen
    for span in found:
        assert blank(text_of(span)) == blank(text[span[0].start : span[-1].end])


def test_tidy_document_is_one_span_with_its_headings() -> None:
    document = [
        Element("Guide", "Title", depth=0),
        *(
            element
            for n in range(5)
            for element in (
                Element(f"Part number {n}", "Title", depth=1),
                Element(f"Section {n}", "Title", depth=2),
                Element(f"w{n} " * 30 + "x.", "NarrativeText"),
                Element("\n".join([f"line {n}"] * 40), "CodeSnippet"),
            )
        ),
    ]
    chunks = cut(document)
    assert len(chunks) > 10
    (span,) = spans(passages(chunks))
    assert text_of(span) == document_text(document)[chunks[0].start :]


def chunk(ordinal: int, start: int, text: str, headings: str = "", document: str = "d") -> Passage:
    return Passage(document, ordinal, 1, "", "", "", headings, text, None, start, start + len(text))


@pytest.mark.parametrize(
    ("second", "between"),
    [
        pytest.param(chunk(1, 4, "more"), "", id="within-a-word"),
        pytest.param(chunk(1, 5, "more"), " ", id="after-a-sentence"),
        pytest.param(chunk(1, 5, "more\nlines"), "\n", id="after-a-line"),
        pytest.param(chunk(1, 6, "more"), "\n\n", id="next-block"),
        pytest.param(chunk(1, 9, "more", "A > B"), "\n\nB\n\n", id="heading"),
        pytest.param(chunk(1, 12, "more", "A > B"), "\n\nA\n\nB\n\n", id="two-headings"),
        pytest.param(chunk(1, 10, "more", "A > B"), None, id="heading-with-odd-white-space"),
        pytest.param(chunk(1, 9, "X\n\nB\n\nmore", "A > B"), None, id="which-heading-cannot-be-told"),
        pytest.param(chunk(2, 6, "more"), None, id="no-neighbour"),
        pytest.param(chunk(1, 6, "more", document="e"), None, id="another-document"),
    ],
)
def test_gap_is_told_from_offsets_and_path(second: Passage, between: str | None) -> None:
    assert gap(chunk(0, 0, "text"), second) == between
