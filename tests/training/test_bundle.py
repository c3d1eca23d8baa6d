"""A trained model made small enough to ship."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import ModelMismatch
from schemas.settings import Settings
from tasks.models.cross_encoder import CrossEncoder
from tests.models.tiny import make_tiny_cross_encoder

MakeSettings = Callable[..., Settings]
TEXTS = ["turn the certificate", "the service stopped when its capacity was reached", "rotate it " * 60]


def test_what_is_shipped_scores_as_what_was_trained(make_settings: MakeSettings, tmp_path: Path) -> None:
    from tasks.training.bundle import bundle

    trained, shipped, card = make_tiny_cross_encoder(tmp_path / "trained"), tmp_path / "shipped", tmp_path / "card.md"
    (trained / "config_sentence_transformers.json").write_text("{}")
    card.write_text("# A card\n")
    bundle(trained, 6.0, card, shipped)
    exact = CrossEncoder(str(trained), make_settings(rerank_precision="fp32"))
    small = CrossEncoder(str(shipped), make_settings(cache=tmp_path / "cache"))
    question = "how do I rotate a certificate?"
    assert np.corrcoef(small.score(question, TEXTS), exact.score(question, TEXTS))[0, 1] > 0.98
    assert (small.fusion_weight, exact.fusion_weight) == (6.0, 0.0)
    assert not (tmp_path / "cache").exists()  # nothing is exported: it comes as a graph
    weights = (trained / "model.safetensors").stat().st_size
    assert (shipped / "onnx" / "model_qint8.onnx").stat().st_size < 0.3 * weights
    assert (shipped / "README.md").read_text() == card.read_text()
    assert json.loads((shipped / "config.json").read_text())["hidden_size"] == 32
    with pytest.raises(ModelMismatch, match="int8 only"):
        CrossEncoder(str(shipped), make_settings(rerank_precision="fp32"))
