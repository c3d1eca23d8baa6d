"""The reranker that compares word by word: against a second implementation, and as every other one is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from schemas.settings import Settings
from tasks.models.late_interaction import LateInteraction
from tests.models.test_cross_encoder import IDENTITY, predicted, put
from tests.models.test_encoders import TEXTS
from tests.models.tiny import make_tiny_encoder, make_tiny_maxsim, make_tiny_shortened

MakeSettings = Callable[..., Settings]
KEPT = 0.05  # by so much may a score differ because a passage's vectors are kept in int8
READ = [text for text in [*TEXTS, " ".join(TEXTS[-11:] * 2)] if text.strip() and len(text) < 2600]
QUERIES = ["rotate certificates", "why", "", "rotate certificates " * 15, "rotate certificates " * 60]


@pytest.mark.parametrize("words_read", [None, 30])
def test_untrained_it_is_late_interaction_of_an_encoder(
    make_settings: MakeSettings, tmp_path: Path, words_read: int | None
) -> None:
    """Query and windows encoded by a BERT of their own, MaxSim and the mean by inverse document frequency in numpy."""
    import torch
    from transformers import BertModel

    from tasks.models.maxsim import SHARPNESS, MaxSimConfig
    from tasks.training.start import rarity, start

    encoder = make_tiny_encoder(tmp_path / "encoder")
    start(encoder, READ, tmp_path / "model")
    put(tmp_path / "model", "config.json", sbert_ce_default_activation_function=IDENTITY, words_read=words_read)
    body = BertModel.from_pretrained(encoder, local_files_only=True).eval()
    tokenizer = LateInteraction(str(tmp_path / "model"), make_settings())._tokenizer
    weights = rarity(encoder, set(READ), body.config.vocab_size)
    query = "how are certificates rotated?"
    first, *asked, last = tokenizer.encode(query).ids

    def chosen(ids: Sequence[int]) -> list[int]:
        """Places: no repeat before all others, then the rarest, of equals the first."""
        by_worth = sorted(range(len(ids)), key=lambda i: (ids[i] in ids[:i], -weights[ids[i]], i))
        return sorted(by_worth[: words_read and max(words_read, math.ceil(len(ids) / 2))])

    def units(ids: Sequence[int]) -> np.ndarray:
        read = chosen(ids)
        places = [0, *(i + 1 for i in read), len(ids) + 1]
        with torch.no_grad():
            given = torch.tensor([[first, *(ids[i] for i in read), last]])
            vectors = body(given, position_ids=torch.tensor([places])).last_hidden_state[0, 1:-1]
        found = vectors.numpy().astype(np.float64)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    expected, lengths = [], []
    for text in READ:
        ids = tokenizer.encode(text).ids[1:-1]
        windows = math.ceil(len(ids) / MaxSimConfig().window_words)
        size = math.ceil(len(ids) / windows)
        starts = [i * (len(ids) - size) // max(windows - 1, 1) for i in range(windows)]
        words = np.concatenate([units(ids[start : start + size]) for start in starts])
        assert all(later - start <= size for start, later in pairwise(starts))  # no word is left out
        expected.append(SHARPNESS * np.average((units(asked) @ words.T).max(axis=1), weights=weights[asked]))
        lengths.append(windows)
    assert max(lengths) > 2 > min(lengths)
    ours = LateInteraction(str(tmp_path / "model"), make_settings(rerank_precision="fp32", cache=tmp_path / "cache"))
    assert predicted(tmp_path / "model", query, READ, 512) == pytest.approx(np.array(expected), abs=1e-3)
    assert ours.score(query, READ) == pytest.approx(np.array(expected), abs=KEPT)


@pytest.mark.parametrize("make", [make_tiny_maxsim, make_tiny_shortened])
@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{len(query)} characters")
def test_it_is_exported_as_it_is(
    make_settings: MakeSettings, tmp_path: Path, make: Callable[[Path], Path], query: str
) -> None:
    folder = make(tmp_path / "model")
    put(folder, "config.json", sbert_ce_default_activation_function=IDENTITY)
    exact, fast = (
        LateInteraction(str(folder), make_settings(rerank_precision=digits, cache=tmp_path))
        for digits in ("fp32", "int8")
    )
    texts = [*(text for text in READ if len(text) < 1200), ""]  # sentence-transformers cuts a longer pair, we do not
    scores = exact.score(query, texts)
    assert scores == pytest.approx(predicted(folder, query, texts), abs=KEPT)
    assert np.isfinite(scores).all()
    if query:
        assert np.corrcoef(fast.score(query, texts), scores)[0, 1] > 0.98
    else:
        assert np.ptp(scores) == np.ptp(fast.score(query, texts)) == 0  # no word that could be matched


def test_query_and_passage_are_cut_each_alone(make_settings: MakeSettings, tmp_path: Path) -> None:
    folder = make_tiny_maxsim(tmp_path / "model")
    put(folder, "config.json", sbert_ce_default_activation_function=IDENTITY)
    model = LateInteraction(str(folder), make_settings(rerank_tokens=32))
    words = ["certificate", "server", "queue", "water"] * 20
    query, text = " ".join(words), " ".join(reversed(words))
    cut = [" ".join(said.split()[:30]) for said in (query, text)]
    assert model.score(query, [text]) == model.score(cut[0], [cut[1]])
    assert model.score(query, [text]) != model.score(cut[0], [" ".join(text.split()[:29])])
