"""Chunk boundaries: whole coverage, token limits, headings, and that they stay put when a document is edited."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import Chunk, Element
from tasks.chunk import chunk_elements, chunk_hash, document_text, embedded_text


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def cut(elements: Sequence[Element], max_tokens: int = 40, min_tokens: int = 8) -> list[Chunk]:
    return chunk_elements(elements, count_words, max_tokens=max_tokens, min_tokens=min_tokens)


words = st.text(alphabet="abcdefg", min_size=1, max_size=6)
paragraphs = st.lists(words, min_size=1, max_size=90).map(" ".join)
elements = st.lists(
    st.one_of(
        st.builds(Element, text=paragraphs, category=st.just("NarrativeText"), page=st.integers(1, 9)),
        st.builds(Element, text=words, category=st.just("Title"), depth=st.integers(0, 3), page=st.integers(1, 9)),
        st.builds(
            Element,
            text=st.lists(paragraphs, min_size=1, max_size=5).map("\n".join),
            category=st.sampled_from(["Table", "CodeSnippet"]),
        ),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(elements)
def test_chunks_are_slices_in_order_within_the_limit_and_lose_nothing_but_headings(elements: list[Element]) -> None:
    text = document_text(elements)
    chunks = cut(elements)
    position = 0
    for i, chunk in enumerate(chunks):
        assert chunk.ordinal == i
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.start >= position
        assert count_words([chunk.text])[0] <= 40
        position = chunk.end
    kept = " ".join(chunk.text + " " + chunk.headings for chunk in chunks).split()
    assert set(text.split()) <= set(kept)
    body = [word for element in elements if element.depth is None for word in element.text.split()]
    assert len(body) <= sum(len(chunk.text.split()) for chunk in chunks)


def random_document(rng: random.Random, elements: int) -> tuple[list[Element], Callable[[], Element]]:
    """Headings among paragraphs, and what makes another paragraph."""
    vocabulary = [f"w{i}" for i in range(3000)]

    def paragraph() -> Element:
        return Element(" ".join(rng.choices(vocabulary, k=rng.randint(4, 35))), "NarrativeText")

    def heading() -> Element:
        return Element(" ".join(rng.choices(vocabulary, k=3)), "Title", depth=rng.randint(1, 3))

    return [heading() if rng.random() < 0.15 else paragraph() for _ in range(elements)], paragraph


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("edit", ["insert", "delete", "replace"])
def test_an_edited_paragraph_changes_few_chunks(seed: int, edit: str) -> None:
    document, paragraph = random_document(random.Random(seed), 480)
    before = {(c.headings, c.text) for c in cut(document)}
    assert len(before) > 200
    changed = []
    for at in random.Random(seed).sample([i for i, e in enumerate(document) if e.depth is None], 100):
        new = [] if edit == "delete" else [paragraph()]
        edited = [*document[:at], *new, *document[at + (edit != "insert") :]]
        changed.append(len({(c.headings, c.text) for c in cut(edited)} - before))
    assert mean(changed) <= 1.7
    assert sum(count > 3 for count in changed) <= 1  # some 3 in 1,000 change 4
    assert max(changed) <= 4


def test_heading_path_follows_depth_and_is_not_repeated_in_the_text() -> None:
    chunks = cut(
        [
            Element("Guide", "Title", depth=0),
            Element("Rotate", "Title", depth=1),
            Element("one " * 30, "NarrativeText"),
            Element("Scale", "Title", depth=1),
            Element("two " * 30, "NarrativeText"),
        ]
    )
    assert [chunk.headings for chunk in chunks] == ["Guide > Rotate", "Guide > Scale"]
    assert chunks[1].text.startswith("two")


def test_table_and_code_stay_whole_where_they_fit_and_break_at_lines_where_not() -> None:
    table = "\n".join(f"row {i} | value" for i in range(8))
    (first, second) = cut([Element("text " * 20, "NarrativeText"), Element(table, "Table")])
    assert second.text == table
    long = "\n".join(f"row {i} | value" for i in range(30))
    parts = cut([Element(long, "Table")])
    assert [line for part in parts for line in part.text.split("\n")] == long.split("\n")
    assert first.text.startswith("text")


def test_endless_word_is_bounded() -> None:
    chunks = cut([Element("x" * 100_000, "NarrativeText")])
    assert max(len(chunk.text) for chunk in chunks) <= 40 * 16
    assert "".join(chunk.text for chunk in chunks) == "x" * 100_000


def test_page_is_that_of_the_first_character() -> None:
    chunks = cut([Element("a " * 30, "NarrativeText", page=1), Element("b " * 30, "NarrativeText", page=2)])
    assert [chunk.page for chunk in chunks] == [1, 2]


def test_document_of_headings_alone_is_not_lost() -> None:
    (chunk,) = cut([Element("Agenda", "Title", depth=0), Element("Questions", "Title", depth=0)])
    assert chunk.text == "Agenda\n\nQuestions"


def test_no_elements_make_no_chunks() -> None:
    assert cut([]) == []


def test_embedded_text_names_the_place_once() -> None:
    assert embedded_text("Guide", "Guide > Rotate", "text") == "Guide > Rotate\ntext"
    assert embedded_text("Guide", "Rotate", "text") == "Guide > Rotate\ntext"
    assert embedded_text("", "", "text") == "text"
    assert chunk_hash("a") != chunk_hash("b")
