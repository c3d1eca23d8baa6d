"""headrace doctor as a user meets it, and the proof that ingest and query keep off the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.doctor.isolation import run_isolated
from tests.flows.test_cli import headrace, store  # noqa: F401  the store fixture


def test_sound_machine_passes_in_a_table_of_100_columns(store: Path, model_cache: Path) -> None:  # noqa: F811
    done = headrace("doctor", "--store", store, cache=model_cache, COLUMNS="100")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_failure_is_told_with_what_to_do_and_exits_with_1(store: Path, model_cache: Path) -> None:  # noqa: F811
    unreachable = {"HEADRACE_EMBEDDER": "/nowhere", "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = headrace("doctor", "--store", store, "--json", cache=model_cache, **unreachable)
    assert done.returncode == 1
    findings = json.loads(done.stdout)
    assert {name for name, finding in findings.items() if finding["verdict"] == "failed"} == {
        "embedder",
        "store",
        "prefect",
    }
    assert "no model /nowhere" in findings["embedder"]["detail"]
    assert "does not answer" in findings["prefect"]["detail"]
    assert set(findings["python"]) == {"verdict", "detail", "advice"}


@pytest.mark.slow
def test_ingest_and_query_open_no_connection(model_cache: Path, tmp_path: Path) -> None:
    """In a network namespace without interfaces where the machine allows it; the finding says which proof ran."""
    arguments = ("doctor", "--store", tmp_path / "none", "--offline-proof", "--json")
    done = headrace(*arguments, cache=model_cache, HF_HUB_OFFLINE="0", PREFECT_API_URL="")
    finding = json.loads(done.stdout)["offline"]
    assert finding["verdict"] == "ok", finding
    assert "ingest (13 documents) and query (8 hits)" in finding["detail"]
    allowed = not run_isolated(["true"], {}).no_namespace
    assert ("in a network namespace without interfaces" in finding["detail"]) == allowed


@pytest.mark.slow
def test_proof_catches_a_query_that_asks_the_hub(model_cache: Path, tmp_path: Path) -> None:
    hub = {"HEADRACE_RERANKER": "acme/nothing", "HEADRACE_ALLOW_DOWNLOAD": "true", "HF_HUB_OFFLINE": "0"}
    arguments = ("doctor", "--store", tmp_path / "none", "--offline-proof", "--json")
    done = headrace(*arguments, cache=model_cache, HF_HOME=str(tmp_path), **hub)
    assert done.returncode == 1
    finding = json.loads(done.stdout)["offline"]
    assert finding["verdict"] == "failed"
    assert "headrace query reached for the network: resolve huggingface.co" in finding["detail"]
