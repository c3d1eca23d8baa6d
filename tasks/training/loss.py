"""The loss: a cross-encoder's logits against the gains of a list, alone and on top of fusion's scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sentence_transformers import CrossEncoder
from torch.nn.functional import log_softmax

# pairs that are scored at once, of about one length, so that little of them is padding
PAIRS = 32


class ListwiseLoss(torch.nn.Module):
    """Cross-entropy of gains and softmax of logits, the mean of two: the logits alone, and added to fusion's scores.

    ListNet's loss: Cao et al. 2007, "Learning to Rank: From Pairwise Approach to Listwise Approach".

    The second teaches what fusion lacks, as in Gao et al. 2021, "Complementing Lexical Retrieval with Semantic Residual
    Embedding", because the final order adds both; the first keeps the model able to order alone.
    """

    def __init__(self, model: CrossEncoder, fusion_weight: float) -> None:
        super().__init__()
        self.model, self.fusion_weight = model, fusion_weight

    def forward(
        self, inputs: tuple[list[str], list[list[str]], list[list[float]]], labels: list[torch.Tensor]
    ) -> torch.Tensor:
        """Queries, passages and fusion's scores of some lists, and their gains → the mean loss of a list."""
        queries, passages, fusion = inputs
        logits = self._logits([(query, text) for query, texts in zip(queries, passages, strict=True) for text in texts])
        losses = []
        for scores, fused, gains in zip(
            torch.split(logits, [len(texts) for texts in passages]), fusion, labels, strict=True
        ):
            wanted = gains.to(scores.device, torch.float32)
            wanted = wanted / wanted.sum()
            added = scores + self.fusion_weight * torch.tensor(fused, device=scores.device)
            losses.append(-(wanted * (log_softmax(scores, 0) + log_softmax(added, 0))).sum() / 2)
        return torch.stack(losses).mean()

    def _logits(self, pairs: Sequence[tuple[str, str]]) -> torch.Tensor:
        """float32[n], in the order of `pairs`."""
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
        parts = []
        for start in range(0, len(order), PAIRS):
            tokens = self.model.preprocess([pairs[i] for i in order[start : start + PAIRS]])
            tokens = {
                name: value.to(self.model.device) for name, value in tokens.items() if isinstance(value, torch.Tensor)
            }
            parts.append(self.model(tokens)["scores"].view(-1).float())
        places = torch.tensor(order, device=self.model.device).argsort()
        return torch.cat(parts)[places]
