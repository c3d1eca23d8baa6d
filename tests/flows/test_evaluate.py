"""`headrace evaluate` on the sample corpus."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.local import local_refresh
from schemas.errors import BadEvaluation
from schemas.records import CANDIDATES
from schemas.settings import Settings
from tasks.evaluate.candidates import ask, read, write
from tasks.evaluate.evaluation import measured
from tasks.evaluate.judged import Judged
from tasks.evaluate.metrics import measure
from tasks.evaluate.runs import runs_of
from tasks.evaluate.sweep import sweep
from tasks.search import search
from tests.conftest import CORPUS
from tests.flows.conftest import ANSWERS, QUERIES

MakeSettings = Callable[..., Settings]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    return result.exit_code, result.output


def test_table_has_every_stage_and_names_what_is_missing(built: Settings, judged_files: list[str]) -> None:
    code, output = run(*judged_files, "--store", str(built.store), "--set", f"cache={built.cache}")
    assert code == 0, output
    for stage in ("bm25", "vectors", "fusion", "rerank"):
        assert stage in output
    assert "1 of 4 judged names (25%) are not in the store" in output
    assert "not/there.md" in output


def test_rankings_are_those_of_search(built: Settings) -> None:
    judged = Judged(QUERIES, {query: {name: 1} for query, name in ANSWERS.items()})
    runs = runs_of(judged, ask(judged, built).candidates)
    for query, text in QUERIES.items():
        hits = search(text, built, k=50).hits
        ranked = runs.stages["rerank"][query]
        assert ANSWERS[query] in ranked
        assert len(ranked) == len({hit.path for hit in hits})
        first = ranked[0] if ranked[0] != ANSWERS[query] else hits[0].path
        assert hits[0].path.endswith(first) or first in hits[0].path
    assert measure(judged, runs.stages["rerank"])["MRR@10"].mean > 0.8


def test_sections_are_judged_by_their_heading(built: Settings) -> None:
    name = "rotate-certificates-automatically.md#Reloading the server"
    judged = Judged({"q": "reload the server when the certificate changes"}, {"q": {name: 1}})
    asked = ask(judged, built)
    runs = runs_of(judged, asked.candidates)
    assert name in runs.stages["rerank"]["q"][:3]
    assert asked.origin.missing == ()


def test_gate_fails_on_a_worse_generation_only(
    make_settings: MakeSettings, tmp_path: Path, judged_files: list[str]
) -> None:
    docs, settings = tmp_path / "corpus", make_settings()
    shutil.copytree(CORPUS, docs)
    local_refresh([str(docs)], settings, lambda *_: None)
    where = ["--store", str(settings.store), "--set", f"cache={settings.cache}", "--baseline", "1"]
    code, output = run(*judged_files, *where, "--json")
    assert code == 0, output
    assert json.loads(output[output.index("{") :])["baseline"]["rerank"]["nDCG@10"]["mean"] > 0.5

    for i, path in enumerate(sorted(docs.glob("*.*"))):
        path.unlink()
        (docs / f"page{i}.md").write_text(f"# Page {i}\n\nNothing of use.")
    local_refresh([str(docs)], settings.model_copy(update={"max_delete_share": 1.0}), lambda *_: None)
    many = tmp_path / "many.tsv", tmp_path / "many.qrels"
    asked = [(f"{query}{i}", query) for query in QUERIES for i in range(3)]
    many[0].write_text("".join(f"{name}\t{QUERIES[query]}\n" for name, query in asked))
    many[1].write_text("".join(f"{name} 0 {ANSWERS[query]} 1\n" for name, query in asked))
    code, output = run("--queries", str(many[0]), "--qrels", str(many[1]), *where)
    assert code == 1
    assert "regression: nDCG@10" in output
    assert f"→ 0.00  {QUERIES['ecs']}" in output


def test_sweep_finds_the_knee_and_draws_it(built: Settings, judged_files: list[str], tmp_path: Path) -> None:
    where = ["--store", str(built.store), "--set", f"cache={built.cache}"]
    result = CliRunner().invoke(app, ["sweep", *judged_files, *where, "--plot", str(tmp_path / "pool.png")])
    assert result.exit_code == 0, result.output
    assert "scores, min-max, vectors 0.5" in result.output
    assert "← knee" in result.output
    assert "is the limit" in result.output
    assert (tmp_path / "pool.png").read_bytes().startswith(b"\x89PNG")
    found = sweep(Judged(QUERIES, {query: {name: 1} for query, name in ANSWERS.items()}), built)
    assert [pool.recall for pool in found.pools] == sorted(pool.recall for pool in found.pools)
    assert all(pool.ndcg.mean <= pool.ceiling + 1e-9 for pool in found.pools)


def test_saved_run_is_measured_as_the_store_was(built: Settings, judged_files: list[str], tmp_path: Path) -> None:
    where = ["--store", str(built.store), "--set", f"cache={built.cache}"]
    saved = str(tmp_path / "runs" / "now.parquet")
    code, asked = run(*judged_files, *where, "--save-run", saved, "--json")
    assert code == 0, asked
    code, read_back = run(*judged_files, "--run", saved, "--json")
    assert code == 0, read_back
    assert read_back[read_back.index("{") :] == asked[asked.index("{") :]
    assert json.loads(read_back)["missing"] == ["not/there.md"]
    code, compared = run(*judged_files, "--run", saved, "--baseline", saved)
    assert "+0.000" in compared, compared

    other = tmp_path / "other.tsv"
    other.write_text(f"ecs\t0\t{ANSWERS['ecs']}#Why a service stops scaling\t1\n")
    code, output = run(*judged_files[:2], "--qrels", str(other), "--run", saved, "--json")
    assert json.loads(output)["stages"]["rerank"]["R@10"]["values"] == {"ecs": 1.0}


def test_saved_run_has_every_candidate_as_search_ranks_it(built: Settings, tmp_path: Path) -> None:
    saved = tmp_path / "one.parquet"
    where = ["--store", str(built.store), "--set", f"cache={built.cache}"]
    done = CliRunner().invoke(app, ["query", QUERIES["tls"], *where, "--save-run", str(saved), "--json"])
    assert done.exit_code == 0, done.output
    asked = read(saved)
    assert asked.candidates.schema.remove_metadata() == CANDIDATES
    rows = {row["chunk_id"]: row for row in asked.candidates.to_pylist()}
    for stage in ("bm25", "vectors", "fusion", "rerank"):
        ranks = sorted(row[f"{stage}_rank"] for row in rows.values() if row[f"{stage}_rank"] is not None)
        assert ranks == list(range(1, len(ranks) + 1))
    assert len(rows) == asked.candidates.num_rows >= 40
    for hit in search(QUERIES["tls"], built, k=50).hits:
        row = rows[hit.chunk_id]
        assert (row["uri"], row["path"], row["headings"]) == (hit.uri, hit.path, hit.headings)
        for stage, found in hit.stages.items():
            assert (row[f"{stage}_rank"], row[f"{stage}_score"]) == (found.rank, pytest.approx(found.score))


def test_run_of_other_queries_or_no_run_is_one_clear_error(
    built: Settings, judged_files: list[str], tmp_path: Path
) -> None:
    saved = tmp_path / "other.parquet"
    write(saved, ask(Judged({"x": "something else"}, {"x": {"a.md": 1}}), built))
    with pytest.raises(BadEvaluation, match="none of the judged queries"):
        measured(Judged(QUERIES, {query: {name: 1} for query, name in ANSWERS.items()}), read(saved))
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(BadEvaluation, match="cannot be read"):
        read(tmp_path / "text.parquet")
    pq.write_table(CANDIDATES.empty_table(), tmp_path / "bare.parquet")
    with pytest.raises(BadEvaluation, match="headrace evaluate --save-run"):
        read(tmp_path / "bare.parquet")
    code, output = run(*judged_files, "--run", str(saved), "--store", str(built.store))
    assert code == 2
    assert "settings of its own" in " ".join(output.replace("│", " ").split())
