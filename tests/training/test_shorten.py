"""A reranker made to read less: what it reads it sees as before, and what it keeps of that is what differs most."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.records import LISTS
from schemas.settings import Settings
from tasks.models.late_interaction import LateInteraction
from tests.models.test_cross_encoder import IDENTITY, put
from tests.models.test_encoders import TEXTS
from tests.models.tiny import make_tiny_maxsim

MakeSettings = Callable[..., Settings]
Shorten = Callable[..., Path]
READ = sorted({text for text in TEXTS if text.strip()})
QUERY = "how do I rotate a certificate?"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    folder = make_tiny_maxsim(tmp_path / "tiny", window_words=126)
    put(folder, "config_sentence_transformers.json")
    put(folder, "config.json", sbert_ce_default_activation_function=IDENTITY)
    return folder


@pytest.fixture
def shorten(tiny: Path, tmp_path: Path) -> Shorten:
    """Makes of the tiny model a shorter one, in a folder of its own."""
    from tasks.training.shorten import Recipe
    from tasks.training.shorten import shorten as run

    row = {"query": QUERY, "passages": READ, "gains": [0.0] * len(READ), "fusion": [0.0] * len(READ)}
    pq.write_table(pa.Table.from_pylist([row, row], schema=LISTS), tmp_path / "lists.parquet")

    def make(words_read: int, word_dim: int, epochs: float, learning_rate: float) -> Path:
        into = tmp_path / f"of {words_read} words"
        recipe = Recipe(
            str(tiny), str(tmp_path / "lists.parquet"), str(into), words_read, word_dim, 256, epochs, learning_rate
        )
        steps: list[tuple[int, int]] = []
        run(recipe, lambda done, of: steps.append((done, of)))
        assert steps[-1] == (len(steps), len(steps))
        return into

    return make


@pytest.fixture
def load(make_settings: MakeSettings, tmp_path: Path) -> Callable[[Path], LateInteraction]:
    settings = make_settings(rerank_precision="fp32", cache=tmp_path / "cache")
    return lambda folder: LateInteraction(str(folder), settings)


def test_one_that_reads_all_and_keeps_all_scores_as_before(
    tiny: Path, shorten: Shorten, load: Callable[[Path], LateInteraction]
) -> None:
    before = load(tiny).score(QUERY, READ)
    after = load(shorten(126, 32, epochs=1, learning_rate=1e-6)).score(QUERY, READ)
    assert after == pytest.approx(before, abs=0.05)  # vectors are kept in int8, of a turned space
    assert np.ptp(before) > 0.5


def test_no_other_dimensions_would_keep_more(
    tiny: Path, shorten: Shorten, load: Callable[[Path], LateInteraction]
) -> None:
    """Against numpy's singular values of the same words' vectors, as they are kept."""
    from safetensors.numpy import load_file

    short = shorten(20, 8, epochs=1, learning_rate=1e-6)
    kept = load_file(short / "model.safetensors")
    projection = kept["projection.weight"]
    assert projection @ projection.T == pytest.approx(np.eye(8), abs=1e-4)
    assert not kept["projection.bias"].any()
    put(tiny, "config.json", words_read=20)
    vectors = np.concatenate(load(tiny).read(READ)).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    most = (np.linalg.svd(vectors, compute_uv=False)[:8] ** 2).sum()
    assert ((vectors @ projection.T) ** 2).sum() == pytest.approx(most, rel=1e-2)  # kept in int8
    assert {passage.shape[1] for passage in load(short).read(READ)} == {8}


def test_it_learns_to_see_in_some_words_what_it_saw_in_all(
    tiny: Path, shorten: Shorten, load: Callable[[Path], LateInteraction]
) -> None:
    """The cosines of each passage's words to each other are nearer to those of the model that read all."""
    import torch

    from tasks.models.maxsim import MaxSimForSequenceClassification

    def cosines(folder: Path, *, whole: bool) -> np.ndarray:
        model = MaxSimForSequenceClassification.from_pretrained(folder, words_read=6).eval()
        tokenizer, found = load(folder)._tokenizer, []
        for text in READ:
            ids = torch.tensor([tokenizer.encode(text).ids])
            everything = model.windows(ids, torch.tensor([[1]]), torch.tensor([[ids.shape[1] - 2]]))
            read = model.telling(everything)
            with torch.no_grad():
                vectors = model.units(everything if whole else read)[0]
            if whole:
                vectors = vectors.view(*everything.ids.shape[1:], -1)[
                    torch.arange(read.ids.shape[1])[:, None], read.places[0]
                ].flatten(0, 1)
            vectors = vectors[read.words.flatten()]
            found.append((vectors @ vectors.T).flatten().numpy())
        return np.concatenate(found)

    short = shorten(6, 32, epochs=30, learning_rate=1e-3)
    wanted = cosines(tiny, whole=True)
    before, after = (np.square(cosines(folder, whole=False) - wanted).mean() for folder in (tiny, short))
    assert after < 0.7 * before
