"""`headrace evaluate` on the sample corpus."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from flows.cli import app
from flows.local import local_refresh
from schemas.settings import Settings
from tasks.evaluate.judged import Judged
from tasks.evaluate.metrics import measure
from tasks.evaluate.runs import ask
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
    runs = ask(judged, built)
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
    runs = ask(Judged({"q": "reload the server when the certificate changes"}, {"q": {name: 1}}), built)
    assert name in runs.stages["rerank"]["q"][:3]
    assert runs.missing == ()


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
