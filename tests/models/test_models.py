"""Encoders and cross-encoders against sentence-transformers, and every way to name a wrong model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ModelMismatch, ModelNotFound
from schemas.settings import Settings
from tasks.models import load_encoder, load_tokenizer
from tasks.models import folders
from tasks.models.batching import length_sorted
from tasks.models.cross_encoder import CrossEncoder
from tasks.models.folders import describe, resolve
from tests.models.tiny import make_tiny

MakeSettings = Callable[..., Settings]

TEXTS = [
    "", "a", "How do we rotate TLS certificates automatically?", "Größe – naïve café 日本語", "word " * 600,
    "0.0.0.0/0 E1234 CREATE_FAILED", "line one\nline two", *(f"sentence number {i} " * i for i in range(1, 12)),
]  # fmt: skip


def test_onnx_vectors_equal_sentence_transformers(make_settings: MakeSettings) -> None:
    onnx = load_encoder(make_settings())
    torch = load_encoder(make_settings(embed_backend="sentence-transformers"))
    assert (onnx.fingerprint, onnx.dim) == (torch.fingerprint, torch.dim)
    ours, theirs = onnx.encode(TEXTS), torch.encode(TEXTS)
    assert ours.dtype == np.float32
    assert (ours * theirs).sum(1) == pytest.approx(1.0, abs=1e-4)


def test_vectors_do_not_depend_on_order_or_company(make_settings: MakeSettings) -> None:
    encoder = load_encoder(make_settings())
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in reversed(TEXTS)])[::-1]
    assert np.abs(together - alone).max() < 1e-5
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_canonical_vector_of_the_bundled_model(make_settings: MakeSettings) -> None:
    vector = load_encoder(make_settings()).encode(["hello world"])[0]
    assert vector[:4] == pytest.approx([-0.03447725, 0.03102317, 0.00673497, 0.02610898], abs=1e-5)


def test_counting_tokenizer_neither_pads_nor_cuts(make_settings: MakeSettings) -> None:
    tokenizer = load_tokenizer(make_settings())
    assert [len(e.ids) for e in tokenizer.encode_batch(["one", "one " * 700], add_special_tokens=False)] == [1, 700]


@given(lengths=st.lists(st.integers(1, 256)), budget=st.integers(1, 1024))
def test_batches_hold_each_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(length_sorted(lengths, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


def test_cross_encoder_scores_equal_sentence_transformers(make_settings: MakeSettings, tmp_path: Path) -> None:
    import torch
    from sentence_transformers import CrossEncoder as Reference

    folder = make_tiny(tmp_path / "tiny", logits=1)
    reference = Reference(str(folder), activation_fn=torch.nn.Identity(), max_length=64, local_files_only=True)
    ours = CrossEncoder(str(folder), make_settings(rerank_tokens=64)).score("rotate certificates", TEXTS)
    theirs = reference.predict([("rotate certificates", text) for text in TEXTS], show_progress_bar=False)
    assert np.ptp(theirs) > 0.01
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_any_encoder_folder_works(make_settings: MakeSettings, tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tiny", logits=None)
    settings = make_settings(embedder=str(folder))
    vectors = load_encoder(settings).encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 32)
    assert (vectors * load_encoder(make_settings(embedder=str(folder), embed_backend="sentence-transformers")).encode(TEXTS)).sum(
        1
    ) == pytest.approx(1.0, abs=1e-4)


def test_model_in_the_hub_cache_is_found_by_name(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "hub" / "models--acme--tiny-ce" / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    make_tiny(snapshot, logits=1)
    refs = tmp_path / "hub" / "models--acme--tiny-ce" / "refs"
    refs.mkdir()
    (refs / "main").write_text(snapshot.name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    settings = make_settings()
    assert resolve("acme/tiny-ce", settings) == snapshot
    assert CrossEncoder("acme/tiny-ce", settings).name == "tiny-ce"


def test_hub_name_that_is_not_here_says_where_it_looked(make_settings: MakeSettings) -> None:
    with pytest.raises(ModelNotFound, match="local cache.*allow_download"):
        resolve("acme/no-such-model", make_settings())


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [("config.json", r"no config\.json"), ("model.safetensors", "has none of"), ("tokenizer.json", r"no tokenizer\.json")],
)
def test_incomplete_model_folder_is_one_clear_error(
    make_settings: MakeSettings, tmp_path: Path, leave_out: str, message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(resolve("all-MiniLM-L6-v2", make_settings()), folder)
    (folder / leave_out).unlink()
    with pytest.raises(ModelNotFound, match=message):
        load_tokenizer(make_settings(embedder=str(folder)))


def test_missing_model_folder_is_one_clear_error(make_settings: MakeSettings) -> None:
    with pytest.raises(ModelNotFound, match=r"no model folder \./nowhere"):
        resolve("./nowhere", make_settings())


def test_model_with_two_logits_is_no_reranker(make_settings: MakeSettings, tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "two", logits=2)
    with pytest.raises(ModelMismatch, match="exactly one logit"):
        CrossEncoder(str(folder), make_settings())


def test_encoder_is_no_reranker(make_settings: MakeSettings) -> None:
    with pytest.raises(ModelMismatch, match="exactly one logit"):
        CrossEncoder("all-MiniLM-L6-v2", make_settings())


def test_tampered_weights_of_the_bundled_model_are_refused(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(resolve("all-MiniLM-L6-v2", make_settings()), folder)
    with (folder / "model.safetensors").open("r+b") as f:
        f.seek(-1, 2)
        f.write(b"\x01")
    monkeypatch.setattr(folders, "_bundled_folder", lambda: folder)
    with pytest.raises(ModelMismatch, match="pip install --force-reinstall"):
        describe(folder).weights_sha256()


def test_pooling_that_the_graph_cannot_do_is_refused(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tiny", logits=None)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ModelMismatch, match="max_tokens"):
        _ = describe(folder).pooling


def test_query_path_imports_neither_torch_nor_prefect() -> None:
    code = "import sys, tasks.search, tasks.status, flows.printing; print({'torch', 'prefect', 'transformers', 'unstructured'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
