"""The cross-encoder that compares word by word: against a second implementation, and as every other one is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schemas.settings import Settings
from tasks.models.cross_encoder import CrossEncoder
from tests.models.test_cross_encoder import IDENTITY, predicted, put
from tests.models.test_encoders import TEXTS
from tests.models.tiny import make_tiny_encoder, make_tiny_maxsim

MakeSettings = Callable[..., Settings]
SHORT = [text for text in TEXTS if text.strip() and len(text) < 200]
QUERIES = ["rotate certificates", "why", "", "rotate certificates " * 15, "rotate certificates " * 200]


def test_untrained_it_is_late_interaction_of_an_encoder(make_settings: MakeSettings, tmp_path: Path) -> None:
    """Query and passage encoded by a BERT of their own, MaxSim and the mean by inverse document frequency in numpy."""
    import torch
    from transformers import BertModel

    from tasks.models.maxsim import SHARPNESS
    from tasks.training.start import rarity, start

    encoder = make_tiny_encoder(tmp_path / "encoder")
    start(encoder, SHORT, tmp_path / "model")
    put(tmp_path / "model", "config.json", sbert_ce_default_activation_function=IDENTITY)
    body = BertModel.from_pretrained(encoder, local_files_only=True).eval()
    tokenizer = CrossEncoder(str(tmp_path / "model"), make_settings())._tokenizer
    weights = rarity(encoder, set(SHORT), body.config.vocab_size)
    query = "how are certificates rotated?"
    asked = tokenizer.encode(query).ids[:-1]

    def units(ids: list[int]) -> np.ndarray:
        with torch.no_grad():
            vectors = body(torch.tensor([ids])).last_hidden_state[0].numpy().astype(np.float64)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    expected = []
    for text in SHORT:
        nearest = (units(asked)[1:] @ units(tokenizer.encode(text).ids)[1:-1].T).max(axis=1)
        expected.append(SHARPNESS * np.average(nearest, weights=weights[asked[1:]]))
    ours = CrossEncoder(str(tmp_path / "model"), make_settings(rerank_precision="fp32"))
    assert ours.score(query, SHORT) == pytest.approx(np.array(expected), abs=1e-3)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{len(query)} characters")
def test_it_is_exported_as_it_is(make_settings: MakeSettings, tmp_path: Path, query: str) -> None:
    folder = make_tiny_maxsim(tmp_path / "model")
    exact, fast = (
        CrossEncoder(str(folder), make_settings(rerank_tokens=64, rerank_precision=digits, cache=tmp_path))
        for digits in ("fp32", "int8")
    )
    texts = [*TEXTS, ""]
    scores = exact.score(query, texts)
    assert scores == pytest.approx(predicted(folder, query, texts, 64), abs=1e-3)
    assert np.isfinite(scores).all()
    assert np.corrcoef(fast.score(query, texts), scores)[0, 1] > 0.98
