"""Files of questions: what is read of them, what is refused, and that a batch stopped half-way is not begun anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import tasks.query_batch
from flows.cli import app
from schemas.errors import BadQuestions, StoreBusy
from schemas.records import HITS, Filter
from schemas.settings import Settings
from tasks.query_batch import BatchSummary, answer, join, prepared
from tasks.questions import read_questions
from tasks.search import search
from tasks.store.retention import rollback
from tasks.store.writer import committing
from tests.flows.conftest import QUERIES


def written(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def read(path: Path) -> list[tuple[str | None, str]]:
    return [(row["query_id"], row["query"]) for batch in read_questions(path, 2) for row in batch.to_pylist()]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.query_batch, "PART", 2)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return written(tmp_path / "questions.jsonl", *({"id": name, "query": text} for name, text in QUERIES.items()))


def run(questions: Path, hits: Path, settings: Settings, **options: Any) -> BatchSummary:
    with prepared(questions, hits, settings, k=2, **options) as batch:
        for part in batch.todo:
            answer(part, settings, generation=batch.generation, k=2, wanted=options.get("wanted"))
        return join(batch)


def test_jsonl_and_parquet_give_the_same_questions(tmp_path: Path) -> None:
    lines = written(tmp_path / "q.jsonl", {"query": "a", "id": 1}, "", {"text": "bé", "_id": "x"}, {"query": "c"})
    table = pa.table({"text": ["a", "bé", "c"], "_id": ["1", "x", None], "more": [1, 2, 3]})
    pq.write_table(table, tmp_path / "q.parquet")
    assert read(lines) == read(tmp_path / "q.parquet") == [("1", "a"), ("x", "bé"), (None, "c")]
    assert [len(batch) for batch in read_questions(lines, 2)] == [2, 1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", 'expected {"query": …}, a JSON object'),
        ("[1]", 'expected {"query": …}, not [1]'),
        ('{"question": "x"}', "this one has question"),
        ('{"query": " "}', 'this one is " "'),
        ('{"query": 7}', "this one is 7"),
        ('{"query": "x", "id": [1]}', "an id is a text or a number, not [1]"),
        ('{"query": "\\ud800"}', "no valid text"),
    ],
)
def test_bad_line_is_named_with_its_file(tmp_path: Path, line: str, said: str) -> None:
    path = written(tmp_path / "q.jsonl", {"query": "x"}, "", line)
    with pytest.raises(BadQuestions) as error:
        read(path)
    assert str(error.value).startswith(f"{path}:3: ")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"question": ["x"]}, "has no column query (or text); it has question"),
        ({"query": ["x", None]}, "row 2: a question is a text"),
        (None, "cannot be read"),
    ],
)
def test_bad_parquet_is_told(tmp_path: Path, table: dict[str, list[str]] | None, said: str) -> None:
    path = tmp_path / "q.parquet"
    path.write_bytes(b"PAR1 not") if table is None else pq.write_table(pa.table(table), path)
    with pytest.raises(BadQuestions, match=said.replace("(", r"\(").replace(")", r"\)")):
        read(path)


@pytest.mark.usefixtures("small_parts")
def test_hits_are_those_of_each_question_searched_alone(built: Settings, questions: Path, tmp_path: Path) -> None:
    wanted, hits = Filter(file_types=("md",)), tmp_path / "new" / "hits.parquet"
    summary = run(questions, hits, built, wanted=wanted)
    table = pq.read_table(hits)
    assert table.schema.equals(HITS)
    expected = [
        (place, name, hit.rank, hit.chunk_id, pytest.approx(hit.score), hit.text, hit.stages["bm25"].rank)
        for place, (name, text) in enumerate(QUERIES.items())
        for hit in search(text, built, k=2, wanted=wanted).hits
    ]
    columns = ["question", "query_id", "rank", "chunk_id", "score", "text", "bm25_rank"]
    assert list(zip(*(table[name].to_pylist() for name in columns), strict=True)) == expected
    assert (summary.questions, summary.hits, summary.unanswered) == (3, len(expected), 0)
    assert [path.name for path in hits.parent.iterdir()] == ["hits.parquet"]
    assert run(questions, hits, built, wanted=Filter(paths=("nothing",))).unanswered == 3


@pytest.mark.usefixtures("small_parts")
def test_hits_of_a_cascade_have_its_first_stages_too(built: Settings, questions: Path, tmp_path: Path) -> None:
    settings = built.model_copy(update={"reranker": "fusion@8 > headrace-reranker@8"})
    run(questions, tmp_path / "hits.parquet", settings)
    expected = [
        (hit.chunk_id, hit.rank, hit.stages["rerank 1"].rank, hit.stages["rerank 1"].score)
        for text in QUERIES.values()
        for hit in search(text, settings, k=2).hits
    ]
    table = pq.read_table(tmp_path / "hits.parquet")
    columns = (table[name].to_pylist() for name in ("chunk_id", "rank", "rerank_1_rank", "rerank_1_score"))
    assert list(zip(*columns, strict=True)) == expected
    assert any(rank != first for _, rank, first, _ in expected)


@pytest.mark.usefixtures("small_parts")
def test_interrupted_batch_goes_on_where_it_stopped_on_its_generation(
    built: Settings,
    questions: Path,
    tmp_path: Path,
    make_settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, hits = make_settings(), tmp_path / "hits.parquet"
    shutil.copytree(built.store, settings.store)
    asked: list[str] = []

    def interrupted(query: str, *arguments: Any, **options: Any) -> Any:
        asked.append(query)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return rank(query, *arguments, **options)

    rank = tasks.query_batch.rank
    monkeypatch.setattr(tasks.query_batch, "rank", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(questions, hits, settings)
    assert not hits.exists()
    with committing(settings.store):
        rollback(settings.store, 1)

    assert run(questions, hits, settings).generation == 1
    assert asked[3:] == list(QUERIES.values())[2:]
    assert pq.read_table(hits)["query_id"].unique().to_pylist() == list(QUERIES)

    with pytest.raises(KeyboardInterrupt):  # another one, and then other questions
        asked.clear()
        run(questions, hits, settings)
    written(questions, {"query": "one question"})
    assert run(questions, hits, settings).questions == 1
    assert pq.read_table(hits)["generation"].unique().to_pylist() == [2]


def test_two_do_not_make_the_same_file(built: Settings, questions: Path, tmp_path: Path) -> None:
    with (
        prepared(questions, tmp_path / "hits.parquet", built, k=2),
        pytest.raises(StoreBusy, match=r"makes .*hits\.parquet"),
        prepared(questions, tmp_path / "hits.parquet", built, k=2),
    ):
        pass


def test_command_writes_hits_and_leaves_nothing_after_a_bad_line(
    built: Settings,
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEADRACE_CACHE", str(built.cache))
    hits = tmp_path / "hits.parquet"
    ask = ["query-batch", str(questions), "--out", str(hits), "--store", str(built.store), "-k", "1"]
    done = CliRunner().invoke(app, [*ask, "--type", "md", "--json"])
    assert json.loads(done.stdout)["hits"] == len(pq.read_table(hits)) == 3
    hits.unlink()
    with questions.open("a") as lines:
        lines.write("?\n")
    assert isinstance(CliRunner().invoke(app, ask).exception, BadQuestions)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("hits")] == []
