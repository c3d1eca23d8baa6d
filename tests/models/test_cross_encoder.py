"""The ONNX cross-encoder against sentence-transformers, which is the oracle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import ModelMismatch
from schemas.settings import Settings
from tasks.models.cross_encoder import CrossEncoder
from tests.models.test_encoders import TEXTS
from tests.models.tiny import make_tiny

MakeSettings = Callable[..., Settings]


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
    import torch
    from sentence_transformers import CrossEncoder as Reference

    reference = Reference(
        str(tiny_cross_encoder), activation_fn=torch.nn.Identity(), max_length=64, local_files_only=True
    )
    ours = CrossEncoder(str(tiny_cross_encoder), make_settings(rerank_tokens=64)).score(query, TEXTS)
    theirs = reference.predict([(query, text) for text in TEXTS], show_progress_bar=False)
    assert (ours.dtype, ours.shape) == (np.float32, (len(TEXTS),))
    assert np.ptp(theirs) > 0.01
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_scores_do_not_depend_on_order_or_company(make_settings: MakeSettings, tiny_cross_encoder: Path) -> None:
    reranker = CrossEncoder(str(tiny_cross_encoder), make_settings())
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
    from sentence_transformers import CrossEncoder as Reference

    Reference(str(tiny_cross_encoder), max_length=48, local_files_only=True).save_pretrained(str(tmp_path / "trained"))
    settings = make_settings(rerank_tokens=256)
    trained = CrossEncoder(str(tmp_path / "trained"), settings)
    assert (trained.name, trained.max_tokens) == ("trained", 48)
    same = CrossEncoder(str(tiny_cross_encoder), settings.model_copy(update={"rerank_tokens": 48}))
    assert trained.score("query", TEXTS) == pytest.approx(same.score("query", TEXTS), abs=1e-5)


def test_model_with_two_logits_is_no_reranker(make_settings: MakeSettings, tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "two", logits=2)
    with pytest.raises(ModelMismatch, match="exactly one logit"):
        CrossEncoder(str(folder), make_settings())


def test_encoder_is_no_reranker(make_settings: MakeSettings) -> None:
    with pytest.raises(ModelMismatch, match="exactly one logit"):
        CrossEncoder("all-MiniLM-L6-v2", make_settings())
