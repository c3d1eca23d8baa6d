"""What each check says of a sound machine, and that it notices what is wrong."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.local import local_refresh
from schemas.errors import CorruptStore, ModelMismatch, ModelNotFound, StoreNotFound
from schemas.settings import Settings
from tasks.doctor import machine, models, software
from tasks.doctor.store import held, store
from tasks.models import folders
from tests.conftest import CORPUS
from tests.models.rerankers import servers
from tests.models.rerankers.servers import serving
from tests.models.rerankers.tiny import make_tiny_stanford_colbert, make_tiny_t5
from tests.models.tiny import make_tiny_cross_encoder

MakeSettings = Callable[..., Settings]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Path:
    """A store of one document; copy before changing."""
    store = tmp_path_factory.mktemp("doctor") / "store"
    settings = Settings(store=store, cache=model_cache, embed_precision="fp32")
    local_refresh([str(next(CORPUS.glob("rotate*.md")))], settings, lambda *_: None)
    return store


@pytest.fixture
def make_settings(make_settings: MakeSettings) -> MakeSettings:
    """Settings as the command gives them to the checks: nothing left to `auto`."""
    return functools.partial(make_settings, embed_backend="onnx", embed_precision="fp32")


@pytest.fixture
def settings(ingested: Path, tmp_path: Path, make_settings: MakeSettings) -> Settings:
    shutil.copytree(ingested, tmp_path / "store")
    return make_settings()


def test_this_environment_is_what_pyproject_asks_for(settings: Settings) -> None:
    for check in (software.python, software.packages, software.extensions, software.converters):
        assert check(settings).verdict == "ok", check(settings)


@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        pytest.param("duckdb==1.5.5", None, id="met"),
        pytest.param("no-such-package>=1", "no-such-package is missing", id="missing"),
        pytest.param("duckdb>=99", "duckdb is 1.5.5, headrace needs >=99", id="version"),
        pytest.param("no-such-package; python_version < '3'", None, id="marker"),
    ],
)
def test_unmet_names_what_is_missing_or_of_another_version(requirement: str, problem: str | None) -> None:
    problems = [text for _, text in software.unmet([requirement], "headrace", set())]
    assert len(problems) == (problem is not None)
    assert problem is None or problem in problems[0]


def test_unmet_follows_extras_and_what_is_required_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "lender-1.0.dist-info"
    info.mkdir()
    requires = 'Requires-Dist: duckdb<1\nProvides-Extra: more\nRequires-Dist: absent; extra == "more"\n'
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: lender\nVersion: 1.0\n{requires}")
    monkeypatch.syspath_prepend(tmp_path)
    plain = list(software.unmet(["lender"], "headrace", set()))
    assert plain == [("lender", "duckdb is 1.5.5, lender needs <1")]
    assert ("lender", "absent is missing, lender needs it") in list(software.unmet(["lender[more]"], "headrace", set()))


def test_more_threads_than_cores_is_a_warning(make_settings: MakeSettings) -> None:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    finding = machine.threads(make_settings(embed_threads=1000))
    assert finding.verdict == "warning"
    assert "embed_threads=" in finding.advice
    assert int(finding.detail.split()[0]) <= (cores or 1)


@pytest.mark.parametrize(
    ("architecture", "flags", "verdict", "detail"),
    [
        pytest.param(
            "x86_64", {"fpu", "avx2", "avx512_vnni"}, "ok", "with avx2, avx512_vnni; without avx512f", id="x86"
        ),
        pytest.param("x86_64", {"fpu", "sse2"}, "warning", "with none", id="old"),
        pytest.param("aarch64", {"asimd", "bf16"}, "ok", "with asimd, bf16", id="arm"),
        pytest.param("arm64", set(), "ok", "not looked at", id="no-list"),
    ],
)
def test_instruction_sets_decide_the_verdict(architecture: str, flags: set[str], verdict: str, detail: str) -> None:
    finding = machine.instructions(architecture, flags)
    assert (finding.verdict, detail in finding.detail) == (verdict, True)


def test_this_processor_is_described(settings: Settings) -> None:
    assert platform.machine() in machine.cpu(settings).detail


@pytest.mark.parametrize(("free", "verdict"), [(10**12, "ok"), (4 * 10**8, "warning"), (10**6, "failed")])
def test_disk_that_fills_up_warns_then_fails(
    free: int, verdict: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(free))
    assert machine.disk(settings).verdict == verdict


def test_disk_of_a_store_that_is_not_there_yet_is_that_of_the_folder_above(make_settings: MakeSettings) -> None:
    assert machine.disk(make_settings(store=Path("no/such/index"))).verdict in {"ok", "warning"}


def test_bundled_embedder_is_compared_with_the_published_digest(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = models.embedder(settings)
    assert finding.verdict == "ok"
    assert f"as published\nSHA-256 {folders.BUNDLED_SHA256}" in finding.detail
    assert "load and embed" in finding.detail
    monkeypatch.setattr(folders, "_digest", lambda *_: "0" * 64)
    with pytest.raises(ModelMismatch, match="pip install --force-reinstall"):
        models.embedder(settings)


def test_embedder_that_is_not_exported_is_not_exported_by_the_check(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    finding = models.embedder(make_settings(cache=tmp_path / "empty"))
    assert "not exported" in finding.detail
    assert not (tmp_path / "empty").exists()


def test_damaged_export_is_found(
    make_settings: MakeSettings, model_cache: Path, tmp_path: Path, settings: Settings
) -> None:
    cache = Path(shutil.copytree(model_cache, tmp_path / "cache"))
    (graph,) = cache.glob("models/all-MiniLM-L6-v2-*-fp32-encoder-*/model.onnx")
    graph.write_bytes(graph.read_bytes()[:1000])
    with pytest.raises(ModelMismatch, match="export it again"):
        models.embedder(make_settings(cache=cache))


def test_reranker_is_fusion_a_folder_or_a_clear_error(make_settings: MakeSettings, tmp_path: Path) -> None:
    assert "needs no model" in models.reranker(make_settings(reranker="fusion")).detail
    folder = make_tiny_cross_encoder(tmp_path / "tiny-ce")
    assert "not exported" in models.reranker(make_settings(reranker=str(folder), cache=tmp_path / "empty")).detail
    with pytest.raises(ModelNotFound):
        models.reranker(make_settings(reranker="acme/nothing"))
    assert models.reranker(make_settings(reranker="acme/nothing", allow_download=True)).verdict == "warning"


def test_reranker_on_a_server_is_looked_at_and_not_asked(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CO_API_KEY", raising=False)
    monkeypatch.delenv("COHERE_API_KEY", raising=False)
    with serving(servers.cohere) as server:
        settings = make_settings(
            reranker="fusion@50 > cohere:rerank-v3.5@10", rerank_urls=f"cohere={server.url}, llm={server.url}/v1"
        )
        without = models.reranker(settings)
        assert (without.verdict, "has no key" in without.detail) == ("failed", True)
        assert "COHERE_API_KEY" in without.advice
        monkeypatch.setenv("COHERE_API_KEY", "vk-3f9a5c1e77d2")
        found = models.reranker(settings)
        assert found.verdict == "ok"
        assert found.detail.splitlines()[0] == "fusion, which needs no model"
        assert "key from COHERE_API_KEY; not asked" in found.detail
        assert f"queries and passages are sent to {server.url}" in found.detail
        assert "vk-3f9a5c1e77d2" not in found.detail
        secret = models.reranker(settings.model_copy(update={"rerank_secrets": "cohere=not-looked-into"}))
        assert "key from Prefect Secret block not-looked-into" in secret.detail
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        own = models.reranker(settings.model_copy(update={"reranker": "llm:judge"}))
        assert (own.verdict, "without a key" in own.detail) == ("ok", True)
        monkeypatch.setenv("OPENAI_BASE_URL", "https://me:pa55@proxy/v1")
        proxied = models.reranker(make_settings(reranker="llm:judge")).detail
        assert "sent to https://proxy/v1" in proxied
        assert server.requests == []
    monkeypatch.setitem(models.PACKAGES, "voyage", "no-such-package")
    missing = models.reranker(make_settings(reranker="voyage:rerank-2.5"))
    assert (missing.verdict, "pip install '.[voyage]'" in missing.advice) == ("failed", True)


def test_local_reranker_of_another_kind_is_looked_at(make_settings: MakeSettings, tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match="no late-interaction model"):
        models.reranker(make_settings(reranker="colbert:all-MiniLM-L6-v2"))
    folder = make_tiny_stanford_colbert(tmp_path / "tiny-colbert")
    found = models.reranker(make_settings(reranker=f"colbert:{folder}"))
    assert (found.verdict, "as colbert by sentence-transformers" in found.detail) == ("ok", True)
    with pytest.raises(ModelNotFound):
        models.reranker(make_settings(reranker="monot5:acme/nothing"))


def test_local_reranker_without_what_its_extra_brings_has_failed(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(reranker=f"monot5:{make_tiny_t5(tmp_path / 'tiny-t5')}")
    assert models.reranker(settings).verdict == "ok"
    installed = importlib.metadata.distribution

    def distribution(name: str) -> importlib.metadata.Distribution:
        if name == "sentencepiece":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr("importlib.metadata.distribution", distribution)
    found = models.reranker(settings)
    assert (found.verdict, found.advice) == ("failed", "run, in Headrace's folder: pip install '.[monot5]'")
    assert "sentencepiece is missing" in found.detail
    (tmp_path / "tiny-t5" / "tokenizer.json").touch()  # then it needs nothing more
    assert models.reranker(settings).verdict == "ok"


def test_model_of_the_hub_cache_is_compared_with_the_digest_that_the_hub_gave(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "hub" / "models--acme--tiny-ce"
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = make_tiny_cross_encoder(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    weights = snapshot / "model.safetensors"
    blob = repository / "blobs" / folders.sha256(weights)
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    settings = make_settings(reranker="acme/tiny-ce")
    assert f"as published\nSHA-256 {blob.name}" in models.reranker(settings).detail
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelMismatch, match="the hub gave"):
        models.reranker(settings)


def test_sound_store_is_described(settings: Settings) -> None:
    finding = store(settings)
    assert finding.verdict == "ok"
    assert "generation 1, 1 documents" in finding.detail
    assert "nobody writes" in finding.detail


def test_store_that_is_not_there_is_no_fault(make_settings: MakeSettings) -> None:
    finding = store(make_settings(store=Path("nowhere")))
    assert (finding.verdict, "headrace ingest" in finding.advice) == ("ok", True)


def test_store_without_current_or_with_a_damaged_manifest_is_an_error(settings: Settings) -> None:
    manifest = settings.store / "manifests" / "000001.json"
    manifest.write_text("{}")
    with pytest.raises(CorruptStore):
        store(settings)
    (settings.store / "CURRENT").unlink()
    with pytest.raises(StoreNotFound):
        store(settings)


def test_store_of_another_model_is_an_error(settings: Settings, make_settings: MakeSettings, tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match="set the store's own embedder"):
        store(make_settings(embedder=str(make_tiny_cross_encoder(tmp_path / "other"))))


def test_store_warns_of_quarantine_leftovers_and_other_terms(
    settings: Settings, make_settings: MakeSettings, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").touch()
    local_refresh([str(tmp_path / "empty.txt")], settings, lambda *_: None)
    (settings.store / "staging" / "1-1").mkdir(parents=True)
    finding = store(make_settings(stemmer="german"))
    assert finding.verdict == "warning"
    for told in ("in quarantine: 1 empty", "stopped before their end: 1", "not those of the settings"):
        assert told in finding.detail
    for command in ("headrace status", "headrace ingest", "headrace rebuild"):
        assert command in finding.advice


def test_lock_is_held_as_long_as_its_process_lives(settings: Settings) -> None:
    lock = settings.store / "lock"
    code = (
        f"import filelock; lock = filelock.FileLock({str(lock)!r}); lock.acquire(); print('held', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert held(lock)
        assert "an ingest is writing" in store(settings).detail
        writer.kill()
    assert lock.exists()
    assert not held(lock)
