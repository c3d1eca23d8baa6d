"""Where a model is looked for, and the one clear error where it is not there or not whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import ModelMismatch, ModelNotFound
from schemas.settings import Settings
from tasks.models import folders, load_tokenizer
from tasks.models.cross_encoder import CrossEncoder, load_cross_encoder
from tasks.models.folders import describe
from tasks.models.published import graph_names
from tasks.models.resolve import bundled_folder, resolve

MakeSettings = Callable[..., Settings]


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache of the test's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cache_snapshot(hub_cache: Path, name: str, model: Path) -> Path:
    """Put `model` into the cache as huggingface_hub lays it out."""
    repository = hub_cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(model, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    return snapshot


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"])
def test_bundled_model_is_found_by_both_names(make_settings: MakeSettings, name: str) -> None:
    model = describe(resolve(name, make_settings()))
    assert (model.path, model.name, model.max_tokens, model.pooling) == (
        bundled_folder(),
        "all-MiniLM-L6-v2",
        256,
        "mean",
    )


def test_bundled_name_means_the_bundled_model_even_beside_a_folder_of_that_name(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings()  # works in tmp_path
    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    assert resolve("all-MiniLM-L6-v2", settings) == bundled_folder()


def test_model_in_the_hub_cache_is_found_by_name(
    make_settings: MakeSettings, tiny_cross_encoder: Path, hub_cache: Path
) -> None:
    snapshot = cache_snapshot(hub_cache, "acme/tiny-ce", tiny_cross_encoder)
    settings = make_settings()
    assert resolve("acme/tiny-ce", settings) == snapshot
    assert describe(snapshot).name == "tiny-ce"
    assert CrossEncoder("acme/tiny-ce", settings).name == "tiny-ce"


def test_hub_is_not_asked_for_a_model_in_the_cache(
    make_settings: MakeSettings, tiny_encoder: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    cached_only = huggingface_hub.snapshot_download

    def no_network(*args: object, local_files_only: bool, **kwargs: object) -> str:
        assert local_files_only, "asked the hub"
        return cached_only(*args, local_files_only=True, **kwargs)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    snapshot = cache_snapshot(hub_cache, "acme/tiny", tiny_encoder)
    assert resolve("acme/tiny", make_settings(allow_download=True)) == snapshot


def test_reranker_comes_from_the_hub_with_the_graph_for_this_machine(
    make_settings: MakeSettings, tiny_cross_encoder: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    cached_only, asked = huggingface_hub.snapshot_download, []

    def hub(name: str, *, local_files_only: bool, allow_patterns: list[str]) -> str:
        if not local_files_only:
            asked.append(allow_patterns)
            cache_snapshot(hub_cache, name, tiny_cross_encoder)
        return cached_only(name, local_files_only=True, allow_patterns=allow_patterns)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    load_cross_encoder("acme/tiny-ce", make_settings(allow_download=True, rerank_precision="int8"))
    (patterns,) = asked
    assert graph_names("int8")[0] in patterns


def test_cached_snapshot_without_weights_is_not_taken(
    make_settings: MakeSettings, tiny_encoder: Path, hub_cache: Path
) -> None:
    (cache_snapshot(hub_cache, "acme/tiny", tiny_encoder) / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="local hub cache"):
        resolve("acme/tiny", make_settings())


@pytest.mark.parametrize(
    ("name", "allow_download", "message"),
    [
        pytest.param(
            "acme/none", False, "the folder acme/none; the local hub cache; .*allow_download=true", id="hub name"
        ),
        pytest.param("acme/none", True, "the local hub cache; the hub, which did not give it", id="hub out of reach"),
        pytest.param("./nowhere", False, r"no model \./nowhere in the folder nowhere; give a folder", id="folder"),
        pytest.param("/no/such/model", False, "in the folder /no/such/model; give a folder", id="absolute folder"),
        pytest.param("a b: c", False, "in the folder a b: c; give a folder", id="no name at all"),
        pytest.param("acme/two--dashes", False, "the local hub cache; give a folder", id="name that the hub refuses"),
    ],
)
def test_missing_model_says_where_it_was_looked_for(
    make_settings: MakeSettings, hub_cache: Path, name: str, allow_download: bool, message: str
) -> None:
    with pytest.raises(ModelNotFound, match=message):
        resolve(name, make_settings(allow_download=allow_download))


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        ("config.json", r"no config\.json"),
        ("model.safetensors", "has none of"),
        ("tokenizer.json", r"no tokenizer\.json"),
    ],
)
def test_incomplete_folder_is_one_clear_error(
    make_settings: MakeSettings, tiny_encoder: Path, tmp_path: Path, leave_out: str, message: str
) -> None:
    folder = shutil.copytree(tiny_encoder, tmp_path / "model")
    (folder / leave_out).unlink()
    with pytest.raises(ModelNotFound, match=message):
        load_tokenizer(make_settings(embedder=str(folder)))


def test_empty_folder_is_one_clear_error(make_settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        resolve(str(tmp_path / "empty"), make_settings())


@pytest.mark.parametrize(
    ("file", "message"), [("config.json", "is not JSON"), ("tokenizer.json", "is not a tokenizer")]
)
def test_damaged_folder_is_one_clear_error(
    make_settings: MakeSettings, tiny_encoder: Path, tmp_path: Path, file: str, message: str
) -> None:
    folder = shutil.copytree(tiny_encoder, tmp_path / "model")
    (folder / file).write_text("{")
    with pytest.raises(ModelMismatch, match=message):
        load_tokenizer(make_settings(embedder=str(folder)))


def test_tampered_weights_of_the_bundled_model_are_refused(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(resolve("all-MiniLM-L6-v2", make_settings()), tmp_path / "model")
    with (folder / "model.safetensors").open("r+b") as f:
        f.seek(-1, 2)
        f.write(b"\x01")
    monkeypatch.setattr(folders, "bundled_folder", lambda: folder)
    with pytest.raises(ModelMismatch, match="pip install --force-reinstall"):
        describe(folder).weights_sha256()
