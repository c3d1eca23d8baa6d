"""The command line as a user meets it: outputs, exit codes, one clear message for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lxml import etree

from tests.conftest import CORPUS

ROOT = Path(__file__).parents[2]


def headrace(*arguments: str | Path, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows", *map(str, arguments)],
        env={**os.environ, "HEADRACE_CACHE": str(cache), "COLUMNS": "120", **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Path:
    store = tmp_path_factory.mktemp("cli") / "index"
    done = headrace("ingest", CORPUS, "--store", store, cache=model_cache)
    assert done.returncode == 0, done.stderr
    assert "generation 1: 13 added" in done.stdout
    return store


def test_query_prints_hits_as_text_table_and_json(store: Path, model_cache: Path) -> None:
    question = "how do we rotate TLS certificates automatically?"
    text = headrace("query", question, "--store", store, "-k", "3", cache=model_cache)
    assert "rotate-certificates-automatically.md" in text.stdout
    assert "order by fusion" in text.stdout
    explained = headrace("query", question, "--store", store, "--explain", cache=model_cache)
    assert all(stage in explained.stdout for stage in ("bm25", "vectors", "fusion", "rerank"))
    result = json.loads(headrace("query", question, "--store", store, "-k", "2", "--json", cache=model_cache).stdout)
    assert [hit["rank"] for hit in result["hits"]] == [1, 2]
    assert set(result["hits"][0]["stages"]["bm25"]) == {"rank", "score"}


def test_context_prints_the_prompt_alone_and_says_what_it_took(store: Path, model_cache: Path) -> None:
    ask = ["context", "how do we rotate TLS certificates automatically?", "--store", store, "--budget", "400"]
    shown = headrace(*ask, "--form", "xml", cache=model_cache)
    passages = etree.fromstring(shown.stdout)
    assert passages[0].get("source", "").endswith("rotate-certificates-automatically.md")
    assert "of 400 tokens" in shown.stderr
    assert "hits left out" in shown.stderr
    found = json.loads(headrace(*ask, "--json", cache=model_cache).stdout)
    assert found["prompt"].startswith("[1] `")
    assert [block["number"] for block in found["blocks"]] == list(range(1, len(found["blocks"]) + 1))
    assert found["tokens"] <= found["budget"] == 400


def test_status_shows_counts_and_quarantine(store: Path, model_cache: Path) -> None:
    shown = headrace("status", "--store", store, cache=model_cache)
    assert "documents" in shown.stdout
    status = json.loads(headrace("status", "--store", store, "--json", cache=model_cache).stdout)
    assert (status["documents"], status["quarantine"], status["generation"]) == (13, [], 1)


def test_settings_lists_each_with_its_value_from_the_environment(model_cache: Path) -> None:
    shown = headrace("settings", cache=model_cache, HEADRACE_POOL="17")
    assert "17" in next(line for line in shown.stdout.splitlines() if line.startswith("pool"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["query", "x", "--store", "/nowhere/index"], 1, "no store at /nowhere/index", id="no-store"),
        pytest.param(["ingest", "/nowhere/docs"], 1, "no folder, file or glob matches", id="missing-folder"),
        pytest.param(["ingest", "{empty}"], 1, "holds no files", id="empty-folder"),
        pytest.param(
            ["query", "x", "--store", "{store}", "--reranker", "./nowhere"], 1, "no model ./nowhere", id="no-reranker"
        ),
        pytest.param(["ingest", "{corpus}", "--set", "embedder=/nowhere"], 1, "no model /nowhere", id="no-embedder"),
        pytest.param(["ingest", "{corpus}", "--set", "colour=red"], 2, "headrace settings", id="unknown-setting"),
        pytest.param(["ingest", "{corpus}", "--set", "pool=many"], 2, "pool", id="wrong-value"),
        pytest.param(["query"], 2, "Missing argument", id="no-question"),
        pytest.param(["querry", "x"], 2, "No such command", id="misspelt"),
    ],
)
def test_mistake_gives_one_clear_message(
    arguments: list[str], code: int, message: str, store: Path, model_cache: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    filled = [argument.format(store=store, empty=empty, corpus=CORPUS) for argument in arguments]
    if filled[0] == "ingest":
        filled += ["--store", str(tmp_path / "new")]
    done = headrace(*filled, cache=model_cache)
    said = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == code, done.stderr
    assert message in said
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_tracked_ingest_is_a_flow_run_and_leaves_nothing_running(tmp_path: Path, model_cache: Path) -> None:
    import psutil

    home = tmp_path / "prefect"
    done = headrace(
        "ingest", CORPUS, "--store", tmp_path / "index", "--track", cache=model_cache, PREFECT_HOME=str(home)
    )
    assert done.returncode == 0, done.stderr
    assert "generation 1: 13 added" in done.stdout
    left = [
        p
        for p in psutil.process_iter(["cmdline", "environ"])
        if str(home) in str((p.info["environ"] or {}).get("PREFECT_HOME"))
    ]
    assert not left
    import sqlite3

    with sqlite3.connect(home / "prefect.db") as db:
        assert db.execute("SELECT state_type FROM flow_run").fetchall() == [("COMPLETED",)]
        names = {name.split()[0] for (name,) in db.execute("SELECT name FROM task_run")}
        assert names == {"parse", "chunk", "embed", "merge"}
        assert db.execute("SELECT count(*) FROM artifact WHERE key = 'refresh-summary'").fetchone() == (1,)


@pytest.mark.slow
def test_terminated_tracked_ingest_ends_soon_and_leaves_nothing_running(tmp_path: Path, model_cache: Path) -> None:
    import psutil

    docs, store = tmp_path / "docs", tmp_path / "index"
    docs.mkdir()
    for i in range(200):
        (docs / f"page{i}.md").write_text(f"# Page {i}\n\n" + f"Paragraph about number {i}. " * 150)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "ingest", str(docs), "--store", str(store), "--track"],
        env={**os.environ, "HEADRACE_CACHE": str(model_cache), "PREFECT_HOME": str(tmp_path / "prefect")},
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    while not list(store.glob("embeddings/*/*.parquet")):
        assert process.poll() is None
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("uvicorn" in " ".join(child.cmdline()) for child in children)
    process.terminate()
    _, stderr = process.communicate(timeout=45)
    assert process.returncode == 130
    assert b"run the same command again" in stderr
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive


def test_unreachable_prefect_api_is_one_clear_error(tmp_path: Path, model_cache: Path) -> None:
    api = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_HOME": str(tmp_path / "prefect")}
    done = headrace("ingest", CORPUS, "--store", tmp_path / "index", cache=model_cache, **api)
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr
