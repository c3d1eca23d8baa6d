"""What needs Prefect's own test server: the `evaluate` flow, and keys in Secret blocks."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows.evaluation import evaluate_flow
from flows.local import local_refresh
from schemas.errors import MissingRequirement, Regression
from schemas.settings import Settings
from tasks.models.rerankers import load
from tasks.models.rerankers.access import key_of
from tests.conftest import CORPUS
from tests.flows.conftest import ANSWERS, QUERIES
from tests.models.rerankers import servers
from tests.models.rerankers.servers import serving

pytestmark = pytest.mark.slow


def artifacts() -> list[str]:
    """The Markdown of the flow's artifacts, oldest first."""
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["evaluate-summary"]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=wanted)
    return [str(artifact.data) for artifact in sorted(found, key=lambda artifact: artifact.created)]


@pytest.mark.usefixtures("api")
def test_run_fails_on_a_regression_until_the_answers_are_back_or_the_baseline_is_gone(
    tmp_path: Path, model_cache: Path
) -> None:
    docs, settings = tmp_path / "corpus", Settings(store=tmp_path / "store", cache=model_cache, max_delete_share=1.0)
    shutil.copytree(CORPUS, docs)
    local_refresh([str(docs)], settings, lambda *_: None)
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    asked = [(f"{query}{i}", query) for query in QUERIES for i in range(3)]  # so few queries are no evidence
    queries.write_text("".join(json.dumps({"_id": name, "text": QUERIES[query]}) + "\n" for name, query in asked))
    qrels.write_text("".join(f"{name} 0 {ANSWERS[query]} 1\n" for name, query in asked))
    baseline, report = tmp_path / "kept" / "baseline.json", tmp_path / "kept" / "report.html"

    def run() -> str:
        verdict: str = evaluate_flow(queries, qrels, baseline, report, settings=settings)
        return verdict

    assert run().startswith("nDCG@10 1.000")
    assert "no significant change" in run()
    best = baseline.read_bytes()

    moved = tmp_path / "moved"
    docs.rename(moved)
    docs.mkdir()
    (docs / "page.md").write_text("# Page\n\nNothing of use.")
    local_refresh([str(docs)], settings, lambda *_: None)
    for _ in range(2):
        with pytest.raises(Regression, match="significantly worse"):
            run()
    assert baseline.read_bytes() == best
    assert "Got worst" in report.read_text()
    assert "significantly worse" in artifacts()[-1]
    assert "| rerank | 0.000 [0.000, 0.000] |" in artifacts()[-1]

    baseline.unlink()
    assert run().startswith("nDCG@10 0.000")
    assert len(artifacts()) == 5


@pytest.mark.usefixtures("api")
def test_key_of_a_reranker_comes_from_the_secret_block_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHERE_API_KEY", "of-the-environment")
    Secret(value="of-the-block").save("cohere-key")
    with serving(servers.cohere) as server:
        settings = Settings(rerank_urls=f"cohere={server.url}", rerank_secrets="cohere=cohere-key")
        assert load("cohere", "rerank-v3.5", settings).score("a wheel", ["wheels", "a wheel"]).argmax() == 1
        assert server.requests[0].headers["authorization"] == "Bearer of-the-block"

    async def within_a_flow() -> str | None:
        return key_of("cohere", settings)

    assert asyncio.run(within_a_flow()) == "of-the-block"
    with pytest.raises(MissingRequirement, match="no Prefect Secret block nothing"):
        key_of("cohere", Settings(rerank_secrets="cohere=nothing"))
