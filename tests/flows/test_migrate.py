"""Changing the embedding model of a store that is in use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flows.local import local_refresh
from schemas.errors import ModelMismatch
from schemas.settings import Settings
from tasks.migrate import Agreement, migrate
from tasks.models import load_encoder
from tasks.search import search
from tasks.store import connect
from tasks.store.generation import read
from tasks.store.retention import rollback
from tasks.store.verify import verify
from tasks.store.writer import committing
from tests.conftest import CORPUS
from tests.models.tiny import make_tiny_encoder

MakeSettings = Callable[..., Settings]
QUESTION = "how do we rotate certificates automatically?"


def quiet(*_: object) -> None:
    """Report to nobody."""


@pytest.fixture
def built(make_settings: MakeSettings) -> Settings:
    """The sample corpus, embedded in fp32."""
    settings = make_settings(embed_precision="fp32")
    local_refresh([str(CORPUS)], settings, quiet)
    return settings


def exact(settings: Settings) -> list[str]:
    """The ten nearest passages by the vectors that SQL shows."""
    with connect(settings.store) as con:
        rows = con.sql("SELECT chunk_id, embedding FROM chunks ORDER BY chunk_id").fetchall()
    query = load_encoder(settings, read(settings.store).embedder).encode([QUESTION])[0]
    cosines = np.array([embedding for _, embedding in rows]) @ query
    return [rows[i][0] for i in np.argsort(-cosines)[:10]]


def test_queries_go_on_until_the_switch_and_the_documents_stay(
    built: Settings, make_settings: MakeSettings, tmp_path: Path
) -> None:
    target = make_settings(embedder=str(make_tiny_encoder(tmp_path / "tiny")), embed_precision="fp32")
    seen: list[Agreement] = []

    def agree(agreement: Agreement) -> bool:
        seen.append(agreement)
        assert search(QUESTION, built).generation == 1
        with pytest.raises(ModelMismatch, match="settings ask for"):
            search(QUESTION, target)
        return True

    before = read(built.store)
    after = migrate(target, built, quiet, agree)
    assert (after.number, after.event, after.dim) == (2, "migrate", 32)
    assert (after.documents, after.chunks) == (before.documents, before.chunks)
    assert verify(built.store) == []
    assert 0 < seen[0].shared < 1

    hits = search(QUESTION, target, k=50).hits
    by_vector = sorted((hit for hit in hits if "vectors" in hit.stages), key=lambda hit: hit.stages["vectors"].rank)
    assert [hit.chunk_id for hit in by_vector][:10] == exact(target)
    with pytest.raises(ModelMismatch):
        search(QUESTION, built)
    with committing(built.store):
        rollback(built.store, 1)
    assert search(QUESTION, built).hits


def test_interrupted_migration_embeds_nothing_twice(built: Settings) -> None:
    target = built.model_copy(update={"embed_precision": "int8"})
    stages: list[str] = []

    def refuse(agreement: Agreement) -> bool:
        assert agreement.shared > 0.85  # the same model in another precision
        return False

    assert migrate(target, built, quiet, refuse) == read(built.store)
    ledger = built.store / "embeddings" / load_encoder(target).fingerprint
    parts = sorted(ledger.iterdir())
    after = migrate(target, built, lambda stage, *_: stages.append(stage), lambda _: True)
    assert sorted(ledger.iterdir()) == parts
    assert after.embedder.endswith("-int8")
    assert {"embed", "rebuild"} == set(stages)
    assert migrate(target, built, quiet, lambda _: False) == after

    again = local_refresh([str(CORPUS)], target.model_copy(update={"embed_precision": "auto"}), quiet)
    assert (again.generation, again.published, again.embedded) == (2, 0, 0)
