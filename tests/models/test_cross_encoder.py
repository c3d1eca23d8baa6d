"""The ONNX cross-encoder against sentence-transformers, which is the oracle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import ModelMismatch
from schemas.settings import Settings
from tasks.models import onnx_reranker, published
from tasks.models.cross_encoder import CrossEncoder
from tasks.models.export import ensure_onnx
from tests.models.test_encoders import TEXTS
from tests.models.tiny import make_tiny, make_tiny_deberta, make_tiny_xlm_roberta

MakeSettings = Callable[..., Settings]


def predicted(folder: Path, query: str, texts: list[str], max_length: int | None = None) -> np.ndarray:
    """float32[n] by sentence-transformers, as its users call it."""
    from sentence_transformers import CrossEncoder as Reference

    reference = Reference(str(folder), max_length=max_length, local_files_only=True)
    return np.asarray(reference.predict([(query, text) for text in texts], show_progress_bar=False))


def put(folder: Path, name: str, **content: object) -> None:
    """Write into one of a model's JSON files, beside what is there."""
    path = folder / name
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **content}))


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("rotate certificates", id="short query"),
        pytest.param("rotate certificates " * 15, id="query of half the length"),
        pytest.param("rotate certificates " * 200, id="query longer than the length"),
        pytest.param("", id="empty query"),
    ],
)
def test_scores_equal_sentence_transformers(make_settings: MakeSettings, tiny_cross_encoder: Path, query: str) -> None:
    settings = make_settings(rerank_tokens=64, rerank_precision="fp32")
    ours = CrossEncoder(str(tiny_cross_encoder), settings).score(query, TEXTS)
    theirs = predicted(tiny_cross_encoder, query, TEXTS, 64)
    assert (ours.dtype, ours.shape) == (np.float32, (len(TEXTS),))
    assert np.ptp(theirs) > 0.01
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("make", [make_tiny_xlm_roberta, make_tiny_deberta])
@pytest.mark.parametrize("length", [48, 512])
def test_other_architectures_score_as_in_sentence_transformers(
    make_settings: MakeSettings, tmp_path: Path, make: Callable[[Path], Path], length: int
) -> None:
    folder = make(tmp_path / "model")
    ours = CrossEncoder(str(folder), make_settings(rerank_tokens=length, rerank_precision="fp32"))
    theirs = predicted(folder, "how do we rotate certificates?", TEXTS, length)
    assert np.ptp(theirs) > 0.01
    assert ours.score("how do we rotate certificates?", TEXTS) == pytest.approx(theirs, abs=1e-4)


IDENTITY = "torch.nn.modules.linear.Identity"


@pytest.mark.parametrize(
    ("config", "raw"),
    [
        pytest.param({}, False, id="not said"),
        pytest.param({"sbert_ce_default_activation_function": IDENTITY}, True, id="before 4.0"),
        pytest.param({"sentence_transformers": {"activation_fn": IDENTITY}}, True, id="4.x"),
        pytest.param(
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}},
            False,
            id="4.x sigmoid",
        ),
    ],
)
def test_activation_is_read_from_every_versions_configuration(
    make_settings: MakeSettings,
    tiny_cross_encoder: Path,
    tmp_path: Path,
    config: dict[str, object],
    raw: bool,
) -> None:
    folder = shutil.copytree(tiny_cross_encoder, tmp_path / "tiny-ce")
    put(folder, "config.json", **config)
    settings = make_settings(rerank_tokens=512, rerank_precision="fp32")
    ours = CrossEncoder(str(folder), settings).score("rotate certificates", TEXTS)
    assert ours == pytest.approx(predicted(folder, "rotate certificates", TEXTS), abs=1e-4)
    assert raw == bool((ours < 0).any() or (ours > 1).any())


def test_int8_scores_are_near_those_of_fp32_and_depend_on_no_company(
    make_settings: MakeSettings, tiny_cross_encoder: Path
) -> None:
    exact, fast = (
        CrossEncoder(str(tiny_cross_encoder), make_settings(rerank_precision=digits)) for digits in ("fp32", "int8")
    )
    together = fast.score("rotate certificates", TEXTS)
    assert np.corrcoef(together, exact.score("rotate certificates", TEXTS))[0, 1] > 0.98
    assert together.tolist() == [fast.score("rotate certificates", [text])[0] for text in TEXTS]
    assert "int8" in fast.fingerprint


