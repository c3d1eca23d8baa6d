"""Queries and judgements in the forms in which people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import BadJudgements
from tasks.evaluate.judged import read_judged, read_qrels, read_queries

QUERIES = {"1": "how to rotate", "2": "why stop"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.jsonl", '{"_id": "1", "text": "how to rotate"}\n\n{"_id": 2, "text": "why stop"}\n'),
        ("q.tsv", "1\thow to rotate\n2\twhy stop\n"),
        (
            "q.trec",
            "<top>\n<num>1</num><title>\nhow to\nrotate\n</title>\n</top>\n"
            "<top><num>2</num><title>why stop</title></top>",
        ),
        (
            "q.txt",
            "<top>\n<num> Number: 1\n<title> how to rotate\n</top>\n"
            "<top>\n<num> Number: 2\n<title> Topic: why stop\n<desc> x\n</top>",
        ),
    ],
)
def test_queries_in_every_form(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_queries(tmp_path / name) == QUERIES


@pytest.mark.parametrize(
    "text",
    [
        "1 0 a.md 2\n1 0 b.md 0\n2 0 a.md -1\n",
        "query-id\tcorpus-id\tscore\n1\ta.md\t2\n1\tb.md\t0\n2\ta.md\t-1\n",
        "1\t0\ta.md\t2\n\n1\t0\tb.md\t0\n2\t0\ta.md\t-1\n",
    ],
)
def test_judgements_in_every_form(tmp_path: Path, text: str) -> None:
    (tmp_path / "qrels").write_text(text)
    assert read_qrels(tmp_path / "qrels") == {"1": {"a.md": 2, "b.md": 0}, "2": {"a.md": -1}}
    (tmp_path / "q.tsv").write_text("1\thow to rotate\n2\twhy stop\n3\tnot judged\n")
    judged = read_judged(tmp_path / "q.tsv", tmp_path / "qrels")
    assert judged.queries == {"1": "how to rotate"}  # 2 has nothing relevant


@pytest.mark.parametrize(
    ("queries", "qrels", "message"),
    [
        ("1 how", "1 0 a 1", r"q\.tsv:1: expected a query's id, a tab"),
        ("1\thow", "1 0 a", r"qrels:1: expected"),
        ("1\thow", "1 0 a b c 1", r"qrels:1: 6 fields"),
        ("1\thow", "1 0 a 1\n9 0 a 1", "lacks 1 queries .* such as 9"),
        ("1\thow", "1 0 a 0", "nothing as relevant"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, queries: str, qrels: str, message: str) -> None:
    (tmp_path / "q.tsv").write_text(queries)
    (tmp_path / "qrels").write_text(qrels)
    with pytest.raises(BadJudgements, match=message):
        read_judged(tmp_path / "q.tsv", tmp_path / "qrels")
    with pytest.raises(BadJudgements, match="cannot be read"):
        read_queries(tmp_path / "missing.tsv")
