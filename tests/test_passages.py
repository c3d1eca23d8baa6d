"""What a reranker reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydantic
import pytest

from flows.local import local_refresh
from schemas.settings import Settings
from tasks.models import load_tokenizer
from tasks.passages import Field, fields, passage, passages
from tasks.store.reader import ChunkRef, newest

TITLE, HEADINGS, TEXT, AUTHOR = (Field(name, None) for name in ("title", "headings", "text", "metadata.author"))


@pytest.mark.parametrize(
    ("parts", "read"),
    [
        pytest.param(
            [(TITLE, "Guide"), (HEADINGS, "Rotate"), (TEXT, "text")], "Guide > Rotate\ntext", id="place, text"
        ),
        pytest.param([(TITLE, "Guide"), (HEADINGS, ""), (TEXT, "Guide to text")], "Guide to text", id="title in text"),
        pytest.param([(TITLE, "A"), (HEADINGS, "A > B"), (TEXT, "text")], "A > B\ntext", id="title in headings"),
        pytest.param([(TITLE, "A"), (HEADINGS, "A"), (TEXT, "text")], "A\ntext", id="title is headings"),
        pytest.param([(TEXT, "text"), (HEADINGS, "B"), (TITLE, "A")], "text\nB > A", id="order"),
        pytest.param([(AUTHOR, "author: ops"), (TEXT, "x")], "author: ops\nx", id="metadata"),
        pytest.param([(TITLE, ""), (TEXT, "")], "", id="nothing"),
    ],
)
def test_passage_says_each_part_once_in_order(parts: list[tuple[Field, str]], read: str) -> None:
    assert passage(parts) == read


def test_template_is_read_and_a_wrong_one_refused(make_settings: Callable[..., Settings]) -> None:
    template = make_settings(rerank_fields=" title:32,metadata.* ,text:200").rerank_fields
    assert fields(template) == [Field("title", 32), Field("metadata.*", None), Field("text", 200)]
    for wrong in ("", "body", "title:0", "title;text", "metadata.", "text:"):
        with pytest.raises(pydantic.ValidationError):
            make_settings(rerank_fields=wrong)


def test_fields_of_a_store_are_cut_to_their_budgets(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    subject = "incomprehensibilities " * 12
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "mail.eml").write_text(
        f"From: Ada <ada@example.com>\nTo: ops@example.com\nSubject: {subject}\n\n"
        "A headrace carries water to the mill wheel, and the tailrace carries it away.\n"
    )
    settings = make_settings(rerank_fields="title:9, metadata.sent_from, metadata.*:5, text:6")
    local_refresh([str(tmp_path / "docs")], settings, lambda *_: None)
    (read,) = passages(newest(settings.store), [ChunkRef(0, 0)], settings)
    tokenizer = load_tokenizer(settings)
    title, sender, *all_metadata, text = read.splitlines()
    assert sender == "sent_from: Ada <ada@example.com>"
    for cut, whole, tokens in ((title, subject, 9), (text, "A headrace carries water to the mill wheel", 6)):
        assert whole.startswith(cut)
        assert len(tokenizer.encode(cut, add_special_tokens=False)) == tokens
    assert sum(len(tokenizer.encode(line, add_special_tokens=False)) for line in all_metadata) == 5
