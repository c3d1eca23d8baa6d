"""Exact identifiers come first: what BM25 and the tokenizer `codes` are for."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest

from flows.local import local_refresh
from schemas.settings import Settings
from tasks.search import search

# as they stand in the guides; rare in them, so that a ranking by meaning alone would miss them
IDENTIFIERS = [
    "0.0.0.0/0",
    "AmazonECSTaskExecutionRolePolicy",
    "x-amz-server-side-encryption",
    "CannotPullContainerError",
    "arn:aws:iam::aws:policy/CloudWatchAgentServerPolicy",
    "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION",
    "rds.force_ssl",
    "sts:AssumeRole",
    "PutMetricAlarm",
    "aws:SourceVpce",
    "db.t3.micro",
    "SCRAM-SHA-256",
    "ap-northeast-3",
    "CREATE_FAILED",
    "s3:ObjectCreated:Put",
]


def as_read(text: str) -> str:
    """Without what a reader does not see: escapes, and where links lead. In lower case, as the index has it."""
    return re.sub(r"\]\([^)]*\)", "]", text.replace("\\", "")).lower()


@pytest.fixture(scope="module")
def built(corpora: Path, tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Settings:
    """Two pages with each identifier, and a hundred and twenty others."""
    pages = sorted((corpora / "aws").rglob("*.md"))
    texts = {page: as_read(page.read_text(encoding="utf-8", errors="replace")) for page in pages if page.name[0] != "."}
    chosen = set(random.Random(3).sample(sorted(texts), 120))
    for identifier in IDENTIFIERS:
        holding = [page for page, text in texts.items() if identifier.lower() in text]
        assert holding, identifier
        chosen |= set(holding[:2])
    docs = tmp_path_factory.mktemp("identifiers")
    for n, page in enumerate(sorted(chosen)):
        shutil.copy(page, docs / f"{n}-{page.name}")
    settings = Settings(store=docs / ".store", cache=model_cache)
    local_refresh([str(docs)], settings, lambda *_: None)
    return settings


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("identifier", IDENTIFIERS)
@pytest.mark.parametrize("question", ["{}", "what does {} mean?"], ids=["alone", "in a question"])
def test_identifier_comes_first(built: Settings, identifier: str, question: str) -> None:
    hits = search(question.format(identifier), built, k=3).hits
    assert identifier.lower() in as_read(f"{hits[0].headings}\n{hits[0].text}"), [hit.text[:80] for hit in hits]
