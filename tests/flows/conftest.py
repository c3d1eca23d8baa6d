"""A store of the sample corpus and judged queries on it, for the tests of evaluation; nobody changes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.local import local_refresh
from schemas.settings import Settings
from tests.conftest import CORPUS

QUERIES = {
    "tls": "how do we rotate TLS certificates automatically?",
    "ecs": "why did our ECS service stop scaling?",
    "vector": "which vector store does not need a separate server?",
}
ANSWERS = {
    "tls": "rotate-certificates-automatically.md",
    "ecs": "ecs-service-auto-scaling",  # without its extension
    "vector": "corpus/embedded-vector-store.md",  # the end of its path
}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Settings:
    root = tmp_path_factory.mktemp("evaluate")
    settings = Settings(store=root / "store", cache=model_cache)
    local_refresh([str(CORPUS)], settings, lambda *_: None)
    return settings


@pytest.fixture
def judged_files(tmp_path: Path) -> list[str]:
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    queries.write_text("".join(json.dumps({"_id": i, "text": text}) + "\n" for i, text in QUERIES.items()))
    qrels.write_text("".join(f"{i}\t0\t{name}\t1\n" for i, name in ANSWERS.items()) + "tls\t0\tnot/there.md\t1\n")
    return ["--queries", str(queries), "--qrels", str(qrels)]
