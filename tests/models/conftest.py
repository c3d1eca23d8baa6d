"""Tiny models, built once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.tiny import make_tiny_cross_encoder, make_tiny_encoder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an encoder; copy it before changing it."""
    return make_tiny_encoder(tmp_path_factory.mktemp("models") / "tiny-encoder")


@pytest.fixture(scope="session")
def tiny_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a reranker; copy it before changing it."""
    return make_tiny_cross_encoder(tmp_path_factory.mktemp("models") / "tiny-ce")
