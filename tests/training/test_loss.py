"""The loss against its formula in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.models.tiny import make_tiny_cross_encoder

LISTS = {
    "how to rotate": ["turn the certificate", "a very long text about something else " * 20, "rotate it"],
    "why stop": ["because", "the service stopped when its capacity was reached"],
}
FUSION = [[0.9, 0.5, 0.7], [0.2, 1.0]]
GAINS = [[0.0, 0.0, 2.0], [1.0, 1.0]]


@pytest.mark.parametrize("weight", [0.0, 8.0])
def test_loss_is_the_mean_of_the_logits_alone_and_beside_fusion(tmp_path: Path, weight: float) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    from tasks.training.loss import ListwiseLoss

    model = CrossEncoder(str(make_tiny_cross_encoder(tmp_path)), device="cpu", activation_fn=torch.nn.Identity())
    model.eval()
    given = ListwiseLoss(model, weight)(
        (list(LISTS), list(LISTS.values()), FUSION), [torch.tensor(gains) for gains in GAINS]
    )

    def cross_entropy(scores: np.ndarray, gains: np.ndarray) -> float:
        shifted = scores - scores.max()
        return float(-(gains / gains.sum() * (shifted - np.log(np.exp(shifted).sum()))).sum())

    expected = []
    for (query, texts), fusion, gains in zip(LISTS.items(), FUSION, GAINS, strict=True):
        logits = model.predict([(query, text) for text in texts]).astype(np.float64)
        alone, beside = logits, logits + weight * np.array(fusion)
        expected.append((cross_entropy(alone, np.array(gains)) + cross_entropy(beside, np.array(gains))) / 2)
    assert given.item() == pytest.approx(np.mean(expected), rel=1e-4)
    given.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
