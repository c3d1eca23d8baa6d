"""A trained model made small enough to ship."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from schemas.errors import ModelMismatch
from schemas.records import LISTS
from schemas.settings import Settings
from tasks.blend import Blend
from tasks.models.cross_encoder import load_cross_encoder
from tasks.models.folders import describe
from tasks.models.published import PORTABLE
from tests.models.tiny import make_tiny_cross_encoder, make_tiny_maxsim, make_tiny_shortened

MakeSettings = Callable[..., Settings]
TEXTS = ["turn the certificate", "the service stopped when its capacity was reached", "rotate it " * 60]


@pytest.mark.parametrize("make", [make_tiny_cross_encoder, make_tiny_maxsim, make_tiny_shortened])
def test_what_is_shipped_scores_as_what_was_trained(
    make_settings: MakeSettings, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    from tasks.training.bundle import bundle

    trained, shipped, card = make(tmp_path / "trained"), tmp_path / "shipped", tmp_path / "card.md"
    (trained / "config_sentence_transformers.json").write_text("{}")
    card.write_text("# A card\n")
    bundle(trained, Blend(6.0, 0.3), card, shipped)
    exact = load_cross_encoder(str(trained), make_settings(rerank_precision="fp32"))
    small = load_cross_encoder(str(shipped), make_settings(cache=tmp_path / "cache"))
    question = "how do I rotate a certificate?"
    assert np.corrcoef(small.score(question, TEXTS), exact.score(question, TEXTS))[0, 1] > 0.98
    assert (small.blend, exact.blend) == (Blend(6.0, 0.3), Blend())
    assert not (tmp_path / "cache" / "models").exists()  # nothing is exported: it comes as a graph
    weights = (trained / "model.safetensors").stat().st_size
    assert (shipped / "onnx" / "model_qint8.onnx").stat().st_size < 0.3 * weights
    graph = onnx.load(shipped / PORTABLE).graph
    exact_weights = {tensor.name for tensor in graph.initializer}
    exact_weights |= {node.output[0] for node in graph.node if node.op_type == "Identity"}
    assert not [node.name for node in graph.node if node.op_type == "MatMul" and exact_weights & set(node.input)]
    assert (shipped / "README.md").read_text() == card.read_text()
    assert json.loads((shipped / "config.json").read_text())["hidden_size"] == 32
    with pytest.raises(ModelMismatch, match="int8 only"):
        load_cross_encoder(str(shipped), make_settings(rerank_precision="fp32"))


@pytest.mark.parametrize("make", [make_tiny_cross_encoder, make_tiny_maxsim, make_tiny_shortened])
def test_what_is_shipped_can_be_trained_on(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """The weights come back as they were, within a step of int8; a short training from them changes them."""
    from tasks.training.bundle import bundle
    from tasks.training.train import Recipe, train
    from tasks.training.unpack import weights

    trained, shipped, card = make(tmp_path / "trained"), tmp_path / "shipped", tmp_path / "card.md"
    (trained / "config_sentence_transformers.json").write_text("{}")
    card.write_text("# A card\n")
    drawn = np.random.default_rng(1)
    before = {
        name: (value + drawn.normal(0, 0.02, value.shape)).astype(np.float32)  # equal biases are exported as one
        for name, value in load_file(trained / "model.safetensors").items()
    }
    save_file(before, trained / "model.safetensors", {"format": "pt"})
    bundle(trained, Blend(6.0, 0.3), card, shipped)
    back = weights(shipped / PORTABLE)
    assert back.keys() == before.keys()
    for name, value in before.items():
        assert np.abs(back[name] - value).max() <= np.abs(value).max() / 63, name
    lists = tmp_path / "lists.parquet"
    row = {"query": "rotate a certificate", "passages": TEXTS, "gains": [1.0, 0.0, 0.0], "fusion": [0.5, 0.7, 0.6]}
    pq.write_table(pa.Table.from_pylist([row] * 4, schema=LISTS), lists)
    steps: list[int] = []
    recipe = Recipe(str(shipped), (str(lists),), str(tmp_path / "further"), 6.0, 64, 1.0, 1e-4, 2, kept=0.5)
    train(recipe, lambda done, _: steps.append(done))
    after = load_file(tmp_path / "further" / "model.safetensors")
    assert steps == [1, 2]
    further = describe(tmp_path / "further")
    assert further.max_tokens == 512  # and not the 64 that it was trained on
    assert further.activation == "Identity"  # what fusion's score is added to, as in the loss
    assert 0 < max(np.abs(after[name] - back[name]).max() for name in back) < 0.01
