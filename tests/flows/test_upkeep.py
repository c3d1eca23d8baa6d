"""The store's own commands, from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pytest

from tasks.store.connection import extension_path
from tests.flows.test_cli import headrace, store  # noqa: F401  the store fixture


@pytest.fixture
def index(store: Path, tmp_path: Path) -> Path:  # noqa: F811
    """A copy of the sample corpus' store, to be changed."""
    return Path(shutil.copytree(store, tmp_path / "index"))


def test_filters_narrow_a_query(store: Path, model_cache: Path) -> None:  # noqa: F811
    def paths(*filters: str) -> set[str]:
        done = headrace("query", "how to do it", "-k", "50", "-s", store, "--json", *filters, cache=model_cache)
        assert done.returncode == 0, done.stderr
        return {Path(hit["path"]).name for hit in json.loads(done.stdout)["hits"]}

    assert {Path(name).suffix for name in paths("--type", "html", "--type", ".csv")} == {".html", ".csv"}
    assert paths("--path", "*/rotate-*.md") == {
        "rotate-certificates-automatically.md",
        "rotate-certificates-by-hand.md",
    }
    assert paths("--source", "/nowhere") == set()
    assert paths("--after", "2000-01-01", "--meta", "no=such") == set()


def test_generations_rollback_and_query_of_an_older_one(index: Path, model_cache: Path) -> None:
    done = headrace("rollback", "1", "-s", index, cache=model_cache)
    assert "generation 2 is generation 1 again: 13 documents" in done.stdout
    listed = headrace("generations", "-s", index, cache=model_cache).stdout
    assert "rollback to 1" in listed
    assert "2 (current)" in listed
    hits = headrace("query", "certificates", "-s", index, "--generation", "1", "--json", cache=model_cache)
    assert json.loads(hits.stdout)["generation"] == 1
    gone = headrace("query", "certificates", "-s", index, "--generation", "9", cache=model_cache)
    assert (gone.returncode, "kept are: 1, 2" in gone.stderr) == (1, True)
    assert "1 generations" in headrace("gc", "--keep", "1", "--keep-hours", "0", "-s", index, cache=model_cache).stdout


def test_compact_and_export_give_a_file_that_duckdb_searches(index: Path, model_cache: Path, tmp_path: Path) -> None:
    assert "nothing to merge: 1 segments" in headrace("compact", "-s", index, cache=model_cache).stdout
    assert "1 segments merged into 1" in headrace("compact", "--full", "-s", index, cache=model_cache).stdout
    file = tmp_path / "corpus.duckdb"
    done = headrace("export", file, "-s", index, cache=model_cache)
    assert (done.returncode, "MB" in done.stdout) == (0, True)
    with duckdb.connect(str(file), read_only=True) as con:
        con.execute(f"LOAD '{extension_path('fts')}'")
        best = "SELECT title FROM chunks ORDER BY fts_main_chunks.match_bm25(chunk_id, 'registrar') DESC NULLS LAST"
        assert "registrar" in str(con.execute(best).fetchone()).lower()
    assert "exists already" in headrace("export", file, "-s", index, cache=model_cache).stderr


def test_warm_reads_every_passage_once_and_says_what_does_not_fit(index: Path, tmp_path: Path) -> None:
    def warm(*settings: str) -> str:
        options = [option for setting in ("reranker=auto", *settings) for option in ("--set", setting)]
        done = headrace("warm", "-s", index, *options, cache=tmp_path / "cache")
        return done.stdout + done.stderr

    assert "48 passages read, 0 were before" in warm()
    kept = sorted(path.name for path in (tmp_path / "cache" / "passages").iterdir())
    assert "0 passages read, 48 were before" in warm()
    hits = headrace(
        "query", "certificates", "-k", "48", "-s", index, "--json", "--reranker", "auto", cache=tmp_path / "cache"
    )
    assert len(json.loads(hits.stdout)["hits"]) == 48
    assert sorted(path.name for path in (tmp_path / "cache" / "passages").iterdir()) == kept
    assert "48 more do not fit in rerank_cache_mb = 0" in warm("rerank_cache_mb=0")
    assert "error: fusion keeps nothing of a passage" in warm("reranker=fusion")


def test_sql_reads_the_views_and_names_a_mistake(store: Path, model_cache: Path) -> None:  # noqa: F811
    count = headrace("sql", "SELECT count(*) AS n FROM documents", "--json", "-s", store, cache=model_cache)
    assert json.loads(count.stdout) == [{"n": 13}]
    wrong = headrace("sql", "SELECT nothing FROM documents", "-s", store, cache=model_cache)
    assert (wrong.returncode, "nothing" in wrong.stderr) == (2, True)


def test_verify_names_the_damage_and_rebuild_repairs_it(index: Path, model_cache: Path) -> None:
    assert "no damage" in headrace("verify", "-s", index, cache=model_cache).stdout
    (segment,) = (index / "segments").glob("*.duckdb")
    segment.write_bytes(b"\0" * 1000 + segment.read_bytes()[1000:])
    found = headrace("verify", "-s", index, cache=model_cache)
    assert found.returncode == 1
    assert "headrace rebuild" in found.stdout
    broken = headrace("query", "certificates", "-s", index, cache=model_cache)
    assert (broken.returncode, "headrace verify" in broken.stderr) == (1, True)
    assert "13 documents" in headrace("rebuild", "-s", index, cache=model_cache).stdout
    assert headrace("query", "certificates", "-s", index, cache=model_cache).returncode == 0