def test_published_graph_for_this_processor_is_taken_and_nothing_exported(
    make_settings: MakeSettings, tiny_cross_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported, _ = ensure_onnx(str(tiny_cross_encoder), "cross-encoder", "fp32", make_settings())
    folder = shutil.copytree(tiny_cross_encoder, tmp_path / "tiny-ce")
    (folder / "onnx").mkdir()
    for name in ("model.onnx", "model_quint8_avx2.onnx", "model_qint8_arm64.onnx"):
        shutil.copy(exported / "model.onnx", folder / "onnx" / name)
    empty = make_settings(cache=tmp_path / "cache", rerank_tokens=512)
    monkeypatch.setattr(published.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(published, "cpu_flags", lambda: {"avx2"})
    monkeypatch.setattr(onnx_reranker, "has_int8", lambda: False)
    scores = CrossEncoder(str(folder), empty).score("rotate certificates", TEXTS)
    assert scores == pytest.approx(predicted(tiny_cross_encoder, "rotate certificates", TEXTS), abs=1e-4)
    assert not (tmp_path / "cache").exists()
    assert published.published_graph(folder, "int8") == folder / "onnx" / "model_quint8_avx2.onnx"
    assert published.published_graph(folder, "fp32") == folder / "onnx" / "model.onnx"


@pytest.mark.parametrize(
    ("machine", "flags", "cuda", "int8", "fp32"),
    [
        pytest.param(
            "x86_64",
            {"avx2", "avx512f", "avx512_vnni"},
            False,
            ["qint8_avx512_vnni", "qint8_avx512", "quint8_avx2"],
            [""],
            id="VNNI",
        ),
        pytest.param("x86_64", {"avx2", "avx512f"}, False, ["qint8_avx512", "quint8_avx2"], [""], id="AVX-512"),
        pytest.param("x86_64", {"avx2"}, True, ["quint8_avx2"], ["O4", ""], id="AVX2 and CUDA"),
        pytest.param("aarch64", {"asimddp"}, False, ["qint8_arm64"], [""], id="Arm"),
        pytest.param("arm64", set(), False, ["qint8_arm64"], [""], id="Apple"),
        pytest.param("AMD64", set(), False, [], [""], id="flags unknown"),
    ],
)
def test_graphs_are_chosen_for_the_processor(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: set[str], cuda: bool, int8: list[str], fp32: list[str]
) -> None:
    monkeypatch.setattr(published.platform, "machine", lambda: machine)
    monkeypatch.setattr(published, "cpu_flags", lambda: flags)
    monkeypatch.setattr(published, "has_cuda_runtime", lambda: cuda)
    assert published.graph_names("int8") == [*(f"onnx/model_{name}.onnx" for name in int8), published.PORTABLE]
    assert published.graph_names("fp32") == [f"onnx/model{name and '_'}{name}.onnx" for name in fp32]


def test_scores_do_not_depend_on_order_or_company(make_settings: MakeSettings, tiny_cross_encoder: Path) -> None:
    reranker = CrossEncoder(str(tiny_cross_encoder), make_settings(rerank_precision="fp32"))
    together = reranker.score("rotate certificates", TEXTS)
    alone = [reranker.score("rotate certificates", [text])[0] for text in reversed(TEXTS)][::-1]
    assert together == pytest.approx(alone, abs=1e-5)
    assert reranker.score("rotate certificates", []).shape == (0,)


def test_query_is_kept_whole_and_the_passage_cut(make_settings: MakeSettings, tiny_cross_encoder: Path) -> None:
    reranker = CrossEncoder(str(tiny_cross_encoder), make_settings(rerank_tokens=32))
    query = "one two three four five six seven eight nine ten"
    passage = "word " * 100
    first, same, other = reranker.score(query, [passage, passage + "tail", "other " + passage])
    assert first == pytest.approx(same, abs=1e-6)  # what lies behind the cut is not read
    assert first != pytest.approx(other, abs=1e-6)
    assert first != pytest.approx(reranker.score(query[:-4], [passage])[0], abs=1e-6)


def test_length_of_a_pair_is_never_over_the_models(make_settings: MakeSettings, tiny_cross_encoder: Path) -> None:
    assert CrossEncoder(str(tiny_cross_encoder), make_settings(rerank_tokens=512)).max_tokens == 512
    assert CrossEncoder(str(tiny_cross_encoder), make_settings(rerank_tokens=64)).max_tokens == 64


def test_reranker_saved_by_sentence_transformers_works(
    make_settings: MakeSettings, tiny_cross_encoder: Path, tmp_path: Path
) -> None:
    import torch
    from sentence_transformers import CrossEncoder as Reference

    folder = tmp_path / "trained"
    reference = Reference(
        str(tiny_cross_encoder), max_length=48, activation_fn=torch.nn.Identity(), local_files_only=True
    )
    reference.save_pretrained(str(folder))  # 5.x and 6.x: modules.json and an activation of their own place
    trained = CrossEncoder(str(folder), make_settings(rerank_precision="fp32"))
    assert (trained.name, trained.max_tokens) == ("trained", 48)
    assert trained.score("query", TEXTS) == pytest.approx(predicted(folder, "query", TEXTS), abs=1e-4)
    assert trained.score("query", TEXTS).min() < 0


def test_model_with_two_logits_is_no_reranker(make_settings: MakeSettings, tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "two", logits=2)
    with pytest.raises(ModelMismatch, match="of BertForSequenceClassification, is not exactly one logit"):
        CrossEncoder(str(folder), make_settings())


def test_encoder_is_no_reranker(make_settings: MakeSettings) -> None:
    with pytest.raises(ModelMismatch, match="is no cross-encoder: its head, of BertModel"):
        CrossEncoder("all-MiniLM-L6-v2", make_settings())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        pytest.param("config.json", {"architectures": ["Qwen2ForCausalLM"]}, "of Qwen2ForCausalLM", id="a decoder"),
        pytest.param(
            "config_sentence_transformers.json",
            {"prompts": {"q": "find: "}, "default_prompt_name": "q"},
            "the default prompt 'find: '",
            id="prompt",
        ),
        pytest.param(
            "config.json",
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}},
            "puts its logit through Tanh",
            id="activation",
        ),
    ],
)
def test_model_that_the_graph_would_not_be_is_refused(
    make_settings: MakeSettings,
    tiny_cross_encoder: Path,
    tmp_path: Path,
    file: str,
    content: dict[str, object],
    message: str,
) -> None:
    folder = shutil.copytree(tiny_cross_encoder, tmp_path / "tiny-ce")
    put(folder, file, **content)
    with pytest.raises(ModelMismatch, match=message):
        CrossEncoder(str(folder), make_settings())
