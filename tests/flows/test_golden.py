"""Building a judged set at the prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.local import local_refresh
from schemas.settings import Settings
from tasks.evaluate.golden import Unit, to_judge
from tasks.evaluate.runs import STAGES
from tasks.search import search
from tests.conftest import CORPUS

QUESTION = "why did our ECS service stop scaling?"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Settings:
    settings = Settings(store=tmp_path_factory.mktemp("golden") / "store", cache=model_cache)
    local_refresh([str(CORPUS)], settings, lambda *_: None)
    return settings


def test_judgements_are_kept_as_they_come_and_are_not_asked_again(built: Settings, tmp_path: Path) -> None:
    into = tmp_path / "golden"
    where = ["--into", str(into), "--store", str(built.store), "--set", f"cache={built.cache}"]
    hits = to_judge(QUESTION, built, "document", set())
    assert list(hits) == sorted(hits)
    answers = ["2" if "ecs-service-auto-scaling" in name else "0" for name in hits]

    stopped = CliRunner().invoke(app, ["golden", "add", QUESTION, *where], input="0\nx\n1\nq\n")
    assert stopped.exit_code == 0, stopped.output
    assert len((into / "qrels.tsv").read_text().splitlines()) == 2  # x was asked again

    again = CliRunner().invoke(app, ["golden", "review", *where], input="\n".join(answers[2:]) + "\n")
    assert again.exit_code == 0, again.output
    assert f"{len(hits) - 2} to judge" in again.output
    assert [json.loads(line) for line in (into / "queries.jsonl").read_text().splitlines()] == [
        {"_id": "q001", "text": QUESTION}
    ]
    lines = (into / "qrels.tsv").read_text().splitlines()
    assert lines == sorted(lines)
    assert len(lines) == len(hits)
    assert "0 to judge" in CliRunner().invoke(app, ["golden", "add", QUESTION, *where]).output

    files = ["--queries", str(into / "queries.jsonl"), "--qrels", str(into / "qrels.tsv"), *where[2:]]
    evaluated = CliRunner().invoke(app, ["evaluate", *files])
    assert evaluated.exit_code == 0, evaluated.output
    assert "1 queries" in evaluated.output


@pytest.mark.parametrize("by", ["section", "chunk"])
def test_sections_and_chunks_are_judged_under_names_that_evaluate_knows(
    built: Settings, tmp_path: Path, by: Unit
) -> None:
    into = tmp_path / "golden"
    where = ["--store", str(built.store), "--set", f"cache={built.cache}"]
    hits = to_judge(QUESTION, built, by, set())
    assert len(hits) > len(to_judge(QUESTION, built, "document", set()))
    answers = "2\n" * len(hits)
    added = CliRunner().invoke(app, ["golden", "add", QUESTION, "--by", by, "--into", str(into), *where], input=answers)
    assert added.exit_code == 0, added.output
    files = ["--queries", str(into / "queries.jsonl"), "--qrels", str(into / "qrels.tsv")]
    evaluated = json.loads(CliRunner().invoke(app, ["evaluate", *files, *where, "--json"]).stdout)
    assert evaluated["missing"] == []
    assert evaluated["stages"]["rerank"]["nDCG@10"]["mean"] == pytest.approx(1.0)


def test_the_first_of_every_stage_are_judged(built: Settings) -> None:
    """By their best chunk: a document with a bad chunk too is not put last for it."""
    hits = search(QUESTION, built, k=built.pool).hits
    first = {next(hit.path for hit in hits if stage in hit.stages and hit.stages[stage].rank == 1) for stage in STAGES}
    assert set(to_judge(QUESTION, built, "document", set(), pooled=1)) == first
