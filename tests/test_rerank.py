"""What a reranker reads."""

from __future__ import annotations

from tasks.rerank import passage


def test_passage_does_not_repeat_a_title_that_the_text_holds() -> None:
    assert passage("Guide", "Rotate", "text") == "Guide > Rotate\ntext"
    assert passage("Guide", "", "Guide to text") == "Guide to text"
