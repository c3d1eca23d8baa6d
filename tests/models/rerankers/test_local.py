"""Late interaction and monoT5 on models that are made here, against their papers' formulas."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import MissingRequirement, ModelMismatch, ModelNotFound
from schemas.settings import Settings
from tasks.models.rerankers import load
from tasks.models.rerankers.colbert import ColBert
from tasks.models.rerankers.monot5 import MonoT5
from tests.models.rerankers.tiny import make_tiny_colbert, make_tiny_stanford_colbert, make_tiny_t5
from tests.models.test_encoders import TEXTS as ODD_TEXTS

MakeSettings = Callable[..., Settings]
TEXTS = ODD_TEXTS[:8]  # an empty one, one of other scripts and one that is too long among them
QUERY = "how do we rotate certificates?"


@pytest.fixture(scope="module")
def colbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_colbert(tmp_path_factory.mktemp("models") / "tiny-colbert")


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_t5(tmp_path_factory.mktemp("models") / "tiny-t5")


def max_sim(folder: Path, query: str, texts: list[str]) -> np.ndarray:
    """float64[n]: of each vector of the query its greatest product with one of the passage's, summed."""
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)
    asked = np.asarray(model.encode_query(query, convert_to_numpy=True), dtype=np.float64)
    assert np.linalg.norm(asked, axis=1) == pytest.approx(1, abs=1e-5)
    read = [np.asarray(model.encode_document(text, convert_to_numpy=True), dtype=np.float64) for text in texts]
    return np.array([(asked @ passage.T).max(axis=1).sum() for passage in read])


@pytest.mark.parametrize("stanford", [False, True], ids=["sentence-transformers", "Stanford"])
def test_late_interaction_is_max_sim_of_the_models_own_vectors(
    make_settings: MakeSettings, colbert: Path, tmp_path: Path, stanford: bool
) -> None:
    folder = make_tiny_stanford_colbert(tmp_path / "tiny-stanford") if stanford else colbert
    reranker = ColBert(str(folder), make_settings())
    scores = reranker.score(QUERY, TEXTS)
    assert (scores.dtype, scores.shape) == (np.float32, (len(TEXTS),))
    expected = max_sim(folder, QUERY, TEXTS)
    assert np.ptp(expected) > 0.1
    assert scores == pytest.approx(expected, abs=1e-3)
    assert reranker.name == f"colbert:{folder.name}"
    alone = [reranker.score(QUERY, [text])[0] for text in TEXTS[:3]]
    assert scores[:3] == pytest.approx(alone, abs=1e-3)
    assert reranker.score(QUERY, []).shape == (0,)


def test_model_that_is_no_late_interaction_is_refused(
    make_settings: MakeSettings, colbert: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelMismatch, match="is no late-interaction model"):  # else it got a random projection
        ColBert("all-MiniLM-L6-v2", make_settings())
    with pytest.raises(ModelNotFound):
        ColBert("acme/nothing", make_settings())
    broken = Path(shutil.copytree(colbert, tmp_path / "broken"))
    (broken / "1_Dense" / "model.safetensors").unlink()
    with pytest.raises(ModelMismatch, match="is not whole"):
        ColBert(str(broken), make_settings())


def test_sentence_transformers_without_late_interaction_is_named(
    make_settings: MakeSettings, colbert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sentence_transformers

    monkeypatch.delattr(sentence_transformers, "MultiVectorEncoder")
    with pytest.raises(MissingRequirement, match=r"pip install '\.\[colbert\]'"):
        load("colbert", str(colbert), make_settings())


def log_odds(folder: Path, prompts: list[str], words: tuple[str, str]) -> np.ndarray:
    """float64[n]: what the model goes on with, by transformers alone, one prompt at a time."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True).eval()
    found = []
    for prompt in prompts:
        with torch.inference_mode():
            logits = model(
                input_ids=tokenizer(prompt, return_tensors="pt").input_ids,
                decoder_input_ids=torch.tensor([[model.config.decoder_start_token_id]]),
            ).logits[0, 0]
        true, false = (float(logits[tokenizer.convert_tokens_to_ids(word)]) for word in words)
        found.append(true - false)
    return np.array(found)


def test_monot5_is_the_log_odds_of_true_after_the_papers_prompt(make_settings: MakeSettings, t5: Path) -> None:
    reranker = MonoT5(str(t5), make_settings(rerank_tokens=512))
    texts = [text[:300] for text in TEXTS]
    scores = reranker.score(QUERY, texts)
    prompts = [f"Query: {QUERY} Document: {text} Relevant:" for text in texts]
    expected = log_odds(t5, prompts, ("▁true", "▁false"))
    assert (scores.dtype, scores.shape) == (np.float32, (len(texts),))
    assert np.ptp(expected) > 0.1
    assert scores == pytest.approx(expected, rel=1e-3)
    assert reranker.name == "monot5:tiny-t5"
    assert reranker.score(QUERY, []).shape == (0,)


def test_monot5_cuts_the_passage_and_never_the_end_of_the_prompt(
    make_settings: MakeSettings, t5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = MonoT5(str(t5), make_settings(rerank_tokens=48))
    seen: list[str] = []
    scores_of = reranker._scores

    def spied(encoded: list[list[int]]) -> np.ndarray:
        seen.extend(reranker._tokenizer.decode(ids, skip_special_tokens=True) for ids in encoded)
        assert all(len(ids) <= 48 for ids in encoded)
        return scores_of(encoded)

    monkeypatch.setattr(reranker, "_scores", spied)
    long = "certificates are rotated by hand " * 40
    first, same, other = reranker.score(QUERY, [long, f"{long} and more", f"wheels {long}"])
    assert first == pytest.approx(same, abs=1e-5)  # what lies behind the cut is not read
    assert first != pytest.approx(other, abs=1e-5)
    reranker.score("why " * 200, ["a passage"])
    assert all(prompt.endswith("Relevant:") for prompt in seen)
    assert "Document: a passage" in seen[-1]


def test_monot5_of_another_language_has_its_own_words(make_settings: MakeSettings, tmp_path: Path) -> None:
    words = ("▁yes", "▁no")
    folder = make_tiny_t5(tmp_path / "mt5-tiny", words)
    expected = log_odds(folder, [f"Query: {QUERY} Document: {TEXTS[0]} Relevant:"], words)
    scores = MonoT5(str(folder), make_settings(rerank_tokens=512)).score(QUERY, TEXTS[:1])
    assert scores == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ModelMismatch, match="is no monoT5: its vocabulary has no ▁true or ▁false"):
        MonoT5(str(folder.rename(tmp_path / "another")), make_settings())


def test_model_that_is_no_text_to_text_is_refused(make_settings: MakeSettings) -> None:
    with pytest.raises(ModelMismatch, match="is no model of text to text"):
        MonoT5("all-MiniLM-L6-v2", make_settings())


def test_package_that_reads_spiece_model_is_named_where_it_is_not_there(
    make_settings: MakeSettings, t5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(MissingRequirement, match=r"pip install '\.\[monot5\]'"):
        load("monot5", str(t5), make_settings())
