"""Score (query, passage) pairs with a cross-encoder in ONNX Runtime: any model with a one-logit head.

Scores are those of sentence-transformers' `CrossEncoder.predict`: the logit or its sigmoid, as the model says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.settings import Settings
from tasks.models.late_interaction import LateInteraction
from tasks.models.onnx_reranker import OnnxReranker, reranker_folder, reranker_kind


class CrossEncoder(OnnxReranker):
    """A cross-encoder by folder, cached or hub name. Raises ModelNotFound, ModelMismatch."""

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        # cuts the passage; the query only where it is longer than half, when `only_second` would raise or leave no
        # passage. It is also what sentence-transformers does, so that scores agree for long queries too.
        self._tokenizer.enable_truncation(self.max_tokens, strategy="longest_first")

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """float32[n]: higher is more relevant; in the order of `texts`."""
        # the query is tokenized once, then joined to each passage
        asked, *passages = self._tokenizer.encode_batch([query, *texts], add_special_tokens=False)
        return self._activated(self._session.run([self._tokenizer.post_process(asked, text) for text in passages]))


def load_cross_encoder(name: str, settings: Settings) -> CrossEncoder | LateInteraction:
    """The model by folder, cached or hub name, in the form that its kind has. Raises ModelNotFound, ModelMismatch."""
    late = reranker_kind(reranker_folder(name, settings)) == "late-interaction"
    return LateInteraction(name, settings) if late else CrossEncoder(name, settings)
