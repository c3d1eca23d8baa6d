"""What the tests share: an offline environment, one cache of exported models a session, the real corpora."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
for name in [name for name in os.environ if name.startswith("HEADRACE_") or name == "PREFECT_API_URL"]:
    del os.environ[name]
# the bundled reranker takes a third of a second a query; the tests that are about it name it
os.environ["HEADRACE_RERANKER"] = "fusion"

from schemas.settings import Settings  # noqa: E402

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
CORPUS = ROOT / "tests" / "corpus"


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled embedder is exported once a session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make_settings(tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings over a store of the test's own, read from no file."""
    monkeypatch.chdir(tmp_path)

    def make(**values: object) -> Settings:
        return Settings(**{"store": tmp_path / "store", "cache": model_cache, **values})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The real corpora beside the project."""
    if not (SHARED / "corpora").is_dir():
        pytest.skip("../shared/corpora is not here")
    return SHARED / "corpora"
