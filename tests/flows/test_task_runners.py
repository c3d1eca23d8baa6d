"""A refresh on a cluster's workers gives the same store as in the threads of its process."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.local import local_refresh
from schemas.errors import MissingRequirement, NotShared
from schemas.records import FileState, RefreshSummary
from schemas.settings import Settings
from tasks.parse import parse_batch
from tasks.store import connect
from tests.conftest import CORPUS

# formats that are read without unstructured, which each parser would take seconds to import
FORMATS = ("*.md", "*.txt", "*.csv")


def common(model_cache: Path) -> dict[str, Any]:
    # in int8 a vector does not depend on the batch that it is computed in
    return {"cache": model_cache, "include": FORMATS, "batch_documents": 2, "embed_precision": "int8"}


def contents(store: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every live row, vectors too."""
    with connect(store) as con:
        return {
            name: con.sql(f"SELECT * FROM {name} ORDER BY ALL").fetchall()
            for name in ("documents", "chunks", "quarantine")
        }


@pytest.fixture(scope="module")
def in_threads(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> tuple[RefreshSummary, Path]:
    store = tmp_path_factory.mktemp("threads") / "store"
    summary = local_refresh([str(CORPUS)], Settings(store=store, **common(model_cache)), lambda *_: None)
    return summary, store


@pytest.mark.slow
@pytest.mark.parametrize("task_runner", ["dask", "ray"])
def test_two_workers_give_the_store_that_threads_give(
    task_runner: str,
    in_threads: tuple[RefreshSummary, Path],
    api: None,
    tmp_path: Path,
    model_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(f"prefect_{task_runner}", reason=f"needs pip install '.[{task_runner}]'")
    from flows.refresh import refresh_flow

    # where a worker starts is no reason for it to find another store
    monkeypatch.chdir(tmp_path)
    settings = Settings(store=Path("store"), task_runner=task_runner, task_workers=2, **common(model_cache))
    summary = refresh_flow([str(CORPUS)], settings)
    expected, store = in_threads
    counts = ("files", "added", "quarantined", "chunks", "embedded", "reused")
    assert {name: getattr(summary, name) for name in counts} == {name: getattr(expected, name) for name in counts}
    assert contents(tmp_path / "store") == contents(store)
    assert list((tmp_path / "store" / "staging").iterdir()) == []


def test_worker_that_does_not_see_the_store_or_the_documents_says_so(tmp_path: Path, model_cache: Path) -> None:
    docs, staging = tmp_path / "docs", tmp_path / "store" / "staging" / "run"
    docs.mkdir()
    page = docs / "page.md"
    page.write_text("# Page")
    state = FileState(page.as_uri(), str(page), str(docs), 6, 0, "hash")
    settings = Settings(store=tmp_path / "store", task_runner="dask:tcp://scheduler:8786", **common(model_cache))
    with pytest.raises(NotShared, match=f"does not see {staging}: mount"):
        parse_batch([state], staging, "000000", settings)

    staging.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    for source, path in ((elsewhere, elsewhere / "page.md"), (elsewhere / "*.md", elsewhere / "page.md")):
        away = dataclasses.replace(state, uri=path.as_uri(), path=str(path), source=str(source))
        with pytest.raises(NotShared, match=f"does not see {elsewhere}: mount"):
            parse_batch([away], staging, "000000", settings)
    gone = dataclasses.replace(state, path=str(docs / "gone.md"), uri=(docs / "gone.md").as_uri())
    assert parse_batch([gone], staging, "000000", settings).quarantined == 1  # one file may vanish


def test_runner_that_is_not_installed_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.runners import stages

    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with (
        pytest.raises(MissingRequirement, match=r"pip install 'headrace\[dask\]'"),
        stages({}, Settings(task_runner="dask")),
    ):
        pass
